//! Sessions: log in, with a password, by a link or for a program that a user confirms in a browser;
//! list, end. Those for one job are in [`super::job_session`].

use mooring_api::ErrorCode;
use mooring_api::view::{
    LinkRequest, LinkView, OpenSessionView, SessionRequest, SessionRequestState, SessionRequestView, SessionView,
};
use mooring_store::{SessionRow, Tx, UserRow};
use mooring_types::audit::plain;
use mooring_types::{Clock, SessionId, Timestamp};

use super::parse;
use crate::audit;
use crate::audit::action::Kind;
use crate::auth::login_request::{Asked, Fate};
use crate::auth::{SESSION_LIFE, UNKNOWN_USER_HASH, User, has_ended, verify};
use crate::error::{ApiError, ApiResult, At};
use crate::state::context::Context;
use crate::state::token::{hash_token, new_token};

/// The longest name of a machine that is shown, in characters.
const MACHINE_MAX: usize = 80;
/// The longest path of a page that a link opens.
const PAGE_MAX: usize = 2048;

/// Begins a session.
pub(crate) async fn login(context: &Context, name: &str, password: &str) -> ApiResult<SessionView> {
    let now = context.clock.now();
    let attempt = match context.login_pace.begin(audit::origin().address, name, now) {
        Ok(attempt) => attempt,
        Err(until) => {
            name_claimed(context, name).await?;
            return Err(too_many(until, now));
        }
    };
    let user = authenticate(context, name, password).await?;
    context.login_pace.succeeded(attempt);
    let mut tx = context.store.begin().await?;
    let session = begin(&mut tx, user, now).await?;
    tx.commit().await?;
    context.wake();
    Ok(session)
}

/// Makes the refusal of a login from an address whose logins have failed too often.
pub(super) fn too_many(until: Timestamp, now: Timestamp) -> ApiError {
    let seconds = until.duration_since(now).as_secs().max(0) + 1;
    ApiError::new(ErrorCode::Unavailable, "too many failed logins from your address")
        .hint(format!("try again in {seconds} s"))
}

/// Returns the user with that name and password.
async fn authenticate(context: &Context, name: &str, password: &str) -> ApiResult<UserRow> {
    let user = name_claimed(context, name).await?;
    // A user without a password takes as long as an unknown one, and is refused with any.
    let known = user.as_ref().map(|user| user.password_hash.clone()).filter(|hash| !hash.is_empty());
    let has_password = known.is_some();
    let _turn = context.login_pace.turn().await?;
    let verified = verify(known.unwrap_or_else(|| UNKNOWN_USER_HASH.clone()), password).await;
    user.filter(|_| verified && has_password).ok_or_else(|| {
        let first = "the first password of `admin` is in the file `admin-password` of OpCenter's state directory";
        let refusal = ApiError::new(ErrorCode::Unauthenticated, "wrong user name or password");
        match &context.oidc {
            Some(oidc) => refusal.hint(format!("users of {} log in with `float login --sso`; {first}", oidc.name())),
            None => refusal.hint(first),
        }
    })
}

/// Returns the user with that name, and tells the audit. The name of no user may be a password that
/// was typed in the wrong place.
async fn name_claimed(context: &Context, name: &str) -> ApiResult<Option<UserRow>> {
    let user = context.store.begin().await?.user_get(name).await?;
    if let Some(user) = &user {
        audit::claimed(&user.name);
    }
    Ok(user)
}

/// Begins a session in a given transaction.
pub(super) async fn begin(tx: &mut Tx, user: UserRow, now: Timestamp) -> ApiResult<SessionView> {
    let (token, origin) = (new_token(), audit::origin());
    let row = SessionRow {
        id: SessionId::random(&mut rand::rng()),
        user,
        token_hash: hash_token(&token),
        create_time: now,
        last_used: now,
        job: None,
        parent: None,
        address: origin.address_text(),
        client: origin.client,
    };
    Ok(open(tx, row, token).await?.1)
}

