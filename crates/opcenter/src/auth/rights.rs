//! The rights of a request: what its user's role and its credential permit at all.
//!
//! [`Effect::of`] reads from method and route what a request does, and [`permit`] decides. Both
//! extractors of users call it before a handler runs, so a handler can neither forget it nor
//! weaken it. Which objects a request may concern is decided by the use-cases.
//!
//! The decision is by the list of actions that the audit has. A changing route that the list lacks
//! is [`Effect::Changes`], so a new one is closed to viewers until somebody opens it.

use axum::extract::MatchedPath;
use axum::http::Method;
use axum::http::request::Parts;
use mooring_api::{ErrorCode, paths};
use mooring_types::api_token::TokenScope;
use mooring_types::{JobId, Role};

use crate::audit::action::Action;
use crate::error::{ApiError, ApiResult};

/// The proof by which a user is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Credential {
    /// A session after a login.
    Session,
    /// A session from a job's page, for that job alone.
    JobSession(JobId),
    /// The token of a job.
    Job(JobId),
    /// An API token.
    Token(TokenScope),
}

/// The effect of a request, as far as rights depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effect {
    /// It shows something.
    Looks,
    /// It shows the value of a secret.
    Reveals,
    /// It changes a job, or its connections.
    ChangesJobs,
    /// It changes something else that is neither a user nor a credential.
    Changes,
    /// It changes the user's own password, sessions or API tokens.
    OwnAccount,
    /// It changes users, groups, the credentials of others, or keys of OpCenter.
    Accounts,
}

impl Effect {
    /// Returns the effect of a request by its method and the template of its path.
    fn of(method: &Method, route: &str) -> Self {
        let action = Action::of(method, route).map(|action| action.to_string());
        match action.as_deref() {
            None if method.is_safe() => Self::Looks,
            Some("audit.export") => Self::Looks,
            Some("secret.get") => Self::Reveals,
            // A role and groups are a part of the same request, and take an admin.
            Some("user.update") => Self::OwnAccount,
            Some("host.createJoinToken" | "host.deleteJoinToken") => Self::Accounts,
            Some("gateway.connect" | "gateway.disconnect") => Self::ChangesJobs,
            Some(action) => match action.split_once('.').map(|(kind, _)| kind) {
                Some("session" | "token") => Self::OwnAccount,
                Some("user" | "group" | "key") => Self::Accounts,
                Some("job") => Self::ChangesJobs,
                _ => Self::Changes,
            },
            None => Self::Changes,
        }
    }
}

/// Checks that a role and a credential permit a request.
pub(super) fn permit(role: Role, credential: &Credential, parts: &Parts) -> ApiResult<()> {
    let route = parts.extensions.get::<MatchedPath>().map_or("", MatchedPath::as_str);
    let effect = Effect::of(&parts.method, route);
    may(role, effect)?;
    match credential {
        Credential::Token(scope) if !covers(*scope, effect) => Err(refuse_token(*scope, effect)),
        Credential::JobSession(job) if !is_open_to(job, &parts.method, parts.uri.path()) => {
            let message = format!("the session is for job {job} alone");
            Err(ApiError::new(ErrorCode::PermissionDenied, message).hint("log in with `float login`"))
        }
        Credential::Job(job) if !is_open_to_itself(job, &parts.method, parts.uri.path()) => {
            let message = format!("the token of job {job} is for that job and for secrets of its user");
            Err(ApiError::new(ErrorCode::PermissionDenied, message).hint("log in with `float login`"))
        }
        Credential::Session | Credential::JobSession(_) | Credential::Job(_) | Credential::Token(_) => Ok(()),
    }
}

/// Checks that a role permits to change something.
pub(super) fn may_change(role: Role) -> ApiResult<()> {
    may(role, Effect::Changes)
}

