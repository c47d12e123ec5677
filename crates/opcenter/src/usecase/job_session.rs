//! Sessions for one job alone, which a user gives a page of the job in OpCenter's own window.
//!
//! ```text
//!  page of the job ── connection, origin, challenge ──► OpCenter's page: `ask`
//!         ▲                                                  │ the user allows it: `allow`
//!         ├─────────────── code, to that origin alone ───────┘
//!         └── code, verifier ──► gateway ──► `begin`: the session
//! ```
//!
//! No page of a job ever asks for a password: what a page shows there, any other page can show as
//! well. The session ends with the one that has allowed it.

use std::str::FromStr;

use mooring_api::ErrorCode;
use mooring_api::view::{JobSessionRequest, SessionView};
use mooring_store::{JobRow, SessionRow, Tx};
use mooring_types::host_name::{self, HostPattern};
use mooring_types::{Clock, ConnectionId, GatewayId, JobId, Port, SessionId};

use super::{parse, see_job, session};
use crate::audit;
use crate::auth::job_code::Permission;
use crate::auth::{User, has_ended};
use crate::error::{ApiError, ApiResult};
use crate::state::context::Context;
use crate::state::token::{hash_token, new_token};
use crate::view::Views;

/// The hexadecimal digits of a challenge, which is a SHA-256.
const CHALLENGE_DIGITS: usize = 64;

/// The question of a page of a job.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    connection: ConnectionId,
    origin: String,
    challenge: String,
}

impl Asked {
    /// Parses the texts of a request.
    pub(crate) fn parse(connection: &str, origin: &str, challenge: &str) -> ApiResult<Self> {
        let is_digest = challenge.len() == CHALLENGE_DIGITS && challenge.bytes().all(|digit| digit.is_ascii_hexdigit());
        match ConnectionId::from_str(connection) {
            Ok(connection) if is_digest => {
                Ok(Self { connection, origin: origin.to_owned(), challenge: challenge.to_owned() })
            }
            _ => Err(ApiError::invalid("this address is not complete").hint("sign in from the page of the job again")),
        }
    }
}

/// Returns the job that a page asks about, if the user may see it and the page is one of it.
pub(crate) async fn ask(context: &Context, user: &User, asked: &Asked) -> ApiResult<JobRow> {
    let mut tx = context.store.begin_read().await?;
    let unknown = || {
        ApiError::not_found("no job behind this address that you may see")
            .hint("it may have been disconnected; `float list` shows your jobs")
    };
    let (job, gateway, port) = end_of(&mut tx, &asked.connection).await?.ok_or_else(unknown)?;
    let job = see_job(&mut tx, user, job.as_str()).await.map_err(|_| unknown())?;
    let views = Views::latest(context, &mut tx).await?;
    let address = views.gateway_address(&gateway).ok_or_else(unknown)?;
    let is_external = views.external_url(&gateway, port).is_some_and(|url| url.origin() == asked.origin);
    if !is_external && !leads_to(&asked.origin, &address, port, &context.config.gateway_hosts) {
        let message = format!("job {} is not at {}", job.spec.name, asked.origin);
        return Err(ApiError::new(ErrorCode::PermissionDenied, message).hint(format!(
            "open it at http://{address}:{port}, or at a name that an admin has declared with `--gateway-host`"
        )));
    }
    Ok(job)
}

/// Allows a page what it asks for. Returns the code.
pub(crate) async fn allow(context: &Context, user: &User, asked: &Asked) -> ApiResult<String> {
    let job = ask(context, user, asked).await?;
    audit::detail(format!("for job {} at {}", job.id, asked.origin));
    let permission = Permission {
        session: user.token_hash.clone(),
        job: job.id,
        origin: asked.origin.clone(),
        challenge: asked.challenge.clone(),
        browser: audit::origin(),
    };
    context.job_codes.make(permission, context.clock.now()).ok_or_else(|| {
        ApiError::new(ErrorCode::ResourceExhausted, "too many permissions wait for their use")
            .hint("try again in a minute")
    })
}