/// Adds a session whose token is known.
pub(super) async fn open(tx: &mut Tx, row: SessionRow, token: String) -> ApiResult<(User, SessionView)> {
    tx.session_insert(&row).await?;
    audit::about(Kind::Session, row.id.as_str(), "");
    let user = User::of(tx, row).await?;
    let session =
        SessionView { token, username: user.name.clone(), role: user.role.to_string(), expires_at: user.expires_at };
    Ok((user, session))
}

/// Ends the user's session, and those for single jobs that it has allowed.
pub(crate) async fn logout(context: &Context, user: &User) -> ApiResult<()> {
    let mut tx = context.store.begin().await?;
    if let Some(session) = tx.session_get(&user.token_hash).await? {
        audit::about(Kind::Session, session.id.as_str(), "");
        tx.session_end(&session.id).await?;
    }
    tx.commit().await?;
    context.wake();
    Ok(())
}

/// Lists the open sessions, oldest first: the user's own, and all for an admin.
pub(crate) async fn list(context: &Context, user: &User) -> ApiResult<Vec<OpenSessionView>> {
    let now = context.clock.now();
    let mut tx = context.store.begin().await?;
    let mut sessions = tx.session_list().await?;
    sessions.retain(|session| user.may_change(&session.user.name) && !has_ended(session, now));
    Ok(sessions.into_iter().map(|session| view(user, session)).collect())
}

fn view(user: &User, session: SessionRow) -> OpenSessionView {
    OpenSessionView {
        id: session.id,
        user: session.user.name,
        present: session.token_hash == user.token_hash,
        create_time: session.create_time,
        last_used: session.last_used,
        expires_at: session.create_time + SESSION_LIFE,
        address: session.address,
        client: session.client,
        job: session.job,
    }
}

/// Ends a session of the user, or any session for an admin.
pub(crate) async fn end(context: &Context, user: &User, id: &str) -> ApiResult<()> {
    let id: SessionId = parse(id)?;
    let mut tx = context.store.begin().await?;
    let sessions = tx.session_list().await?;
    let found = sessions.into_iter().find(|session| session.id == id && user.may_change(&session.user.name));
    let session = found.ok_or_else(|| {
        ApiError::not_found(format!("no session {id}")).hint("the page `/account` shows your open sessions")
    })?;
    audit::about(Kind::Session, id.as_str(), "");
    audit::detail(format!("of {}", session.user.name));
    tx.session_end(&session.id).await?;
    tx.commit().await?;
    tracing::info!(session = %id, actor = user.name, "session {id} of {} is ended", session.user.name);
    context.wake();
    Ok(())
}

/// Makes a link that begins a session of the same user in a browser, once. It opens a page.
pub(crate) fn link_begin(context: &Context, user: &User, request: &LinkRequest) -> ApiResult<LinkView> {
    let page = request.page.as_str();
    let is_path = page.is_empty() || page.starts_with('/') && !page.starts_with("//");
    if !is_path || page.len() > PAGE_MAX || page.contains(['\\', '\r', '\n', '\t']) {
        return Err(ApiError::invalid(format!("`{page}` is no path of a page")).hint("give a path like `/jobs`"));
    }
    let made = context.login_links.make(&user.token_hash, context.clock.now());
    let (code, expires_at) = made.ok_or_else(|| {
        ApiError::new(ErrorCode::ResourceExhausted, "too many links wait for their use").hint("try again in a minute")
    })?;
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.append_pair("code", &code);
    if !page.is_empty() {
        query.append_pair("next", page);
    }
    Ok(LinkView { path: format!("/login/link?{}", query.finish()), expires_at })
}

/// Uses a link: begins a session that ends when the session of the link's maker would.
pub(crate) async fn link_redeem(context: &Context, code: &str) -> ApiResult<SessionView> {
    let refused = || {
        ApiError::new(ErrorCode::Unauthenticated, "the link has been used, or is too old").hint("ask for another one")
    };
    let now = context.clock.now();
    let maker = context.login_links.take(code, now).ok_or_else(refused)?;
    let mut tx = context.store.begin().await?;
    let maker = tx.session_get(&maker).await?.filter(|maker| !has_ended(maker, now)).ok_or_else(refused)?;
    let (token, origin) = (new_token(), audit::origin());
    let row = SessionRow {
        id: SessionId::random(&mut rand::rng()),
        token_hash: hash_token(&token),
        last_used: now,
        address: origin.address_text(),
        client: origin.client,
        ..maker
    };
    let (_, session) = open(&mut tx, row, token).await?;
    tx.commit().await?;
    context.wake();
    Ok(session)
}

