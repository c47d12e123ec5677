//! The panel's link to OpCenter: calls about one job, with the rights of the panel's user and none
//! of the gateway's.
//!
//! | call | forwarded as |
//! |---|---|
//! | `GET sign-in` | not at all: the address of OpCenter's page that asks the user, with the secrets of this attempt |
//! | `POST login`, `POST logout` | the begin and the end of a session for the job |
//! | `GET job` | the same for the job |
//! | `POST job/migrate`, `job/suspend`, `job/resume`, `job/cancel` | the same for the job |
//!
//! Responses and errors are OpCenter's own. If OpCenter does not answer, the panel gets an error
//! that says so; the job and its clients go on.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use mooring_api::view::{JobSessionRequest, MigrateRequest};
use mooring_api::watch::{VisitAnswer, VisitRequest};
use mooring_api::{Client, ClientError, ErrorBody, ErrorCode};
use mooring_ops::log::chain;
use mooring_types::{GatewayId, JobId};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::route::Route;

const BODY_BYTES: usize = 16 * 1024;
/// Time limit of the body of a panel's request.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// The number of concurrent calls of all panels of a gateway.
const CALLS_MAX: usize = 16;
/// The origin of the panel, which is a sandboxed frame.
const OPAQUE_ORIGIN: &str = "null";

/// The link to OpCenter; the default has none.
#[derive(Debug, Clone, Default)]
pub struct OpCenterLink(Option<Arc<Link>>);

#[derive(Debug)]
struct Link {
    opcenter: Client,
    gateway: GatewayId,
    calls: Semaphore,
}

type Answer = Result<Response<Full<Bytes>>, ErrorBody>;

impl OpCenterLink {
    /// The link of a gateway to its OpCenter. The client's token is not used.
    #[must_use]
    pub fn new(opcenter: Client, gateway: GatewayId) -> Self {
        Self(Some(Arc::new(Link { opcenter, gateway, calls: Semaphore::new(CALLS_MAX) })))
    }

    /// The URL by which browsers reach OpCenter.
    pub(crate) fn url(&self, route: &Route) -> Result<String, ErrorBody> {
        let link = self.0.as_deref().ok_or_else(no_link)?;
        Ok(link.url(route).to_owned())
    }

    /// Begins the visit of a browser that OpCenter has sent back.
    pub(crate) async fn begin_visit(&self, request: &VisitRequest) -> Result<VisitAnswer, ErrorBody> {
        let link = self.0.as_deref().ok_or_else(no_link)?;
        let _permit = link.calls.try_acquire().map_err(|_| too_many())?;
        link.opcenter.gateway_visit_begin(&link.gateway, request).await.map_err(error_body)
    }

    /// The response to a panel's call about a job.
    pub(super) async fn answer(
        &self,
        route: &Route,
        job: &JobId,
        call: &str,
        request: Request<Incoming>,
    ) -> Response<Full<Bytes>> {
        let is_of_panel = request.headers().get(header::ORIGIN).is_some_and(|origin| origin == OPAQUE_ORIGIN);
        let mut answer = if *request.method() == Method::OPTIONS {
            preflight()
        } else {
            self.call(route, job, call, request).await.unwrap_or_else(refusal)
        };
        let headers = answer.headers_mut();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(header::VARY, HeaderValue::from_static("origin"));
        if is_of_panel {
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static(OPAQUE_ORIGIN));
        }
        answer
    }

    async fn call(&self, route: &Route, job: &JobId, call: &str, request: Request<Incoming>) -> Answer {
        let link = self.0.as_deref().ok_or_else(no_link)?;
        let _permit = link.calls.try_acquire().map_err(|_| too_many())?;
        let (parts, body) = request.into_parts();
        let session = || Ok::<_, ErrorBody>(link.opcenter.clone().with_token(bearer(&parts.headers)?));
        match (&parts.method, call) {
            (&Method::GET, "sign-in") => json(StatusCode::OK, &link.sign_in(route)),
            (&Method::POST, "login") => {
                let request: JobSessionRequest = read(body).await?;
                respond(StatusCode::OK, link.opcenter.job_session_begin(job, &request).await)
            }
            (&Method::POST, "logout") => {
                session()?.logout().await.map_err(error_body)?;
                Ok(empty(StatusCode::NO_CONTENT))
            }
            (&Method::GET, "job") => respond(StatusCode::OK, session()?.job_get(job).await),
            (&Method::POST, "job/migrate") => {
                let (session, migration): (_, MigrateRequest) = (session()?, read(body).await?);
                respond(StatusCode::ACCEPTED, session.job_migrate(job, &migration).await)
            }
            (&Method::POST, "job/suspend") => respond(StatusCode::ACCEPTED, session()?.job_suspend(job).await),
            (&Method::POST, "job/resume") => respond(StatusCode::ACCEPTED, session()?.job_resume(job).await),
            (&Method::POST, "job/cancel") => respond(StatusCode::OK, session()?.job_cancel(job).await),
            _ => Err(ErrorBody::new(ErrorCode::NotFound, "the panel has no such call")),
        }
    }
}

