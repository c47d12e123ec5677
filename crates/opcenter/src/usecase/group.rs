//! Groups: add, list, show, update, delete.
//!
//! Members of a group see each other's jobs with their status, but can't act on them. Output, URLs
//! and values of the environment stay hidden. Admins make groups and choose members; a member sees
//! its own groups.

use mooring_api::view::{GroupAddRequest, GroupUpdateRequest, GroupView};
use mooring_store::{GroupRow, MembershipRow};
use mooring_types::{Clock, Name};

use super::membership::{find_group, insert, remove, resolve_users, unknown_group};
use super::{parse, taken};
use crate::auth::User;
use crate::error::{ApiError, ApiResult};
use crate::state::context::Context;

/// The most characters of a description.
const DESCRIPTION_MAX: usize = 256;

/// Adds a group with its members.
pub(crate) async fn add(context: &Context, actor: &User, request: &GroupAddRequest) -> ApiResult<GroupView> {
    actor.refuse_unless_admin("adding a group")?;
    let name: Name = parse(&request.name)?;
    let description = description(&request.description)?;
    let group = GroupRow { name: name.clone(), description, create_time: context.clock.now() };
    let mut tx = context.store.begin().await?;
    tx.group_insert(&group).await.map_err(|error| {
        taken(error, || format!("a group is named `{name}` already")).hint("choose another name, or update that group")
    })?;
    for user in resolve_users(&mut tx, &request.users).await? {
        insert(&mut tx, &group, &user).await?;
    }
    let view = view(&group, &tx.membership_list().await?);
    tx.commit().await?;
    tracing::info!(group = %name, actor = actor.name, "group {name} is added");
    Ok(view)
}

/// Lists all groups for an admin, and the user's own for everybody else.
pub(crate) async fn list(context: &Context, actor: &User) -> ApiResult<Vec<GroupView>> {
    let mut tx = context.store.begin().await?;
    let (groups, memberships) = (tx.group_list().await?, tx.membership_list().await?);
    let visible = groups.iter().filter(|group| may_see(actor, group, &memberships));
    Ok(visible.map(|group| view(group, &memberships)).collect())
}

/// Returns one group.
pub(crate) async fn show(context: &Context, actor: &User, name: &str) -> ApiResult<GroupView> {
    let mut tx = context.store.begin().await?;
    let memberships = tx.membership_list().await?;
    let group = find_group(&mut tx, name).await?;
    if may_see(actor, &group, &memberships) { Ok(view(&group, &memberships)) } else { Err(unknown_group(name)) }
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
    if let Some(text) = &request.description {
        group.description = description(text)?;
        tx.group_update(&group.name, &group.description).await?;
    }
    for user in resolve_users(&mut tx, &request.remove_users).await? {
        remove(&mut tx, &group, &user).await?;
    }
    for user in resolve_users(&mut tx, &request.add_users).await? {
        insert(&mut tx, &group, &user).await?;
    }
    let view = view(&group, &tx.membership_list().await?);
    tx.commit().await?;
    tracing::info!(group = %group.name, actor = actor.name, "group {} is changed", group.name);
    Ok(view)
}

/// Deletes a group; its members stay users.
pub(crate) async fn delete(context: &Context, actor: &User, name: &str) -> ApiResult<()> {
    actor.refuse_unless_admin("deleting a group")?;
    let mut tx = context.store.begin().await?;
    let group = find_group(&mut tx, name).await?;
    tx.group_delete(&group.name).await?;
    tx.commit().await?;
    tracing::info!(group = %group.name, actor = actor.name, "group {} is deleted", group.name);
    Ok(())
}

fn may_see(actor: &User, group: &GroupRow, memberships: &[MembershipRow]) -> bool {
    let mut members = memberships.iter().filter(|membership| membership.group == group.name);
    actor.is_admin() || members.any(|membership| membership.user == actor.id)
}

fn description(text: &str) -> ApiResult<String> {
    if text.chars().count() > DESCRIPTION_MAX || text.contains(char::is_control) {
        return Err(ApiError::invalid(format!("a description is one line of at most {DESCRIPTION_MAX} characters")));
    }
    Ok(text.to_owned())
}

fn view(group: &GroupRow, memberships: &[MembershipRow]) -> GroupView {
    let members = memberships.iter().filter(|membership| membership.group == group.name);
    GroupView {
        name: group.name.to_string(),
        description: group.description.clone(),
        users: members.map(|membership| membership.user_name.clone()).collect(),
        create_time: group.create_time,
    }
}
