//! The audit: a lasting record of every request that changes something, or shows a secret.
//!
//! ```text
//!  request ──► record ──► trail: origin, action ──► handler ──► use-case
//!                │                 ▲  by, about, refused ◄── auth, finders, errors
//!                └── answer ──► a row for each object ──► store
//! ```
//!
//! [`record`] is one layer around all routes: those of the API, of daemons and of the web
//! interface. A handler can't forget it. It takes the action from [`action`]'s list by method and
//! route; a changing route that the list lacks is recorded as `other`. The row is committed before
//! the answer is sent.
//!
//! The [`Trail`] of a request collects the rest where it is known. Authentication says who it is
//! ([`by`]), the finders of objects say which ones are meant ([`about`]), and an error says why it
//! was refused ([`refused`]). The trail is local to the request's task, so that nobody has to pass
//! it on. Outside of a request the same calls do nothing. A request that changes something goes on
//! when its client hangs up, so that none escapes its row.
//!
//! A row has no body, no query and no header but the name of the client's program. So no secret, no
//! password and no token is in it. A login with an unknown name is recorded without the name:
//! people type their password there. The reason of a refusal is OpCenter's own message, except for
//! invalid arguments, whose message may quote a value. All texts are one line ([`plain`]).
//!
//! Rows are kept for [`AGE_MAX`], and at most [`LIMITS`]: those of strangers are counted alone, so
//! that they push out none of a user.

pub(crate) mod action;

use std::cell::RefCell;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use axum::RequestExt;
use axum::extract::{ConnectInfo, MatchedPath, RawPathParams, Request, State};
use axum::http::StatusCode;
use axum::http::header::USER_AGENT;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use mooring_api::{ErrorBody, ErrorCode};
use mooring_ops::Tasks;
use mooring_ops::log::chain;
use mooring_store::{AuditActor, AuditLimits, AuditRow, StoreError};
use mooring_types::Clock;
use mooring_types::audit::{AuditOutcome, plain};

use crate::error::{ApiError, ApiResult};
use crate::state::context::Context;
use action::{Action, Kind};

/// The age up to which rows are kept.
pub(crate) const AGE_MAX: Duration = Duration::from_secs(400 * 24 * 3600);
/// The most rows that are kept: about 100 MB.
pub(crate) const LIMITS: AuditLimits = AuditLimits { known: 400_000, strangers: 20_000 };
/// The most objects of one request that get a row each.
const OBJECTS_MAX: usize = 1000;

/// The place that a request comes from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Origin {
    /// The address; `None` outside of a request.
    pub(crate) address: Option<IpAddr>,
    /// The program that sent the request, by its own word.
    pub(crate) client: String,
}

impl Origin {
    /// Returns the address as text; empty outside of a request.
    pub(crate) fn address_text(&self) -> String {
        self.address.map(|address| address.to_string()).unwrap_or_default()
    }
}

/// An object of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Object {
    id: String,
    name: String,
}

/// The facts of a request.
#[derive(Debug)]
struct Trail {
    origin: Origin,
    action: Option<Action>,
    actor: AuditActor,
    objects: Vec<Object>,
    /// Further objects, in words.
    details: Vec<String>,
    refusal: Option<ErrorBody>,
    /// The rows of its parts, if it has any. They stand for the request.
    parts: Vec<AuditRow>,
}

tokio::task_local! {
    static TRAIL: RefCell<Trail>;
}

/// Calls `note` with the trail of the present request; outside of one it does nothing.
fn note(note: impl FnOnce(&mut Trail)) {
    // An error is the absence of a request.
    let _ = TRAIL.try_with(|trail| note(&mut trail.borrow_mut()));
}

/// Returns the origin of the present request.
pub(crate) fn origin() -> Origin {
    TRAIL.try_with(|trail| trail.borrow().origin.clone()).unwrap_or_default()
}

/// Notes who sent the present request: a user, `host NAME` or `gateway NAME`.
pub(crate) fn by(name: &str) {
    note(|trail| trail.actor = AuditActor::Known(plain(name)));
}

/// Notes the user whose password the present request lacks.
pub(crate) fn claimed(name: &str) {
    note(|trail| trail.actor = AuditActor::Stranger(plain(name)));
}

/// Notes an object of the present request. An object of another kind than the action's is a detail.
pub(crate) fn about(kind: Kind, id: &str, name: &str) {
    note(|trail| {
        let Some(action) = &trail.action else { return };
        let object = Object { id: plain(id), name: plain(name) };
        if action.kind() == Some(kind) {
            if !trail.objects.contains(&object) && trail.objects.len() < OBJECTS_MAX {
                trail.objects.push(object);
            }
        } else {
            trail.detail(format!("{kind} {}", if name.is_empty() { object.id } else { object.name }));
        }
    });
}

