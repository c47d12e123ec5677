//! Users: add, list, show, update, delete.
//!
//! Admins may do all of it. A user sees itself and may change its own password with the present
//! one. A new password and a deletion end the user's sessions at once. The last admin is neither
//! deleted nor given another role.

use mooring_api::ErrorCode;
use mooring_api::view::{UserAddRequest, UserUpdateRequest, UserView};
use mooring_store::{JobRow, MembershipRow, Tx, UserRow};
use mooring_types::job::{Action, JobStatus};
use mooring_types::{Clock, Name, Role, UserId};

use super::membership::{USER_HINT, join, leave};
use super::{parse, taken};
use crate::auth::{self, User};
use crate::error::{ApiError, ApiResult};
use crate::state::context::Context;

/// Adds a user.
pub(crate) async fn add(context: &Context, actor: &User, request: &UserAddRequest) -> ApiResult<UserView> {
    actor.refuse_unless_admin("adding a user")?;
    let name: Name = parse(&request.name)?;
    let role = role(&request.role)?.unwrap_or_default();
    let password_hash = auth::new_hash(&request.password).await?;
    let user = UserRow {
        id: UserId::random(&mut rand::rng()),
        name: name.to_string(),
        role,
        password_hash,
        create_time: context.clock.now(),
    };
    let mut tx = context.store.begin().await?;
    tx.user_insert(&user).await.map_err(|error| {
        taken(error, || format!("a user is named `{name}` already")).hint("choose another name, or update that user")
    })?;
    for group in &request.groups {
        join(&mut tx, group, &user).await?;
    }
    let view = view(&user, &tx.membership_list().await?);
    tx.commit().await?;
    tracing::info!(user = %user.id, actor = actor.name, "user {name} ({}) is added with role {}", user.id, user.role);
    Ok(view)
}

/// Lists all users for an admin, and the user itself for everybody else.
pub(crate) async fn list(context: &Context, actor: &User) -> ApiResult<Vec<UserView>> {
    let mut tx = context.store.begin().await?;
    let (users, memberships) = (tx.user_list().await?, tx.membership_list().await?);
    let visible = users.iter().filter(|user| actor.may_change(&user.name));
    Ok(visible.map(|user| view(user, &memberships)).collect())
}

/// Returns one user.
pub(crate) async fn show(context: &Context, actor: &User, name: &str) -> ApiResult<UserView> {
    let mut tx = context.store.begin().await?;
    let user = find(&mut tx, actor, name).await?;
    Ok(view(&user, &tx.membership_list().await?))
}

/// Changes a user, all of the request or nothing.
pub(crate) async fn update(
    context: &Context,
    actor: &User,
    name: &str,
    request: &UserUpdateRequest,
) -> ApiResult<UserView> {
    if *request == UserUpdateRequest::default() {
        return Err(ApiError::invalid("nothing to change").hint("see `float user update --help`"));
    }
    let role = role(&request.role)?;
    if role.is_some() || !request.add_groups.is_empty() || !request.remove_groups.is_empty() {
        actor.refuse_unless_admin("changing a role or groups")?;
    }
    let user_before = find(&mut context.store.begin().await?, actor, name).await?;
    let password_hash = match request.password.as_str() {
        "" => None,
        password => Some(changed_password(actor, &user_before, request, password).await?),
    };
    let mut tx = context.store.begin().await?;
    let old = find(&mut tx, actor, name).await?;
    let user = UserRow {
        role: role.unwrap_or(old.role),
        password_hash: password_hash.clone().unwrap_or(old.password_hash.clone()),
        ..old.clone()
    };
    if user.role != Role::Admin {
        refuse_last_admin(&mut tx, &old).await?;
    }
    tx.user_update(&user).await?;
    for group in &request.remove_groups {
        leave(&mut tx, group, &user).await?;
    }
    for group in &request.add_groups {
        join(&mut tx, group, &user).await?;
    }
    if password_hash.is_some() {
        tx.session_delete_of_user(&user.id).await?;
    }
    let view = view(&user, &tx.membership_list().await?);
    tx.commit().await?;
    tracing::info!(user = %user.id, actor = actor.name, "user {name} ({}) is updated", user.id);
    Ok(view)
}