/// Keeps the request of a program for a session that a user confirms in a browser.
pub(crate) fn request(context: &Context, request: &SessionRequest) -> ApiResult<SessionRequestView> {
    let named: String = plain(request.machine.trim()).chars().take(MACHINE_MAX).collect();
    if named.is_empty() {
        return Err(ApiError::invalid("the request names no machine, which the user has to see")
            .hint("give the name of the program's machine")
            .at("machine"));
    }
    let made = context.login_requests.make(&named, audit::origin(), context.clock.now()).ok_or_else(|| {
        ApiError::new(ErrorCode::ResourceExhausted, "too many logins wait for a browser")
            .hint("confirm those that have begun, or try again in five minutes")
    })?;
    let query = form_urlencoded::Serializer::new(String::new()).append_pair("code", &made.code).finish();
    let path = format!("/login/confirm?{query}");
    Ok(SessionRequestView { secret: made.secret, code: made.code, path, expires_at: made.expires_at })
}

/// Tells a program what has become of its request.
pub(crate) async fn request_state(context: &Context, secret: &str) -> ApiResult<SessionRequestState> {
    let now = context.clock.now();
    match context.login_requests.fate(secret, now) {
        Fate::Waiting => return Ok(SessionRequestState { session: None }),
        Fate::Refused => {
            return Err(ApiError::new(ErrorCode::PermissionDenied, "the login was refused in the browser")
                .hint("run `float login --sso` again, if it was you"));
        }
        Fate::Gone => {}
    }
    let mut tx = context.store.begin_read().await?;
    let session = tx.session_get(&hash_token(secret)).await?.filter(|session| !has_ended(session, now));
    let session = session.ok_or_else(|| {
        ApiError::new(ErrorCode::Unauthenticated, "nobody has confirmed the login in time")
            .hint("run `float login --sso` again")
    })?;
    let expires_at = session.create_time + SESSION_LIFE;
    let (username, role) = (session.user.name, session.user.role.to_string());
    Ok(SessionRequestState { session: Some(SessionView { token: secret.to_owned(), username, role, expires_at }) })
}

/// Returns the request that waits under a code.
pub(crate) fn requested(context: &Context, code: &str) -> ApiResult<Asked> {
    context.login_requests.find(code, context.clock.now()).ok_or_else(request_is_over)
}

fn request_is_over() -> ApiError {
    ApiError::not_found("no login waits under this code: it was confirmed or refused, or is too old")
        .hint("run `float login --sso` again")
}

/// Confirms the request of a program. Its session is the user's, and ends when the session of the
/// one who confirms would.
pub(crate) async fn confirm(context: &Context, user: &User, code: &str) -> ApiResult<Asked> {
    let now = context.clock.now();
    let mut tx = context.store.begin().await?;
    let own = tx.session_get(&user.token_hash).await?.filter(|own| !has_ended(own, now));
    let own = own.ok_or_else(|| ApiError::new(ErrorCode::Unauthenticated, "the session has ended"))?;
    let (token_hash, asked) = context.login_requests.take(code, now).ok_or_else(request_is_over)?;
    let row = SessionRow {
        id: SessionId::random(&mut rand::rng()),
        token_hash,
        last_used: now,
        address: asked.origin.address_text(),
        client: asked.origin.client.clone(),
        ..own
    };
    tx.session_insert(&row).await?;
    tx.commit().await?;
    audit::about(Kind::Session, row.id.as_str(), "");
    audit::detail(format!("for {} at {}", asked.machine, row.address));
    context.wake();
    Ok(asked)
}

/// Refuses the request of a program.
pub(crate) fn refuse(context: &Context, code: &str) -> ApiResult<Asked> {
    let asked = context.login_requests.refuse(code, context.clock.now()).ok_or_else(request_is_over)?;
    audit::detail(format!("of {} at {}", asked.machine, asked.origin.address_text()));
    Ok(asked)
}
