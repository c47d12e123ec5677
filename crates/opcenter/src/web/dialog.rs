//! A dialogue whose choices are live: what comes into being while it is open appears in it.
//!
//! The dialogue says with `data-live` where its own stream is, and marks with `data-choices` the
//! parts that follow. The script `choices.js` takes these parts over, and keeps what was chosen.

use std::future::Future;
use std::marker::PhantomData;

use askama::Template;
use axum::http::HeaderMap;
use axum::response::Response;

use super::address::Address;
use super::answer;
use super::live::Followed;
use super::page::Scene;
use super::problem::Problem;
use super::visitor::Visitor;
use crate::error::ApiResult;

/// A dialogue.
pub(crate) trait Dialog: Template + Sized + Send + 'static {
    /// Loads the dialogue as it opens.
    fn load(scene: &Scene, address: &Address) -> impl Future<Output = ApiResult<Self>> + Send;
}

/// A dialogue as it is served: once, or as the stream of its changes.
pub(super) struct OfDialog<D>(PhantomData<D>);

impl<D: Dialog> Followed for OfDialog<D> {
    type View = D;

    async fn load(scene: &Scene, address: &Address) -> ApiResult<D> {
        D::load(scene, address).await
    }

    fn answer(dialog: &D, _visitor: &Visitor, _headers: &HeaderMap) -> Result<Response, Problem> {
        answer::part(dialog)
    }
}
