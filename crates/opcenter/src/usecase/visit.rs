//! Visits: browsers that a connection lets in after OpCenter's login.
//!
//! ```text
//!  browser ── a page ──► gateway: no visit ──► OpCenter's page: `enter`
//!     ▲                                             │ a code, for that connection and origin
//!     └── cookie ── gateway ── code: `begin` ◄──────┘
//! ```
//!
//! A visit ends with the session that has begun it, when its user loses the right, and after
//! [`VISIT_LIFE`].

use std::time::Duration;

use mooring_api::ErrorCode;
use mooring_api::watch::{VisitAnswer, VisitRequest};
use mooring_store::{ConnectionRow, GatewayRow, Tx, VisitRow};
use mooring_types::{Clock, ConnectionId};

use super::job_session::leads_to;
use super::parse;
use crate::audit;
use crate::auth::job_code::Entry;
use crate::auth::{User, has_ended};
use crate::decide::access::{Caller, admits};
use crate::error::{ApiError, ApiResult};
use crate::state::context::Context;
use crate::state::token::{hash_token, new_token};
use crate::view::Views;

/// The longest time of a visit. The browser is sent to OpCenter once more then.
pub(crate) const VISIT_LIFE: Duration = Duration::from_secs(12 * 3600);
/// The most visits of a connection.
const VISITS_MAX: usize = 1000;

/// The way back of a browser that may enter a connection.
pub(crate) struct Entered {
    /// The code for its gateway.
    pub(crate) code: String,
    /// The URL of the port, without a `/` at its end.
    pub(crate) base: String,
}

/// Lets a user's browser enter a connection.
pub(crate) async fn enter(context: &Context, user: &User, connection: &str, origin: &str) -> ApiResult<Entered> {
    let id: ConnectionId = parse(connection)?;
    let mut tx = context.store.begin_read().await?;
    let connection = find(&mut tx, &id).await?;
    refuse_stranger(&mut tx, &connection, Caller { name: &user.name, role: user.role }).await?;
    let views = Views::latest(context, &mut tx).await?;
    let address = views.gateway_address(&connection.gateway).ok_or_else(unknown)?;
    let port = connection.gateway_port;
    let external = views.external_url(&connection.gateway, port).filter(|url| url.origin() == origin);
    if external.is_none() && !leads_to(origin, &address, port, &context.config.gateway_hosts) {
        return Err(ApiError::new(ErrorCode::PermissionDenied, format!("the job is not at {origin}"))
            .hint(format!("open it at http://{address}:{port}")));
    }
    let entry = Entry { session: user.token_hash.clone(), connection: id, origin: origin.to_owned() };
    let code = context.entry_codes.make(entry, context.clock.now()).ok_or_else(|| {
        ApiError::new(ErrorCode::ResourceExhausted, "too many browsers are on their way").hint("try again in a minute")
    })?;
    let base = external.map_or_else(|| origin.to_owned(), |url| url.to_string());
    Ok(Entered { code, base })
}

/// Begins the visit of a browser that has come back to its gateway.
pub(crate) async fn begin(context: &Context, gateway: &GatewayRow, request: &VisitRequest) -> ApiResult<VisitAnswer> {
    let refused = || {
        ApiError::new(ErrorCode::PermissionDenied, "the entry has been used, is too old, or is for another place")
            .hint("open the job again")
    };
    let now = context.clock.now();
    let entry = context.entry_codes.take(&request.code, now).ok_or_else(refused)?;
    if entry.connection != request.connection || entry.origin != request.origin {
        return Err(refused());
    }
    let mut tx = context.store.begin().await?;
    let connection = find(&mut tx, &entry.connection).await?;
    if connection.gateway != gateway.id {
        return Err(refused());
    }
    let session = tx.session_get(&entry.session).await?.filter(|session| !has_ended(session, now));
    let session = session.ok_or_else(refused)?;
    refuse_stranger(&mut tx, &connection, Caller { name: &session.user.name, role: session.user.role }).await?;
    let visits = tx.visit_list().await?;
    let mut of_connection = visits.iter().filter(|visit| visit.connection == connection.id);
    if of_connection.clone().count() >= VISITS_MAX
        && let Some(oldest) = of_connection.next()
    {
        tx.visit_delete(&oldest.token_hash).await?;
    }
    let token = new_token();
    let visit = VisitRow {
        token_hash: hash_token(&token),
        connection: connection.id.clone(),
        user: session.user.id.clone(),
        user_name: session.user.name.clone(),
        role: session.user.role,
        session: session.id,
        create_time: now,
    };
    tx.visit_insert(&visit).await?;
    tx.commit().await?;
    audit::by(&visit.user_name);
    audit::detail(format!("to job {} at {}", connection.job, entry.origin));
    context.wake();
    Ok(VisitAnswer { token })
}

async fn find(tx: &mut Tx, id: &ConnectionId) -> ApiResult<ConnectionRow> {
    tx.connection_list().await?.into_iter().find(|row| row.id == *id).ok_or_else(unknown)
}

async fn refuse_stranger(tx: &mut Tx, connection: &ConnectionRow, caller: Caller<'_>) -> ApiResult<()> {
    let job = tx.job_get(&connection.job).await?.ok_or_else(unknown)?;
    let memberships = tx.membership_list().await?;
    if admits(connection, &job.user_name, caller, &memberships) {
        return Ok(());
    }
    Err(ApiError::new(ErrorCode::PermissionDenied, format!("this job is not shared with `{}`", caller.name))
        .hint("ask its owner, or sign in with another name"))
}

fn unknown() -> ApiError {
    ApiError::not_found("no job behind this address").hint("it may have been disconnected")
}
