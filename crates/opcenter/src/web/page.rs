//! A page: what it shows at one moment.

use std::future::Future;
use std::marker::PhantomData;

use askama::Template;
use axum::http::HeaderMap;
use axum::response::{Html, IntoResponse, Response};

use super::address::Address;
use super::live::Followed;
use super::problem::Problem;
use super::shell::{Section, Shell};
use super::visitor::Visitor;
use crate::auth::User;
use crate::error::ApiResult;
use crate::state::context::Context;
use crate::view::Views;

/// A page. Its template is the part of the document that changes while it is open.
///
/// Times that pass are not in the template: `ui::time` and `ui::since` give a moment, and the
/// browser's script shows the time that has passed. So the HTML of a page changes only when its
/// subject does.
pub(crate) trait Page: Template + Sized + Send + 'static {
    /// The entry of the menu that the page belongs to.
    const SECTION: Section;

    /// Loads what the page shows.
    fn load(scene: &Scene, address: &Address) -> impl Future<Output = ApiResult<Self>> + Send;

    /// The title of the document.
    fn title(&self) -> String;
}

/// All that a page is loaded from: the visitor, and the views of one moment.
pub(crate) struct Scene {
    pub(crate) context: Context,
    pub(crate) user: User,
    pub(crate) views: Views,
}

impl Scene {
    /// Reads the present state.
    pub(crate) async fn read(context: &Context, user: &User) -> ApiResult<Self> {
        let views = Views::latest(context, &mut context.store.begin_read().await?).await?;
        Ok(Self { context: context.clone(), user: user.clone(), views })
    }
}

/// A page as it is served: the whole document, or the stream of its changes.
pub(super) struct OfPage<P>(PhantomData<P>);

impl<P: Page> Followed for OfPage<P> {
    type View = P;

    async fn load(scene: &Scene, address: &Address) -> ApiResult<P> {
        P::load(scene, address).await
    }

    fn answer(page: &P, visitor: &Visitor, headers: &HeaderMap) -> Result<Response, Problem> {
        Ok(Html(Shell::around(page, visitor, headers)?).into_response())
    }
}
