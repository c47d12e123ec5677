//! Security groups: create, change, delete; and the groups that a gateway or a job names.
//!
//! Everybody may see and use a group. Its creator and admins may change it. `default` belongs to an
//! admin and is never deleted.

use mooring_api::ErrorCode;
use mooring_api::view::{SecurityGroupCreateRequest, SecurityGroupModifyRequest};
use mooring_store::{SecurityGroupRow, Tx};
use mooring_types::security::{DEFAULT_GROUP, InboundRule, InvalidGroup, SecurityGroupSpec};
use mooring_types::{Clock, Name, Reference, SecurityGroupId};

use super::{parse, taken};
use crate::audit;
use crate::audit::action::Kind;
use crate::auth::User;
use crate::error::{ApiError, ApiResult, At};
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
    let spec = SecurityGroupSpec::new(group_name(&request.name).at("name")?, &request.description)
        .map_err(refused)
        .at("description")?;
    let spec = spec.changed(&[], &rules(&request.rules).at("rules")?).map_err(refused).at("rules")?;
    let group = SecurityGroupRow {
        id: SecurityGroupId::random(&mut rand::rng()),
        spec,
        user_name: user.name.clone(),
        create_time: context.clock.now(),
    };
    let name = group.spec.name.clone();
    let mut tx = context.store.begin().await?;
    user.present(&mut tx).await?;
    tx.security_group_insert(&group).await.map_err(|error| {
        taken(error, || format!("a security group is named `{name}` already"))
            .hint("choose another name, or change that group")
            .at("name")
    })?;
    tx.commit().await?;
    context.wake();
    audit::about(Kind::SecurityGroup, group.id.as_str(), name.as_str());
    tracing::info!(group = %group.id, user = user.name, "security group {} ({name}) is created", group.id);
    Ok(group.id)
}

/// Adds, removes and replaces rules, all or none. Gateways and hosts follow at once, and never
/// have a group in which only a part of it is done.
pub(crate) async fn modify(
    context: &Context,
    user: &User,
    id: &str,
    request: &SecurityGroupModifyRequest,
) -> ApiResult<SecurityGroupId> {
    let (remove, add) = (rules(&request.remove_rules).at("removeRules")?, rules(&request.add_rules).at("addRules")?);
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
    may_delete(name.as_str(), &members(user, &id, &tx.gateway_list().await?, tx.job_list_live().await?.iter()))?;
    tx.security_group_delete(&id).await?;
    tx.commit().await?;
    context.wake();
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
    audit::about(Kind::SecurityGroup, group.id.as_str(), group.spec.name.as_str());
    may_change(user, group.spec.name.as_str(), &group.user_name)?;
    Ok(group)
}

/// Checks that a user may change a group with this name and owner.
pub(crate) fn may_change(user: &User, name: &str, owner: &str) -> ApiResult<()> {
    if user.may_change(owner) {
        return Ok(());
    }
    Err(ApiError::new(ErrorCode::PermissionDenied, format!("security group `{name}` belongs to {owner}"))
        .hint(format!("ask {owner} or an admin, or create one of your own")))
}

/// Checks that a group of which these are the members may be deleted.
pub(crate) fn may_delete(name: &str, members: &[String]) -> ApiResult<()> {
    if name == DEFAULT_GROUP {
        return Err(ApiError::new(
            ErrorCode::WrongStatus,
            format!("security group `{name}` can't be deleted: gateways and jobs that name no group have it"),
        )
        .hint("change its rules with `float securityGroup addRule` and `rmRule`"));
    }
    if members.is_empty() {
        return Ok(());
    }
    Err(ApiError::new(ErrorCode::WrongStatus, format!("security group `{name}` is in use by {}", members.join(", ")))
        .hint("take it from gateways with `float gateway modify --rmSecurityGroup`; a job keeps it to its end"))
}

/// Parses a name. An id is refused, since a group is found by either.
pub(crate) fn group_name(text: &str) -> ApiResult<Name> {
    let name: Name = parse(text)?;
    match text.parse::<SecurityGroupId>() {
        Ok(_) => Err(ApiError::invalid(format!("`{name}` is an id and can't be a name"))),
        Err(_) => Ok(name),
    }
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
    let hint = "`float securityGroup show` shows its rules";
    match error {
        InvalidGroup::Description => refusal.at("description"),
        InvalidGroup::TooManyRules => refusal.at("addRules"),
        InvalidGroup::HasRule { .. } => refusal.hint(hint).at("addRules"),
        InvalidGroup::LacksRule { .. } => refusal.hint(hint).at("removeRules"),
    }
}