/// Begins the session that a user has allowed.
pub(crate) async fn begin(context: &Context, job: &str, request: &JobSessionRequest) -> ApiResult<SessionView> {
    let job: JobId = parse(job)?;
    let refused = || {
        ApiError::new(ErrorCode::Unauthenticated, "the permission has been used, is too old, or is for another page")
            .hint("sign in again")
    };
    let now = context.clock.now();
    let allowed = context.job_codes.take(&request.code, now).ok_or_else(refused)?;
    let is_the_askers = allowed.challenge == hash_token(&request.verifier);
    if !is_the_askers || allowed.job != job || allowed.origin != request.origin {
        return Err(refused());
    }
    let mut tx = context.store.begin().await?;
    let parent =
        tx.session_get(&allowed.session).await?.filter(|parent| !has_ended(parent, now)).ok_or_else(refused)?;
    let token = new_token();
    let row = SessionRow {
        id: SessionId::random(&mut rand::rng()),
        token_hash: hash_token(&token),
        last_used: now,
        job: Some(job.clone()),
        parent: Some(parent.id.clone()),
        address: allowed.browser.address_text(),
        client: allowed.browser.client,
        ..parent
    };
    let (user, session) = session::open(&mut tx, row, token).await?;
    see_job(&mut tx, &user, job.as_str()).await?;
    audit::detail(format!("for job {job}"));
    tx.commit().await?;
    context.wake();
    Ok(session)
}

/// Returns the job, gateway and port of a connection, or of one whose job has ended.
async fn end_of(tx: &mut Tx, id: &ConnectionId) -> ApiResult<Option<(JobId, GatewayId, Port)>> {
    if let Some(found) = tx.connection_list().await?.into_iter().find(|row| row.id == *id) {
        return Ok(Some((found.job, found.gateway, found.gateway_port)));
    }
    let ended = tx.farewell_list().await?.into_iter().find(|row| row.connection == *id);
    Ok(ended.map(|row| (row.job, row.gateway, row.gateway_port)))
}

/// Returns whether an origin is that of a gateway's port: by the gateway's address, or by a name
/// that was declared. `*` declares no name, since any site may have its name lead here.
pub(super) fn leads_to(origin: &str, address: &str, port: Port, declared: &[HostPattern]) -> bool {
    let Some((host, named)) = host_and_port(origin) else { return false };
    named == port.get() && (host == address || host_name::is_declared(host, declared))
}

/// Returns host and port of an origin as browsers write it.
fn host_and_port(origin: &str) -> Option<(&str, u16)> {
    let (default, authority) = match origin.split_once("://")? {
        ("http", authority) => (80, authority),
        ("https", authority) => (443, authority),
        _ => return None,
    };
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => Some((host, port.parse().ok()?)),
        _ => Some((authority, default)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origin_is_of_the_gateways_port() {
        let declared = |names: &[&str]| names.iter().map(|name| name.parse().unwrap()).collect::<Vec<HostPattern>>();
        for (origin, names, expected) in [
            ("http://192.0.2.1:10000", &[] as &[&str], true),
            ("https://192.0.2.1:10000", &[], true),
            ("http://192.0.2.1:10001", &[], false),
            ("http://192.0.2.1", &[], false),
            ("http://192.0.2.1:10000/", &[], false),
            ("http://192.0.2.1:10000@evil.example:10000", &[], false),
            ("http://192.0.2.10:10000", &[], false),
            ("http://evil.example:10000", &[], false),
            ("http://evil.example:10000", &["*"], false),
            ("http://localhost:10000", &[], false),
            ("https://lab.example:10000", &["lab.example"], true),
            ("https://a.lab.example:10000", &["*.lab.example"], true),
            ("https://lab.example", &["lab.example"], false),
            ("https://lab.example:10001", &["lab.example"], false),
            ("ftp://192.0.2.1:10000", &[], false),
            ("null", &[], false),
            ("", &[], false),
        ] {
            let port = 10_000.try_into().unwrap();
            assert_eq!(leads_to(origin, "192.0.2.1", port, &declared(names)), expected, "{origin} {names:?}");
        }
        assert_eq!(host_and_port("http://[2001:db8::1]:81"), Some(("[2001:db8::1]", 81)));
        assert_eq!(host_and_port("https://[2001:db8::1]"), Some(("[2001:db8::1]", 443)));
    }

    #[test]
    fn request_names_a_connection_and_a_digest() {
        let connection = ConnectionId::random(&mut rand::rng()).to_string();
        let asked = |connection: &str, challenge: &str| Asked::parse(connection, "http://a:1", challenge).is_ok();
        assert!(asked(&connection, &"a1".repeat(32)));
        assert!(!asked("", &"a1".repeat(32)) && !asked(&connection, "") && !asked(&connection, &"zz".repeat(32)));
    }
}
