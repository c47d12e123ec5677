//! Groups: add, list, show, update, delete.
//!
//! Members of a group see each other's jobs with their status, but can't act on them. Output, URLs
//! and values of the environment stay hidden. Admins make groups and choose members; a member sees
//! its own groups.

use mooring_api::view::{GroupAddRequest, GroupUpdateRequest, GroupView};
use mooring_store::{GroupRow, MembershipRow};
use mooring_types::quota::Quota;
use mooring_types::{Clock, Name};

use super::membership::{find_group, insert, remove, resolve_users, unknown_group};
use super::{parse, quota, taken};
use crate::audit;
use crate::audit::action::Kind;
use crate::auth::User;
use crate::decide::quota::Quotas;
use crate::error::{ApiError, ApiResult, At};
use crate::state::context::Context;
use crate::state::quotas;

/// The most characters of a description.
const DESCRIPTION_MAX: usize = 256;

/// Adds a group with its members.
pub(crate) async fn add(context: &Context, actor: &User, request: &GroupAddRequest) -> ApiResult<GroupView> {
    actor.refuse_unless_admin("adding a group")?;
    let name: Name = parse(&request.name).at("name")?;
    let description = description(&request.description)?;
    let group = GroupRow { name: name.clone(), description, create_time: context.clock.now(), quota: Quota::default() };
    let mut tx = context.store.begin().await?;
    tx.group_insert(&group).await.map_err(|error| {
        taken(error, || format!("a group is named `{name}` already"))
            .hint("choose another name, or update that group")
            .at("name")
    })?;
    for user in resolve_users(&mut tx, &request.users).await.at("users")? {
        insert(&mut tx, &group, &user).await.at("users")?;
    }
    let view = view(&group, &tx.membership_list().await?, &quotas::read(&mut tx).await?);
    tx.commit().await?;
    context.wake();
    audit::about(Kind::Group, name.as_str(), "");
    tracing::info!(group = %name, actor = actor.name, "group {name} is added");
    Ok(view)
}

/// Lists all groups for an admin, and the user's own for everybody else.
pub(crate) async fn list(context: &Context, actor: &User) -> ApiResult<Vec<GroupView>> {
    let mut tx = context.store.begin().await?;
    let (groups, memberships) = (tx.group_list().await?, tx.membership_list().await?);
    let quotas = quotas::read(&mut tx).await?;
    let visible = groups.iter().filter(|group| may_see(actor, group, &memberships));
    Ok(visible.map(|group| view(group, &memberships, &quotas)).collect())
}

/// Returns one group.
pub(crate) async fn show(context: &Context, actor: &User, name: &str) -> ApiResult<GroupView> {
    let mut tx = context.store.begin().await?;
    let memberships = tx.membership_list().await?;
    let group = find_group(&mut tx, name).await?;
    if !may_see(actor, &group, &memberships) {
        return Err(unknown_group(name));
    }
    Ok(view(&group, &memberships, &quotas::read(&mut tx).await?))
}

/// Changes a group, all of the request or nothing.
pub(crate) async fn update(
    context: &Context,
    actor: &User,
    name: &str,
    request: &GroupUpdateRequest,
) -> ApiResult<GroupView> {
    actor.refuse_unless_admin("changing a group")?;
    if *request == GroupUpdateRequest::default() {
        return Err(ApiError::invalid("nothing to change").hint("see `float group update --help`"));
    }
    let mut tx = context.store.begin().await?;
    let mut group = find_group(&mut tx, name).await?;
    describe(request);
    if let Some(text) = &request.description {
        group.description = description(text)?;
    }
    group.quota = quota::changed(group.quota, &request.quota)?;
    tx.group_update(&group).await?;
    for user in resolve_users(&mut tx, &request.remove_users).await.at("removeUsers")? {
        remove(&mut tx, &group, &user).await.at("removeUsers")?;
    }
    for user in resolve_users(&mut tx, &request.add_users).await.at("addUsers")? {
        insert(&mut tx, &group, &user).await.at("addUsers")?;
    }
    let view = view(&group, &tx.membership_list().await?, &quotas::read(&mut tx).await?);
    tx.commit().await?;
    context.wake();
    tracing::info!(group = %group.name, actor = actor.name, "group {} is changed", group.name);
    Ok(view)
}

/// Tells the audit which members a request changes.
fn describe(request: &GroupUpdateRequest) {
    for user in &request.add_users {
        audit::detail(format!("adds {user}"));
    }
    for user in &request.remove_users {
        audit::detail(format!("removes {user}"));
    }
}

/// Deletes a group; its members stay users.
pub(crate) async fn delete(context: &Context, actor: &User, name: &str) -> ApiResult<()> {
    actor.refuse_unless_admin("deleting a group")?;
    let mut tx = context.store.begin().await?;
    let group = find_group(&mut tx, name).await?;
    tx.group_delete(&group.name).await?;
    tx.commit().await?;
    context.wake();
    tracing::info!(group = %group.name, actor = actor.name, "group {} is deleted", group.name);
    Ok(())
}

fn may_see(actor: &User, group: &GroupRow, memberships: &[MembershipRow]) -> bool {
    let mut members = memberships.iter().filter(|membership| membership.group == group.name);
    actor.is_admin() || members.any(|membership| membership.user == actor.id)
}

fn description(text: &str) -> ApiResult<String> {
    if text.chars().count() > DESCRIPTION_MAX || text.contains(char::is_control) {
        let message = format!("a description is one line of at most {DESCRIPTION_MAX} characters");
        return Err(ApiError::invalid(message).at("description"));
    }
    Ok(text.to_owned())
}

fn view(group: &GroupRow, memberships: &[MembershipRow], quotas: &Quotas) -> GroupView {
    let members = memberships.iter().filter(|membership| membership.group == group.name);
    let users: Vec<String> = members.map(|membership| membership.user_name.clone()).collect();
    GroupView {
        name: group.name.to_string(),
        description: group.description.clone(),
        create_time: group.create_time,
        quota: quota::view(group.quota),
        used: quota::holding_view(quotas.held_by_all(&users)),
        users,
    }
}
