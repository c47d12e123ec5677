//! Authentication: users by password and session, hosts and gateways by token. Of every token but a
//! gateway's only the SHA-256 is kept.
//!
//! [`mooring_types::user`] says what a user may do; [`User::may_see`] and [`User::may_change`]
//! check it. A session from a job's page is good for that job alone. The page's scripts can read
//! its token, so it permits no more than the job could do to itself; [`is_open_to`] is the list.

pub(crate) mod login_throttle;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::LazyLock;
use std::time::Duration;

use argon2::Argon2;
use argon2::password_hash::rand_core::OsRng;
use argon2::password_hash::{PasswordHash, PasswordHasher, PasswordVerifier, SaltString};
use axum::extract::{FromRequestParts, Path as PathParameter};
use axum::http::Method;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use mooring_api::{ErrorCode, paths};
use mooring_ops::file;
use mooring_store::{GatewayRow, HostRow, SessionRow, Store, Tx, UserRow};
use mooring_types::{Clock, JobId, Role, Timestamp, UserId};
use rand::Rng;
use rand::distr::Alphanumeric;

use crate::error::{ApiError, ApiResult, Error};
use crate::state::context::Context;
use crate::state::token::hash_token;

const SESSION_LIFE: Duration = Duration::from_secs(168 * 3600);
/// The longest time between two uses of a session.
const SESSION_IDLE: Duration = Duration::from_secs(3600);
/// The staleness of the recorded last use of a session: one write per request is too many.
const LAST_USED_STALENESS: Duration = Duration::from_secs(60);
const PASSWORD_LENGTH: usize = 20;

/// The user that exists from the first start on.
const ADMIN: &str = "admin";
/// The least characters of a password.
const PASSWORD_MIN: usize = 8;
/// The most bytes of a password: hashing a long one takes time.
const PASSWORD_MAX: usize = 1024;

/// The hash that is verified for an unknown name, so that the answer takes as long.
pub(crate) static UNKNOWN_USER_HASH: LazyLock<String> = LazyLock::new(|| hash("nobody").unwrap_or_default());

fn hash(password: &str) -> Result<String, Error> {
    let salt = SaltString::generate(&mut OsRng);
    let hashed = Argon2::default().hash_password(password.as_bytes(), &salt).map_err(Error::Password)?;
    Ok(hashed.to_string())
}

/// Checks a new password and hashes it.
pub(crate) async fn new_hash(password: &str) -> ApiResult<String> {
    if password.chars().count() < PASSWORD_MIN || password.len() > PASSWORD_MAX {
        return Err(ApiError::invalid(format!("a password has at least {PASSWORD_MIN} characters"))
            .hint("choose a longer one; a few words are easier to remember"));
    }
    let password = password.to_owned();
    let hashed = tokio::task::spawn_blocking(move || hash(&password)).await;
    Ok(hashed.map_err(|_| ApiError::new(ErrorCode::Internal, "the password could not be hashed"))??)
}

/// Makes the user `admin` if there is no admin, with a random password that the state directory
/// keeps.
pub(crate) async fn ensure_admin(store: &Store, state_dir: &Path, now: Timestamp) -> Result<(), Error> {
    let mut tx = store.begin().await?;
    if tx.user_list().await?.iter().any(|user| user.role == Role::Admin) {
        return Ok(());
    }
    let path = state_dir.join("admin-password");
    let draw = || Ok(rand::rng().sample_iter(Alphanumeric).take(PASSWORD_LENGTH).map(char::from).collect::<String>());
    let password = file::secret(&path, draw).map_err(|source| Error::secret_file(&path, source))?;
    let user = UserRow {
        id: UserId::random(&mut rand::rng()),
        name: ADMIN.to_owned(),
        role: Role::Admin,
        password_hash: hash(&password)?,
        create_time: now,
    };
    tx.user_insert(&user).await?;
    tx.commit().await?;
    tracing::info!("the password of `admin` is in {}", path.display());
    Ok(())
}

/// Verifies a password against a hash.
pub(crate) async fn verify(hash: String, password: &str) -> bool {
    let password = password.to_owned();
    let verified = tokio::task::spawn_blocking(move || {
        PasswordHash::new(&hash).is_ok_and(|hash| Argon2::default().verify_password(password.as_bytes(), &hash).is_ok())
    });
    verified.await.unwrap_or(false)
}

/// A user with a valid session.
#[derive(Debug, Clone)]
pub(crate) struct User {
    pub(crate) id: UserId,
    pub(crate) name: String,
    pub(crate) role: Role,
    pub(crate) expires_at: Timestamp,
    /// The hash of the session's token.
    pub(crate) token_hash: String,
    /// The users that share a group with this one.
    mates: BTreeSet<String>,
}

