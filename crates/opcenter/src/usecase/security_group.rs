//! Security groups: create, change, delete; and the groups that a gateway or a job names.
//!
//! Everybody may see and use a group. Its creator and admins may change it. `default` belongs to an
//! admin and is never deleted.

use mooring_api::ErrorCode;
use mooring_api::view::{SecurityGroupCreateRequest, SecurityGroupModifyRequest};
use mooring_store::{SecurityGroupRow, Tx};
use mooring_types::security::{DEFAULT_GROUP, InboundRule, InvalidGroup, SecurityGroupSpec};
use mooring_types::{Clock, Reference, SecurityGroupId};

use super::{parse, taken};
use crate::auth::User;
use crate::error::{ApiError, ApiResult};
use crate::state::context::Context;
use crate::view::security_group::members;

/// The hint for an unknown group.
const SECURITY_GROUP_HINT: &str = "`float securityGroup list` shows the security groups";

/// Creates a security group.
pub(crate) async fn create(
    context: &Context,
    user: &User,
    request: &SecurityGroupCreateRequest,
) -> ApiResult<SecurityGroupId> {
    let spec = SecurityGroupSpec::new(parse(&request.name)?, &request.description).map_err(refused)?;
    if spec.name.as_str().parse::<SecurityGroupId>().is_ok() {
        return Err(ApiError::invalid(format!("`{}` is an id and can't be a name", spec.name)));
    }
    let spec = spec.changed(&[], &rules(&request.rules)?).map_err(refused)?;
    let group = SecurityGroupRow {
        id: SecurityGroupId::random(&mut rand::rng()),
        spec,
        user_name: user.name.clone(),
        create_time: context.clock.now(),
    };
    let name = group.spec.name.clone();
    let mut tx = context.store.begin().await?;
    tx.security_group_insert(&group).await.map_err(|error| {
        taken(error, || format!("a security group is named `{name}` already"))
            .hint("choose another name, or change that group")
    })?;
    tx.commit().await?;
    tracing::info!(group = %group.id, user = user.name, "security group {} ({name}) is created", group.id);
    Ok(group.id)
}

/// Adds and removes rules, all or none. Gateways and hosts follow at once.
pub(crate) async fn modify(
    context: &Context,
    user: &User,
    id: &str,
    request: &SecurityGroupModifyRequest,
) -> ApiResult<SecurityGroupId> {
    let (remove, add) = (rules(&request.remove_rules)?, rules(&request.add_rules)?);
    if remove.is_empty() && add.is_empty() {
        return Err(ApiError::invalid("no rule is given").hint("write it as tcp:10000-10500:172.31.0.0/16"));
    }
    let mut tx = context.store.begin().await?;
    let group = find_own(&mut tx, user, id).await?;
    let spec = group.spec.changed(&remove, &add).map_err(refused)?;
    tx.security_group_update(&group.id, &spec).await?;
    tx.commit().await?;
    tracing::info!(group = %group.id, user = user.name, "security group {} ({}) is changed", group.id, spec.name);
    context.wake();
    Ok(group.id)
}

/// Deletes a security group that nobody uses.
pub(crate) async fn delete(context: &Context, user: &User, id: &str) -> ApiResult<()> {
    let mut tx = context.store.begin().await?;
    let SecurityGroupRow { id, spec, .. } = find_own(&mut tx, user, id).await?;
    let name = &spec.name;
    if name.as_str() == DEFAULT_GROUP {
        return Err(ApiError::new(
            ErrorCode::WrongStatus,
            format!("security group `{name}` can't be deleted: gateways and jobs that name no group have it"),
        )
        .hint("change its rules with `float securityGroup addRule` and `rmRule`"));
    }
    let users = members(user, &id, &tx.gateway_list().await?, tx.job_list_live().await?.iter());
    if !users.is_empty() {
        return Err(ApiError::new(
            ErrorCode::WrongStatus,
            format!("security group `{name}` is in use by {}", users.join(", ")),
        )
        .hint("take it from gateways with `float gateway modify --rmSecurityGroup`; a job keeps it to its end"));
    }
    tx.security_group_delete(&id).await?;
    tx.commit().await?;
    tracing::info!(group = %id, user = user.name, "security group {id} ({name}) is deleted");
    Ok(())
}

/// Returns the groups with these ids or names; the default group if there are none.
pub(crate) async fn resolve(tx: &mut Tx, references: &[Reference<SecurityGroupId>]) -> ApiResult<Vec<SecurityGroupId>> {
    let default = [parse(DEFAULT_GROUP)?];
    let mut found: Vec<SecurityGroupId> = Vec::new();
    for reference in if references.is_empty() { default.as_slice() } else { references } {
        let SecurityGroupRow { id, spec, .. } = find(tx, reference).await?;
        if found.contains(&id) {
            return Err(ApiError::invalid(format!("security group `{}` is named twice", spec.name)));
        }
        found.push(id);
    }
    Ok(found)
}

/// Returns the security group with that id or name.
pub(crate) async fn find(tx: &mut Tx, reference: &Reference<SecurityGroupId>) -> ApiResult<SecurityGroupRow> {
    let all = tx.security_group_list().await?;
    let found = all.into_iter().find(|group| reference.is_to(&group.id, &group.spec.name));
    found.ok_or_else(|| ApiError::not_found(format!("no security group `{reference}`")).hint(SECURITY_GROUP_HINT))
}

async fn find_own(tx: &mut Tx, user: &User, id: &str) -> ApiResult<SecurityGroupRow> {
    let group = find(tx, &parse(id)?).await?;
    if user.may_change(&group.user_name) {
        return Ok(group);
    }
    let owner = &group.user_name;
    Err(ApiError::new(ErrorCode::PermissionDenied, format!("security group `{}` belongs to {owner}", group.spec.name))
        .hint(format!("ask {owner} or an admin, or create one of your own")))
}

fn rules(texts: &[String]) -> ApiResult<Vec<InboundRule>> {
    texts.iter().map(|text| parse(text)).collect()
}

fn refused(error: InvalidGroup) -> ApiError {
    let code = match error {
        InvalidGroup::Description | InvalidGroup::TooManyRules => ErrorCode::InvalidArgument,
        InvalidGroup::HasRule { .. } => ErrorCode::AlreadyExists,
        InvalidGroup::LacksRule { .. } => ErrorCode::NotFound,
    };
    let refusal = ApiError::new(code, error.to_string());
    match error {
        InvalidGroup::Description | InvalidGroup::TooManyRules => refusal,
        InvalidGroup::HasRule { .. } | InvalidGroup::LacksRule { .. } => {
            refusal.hint("`float securityGroup show` shows its rules")
        }
    }
}
