//! Authentication: users by password, session and API token, jobs by their token
//! ([`crate::state::job_token`]), hosts and gateways by certificate (`daemon`). Of every drawn
//! token only the SHA-256 is kept. Users may also sign in at an OpenID provider ([`crate::oidc`]).
//!
//! [`mooring_types::user`] says what a user may do. [`rights`] checks what the role and the
//! credential permit, for every request; [`User::may_see`] and [`User::may_change`] check whose
//! objects a user may see and change.

pub(crate) mod cookie;
pub(crate) mod daemon;
pub(crate) mod job_code;
pub(crate) mod login_link;
pub(crate) mod login_pace;
pub(crate) mod login_request;
mod rights;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::LazyLock;
use std::time::Duration;

use argon2::Argon2;
use argon2::password_hash::rand_core::OsRng;
use argon2::password_hash::{PasswordHash, PasswordHasher, PasswordVerifier, SaltString};
use axum::extract::FromRequestParts;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use mooring_api::ErrorCode;
use mooring_ops::file;
use mooring_ops::log::chain;
use mooring_store::{ApiTokenRow, JobRow, SessionRow, Store, StoreError, Tx, UserRow};
use mooring_types::quota::Quota;
use mooring_types::{Clock, JobId, Role, Timestamp, UserId};
use rand::Rng;
use rand::distr::Alphanumeric;

use crate::audit;
use crate::error::{ApiError, ApiResult, Error};
use crate::state::context::Context;
use crate::state::job_token::JobToken;
use crate::state::token::hash_token;

use rights::Credential;

pub(crate) const SESSION_LIFE: Duration = Duration::from_secs(168 * 3600);
/// The longest time between two uses of a session.
pub(crate) const SESSION_IDLE: Duration = Duration::from_secs(3600);
/// The staleness of the recorded last use of a session or an API token: one write per request is
/// too many.
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
        quota: Quota::default(),
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

/// Records the use of a session.
async fn touch(mut tx: Tx, token_hash: &str, now: Timestamp) -> Result<(), StoreError> {
    tx.session_touch(token_hash, now).await?;
    tx.commit().await
}

/// Records the use of an API token.
async fn touch_token(mut tx: Tx, token: &ApiTokenRow, now: Timestamp) -> Result<(), StoreError> {
    tx.api_token_touch(&token.id, now).await?;
    tx.commit().await
}

/// A user with a valid session or API token, or whose job has asked.
#[derive(Debug, Clone)]
pub(crate) struct User {
    pub(crate) id: UserId,
    pub(crate) name: String,
    pub(crate) role: Role,
    pub(crate) expires_at: Timestamp,
    /// The hash of the token of the session, or of the API token; empty where a job has asked.
    pub(crate) token_hash: String,
    /// The job that has asked by its own token.
    job: Option<JobId>,
    /// The users that share a group with this one.
    mates: BTreeSet<String>,
}

impl User {
    /// Returns the user of a session.
    pub(crate) async fn of(tx: &mut Tx, session: SessionRow) -> ApiResult<Self> {
        let SessionRow { user, create_time, token_hash, .. } = session;
        audit::by(&user.name);
        Self::known(tx, user, token_hash, create_time + SESSION_LIFE).await
    }

    async fn known(tx: &mut Tx, user: UserRow, token_hash: String, expires_at: Timestamp) -> ApiResult<Self> {
        let mates = tx.membership_mates(&user.id).await?.into_iter().collect();
        Ok(Self { id: user.id, name: user.name, role: user.role, expires_at, token_hash, job: None, mates })
    }

    /// Returns the user as it is now, if its session or API token is still valid. Renewing keeps a
    /// session in use.
    pub(crate) async fn renewed(&self, context: &Context) -> ApiResult<Self> {
        if let Some(job) = &self.job {
            let mut tx = context.store.begin_read().await?;
            let (job, owner) = live_job(&mut tx, job).await?;
            return Self::of_job(&mut tx, job.id, owner).await;
        }
        Self::of_token(context, &self.token_hash, |_, _| Ok(())).await
    }

