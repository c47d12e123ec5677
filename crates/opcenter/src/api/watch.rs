//! Watches for users: the view of a job, a gateway or a host, pushed after each change.
//!
//! A watch is a stream of server-sent events. The first event has the present view; each further
//! one, named [`WATCH_CHANGED`], the whole view after a change. A view that differs only by the
//! passing of time (a job's duration) is not sent. The event [`WATCH_ENDED`] carries the error that
//! ends the watch: the object is gone, or the session has ended. After any other end the client may
//! open the stream again: OpCenter stops or restarts.
//!
//! All watches follow the state at the end of the reconciler's last pass, so that each change is
//! read from the database once.

use std::convert::Infallible;

use axum::Extension;
use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::Stream;
use mooring_api::view::{GatewayView, HostView, JobView};
use mooring_api::watch::{KEEPALIVE, WATCH_CHANGED, WATCH_ENDED};
use mooring_api::{ErrorBody, paths};
use mooring_types::{GatewayId, HostId, JobId};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::Named;
use crate::auth::User;
use crate::error::{ApiError, ApiResult};
use crate::state::context::Context;
use crate::usecase::{find_gateway, host, parse, see_job};
use crate::view::Views;
use crate::view::job::as_seen_by;

/// Watch a job: server-sent events named `changed`, each with the whole view; `ended` has an error.
#[utoipa::path(get, path = paths::JOB_WATCH, params(("id" = String, Path)),
    responses((status = 200, body = JobView, content_type = "text/event-stream"), (status = "4XX", body = ErrorBody)))]
pub(super) async fn job(
    State(context): State<Context>,
    Extension(stop): Extension<CancellationToken>,
    user: User,
    Named(id): Named<String>,
) -> ApiResult<Sse<impl Stream<Item = Result<Event, Infallible>>>> {
    let mut tx = context.store.begin().await?;
    let id = see_job(&mut tx, &user, &id).await?.id;
    drop(tx);
    Ok(events(context, stop, user, Watched::Job(id)))
}

/// Watch a gateway, by id or name: server-sent events named `changed`, each with the whole view;
/// `ended` has an error.
#[utoipa::path(get, path = paths::GATEWAY_WATCH, params(("id" = String, Path)),
    responses((status = 200, body = GatewayView, content_type = "text/event-stream"), (status = "4XX", body = ErrorBody)))]
pub(super) async fn gateway(
    State(context): State<Context>,
    Extension(stop): Extension<CancellationToken>,
    user: User,
    Named(id): Named<String>,
) -> ApiResult<Sse<impl Stream<Item = Result<Event, Infallible>>>> {
    let mut tx = context.store.begin().await?;
    let id = find_gateway(&mut tx, &parse(&id)?).await?.id;
    drop(tx);
    Ok(events(context, stop, user, Watched::Gateway(id)))
}

/// Watch a host, by id or name: server-sent events named `changed`, each with the whole view;
/// `ended` has an error.
#[utoipa::path(get, path = paths::HOST_WATCH, params(("id" = String, Path)),
    responses((status = 200, body = HostView, content_type = "text/event-stream"), (status = "4XX", body = ErrorBody)))]
pub(super) async fn host(
    State(context): State<Context>,
    Extension(stop): Extension<CancellationToken>,
    user: User,
    Named(id): Named<String>,
) -> ApiResult<Sse<impl Stream<Item = Result<Event, Infallible>>>> {
    let mut tx = context.store.begin().await?;
    let id = host::find(&mut tx, &id).await?.id;
    drop(tx);
    Ok(events(context, stop, user, Watched::Host(id)))
}

/// The object of a watch.
#[derive(Debug, Clone)]
enum Watched {
    Job(JobId),
    Gateway(GatewayId),
    Host(HostId),
}

/// A view as JSON.
struct Rendered {
    json: String,
    /// The view without what only time changes, to compare it with its successor.
    timeless: String,
}

impl Watched {
    async fn render(&self, context: &Context, user: &User, views: &Views) -> ApiResult<Rendered> {
        match self {
            Self::Job(id) => {
                let mut tx = context.store.begin().await?;
                let job = see_job(&mut tx, user, id.as_str()).await?;
                let migrations = tx.migration_list_of_job(id).await?;
                let view = as_seen_by(user, views.job(&job, &migrations));
                let timeless =
                    JobView { duration: String::new(), queue_time: String::new(), core_hours: 0.0, ..view.clone() };
                Ok(Rendered { json: json(&view)?, timeless: json(&timeless)? })
            }
            Self::Gateway(id) => rendered(&views.gateway_of_id(user, id)?),
            Self::Host(id) => rendered(&views.host_of_id(user, id)?),
        }
    }
}

fn rendered(view: &impl Serialize) -> ApiResult<Rendered> {
    let json = json(view)?;
    Ok(Rendered { timeless: json.clone(), json })
}

fn json(view: &impl Serialize) -> ApiResult<String> {
    serde_json::to_string(view).map_err(|error| {
        tracing::error!(%error, "a view can't be written as JSON");
        ApiError::new(mooring_api::ErrorCode::Internal, "a view can't be written as JSON")
    })
}

/// Streams the views of an object until the watch or OpCenter ends.
fn events(
    context: Context,
    stop: CancellationToken,
    user: User,
    watched: Watched,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let mut moments = context.moments.subscribe();
    let stream = async_stream::stream! {
        let mut user = user;
        let mut last = String::new();
        loop {
            let moment = moments.borrow_and_update().clone().filter(|_| !last.is_empty());
            match look(&context, &mut user, &watched, moment.map(|moment| Views::of(&context, moment))).await {
                Ok(view) if view.timeless == last => {}
                Ok(view) => {
                    last = view.timeless;
                    yield Ok(Event::default().event(WATCH_CHANGED).data(view.json));
                }
                Err(error) => {
                    let body = serde_json::to_string(&error.0).unwrap_or_default();
                    yield Ok(Event::default().event(WATCH_ENDED).data(body));
                    return;
                }
            }
            tokio::select! {
                () = stop.cancelled() => return,
                changed = moments.changed() => if changed.is_err() { return },
            }
        }
    };
    Sse::new(stream).keep_alive(KeepAlive::new().interval(KEEPALIVE))
}

/// Renews the user and renders the object, from the present state if no pass has ended yet.
async fn look(context: &Context, user: &mut User, watched: &Watched, views: Option<Views>) -> ApiResult<Rendered> {
    *user = user.renewed(context).await?;
    let views = match views {
        Some(views) => views,
        None => Views::read(context, &mut context.store.begin().await?).await?,
    };
    watched.render(context, user, &views).await
}