fn may(role: Role, effect: Effect) -> ApiResult<()> {
    match (role, effect) {
        (Role::Admin | Role::User, _) | (Role::Viewer, Effect::Looks | Effect::OwnAccount) => Ok(()),
        (Role::Viewer, Effect::Reveals | Effect::ChangesJobs | Effect::Changes | Effect::Accounts) => {
            Err(ApiError::new(ErrorCode::PermissionDenied, "a user with the role `viewer` looks, and changes nothing")
                .hint("ask an admin for the role `user`"))
        }
    }
}

/// Returns whether a scope covers an effect.
fn covers(scope: TokenScope, effect: Effect) -> bool {
    match effect {
        Effect::Looks => true,
        Effect::ChangesJobs => matches!(scope, TokenScope::Jobs | TokenScope::All),
        Effect::Reveals | Effect::Changes => scope == TokenScope::All,
        Effect::OwnAccount | Effect::Accounts => false,
    }
}

fn refuse_token(scope: TokenScope, effect: Effect) -> ApiError {
    if covers(TokenScope::All, effect) {
        let wider = TokenScope::ALL.into_iter().find(|scope| covers(*scope, effect)).unwrap_or_default();
        let message = format!("an API token with the scope `{scope}` is not enough");
        return ApiError::new(ErrorCode::PermissionDenied, message)
            .hint(format!("make one with `float token create NAME --scope {wider}`"));
    }
    let message = "users, passwords, sessions and tokens take a session, not an API token";
    ApiError::new(ErrorCode::PermissionDenied, message).hint("log in with `float login`")
}

/// Returns whether a session for one job permits a request. The page's scripts can read its token,
/// so it permits no more than the job could do to itself.
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

/// The paths that a job may read of itself, beside those of a session for it.
const READ_BY_ITSELF: [&str; 7] = [
    paths::JOB_EVENTS,
    paths::JOB_FILES,
    paths::JOB_FINDINGS,
    paths::JOB_LOG,
    paths::JOB_LOG_WATCH,
    paths::JOB_LOGS,
    paths::JOB_METRICS,
];