    /// Returns the row of this user: it may have been deleted since the request began, and another
    /// person may have got the name.
    pub(crate) async fn present(&self, tx: &mut Tx) -> ApiResult<UserRow> {
        tx.user_get(&self.name).await?.filter(|row| row.id == self.id).ok_or_else(unknown)
    }

    /// Returns the user of a browser's session, if it permits the request. A session for one job is
    /// not for OpCenter's pages.
    pub(crate) async fn of_browser(context: &Context, token: &str, parts: &Parts) -> ApiResult<Self> {
        let permit = |role, credential: &Credential| match credential {
            Credential::JobSession(_) | Credential::Job(_) | Credential::Token(_) => Err(unknown()),
            Credential::Session => rights::permit(role, credential, parts),
        };
        Self::of_token(context, &hash_token(token), permit).await
    }

    /// Returns the user of a valid session or API token that `permit` accepts.
    async fn of_token(
        context: &Context,
        token_hash: &str,
        permit: impl FnOnce(Role, &Credential) -> ApiResult<()>,
    ) -> ApiResult<Self> {
        let now = context.clock.now();
        let mut tx = context.store.begin().await?;
        let Some(session) = tx.session_get(token_hash).await? else {
            let token = tx.api_token_get(token_hash).await?.ok_or_else(unknown)?;
            return Self::of_api_token(tx, token, now, permit).await;
        };
        if has_ended(&session, now) {
            tx.session_delete(token_hash).await?;
            tx.commit().await?;
            return Err(
                ApiError::new(ErrorCode::Unauthenticated, "the session has ended").hint("log in with `float login`")
            );
        }
        // A session that lacks the right is known as well.
        audit::by(&session.user.name);
        let credential = session.job.clone().map_or(Credential::Session, Credential::JobSession);
        permit(session.user.role, &credential)?;
        let last_used = session.last_used;
        let user = Self::of(&mut tx, session).await?;
        if last_used + LAST_USED_STALENESS < now
            && let Err(error) = touch(tx, token_hash, now).await
        {
            // A database that can't be written can still be read.
            tracing::warn!(error = %chain(&error), "the use of a session can't be recorded");
        }
        Ok(user)
    }

    /// Returns the user of the job whose token this is, if the job has not ended and `permit`
    /// accepts.
    async fn of_job_token(
        context: &Context,
        token: &JobToken,
        permit: impl FnOnce(Role, &Credential) -> ApiResult<()>,
    ) -> ApiResult<Self> {
        let mut tx = context.store.begin_read().await?;
        let known = tx.job_get(&token.job).await?.filter(|job| token.is_of(&context.vault, job));
        if known.is_none() {
            return Err(unknown());
        }
        audit::detail(format!("by the token of job {}", token.job));
        let (job, owner) = live_job(&mut tx, &token.job).await?;
        audit::by(&owner.name);
        permit(owner.role, &Credential::Job(job.id.clone()))?;
        Self::of_job(&mut tx, job.id, owner).await
    }

    async fn of_job(tx: &mut Tx, job: JobId, owner: UserRow) -> ApiResult<Self> {
        let user = Self::known(tx, owner, String::new(), Timestamp::MAX).await?;
        Ok(Self { job: Some(job), ..user })
    }

