//! Users: add, list, show, update, delete.
//!
//! Admins may do all of it. A user sees itself and may change its own password with the present
//! one. A new password and a deletion end the user's sessions at once. API tokens end as well when
//! an admin sets the password: the account may have been in other hands. The last admin is neither
//! deleted nor given another role.
//!
//! A user who signs in at the OpenID provider has no password, and gets none while OpCenter knows
//! that provider. The provider alone says who may come in. [`super::sign_in`] adds such users.

use mooring_api::ErrorCode;
use mooring_api::view::{QuotaChange, UserAddRequest, UserUpdateRequest, UserView};
use mooring_store::{IdentityRow, JobRow, MembershipRow, Tx, UserRow};
use mooring_types::job::{Action, JobStatus};
use mooring_types::quota::Quota;
use mooring_types::{Clock, Name, Role, UserId};

use super::membership::{USER_HINT, join, leave};
use super::{parse, quota, taken};
use crate::audit;
use crate::audit::action::Kind;
use crate::auth::{self, User};
use crate::decide::quota::Quotas;
use crate::error::{ApiError, ApiResult, At};
use crate::state::context::Context;
use crate::state::quotas;

/// Adds a user.
pub(crate) async fn add(context: &Context, actor: &User, request: &UserAddRequest) -> ApiResult<UserView> {
    actor.refuse_unless_admin("adding a user")?;
    let name: Name = parse(&request.name).at("name")?;
    let role = role(&request.role)?.unwrap_or_default();
    let password_hash = {
        let _turn = context.login_pace.turn().await?;
        auth::new_hash(&request.password).await.at("password")?
    };
    let user = UserRow {
        id: UserId::random(&mut rand::rng()),
        name: name.to_string(),
        role,
        password_hash,
        create_time: context.clock.now(),
        quota: Quota::default(),
    };
    let mut tx = context.store.begin().await?;
    refuse_name_of_another(&mut tx, &name).await?;
    tx.user_insert(&user).await.map_err(|error| {
        taken(error, || format!("a user is named `{name}` already"))
            .hint("choose another name, or update that user")
            .at("name")
    })?;
    for group in &request.groups {
        join(&mut tx, group, &user).await.at("groups")?;
    }
    let view = view(&user, &Facts::read(&mut tx).await?);
    tx.commit().await?;
    context.wake();
    audit::about(Kind::User, &user.name, "");
    tracing::info!(user = %user.id, actor = actor.name, "user {name} ({}) is added with role {}", user.id, user.role);
    Ok(view)
}

/// Refuses the name of a deleted user under which something is kept: it would be the new user's.
async fn refuse_name_of_another(tx: &mut Tx, name: &Name) -> ApiResult<()> {
    if tx.user_get(name.as_str()).await?.is_some() || !tx.user_name_is_used(name.as_str()).await? {
        return Ok(());
    }
    let message =
        format!("`{name}` was a user who is deleted, and jobs, gateways or other things are kept in that name");
    Err(ApiError::new(ErrorCode::AlreadyExists, message)
        .hint("choose another name: they would be the new user's")
        .at("name"))
}

/// Lists all users for an admin, and the user itself for everybody else.
pub(crate) async fn list(context: &Context, actor: &User) -> ApiResult<Vec<UserView>> {
    let mut tx = context.store.begin().await?;
    let (users, facts) = (tx.user_list().await?, Facts::read(&mut tx).await?);
    let visible = users.iter().filter(|user| actor.may_change(&user.name));
    Ok(visible.map(|user| view(user, &facts)).collect())
}

/// Returns one user.
pub(crate) async fn show(context: &Context, actor: &User, name: &str) -> ApiResult<UserView> {
    let mut tx = context.store.begin().await?;
    let user = find(&mut tx, actor, name).await?;
    Ok(view(&user, &Facts::read(&mut tx).await?))
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
    describe(request);
    let is_for_admins =
        !request.add_groups.is_empty() || !request.remove_groups.is_empty() || request.quota != QuotaChange::default();
    if role.is_some() || is_for_admins {
        actor.refuse_unless_admin("changing a role, groups or a quota")?;
    }
    let user_before = find(&mut context.store.begin().await?, actor, name).await?;
    let password_hash = match request.password.as_str() {
        "" => None,
        password => Some(changed_password(context, actor, &user_before, request, password).await?),
    };
    let mut tx = context.store.begin().await?;
    let old = find(&mut tx, actor, name).await?;
    let user = UserRow {
        role: role.unwrap_or(old.role),
        password_hash: password_hash.clone().unwrap_or(old.password_hash.clone()),
        quota: quota::changed(old.quota, &request.quota)?,
        ..old.clone()
    };
    if user.role != Role::Admin {
        refuse_last_admin(&mut tx, &old).await.at("role")?;
    }
    tx.user_update(&user).await?;
    for group in &request.remove_groups {
        leave(&mut tx, group, &user).await.at("removeGroups")?;
    }
    for group in &request.add_groups {
        join(&mut tx, group, &user).await.at("addGroups")?;
    }
    if password_hash.is_some() {
        tx.session_delete_of_user(&user.id).await?;
        if actor.id != user.id {
            tx.api_token_delete_of_user(&user.id).await?;
        }
    }
    let view = view(&user, &Facts::read(&mut tx).await?);
    tx.commit().await?;
    context.wake();
    tracing::info!(user = %user.id, actor = actor.name, "user {name} ({}) is updated", user.id);
    Ok(view)
}