/// Returns whether the token of a job permits a request. It permits what a session for the job
/// does, and to read the job's output and the secrets of its user.
fn is_open_to_itself(job: &JobId, method: &Method, path: &str) -> bool {
    let of_job = |template: &str| paths::fill(template, &[job.as_str()]) == path;
    let is_secret = || {
        let name = path.strip_prefix(paths::SECRETS).and_then(|rest| rest.strip_prefix('/'));
        name.is_some_and(|name| !name.is_empty() && !name.contains('/'))
    };
    match *method {
        Method::GET => {
            is_open_to(job, method, path)
                || READ_BY_ITSELF.into_iter().any(of_job)
                || path == paths::SECRETS
                || is_secret()
        }
        Method::POST => path != paths::LOGOUT && is_open_to(job, method, path) || of_job(paths::JOB_SNAPSHOT),
        _ => is_open_to(job, method, path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EFFECTS: [Effect; 6] =
        [Effect::Looks, Effect::Reveals, Effect::ChangesJobs, Effect::Changes, Effect::OwnAccount, Effect::Accounts];

    #[test]
    fn wider_scopes_cover_more_and_none_covers_accounts() {
        let [read, jobs, all] = TokenScope::ALL.map(|scope| EFFECTS.map(|effect| covers(scope, effect)));
        assert_eq!(read, [true, false, false, false, false, false]);
        assert_eq!(jobs, [true, false, true, false, false, false]);
        assert_eq!(all, [true, true, true, true, false, false]);
        assert!(refuse_token(TokenScope::Read, Effect::ChangesJobs).0.hint.unwrap().ends_with("--scope jobs`"));
        assert!(refuse_token(TokenScope::All, Effect::Accounts).0.hint.unwrap().contains("float login"));
    }

    #[test]
    fn effect_follows_method_and_route() {
        for (method, route, effect) in [
            (Method::GET, paths::JOBS, Effect::Looks),
            (Method::GET, paths::AUDIT_EXPORT, Effect::Looks),
            (Method::GET, paths::SECRETS, Effect::Looks),
            (Method::GET, paths::SECRET, Effect::Reveals),
            (Method::PUT, paths::SECRET, Effect::Changes),
            (Method::POST, paths::JOBS, Effect::ChangesJobs),
            (Method::POST, paths::GATEWAY_CONNECTIONS, Effect::ChangesJobs),
            (Method::POST, "/jobs/{id}/connect", Effect::ChangesJobs),
            (Method::POST, paths::GATEWAYS, Effect::Changes),
            (Method::POST, paths::JOIN_TOKENS, Effect::Accounts),
            (Method::POST, paths::API_TOKENS, Effect::OwnAccount),
            (Method::POST, paths::SESSION_LINK, Effect::OwnAccount),
            (Method::POST, paths::GROUPS, Effect::Accounts),
            (Method::POST, "/submit/preview", Effect::Changes),
            (Method::POST, "/account/password", Effect::OwnAccount),
            (Method::POST, "/sessions/{id}/end", Effect::OwnAccount),
            (Method::DELETE, paths::SESSION_OF_ID, Effect::OwnAccount),
            (Method::PATCH, paths::USER, Effect::OwnAccount),
            (Method::POST, "/users/{id}/password", Effect::Accounts),
            (Method::POST, paths::USERS, Effect::Accounts),
            // Nothing is known of it.
            (Method::POST, "", Effect::Changes),
            (Method::POST, "/new/page", Effect::Changes),
        ] {
            assert_eq!(Effect::of(&method, route), effect, "{method} {route}");
        }
    }

    #[test]
    fn viewers_look() {
        for effect in EFFECTS {
            assert!(may(Role::Admin, effect).is_ok() && may(Role::User, effect).is_ok());
            let permitted = matches!(effect, Effect::Looks | Effect::OwnAccount);
            assert_eq!(may(Role::Viewer, effect).is_ok(), permitted, "{effect:?}");
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

    #[test]
    fn token_of_a_job_permits_its_job_and_secrets() {
        let (own, other) = ("uqaj8l6a407u88v0106ol", "aqaj8l6a407u88v0106ol");
        let job: JobId = own.parse().unwrap();
        let open = [
            ("GET", ""),
            ("GET", "/watch"),
            ("GET", "/events"),
            ("GET", "/log"),
            ("GET", "/log/watch"),
            ("GET", "/logs"),
            ("GET", "/files"),
            ("GET", "/findings"),
            ("GET", "/metrics"),
            ("DELETE", ""),
            ("POST", "/migrate"),
            ("POST", "/suspend"),
            ("POST", "/resume"),
            ("POST", "/snapshot"),
        ];
        for (method, rest) in open {
            let method: Method = method.parse().unwrap();
            let path = |job: &str| format!("/api/v1/jobs/{job}{rest}");
            assert!(is_open_to_itself(&job, &method, &path(own)), "{method} {rest}");
            assert!(!is_open_to_itself(&job, &method, &path(other)), "{method} {rest} of another");
        }
        for path in ["/api/v1/secrets", "/api/v1/secrets/github"] {
            assert!(is_open_to_itself(&job, &Method::GET, path), "{path}");
            assert!(!is_open_to_itself(&job, &Method::PUT, path), "{path}");
            assert!(!is_open_to_itself(&job, &Method::DELETE, path), "{path}");
        }
        let own = format!("/api/v1/jobs/{own}");
        for (method, path) in [
            (Method::PATCH, own.as_str()),
            (Method::GET, "/api/v1/jobs"),
            (Method::POST, "/api/v1/jobs"),
            (Method::GET, "/api/v1/secrets/a/b"),
            (Method::GET, "/api/v1/secretsome"),
            (Method::GET, "/api/v1/users"),
            (Method::POST, "/api/v1/logout"),
            (Method::POST, &format!("{own}/migrate/../../secrets")),
        ] {
            assert!(!is_open_to_itself(&job, &method, path), "{method} {path}");
        }
    }
}