/// Returns the hash of a new password, if the actor may set it.
async fn changed_password(
    actor: &User,
    user: &UserRow,
    request: &UserUpdateRequest,
    password: &str,
) -> ApiResult<String> {
    // An open session must not be enough to take the user over.
    if actor.id == user.id && !auth::verify(user.password_hash.clone(), &request.current_password).await {
        return Err(ApiError::new(ErrorCode::PermissionDenied, "the current password is missing or wrong")
            .hint("give the present password as well"));
    }
    auth::new_hash(password).await
}

/// The fate of the jobs of a user that is deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Jobs {
    /// The deletion fails while a job has not ended.
    Refuse,
    /// The jobs are cancelled.
    Cancel,
}

/// Deletes a user. Its ended jobs, gateways, security groups and public templates stay under its
/// name.
pub(crate) async fn delete(context: &Context, actor: &User, name: &str, jobs: Jobs) -> ApiResult<()> {
    actor.refuse_unless_admin("deleting a user")?;
    let mut tx = context.store.begin().await?;
    let user = find(&mut tx, actor, name).await?;
    refuse_last_admin(&mut tx, &user).await?;
    let mut running = tx.job_list_live().await?;
    running.retain(|job| job.user_name == user.name && !job.status.is_final());
    if jobs == Jobs::Refuse && !running.is_empty() {
        let named: Vec<String> = running.iter().map(|job| format!("{} ({})", job.spec.name, job.id)).collect();
        let message = format!("user {name} has jobs that have not ended: {}", named.join(", "));
        return Err(ApiError::new(ErrorCode::WrongStatus, message).hint("cancel them, or give `--cancelJobs`"));
    }
    for job in &running {
        cancel(context, &mut tx, actor, job).await?;
    }
    tx.user_delete(&user.id).await?;
    tx.commit().await?;
    tracing::info!(user = %user.id, actor = actor.name, "user {name} ({}) is deleted", user.id);
    context.wake();
    Ok(())
}

async fn cancel(context: &Context, tx: &mut Tx, actor: &User, job: &JobRow) -> ApiResult<()> {
    if job.status == JobStatus::Cancelling {
        return Ok(());
    }
    job.status.allows(Action::Cancel)?;
    let reason = format!("requested by {}, who deleted the user {}", actor.name, job.user_name);
    Ok(tx.job_status_set(job, JobStatus::Cancelling, &reason, context.clock.now()).await?)
}

/// Returns the user with that name, if the actor may see it.
async fn find(tx: &mut Tx, actor: &User, name: &str) -> ApiResult<UserRow> {
    let user = tx.user_get(name).await?.filter(|user| actor.may_change(&user.name));
    user.ok_or_else(|| ApiError::not_found(format!("no user `{name}`")).hint(USER_HINT))
}

async fn refuse_last_admin(tx: &mut Tx, user: &UserRow) -> ApiResult<()> {
    let others = tx.user_list().await?.into_iter().filter(|other| other.role == Role::Admin && other.id != user.id);
    if user.role != Role::Admin || others.count() > 0 {
        return Ok(());
    }
    Err(ApiError::new(ErrorCode::WrongStatus, format!("`{}` is the last admin", user.name))
        .hint("make another user an admin first: `float user update NAME --role admin`"))
}

fn role(text: &str) -> ApiResult<Option<Role>> {
    if text.is_empty() { Ok(None) } else { parse(text).map(Some) }
}

fn view(user: &UserRow, memberships: &[MembershipRow]) -> UserView {
    let groups = memberships.iter().filter(|membership| membership.user == user.id);
    UserView {
        id: user.id.clone(),
        name: user.name.clone(),
        role: user.role,
        groups: groups.map(|membership| membership.group.to_string()).collect(),
        create_time: user.create_time,
    }
}
