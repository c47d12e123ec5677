//! Sessions: log in, log in for one job, log out.

use mooring_api::ErrorCode;
use mooring_api::view::SessionView;
use mooring_store::{SessionRow, Tx, UserRow};
use mooring_types::{Clock, JobId, Timestamp};

use super::{parse, see_job};
use crate::auth::{UNKNOWN_USER_HASH, User, verify};
use crate::error::{ApiError, ApiResult};
use crate::state::context::Context;
use crate::state::token::{hash_token, new_token};

/// Begins a session.
pub(crate) async fn login(context: &Context, name: &str, password: &str) -> ApiResult<SessionView> {
    let user = authenticate(context, name, password).await?;
    let mut tx = context.store.begin().await?;
    let (_, session) = begin(&mut tx, user, None, context.clock.now()).await?;
    tx.commit().await?;
    Ok(session)
}

/// Begins a session for one job alone.
pub(crate) async fn login_for_job(context: &Context, job: &str, name: &str, password: &str) -> ApiResult<SessionView> {
    let job: JobId = parse(job)?;
    let now = context.clock.now();
    context.login_throttle.begin(name, now).map_err(|until| {
        ApiError::new(ErrorCode::Unavailable, format!("a wrong password was given too often for `{name}`"))
            .hint(format!("try again after {until}, or use `float login`"))
    })?;
    let user = authenticate(context, name, password).await?;
    context.login_throttle.succeeded(name);
    let mut tx = context.store.begin().await?;
    let (user, session) = begin(&mut tx, user, Some(&job), now).await?;
    see_job(&mut tx, &user, job.as_str()).await?;
    tx.commit().await?;
    Ok(session)
}

/// Returns the user with that name and password.
async fn authenticate(context: &Context, name: &str, password: &str) -> ApiResult<UserRow> {
    let mut tx = context.store.begin().await?;
    let user = tx.user_get(name).await?;
    drop(tx);
    let known = user.as_ref().map_or_else(|| UNKNOWN_USER_HASH.clone(), |user| user.password_hash.clone());
    let verified = verify(known, password).await;
    user.filter(|_| verified).ok_or_else(|| {
        ApiError::new(ErrorCode::Unauthenticated, "wrong user name or password")
            .hint("the first password of `admin` is in the file `admin-password` of OpCenter's state directory")
    })
}

/// Begins a session in a given transaction.
async fn begin(tx: &mut Tx, user: UserRow, job: Option<&JobId>, now: Timestamp) -> ApiResult<(User, SessionView)> {
    let token = new_token();
    tx.session_insert(&hash_token(&token), &user.id, job, now).await?;
    let user = User::of(tx, SessionRow { user, create_time: now, last_used: now, job: job.cloned() }, &token).await?;
    let session =
        SessionView { token, username: user.name.clone(), role: user.role.to_string(), expires_at: user.expires_at };
    Ok((user, session))
}

/// Ends the user's session.
pub(crate) async fn logout(context: &Context, user: &User) -> ApiResult<()> {
    let mut tx = context.store.begin().await?;
    tx.session_delete(&user.token_hash).await?;
    Ok(tx.commit().await?)
}