impl User {
    /// Returns the user of a session.
    pub(crate) async fn of(tx: &mut Tx, session: SessionRow, token: &str) -> ApiResult<Self> {
        Self::of_hash(tx, session, hash_token(token)).await
    }

    async fn of_hash(tx: &mut Tx, session: SessionRow, token_hash: String) -> ApiResult<Self> {
        let SessionRow { user, create_time, .. } = session;
        let mates = tx.membership_mates(&user.id).await?.into_iter().collect();
        let expires_at = create_time + SESSION_LIFE;
        Ok(Self { id: user.id, name: user.name, role: user.role, expires_at, token_hash, mates })
    }

    /// Returns the user as it is now, if its session is still valid. Renewing keeps a session in
    /// use.
    pub(crate) async fn renewed(&self, context: &Context) -> ApiResult<Self> {
        Self::of_session(context, &self.token_hash, |_| Ok(())).await
    }

    /// Returns the user of a valid session that `permit` accepts.
    async fn of_session(
        context: &Context,
        token_hash: &str,
        permit: impl FnOnce(&SessionRow) -> ApiResult<()>,
    ) -> ApiResult<Self> {
        let now = context.clock.now();
        let mut tx = context.store.begin().await?;
        let Some(session) = tx.session_get(token_hash).await? else { return Err(unknown()) };
        if has_ended(&session, now) {
            tx.session_delete(token_hash).await?;
            tx.commit().await?;
            return Err(
                ApiError::new(ErrorCode::Unauthenticated, "the session has ended").hint("log in with `float login`")
            );
        }
        permit(&session)?;
        let last_used = session.last_used;
        let user = Self::of_hash(&mut tx, session, token_hash.to_owned()).await?;
        if last_used + LAST_USED_STALENESS < now {
            tx.session_touch(token_hash, now).await?;
            tx.commit().await?;
        }
        Ok(user)
    }

    pub(crate) fn is_admin(&self) -> bool {
        self.role == Role::Admin
    }

    /// Returns whether this user may see that an object of `owner` exists, and its status.
    pub(crate) fn may_see(&self, owner: &str) -> bool {
        self.may_change(owner) || self.mates.contains(owner)
    }

    /// Returns whether this user may change an object of `owner` and see all of it.
    pub(crate) fn may_change(&self, owner: &str) -> bool {
        self.is_admin() || self.name == owner
    }

    /// Refuses everybody but admins.
    pub(crate) fn refuse_unless_admin(&self, what: &str) -> ApiResult<()> {
        if self.is_admin() {
            return Ok(());
        }
        Err(ApiError::new(ErrorCode::PermissionDenied, format!("{what} takes the role `admin`")).hint("ask an admin"))
    }
}

impl FromRequestParts<Context> for User {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, context: &Context) -> ApiResult<Self> {
        Self::of_session(context, &hash_token(bearer(parts)?), |session| match &session.job {
            Some(job) if !is_open_to(job, &parts.method, parts.uri.path()) => {
                let message = format!("the session is for job {job} alone");
                Err(ApiError::new(ErrorCode::PermissionDenied, message).hint("log in with `float login`"))
            }
            _ => Ok(()),
        })
        .await
    }
}

/// Returns whether a session for one job permits a request.
fn is_open_to(job: &JobId, method: &Method, path: &str) -> bool {
    let of_job = |template: &str| paths::fill(template, &[job.as_str()]) == path;
    match *method {
        Method::GET => of_job(paths::JOB) || of_job(paths::JOB_WATCH) || path == paths::SESSION,
        Method::DELETE => of_job(paths::JOB),
        Method::POST => {
            [paths::JOB_MIGRATE, paths::JOB_SUSPEND, paths::JOB_RESUME].into_iter().any(of_job) || path == paths::LOGOUT
        }
        _ => false,
    }
}

fn has_ended(session: &SessionRow, now: Timestamp) -> bool {
    session.create_time + SESSION_LIFE <= now || session.last_used + SESSION_IDLE <= now
}

/// The agent of the host in the path.
#[derive(Debug, Clone)]
pub(crate) struct HostAgent(pub(crate) HostRow);

impl FromRequestParts<Context> for HostAgent {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, context: &Context) -> ApiResult<Self> {
        let token_hash = hash_token(bearer(parts)?);
        let id = named(parts, context).await?;
        let mut tx = context.store.begin().await?;
        let host = tx.host_list().await?.into_iter().find(|host| host.token_hash == token_hash).ok_or_else(unknown)?;
        if host.id.as_str() == id { Ok(Self(host)) } else { Err(another()) }
    }
}

/// The process of the gateway in the path.
#[derive(Debug, Clone)]
pub(crate) struct GatewayProcess(pub(crate) GatewayRow);