/// Notes something else that the present request concerns.
pub(crate) fn detail(text: impl Into<String>) {
    note(|trail| trail.detail(plain(&text.into())));
}

/// Notes why the present request is refused.
pub(crate) fn refused(error: &ErrorBody) {
    note(|trail| trail.refusal = Some(error.clone()));
}

/// Runs a part of the present request that is an action of its own: one of several that a page
/// asks for at once. It gets its own rows, with its own outcome.
pub(crate) async fn part<T>(
    context: &Context,
    action: Action,
    object: &str,
    request: impl Future<Output = ApiResult<T>>,
) -> ApiResult<T> {
    let begun = TRAIL.try_with(|trail| {
        let trail = trail.borrow();
        Trail { actor: trail.actor.clone(), ..Trail::new(trail.origin.clone(), Some(action.clone())) }
    });
    let Ok(begun) = begun else { return request.await };
    let (answer, done) = TRAIL
        .scope(RefCell::new(begun), async {
            let answer = request.await;
            (answer, TRAIL.with(RefCell::take))
        })
        .await;
    let refusal = answer.as_ref().err().map(|error| error.0.clone());
    let code = refusal.as_ref().map_or(200, |error| error.error_code().http_status());
    let status = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let rows = Trail { refusal, ..done }.rows(&action, Some(object.to_owned()), status, context.clock.now());
    note(|trail| trail.parts.extend(rows));
    answer
}

impl Default for Trail {
    fn default() -> Self {
        Self::new(Origin::default(), None)
    }
}

impl Trail {
    /// A trail on which nothing has been noted.
    fn new(origin: Origin, action: Option<Action>) -> Self {
        Self {
            origin,
            action,
            actor: AuditActor::Stranger(String::new()),
            objects: Vec::new(),
            details: Vec::new(),
            refusal: None,
            parts: Vec::new(),
        }
    }

    fn detail(&mut self, text: String) {
        if !self.details.contains(&text) {
            self.details.push(text);
        }
    }

    /// Returns the rows of a request with its answer.
    fn rows(
        self,
        action: &Action,
        named: Option<String>,
        status: StatusCode,
        now: mooring_types::Timestamp,
    ) -> Vec<AuditRow> {
        if !self.parts.is_empty() {
            return self.parts;
        }
        let (outcome, reason) = outcome(self.refusal.as_ref(), status);
        let mut objects = self.objects;
        if objects.is_empty() {
            objects.push(Object { id: named.map(|text| plain(&text)).unwrap_or_default(), name: String::new() });
        }
        let row = |object: Object| AuditRow {
            id: 0,
            time: now,
            actor: self.actor.clone(),
            address: self.origin.address_text(),
            client: self.origin.client.clone(),
            action: action.to_string(),
            object: object.id,
            object_name: object.name,
            detail: plain(&self.details.join(", ")),
            outcome,
            reason: reason.clone(),
        };
        objects.into_iter().map(row).collect()
    }
}

/// Returns the outcome of a request, and the reason if it was not fulfilled.
fn outcome(refusal: Option<&ErrorBody>, status: StatusCode) -> (AuditOutcome, String) {
    if status.is_server_error() && refusal.is_none_or(|error| error.error_code() == ErrorCode::Internal) {
        return (AuditOutcome::Failed, refusal.map(|error| plain(&error.message)).unwrap_or_default());
    }
    match refusal {
        // The message may quote a value of the body, and that may be a secret.
        Some(error) if error.error_code() == ErrorCode::InvalidArgument => (AuditOutcome::Refused, error.class.clone()),
        Some(error) => (AuditOutcome::Refused, plain(&format!("{}: {}", error.class, error.message))),
        None if status.is_client_error() => (AuditOutcome::Refused, status.to_string()),
        None => (AuditOutcome::Succeeded, String::new()),
    }
}

/// The state of the layer.
#[derive(Debug, Clone)]
pub(crate) struct Recorder {
    pub(crate) context: Context,
    /// The owner of the requests that change something.
    pub(crate) tasks: Tasks,
}

