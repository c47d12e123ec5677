//! The changes of an open page or dialogue, as server-sent events.
//!
//! | event | data |
//! |---|---|
//! | `page` | its HTML: first the present one, then each that differs from the one before |
//! | `release` | first of all, the identifier of the running program: another one reloads the page |
//! | `ended` | the error that ends the stream: the object is gone, or the session has ended |
//!
//! After any other end the browser opens the stream again, and catches up with its first event.

use std::convert::Infallible;
use std::time::Duration;

use askama::Template;
use axum::Extension;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::header::ACCEPT;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::Stream;
use mooring_api::watch::KEEPALIVE;
use tokio_util::sync::CancellationToken;

use super::address::Address;
use super::assets;
use super::page::Scene;
use super::problem::Problem;
use super::visitor::Visitor;
use crate::auth::User;
use crate::error::ApiResult;
use crate::state::context::Context;

/// The longest time between two looks at whether the session is still valid.
const SESSION_LOOK: Duration = Duration::from_secs(30);

/// A part of the web interface that is served once, or followed while it is open.
pub(super) trait Followed: 'static {
    type View: Template + Send;

    /// Loads what there is to see in a scene.
    fn load(scene: &Scene, address: &Address) -> impl Future<Output = ApiResult<Self::View>> + Send;

    /// Returns the answer to a request that does not follow.
    fn answer(view: &Self::View, visitor: &Visitor, headers: &HeaderMap) -> Result<Response, Problem>;
}

/// Serves a part of the web interface, or the stream of its changes.
pub(super) async fn show<F: Followed>(
    State(context): State<Context>,
    Extension(stop): Extension<CancellationToken>,
    visitor: Visitor,
    address: Address,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    if is_asked_for(&headers) {
        return Ok(changes::<F>(context, stop, visitor.user, address).into_response());
    }
    let scene = Scene::read(&context, &visitor.user).await?;
    let view = F::load(&scene, &address).await?;
    F::answer(&view, &visitor, &headers)
}

/// Returns whether a request asks for the stream.
fn is_asked_for(headers: &HeaderMap) -> bool {
    headers.get(ACCEPT).is_some_and(|value| value.as_bytes().starts_with(b"text/event-stream"))
}

/// Streams HTML after each change, until OpCenter stops or it can't be loaded any more.
fn changes<F: Followed>(
    context: Context,
    stop: CancellationToken,
    user: User,
    address: Address,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let mut moments = context.moments.subscribe();
    let stream = async_stream::stream! {
        let mut user = user;
        let mut last = String::new();
        yield Ok(Event::default().event("release").data(assets::release()));
        loop {
            moments.mark_unchanged();
            match render::<F>(&context, &mut user, &address).await {
                Ok(html) if html == last => {}
                Ok(html) => {
                    yield Ok(Event::default().event("page").data(html.clone()));
                    last = html;
                }
                Err(error) => {
                    let body = serde_json::to_string(&error.0).unwrap_or_default();
                    yield Ok(Event::default().event("ended").data(body));
                    return;
                }
            }
            tokio::select! {
                () = stop.cancelled() => return,
                changed = moments.changed() => if changed.is_err() { return },
                () = context.sleep(SESSION_LOOK) => {}
            }
        }
    };
    Sse::new(stream).keep_alive(KeepAlive::new().interval(KEEPALIVE))
}

/// Renews the user, and renders what there is to see now: never older than what the user has done.
async fn render<F: Followed>(context: &Context, user: &mut User, address: &Address) -> ApiResult<String> {
    *user = user.renewed(context).await?;
    let scene = Scene::read(context, user).await?;
    Ok(F::load(&scene, address).await?.render()?)
}