impl FromRequestParts<Context> for GatewayProcess {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, context: &Context) -> ApiResult<Self> {
        let token_hash = hash_token(bearer(parts)?);
        let id = named(parts, context).await?;
        let mut tx = context.store.begin().await?;
        let gateways = tx.gateway_list().await?;
        let gateway =
            gateways.into_iter().find(|gateway| hash_token(&gateway.token) == token_hash).ok_or_else(unknown)?;
        if gateway.id.as_str() == id { Ok(Self(gateway)) } else { Err(another()) }
    }
}

/// Returns the id in the path.
async fn named(parts: &mut Parts, context: &Context) -> ApiResult<String> {
    let PathParameter(names) =
        PathParameter::<std::collections::HashMap<String, String>>::from_request_parts(parts, context)
            .await
            .map_err(|_| another())?;
    names.get("id").cloned().ok_or_else(another)
}

/// Returns the token of a request: after `Bearer`, or alone, as older programs send it.
fn bearer(parts: &Parts) -> ApiResult<&str> {
    let header = parts.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).ok_or_else(unknown)?;
    let token = header.strip_prefix("Bearer ").unwrap_or(header).trim();
    if token.is_empty() || token.contains(' ') { Err(unknown()) } else { Ok(token) }
}

/// Returns the credentials of HTTP Basic.
pub(crate) fn basic(parts: &Parts) -> ApiResult<(String, String)> {
    let refused =
        || ApiError::new(ErrorCode::Unauthenticated, "no HTTP Basic credentials").hint("send user name and password");
    let header = parts.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).ok_or_else(refused)?;
    let encoded = header.strip_prefix("Basic ").ok_or_else(refused)?;
    let text = BASE64_STANDARD.decode(encoded.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let (name, password) = text.as_deref().and_then(|text| text.split_once(':')).ok_or_else(refused)?;
    Ok((name.to_owned(), password.to_owned()))
}

fn unknown() -> ApiError {
    ApiError::new(ErrorCode::Unauthenticated, "no session").hint("log in with `float login`, or give `-u` and `-p`")
}

fn another() -> ApiError {
    ApiError::new(ErrorCode::PermissionDenied, "the token belongs to another object")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn session(create_time: Timestamp, last_used: Timestamp) -> SessionRow {
        let user = UserRow {
            id: UserId::random(&mut rand::rng()),
            name: ADMIN.into(),
            role: Role::Admin,
            password_hash: String::new(),
            create_time,
        };
        SessionRow { user, create_time, last_used, job: None }
    }

    #[test]
    fn session_ends_by_age_or_disuse() {
        let begun: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let after = |hours: u64, minutes: u64| begun + Duration::from_secs(hours * 3600 + minutes * 60);
        for (last_used, now, ended) in [
            (after(0, 0), after(0, 59), false),
            (after(0, 0), after(1, 0), true),
            (after(167, 30), after(167, 59), false),
            (after(167, 30), after(168, 0), true),
        ] {
            assert_eq!(has_ended(&session(begun, last_used), now), ended, "{last_used}, {now}");
        }
    }

    #[test]
    fn job_session_permits_only_its_job() {
        let (own, other) = ("uqaj8l6a407u88v0106ol", "aqaj8l6a407u88v0106ol");
        let job: JobId = own.parse().unwrap();
        let own = format!("/api/v1/jobs/{own}");
        let open = [("GET", ""), ("DELETE", ""), ("POST", "/migrate"), ("POST", "/suspend"), ("POST", "/resume")];
        for (method, rest) in open {
            let method: Method = method.parse().unwrap();
            assert!(is_open_to(&job, &method, &format!("{own}{rest}")), "{method} {rest}");
            assert!(!is_open_to(&job, &method, &format!("/api/v1/jobs/{other}{rest}")), "{method} {rest} of another");
        }
        assert!(is_open_to(&job, &Method::POST, "/api/v1/logout"));
        for (method, path) in [
            (Method::PATCH, own.as_str()),
            (Method::GET, "/api/v1/jobs"),
            (Method::POST, "/api/v1/jobs"),
            (Method::GET, &format!("{own}/log")),
            (Method::GET, "/api/v1/secrets"),
            (Method::POST, &format!("{own}/migrate/../../secrets")),
        ] {
            assert!(!is_open_to(&job, &method, path), "{method} {path}");
        }
    }

    #[tokio::test]
    async fn admin_password_file_is_private() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("db")).await.unwrap();
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        ensure_admin(&store, directory.path(), now).await.unwrap();
        let file = directory.path().join("admin-password");
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        let password = std::fs::read_to_string(&file).unwrap();
        let admin = store.begin().await.unwrap().user_get(ADMIN).await.unwrap().unwrap();
        let hash = PasswordHash::new(&admin.password_hash).unwrap();
        assert!(Argon2::default().verify_password(password.trim().as_bytes(), &hash).is_ok());
        // A second start changes nothing.
        ensure_admin(&store, directory.path(), now).await.unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), password);
    }
}