/// Records a request.
pub(crate) async fn record(State(recorder): State<Recorder>, mut request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned()).unwrap_or_default();
    let action = Action::of(request.method(), &route);
    let trail = RefCell::new(Trail::new(origin_of(&request), action.clone()));
    let Some(action) = action else { return TRAIL.scope(trail, next.run(request)).await };
    let named = request.extract_parts::<RawPathParams>().await.ok();
    let named = named.and_then(|found| found.iter().next().map(|(_, value)| value.to_owned()));
    if action == Action::OTHER {
        trail.borrow_mut().detail(plain(&format!("{} {route}", request.method())));
    }
    let Recorder { context, tasks } = recorder;
    let whole = TRAIL.scope(trail, run(context, action, named, next.run(request)));
    let answered = tasks.spawn("request", whole).await;
    let failed = || ApiError::new(ErrorCode::Internal, "the request failed").hint("OpCenter's log says why");
    answered.ok().flatten().unwrap_or_else(|| failed().into_response())
}

/// Runs a request to its end and records it.
async fn run(
    context: Context,
    action: Action,
    named: Option<String>,
    answer: impl Future<Output = Response>,
) -> Response {
    // A panic of one request ends that request, as it does where nothing is recorded.
    let answer = AssertUnwindSafe(answer).catch_unwind().await;
    let answer = answer.unwrap_or_else(|_| StatusCode::INTERNAL_SERVER_ERROR.into_response());
    let taken = TRAIL.with(RefCell::take);
    let rows = taken.rows(&action, named, answer.status(), context.clock.now());
    if let Err(error) = insert(&context, &rows).await {
        tracing::error!(error = %chain(&error), ?rows, "a request can't be recorded in the audit");
    }
    answer
}

async fn insert(context: &Context, rows: &[AuditRow]) -> Result<(), StoreError> {
    let mut tx = context.store.begin().await?;
    for row in rows {
        tx.audit_insert(row).await?;
    }
    tx.commit().await
}

fn origin_of(request: &Request) -> Origin {
    let address = request.extensions().get::<ConnectInfo<SocketAddr>>();
    let client = request.headers().get(USER_AGENT).and_then(|value| value.to_str().ok());
    Origin {
        address: address.map(|ConnectInfo(address)| address.ip().to_canonical()),
        client: client.map(plain).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trail(action: &Action) -> RefCell<Trail> {
        RefCell::new(Trail::new(Origin::default(), Some(action.clone())))
    }

    #[tokio::test]
    async fn each_object_gets_a_row() {
        let action = Action::of(&axum::http::Method::POST, mooring_api::paths::GATEWAY_CONNECTIONS).unwrap();
        let rows = TRAIL.scope(trail(&action), async {
            by("ada");
            about(Kind::Gateway, "g-1", "lab");
            about(Kind::Gateway, "g-1", "lab");
            about(Kind::Gateway, "g-2", "evil\ngateway");
            about(Kind::Job, "j1", "notebook");
            TRAIL.with(RefCell::take).rows(&action, None, StatusCode::CREATED, mooring_types::Timestamp::UNIX_EPOCH)
        });
        let rows = rows.await;
        let objects: Vec<_> = rows.iter().map(|row| (row.object.as_str(), row.object_name.as_str())).collect();
        assert_eq!(objects, [("g-1", "lab"), ("g-2", r"evil\u{a}gateway")]);
        assert_eq!(rows[0].detail, "job notebook");
        assert_eq!(rows[0].actor, AuditActor::Known("ada".into()));
    }

    #[test]
    fn outcome_follows_the_answer() {
        let error = |code, message: &str| ErrorBody::new(code, message);
        let secret = error(ErrorCode::InvalidArgument, "invalid type: string \"hunter2\"");
        assert_eq!(outcome(Some(&secret), StatusCode::BAD_REQUEST), (AuditOutcome::Refused, "Invalid argument".into()));
        let denied = error(ErrorCode::PermissionDenied, "it takes an\nadmin");
        let reason = r"Permission denied: it takes an\u{a}admin";
        assert_eq!(outcome(Some(&denied), StatusCode::FORBIDDEN), (AuditOutcome::Refused, reason.into()));
        // A browser without a session is sent to the login.
        assert_eq!(outcome(Some(&denied), StatusCode::SEE_OTHER).0, AuditOutcome::Refused);
        assert_eq!(outcome(None, StatusCode::SEE_OTHER), (AuditOutcome::Succeeded, String::new()));
        let failed = error(ErrorCode::Internal, "the store failed");
        assert_eq!(outcome(Some(&failed), StatusCode::INTERNAL_SERVER_ERROR).0, AuditOutcome::Failed);
        let busy = error(ErrorCode::Unavailable, "no host is ready");
        assert_eq!(outcome(Some(&busy), StatusCode::SERVICE_UNAVAILABLE).0, AuditOutcome::Refused);
    }

    #[test]
    fn nothing_is_noted_outside_of_a_request() {
        by("ada");
        about(Kind::Job, "j1", "");
        assert_eq!(origin(), Origin::default());
    }
}
