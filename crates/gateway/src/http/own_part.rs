//! The gateway's part in the response of a job: scripts in a page, or statements before a service
//! worker's.

use bytes::Bytes;
use http_body_util::{Either, Full};
use hyper::header::HeaderMap;
use hyper::{Method, Response, StatusCode};
use mooring_types::gateway::Widget;

use super::body::JobBody;
use super::response;
use crate::browser::leftovers::{self, FirstVisit};
use crate::browser::worker::{self, WorkerBody};
use crate::page::{self, Additions, MaybePage};
use crate::route::Route;

pub(crate) type AnswerBody = Either<Full<Bytes>, Either<MaybePage<JobBody>, WorkerBody<JobBody>>>;
pub(crate) type Answer = Response<AnswerBody>;

/// The gateway's part in a response.
pub(crate) enum OwnPart {
    /// A page gets scripts, and a browser's first visit is marked.
    Page {
        additions: Additions,
        visit: Option<FirstVisit>,
    },
    /// The script of a service worker gets statements in front.
    Worker,
    Nothing,
}

impl OwnPart {
    /// The part in the response to a request.
    pub(crate) fn of(route: &Route, method: &Method, request: &HeaderMap, base: &str) -> Self {
        if worker::is_asked_for(request) {
            return Self::Worker;
        }
        if !response::is_document(method, request) {
            return Self::Nothing;
        }
        let widget = route.widget == Widget::Shown && response::is_navigation(method, request);
        let additions = Additions { cookies: route.own_names().cloned(), widget, base: base.to_owned() };
        Self::Page { additions, visit: FirstVisit::of(request, route.port, &route.names) }
    }

    /// Adds the gateway's part to the job's response.
    pub(crate) async fn add_to(self, answer: Answer, route: &Route) -> Answer {
        match self {
            Self::Nothing => answer,
            Self::Page { additions, visit } => with_scripts(answer, additions, visit.as_ref()).await,
            Self::Worker => behind_statements(answer, route),
        }
    }
}

/// The response to a navigation, with scripts if it is a page.
async fn with_scripts(answer: Answer, additions: Additions, visit: Option<&FirstVisit>) -> Answer {
    let (mut parts, body) = answer.into_parts();
    leftovers::revalidate(&mut parts.headers);
    if let Some(visit) = visit {
        visit.answer(&mut parts.headers);
    }
    let body = match body {
        Either::Right(Either::Left(Either::Left(page))) => {
            let page = page::add(parts.status, &mut parts.headers, page, additions).await;
            Either::Right(Either::Left(page))
        }
        other => other,
    };
    Response::from_parts(parts, body)
}

/// The script of a service worker behind the gateway's statements.
fn behind_statements(answer: Answer, route: &Route) -> Answer {
    let (mut parts, body) = answer.into_parts();
    let script = match body {
        Either::Right(Either::Left(Either::Left(script))) => script,
        other => return Response::from_parts(parts, other),
    };
    match worker::plan(parts.status, &mut parts.headers, route.own_names()) {
        Ok(None) => Response::from_parts(parts, Either::Right(Either::Left(Either::Left(script)))),
        Ok(Some(before)) => Response::from_parts(parts, Either::Right(Either::Right(WorkerBody::new(before, script)))),
        Err(compressed) => response::plain(StatusCode::BAD_GATEWAY, format!("{compressed}\n")).map(Either::Left),
    }
}