/// Tells the audit which parts of a user a request changes.
fn describe(request: &UserUpdateRequest) {
    if !request.password.is_empty() {
        audit::detail("password");
    }
    if !request.role.is_empty() {
        audit::detail(format!("role {}", request.role));
    }
    for group in &request.add_groups {
        audit::detail(format!("joins {group}"));
    }
    for group in &request.remove_groups {
        audit::detail(format!("leaves {group}"));
    }
}

/// Returns the hash of a new password, if the actor may set it.
async fn changed_password(
    context: &Context,
    actor: &User,
    user: &UserRow,
    request: &UserUpdateRequest,
    password: &str,
) -> ApiResult<String> {
    refuse_password_of_provider(context, user).await?;
    let _turn = context.login_pace.turn().await?;
    // An open session must not be enough to take the user over.
    if actor.id == user.id && !auth::verify(user.password_hash.clone(), &request.current_password).await {
        return Err(ApiError::new(ErrorCode::PermissionDenied, "the current password is missing or wrong")
            .hint("give the present password as well")
            .at("currentPassword"));
    }
    auth::new_hash(password).await.at("password")
}

/// Refuses a password for a user who signs in at the provider.
async fn refuse_password_of_provider(context: &Context, user: &UserRow) -> ApiResult<()> {
    let Some(oidc) = &context.oidc else { return Ok(()) };
    let identities = context.store.begin().await?.identity_list().await?;
    if !identities.iter().any(|identity| identity.user == user.id && identity.issuer == oidc.issuer()) {
        return Ok(());
    }
    let message = format!("`{}` signs in by {} and has no password here", user.name, oidc.name());
    Err(ApiError::new(ErrorCode::WrongStatus, message)
        .hint(format!("passwords of {} are changed there", oidc.name()))
        .at("password"))
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
        return Err(ApiError::new(ErrorCode::WrongStatus, message)
            .hint("cancel them, or give `--cancelJobs`")
            .at("cancelJobs"));
    }
    for job in &running {
        cancel(context, &mut tx, actor, job).await?;
        audit::about(Kind::Job, job.id.as_str(), "");
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
    if let Some(user) = &user {
        audit::about(Kind::User, &user.name, "");
    }
    user.ok_or_else(|| ApiError::not_found(format!("no user `{name}`")).hint(USER_HINT))
}

pub(super) async fn refuse_last_admin(tx: &mut Tx, user: &UserRow) -> ApiResult<()> {
    let others = tx.user_list().await?.into_iter().filter(|other| other.role == Role::Admin && other.id != user.id);
    if user.role != Role::Admin || others.count() > 0 {
        return Ok(());
    }
    Err(ApiError::new(ErrorCode::WrongStatus, format!("`{}` is the last admin", user.name))
        .hint("make another user an admin first: `float user update NAME --role admin`"))
}

fn role(text: &str) -> ApiResult<Option<Role>> {
    if text.is_empty() { Ok(None) } else { parse(text).at("role").map(Some) }
}

/// The facts that views of users tell beside their rows.
struct Facts {
    memberships: Vec<MembershipRow>,
    identities: Vec<IdentityRow>,
    quotas: Quotas,
}

impl Facts {
    async fn read(tx: &mut Tx) -> ApiResult<Self> {
        Ok(Self {
            memberships: tx.membership_list().await?,
            identities: tx.identity_list().await?,
            quotas: quotas::read(tx).await?,
        })
    }
}

fn view(user: &UserRow, facts: &Facts) -> UserView {
    let identity = facts.identities.iter().find(|identity| identity.user == user.id);
    let groups = facts.memberships.iter().filter(|membership| membership.user == user.id);
    UserView {
        id: user.id.clone(),
        name: user.name.clone(),
        role: user.role,
        groups: groups.map(|membership| membership.group.to_string()).collect(),
        sign_in: identity.map_or_else(|| UserView::BY_PASSWORD.to_owned(), |identity| identity.issuer.clone()),
        create_time: user.create_time,
        quota: quota::view(user.quota),
        used: quota::holding_view(facts.quotas.held_by(&user.name)),
    }
}