    /// Returns the user of an API token that is not too old and that `permit` accepts.
    async fn of_api_token(
        mut tx: Tx,
        token: ApiTokenRow,
        now: Timestamp,
        permit: impl FnOnce(Role, &Credential) -> ApiResult<()>,
    ) -> ApiResult<Self> {
        audit::detail(format!("by API token {}", token.name));
        if token.expires_at <= now {
            audit::claimed(&token.user.name);
            return Err(ApiError::new(
                ErrorCode::Unauthenticated,
                format!("the API token `{}` was good until {}", token.name, token.expires_at),
            )
            .hint("make another one with `float token create`"));
        }
        audit::by(&token.user.name);
        permit(token.user.role, &Credential::Token(token.scope))?;
        let user = Self::known(&mut tx, token.user.clone(), token.token_hash.clone(), token.expires_at).await?;
        if token.last_used.is_none_or(|last_used| last_used + LAST_USED_STALENESS < now)
            && let Err(error) = touch_token(tx, &token, now).await
        {
            // A database that can't be written can still be read.
            tracing::warn!(error = %chain(&error), "the use of an API token can't be recorded");
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

    /// Returns the owners whose objects this user may see; `None` for all.
    pub(crate) fn visible_owners(&self) -> Option<Vec<String>> {
        let own = std::iter::once(self.name.clone());
        (!self.is_admin()).then(|| own.chain(self.mates.iter().filter(|mate| **mate != self.name).cloned()).collect())
    }

    /// Returns whether this user may change an object of `owner` and see all of it.
    pub(crate) fn may_change(&self, owner: &str) -> bool {
        self.is_admin() || self.name == owner
    }

    /// Returns whether this user may act on an object of `owner` as far as the role goes.
    pub(crate) fn may_act_on(&self, owner: &str) -> bool {
        self.may_change(owner) && self.refuse_viewer().is_ok()
    }

    /// Refuses a viewer. Requests are refused before they come to a use-case; pages ask to know
    /// what to offer.
    pub(crate) fn refuse_viewer(&self) -> ApiResult<()> {
        rights::may_change(self.role)
    }

    /// Returns why this user changes nothing at all, with what helps; empty for all but viewers.
    pub(crate) fn refusal(&self) -> String {
        let refused = self.refuse_viewer().err().map(|error| error.0);
        refused.map(|body| format!("{}; {}", body.message, body.hint.unwrap_or_default())).unwrap_or_default()
    }

    /// Refuses everybody but admins.
    pub(crate) fn refuse_unless_admin(&self, what: &str) -> ApiResult<()> {
        if self.is_admin() {
            return Ok(());
        }
        Err(ApiError::new(ErrorCode::PermissionDenied, format!("{what} takes the role `admin`")).hint("ask an admin"))
    }
}

#[cfg(test)]
impl User {
    /// Returns a user that is no admin and in no group.
    pub(crate) fn sample(name: &str) -> Self {
        Self {
            id: UserId::random(&mut rand::rng()),
            name: name.to_owned(),
            role: Role::User,
            expires_at: Timestamp::UNIX_EPOCH,
            token_hash: String::new(),
            job: None,
            mates: BTreeSet::new(),
        }
    }
}

impl FromRequestParts<Context> for User {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, context: &Context) -> ApiResult<Self> {
        // The web interface's pages read from the API as well: measurements and files.
        let is_secure = cookie::is_secure(parts, context);
        if !parts.headers.contains_key(AUTHORIZATION)
            && parts.method.is_safe()
            && let Some(token) = cookie::token(&parts.headers, is_secure)
        {
            return Self::of_browser(context, token, parts).await;
        }
        let permit = |role, credential: &Credential| rights::permit(role, credential, parts);
        let token = bearer(parts)?;
        match JobToken::parse(token) {
            Some(token) => Self::of_job_token(context, &token, permit).await,
            None => Self::of_token(context, &hash_token(token), permit).await,
        }
    }
}

/// Returns a job that has not ended, and its owner. Another person may have got the owner's name.
async fn live_job(tx: &mut Tx, job: &JobId) -> ApiResult<(JobRow, UserRow)> {
    let job = tx.job_get(job).await?.filter(|job| !job.status.is_final()).ok_or_else(|| {
        ApiError::new(ErrorCode::Unauthenticated, "the job has ended, and its token with it")
            .hint("log in with `float login`")
    })?;
    let owner = tx.user_get(&job.user_name).await?.filter(|owner| owner.create_time <= job.submit_time);
    Ok((job, owner.ok_or_else(unknown)?))
}

pub(crate) fn has_ended(session: &SessionRow, now: Timestamp) -> bool {
    session.create_time + SESSION_LIFE <= now || session.last_used + SESSION_IDLE <= now
}

/// Returns the token of a request: after `Bearer`, or alone, as older programs send it.
pub(crate) fn bearer(parts: &Parts) -> ApiResult<&str> {
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
            quota: Quota::default(),
        };
        SessionRow {
            id: mooring_types::SessionId::random(&mut rand::rng()),
            user,
            token_hash: "hash".into(),
            create_time,
            last_used,
            job: None,
            parent: None,
            address: String::new(),
            client: String::new(),
        }
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