fn no_link() -> ErrorBody {
    ErrorBody::new(ErrorCode::Unavailable, "this gateway has no link to OpCenter")
}

fn too_many() -> ErrorBody {
    ErrorBody::new(ErrorCode::Unavailable, "too many requests at the moment").hint("try again in a moment")
}

impl Link {
    fn url<'a>(&'a self, route: &'a Route) -> &'a str {
        match route.gateway.opcenter.as_str() {
            "" => self.opcenter.address(),
            url => url,
        }
    }

    /// The address of OpCenter's page that asks the user, without the origin of the page that asks,
    /// which the panel adds. It names the connection, since strangers may not learn the job's id.
    ///
    /// The panel keeps the verifier until it has the code. Pages without TLS can't hash.
    fn sign_in(&self, route: &Route) -> serde_json::Value {
        let opcenter = self.url(route);
        let [state, verifier] = [random(), random()];
        let challenge = hex(&Sha256::digest(&verifier));
        let query = format!("connection={}&challenge={challenge}&state={state}", route.connection);
        json!({ "url": format!("{opcenter}/sign-in-for-job?{query}"), "state": state, "verifier": verifier })
    }
}

/// Returns 32 random bytes in hex.
pub(crate) fn random() -> String {
    hex(&rand::random::<[u8; 32]>())
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The response to a preflight request (Fetch standard, CORS).
fn preflight() -> Response<Full<Bytes>> {
    let mut answer = empty(StatusCode::NO_CONTENT);
    let headers = answer.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST"));
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("authorization, content-type"));
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    answer
}

fn bearer(headers: &HeaderMap) -> Result<&str, ErrorBody> {
    let header = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = header.and_then(|header| header.strip_prefix("Bearer ")).map(str::trim);
    token
        .filter(|token| !token.is_empty())
        .ok_or_else(|| ErrorBody::new(ErrorCode::Unauthenticated, "not logged in").hint("log in"))
}

async fn read<T: DeserializeOwned>(body: Incoming) -> Result<T, ErrorBody> {
    let invalid = |reason: String| ErrorBody::new(ErrorCode::InvalidArgument, reason);
    let read = timeout(BODY_TIMEOUT, Limited::new(body, BODY_BYTES).collect()).await;
    let body = read.map_err(|_| invalid("the body of the request did not arrive in time".into()))?;
    let body = body.map_err(|error| invalid(format!("the request can't be read: {error}")))?.to_bytes();
    let body: &[u8] = if body.is_empty() { b"{}" } else { &body };
    serde_json::from_slice(body).map_err(|error| invalid(error.to_string()))
}

fn respond<T: Serialize>(status: StatusCode, outcome: Result<T, ClientError>) -> Answer {
    json(status, &outcome.map_err(error_body)?)
}

fn json(status: StatusCode, value: &impl Serialize) -> Answer {
    let text = serde_json::to_vec(value).map_err(|error| ErrorBody::new(ErrorCode::Internal, error.to_string()))?;
    let mut answer = Response::new(Full::from(text));
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(answer)
}

/// The error that a panel gets for a failed call.
fn error_body(error: ClientError) -> ErrorBody {
    match error {
        ClientError::Refused(body) => body,
        other => {
            tracing::debug!(error = %chain(&other), "OpCenter did not answer the call of a panel");
            ErrorBody::new(ErrorCode::Unavailable, "OpCenter does not answer")
                .hint("the job and its connections go on without it; try again in a moment")
        }
    }
}

fn refusal(body: ErrorBody) -> Response<Full<Bytes>> {
    let status = StatusCode::from_u16(body.error_code().http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    json(status, &body).unwrap_or_else(|_| empty(status))
}

fn empty(status: StatusCode) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::default());
    *answer.status_mut() = status;
    answer
}
