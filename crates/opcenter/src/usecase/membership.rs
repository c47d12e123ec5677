//! Members of groups: the part that users and groups share.

use mooring_api::ErrorCode;
use mooring_store::{GroupRow, MembershipBy, Tx, UserRow};

use super::taken;
use crate::error::{ApiError, ApiResult};

/// The hint of an answer about a group.
pub(super) const GROUP_HINT: &str = "`float group list` shows the groups";
/// The hint of an answer about a user.
pub(super) const USER_HINT: &str = "`float user list` shows the users";

/// Adds a user to the group of that name.
pub(super) async fn join(tx: &mut Tx, group: &str, user: &UserRow) -> ApiResult<()> {
    let group = find_group(tx, group).await?;
    insert(tx, &group, user).await
}

/// Removes a user from the group of that name.
pub(super) async fn leave(tx: &mut Tx, group: &str, user: &UserRow) -> ApiResult<()> {
    let group = find_group(tx, group).await?;
    remove(tx, &group, user).await
}

/// Adds a user to a group.
pub(super) async fn insert(tx: &mut Tx, group: &GroupRow, user: &UserRow) -> ApiResult<()> {
    let inserted = tx.membership_insert(&group.name, &user.id, MembershipBy::Admin).await;
    inserted.map_err(|error| {
        taken(error, || format!("user `{}` is in group `{}` already", user.name, group.name)).hint(GROUP_HINT)
    })
}

/// Removes a user from a group.
pub(super) async fn remove(tx: &mut Tx, group: &GroupRow, user: &UserRow) -> ApiResult<()> {
    let memberships = tx.membership_list().await?;
    if !memberships.iter().any(|membership| membership.group == group.name && membership.user == user.id) {
        let message = format!("user `{}` is not in group `{}`", user.name, group.name);
        return Err(ApiError::new(ErrorCode::NotFound, message).hint(GROUP_HINT));
    }
    Ok(tx.membership_delete(&group.name, &user.id).await?)
}

/// Returns the group of that name.
pub(super) async fn find_group(tx: &mut Tx, name: &str) -> ApiResult<GroupRow> {
    let found = tx.group_list().await?.into_iter().find(|group| group.name.as_str() == name);
    found.ok_or_else(|| unknown_group(name))
}

/// Makes the error for a group that does not exist, or that the actor may not see.
pub(super) fn unknown_group(name: &str) -> ApiError {
    ApiError::not_found(format!("no group `{name}`")).hint(GROUP_HINT)
}

/// Returns the users of these names.
pub(super) async fn resolve_users(tx: &mut Tx, names: &[String]) -> ApiResult<Vec<UserRow>> {
    let mut users = Vec::new();
    for name in names {
        let user = tx.user_get(name).await?;
        users.push(user.ok_or_else(|| ApiError::not_found(format!("no user `{name}`")).hint(USER_HINT))?);
    }
    Ok(users)
}
