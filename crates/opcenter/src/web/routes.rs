//! The list of all routes of the web interface, which tests enumerate.

use axum::Router;
use axum::handler::Handler;
use axum::http::Method;
use axum::routing::{MethodFilter, on};

use super::dialog::{Dialog, OfDialog};
use super::live;
use super::page::{OfPage, Page};
use crate::state::context::Context;

/// The visitors that a route serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Everybody.
    Anyone,
    /// Visitors with a session.
    Session,
}

/// A route.
#[derive(Debug, Clone)]
pub struct WebRoute {
    pub method: Method,
    /// The path, with `{…}` for its parameters.
    pub path: &'static str,
    pub access: Access,
}

/// Routes with the router that serves them.
#[derive(Debug, Default)]
pub(super) struct Routes {
    router: Router<Context>,
    listed: Vec<WebRoute>,
}

impl Routes {
    /// Adds a page, with its stream of changes.
    pub(super) fn page<P: Page>(self, path: &'static str) -> Self {
        self.get(path, live::show::<OfPage<P>>)
    }

    /// Adds a dialogue, with the stream of its changes.
    pub(super) fn dialog<D: Dialog>(self, path: &'static str) -> Self {
        self.get(path, live::show::<OfDialog<D>>)
    }

    /// Adds a part of a page, a dialogue or a download.
    pub(super) fn get<H: Handler<T, Context>, T: 'static>(self, path: &'static str, handler: H) -> Self {
        self.add(Method::GET, path, Access::Session, MethodFilter::GET, handler)
    }

    /// Adds an action.
    pub(super) fn post<H: Handler<T, Context>, T: 'static>(self, path: &'static str, handler: H) -> Self {
        self.add(Method::POST, path, Access::Session, MethodFilter::POST, handler)
    }

    /// Adds a route that takes no session.
    pub(super) fn open<H: Handler<T, Context>, T: 'static>(
        self,
        method: Method,
        path: &'static str,
        handler: H,
    ) -> Self {
        let filter = if method == Method::POST { MethodFilter::POST } else { MethodFilter::GET };
        self.add(method, path, Access::Anyone, filter, handler)
    }

    fn add<H: Handler<T, Context>, T: 'static>(
        mut self,
        method: Method,
        path: &'static str,
        access: Access,
        filter: MethodFilter,
        handler: H,
    ) -> Self {
        self.router = self.router.route(path, on(filter, handler));
        self.listed.push(WebRoute { method, path, access });
        self
    }

    /// Returns the router and the list.
    pub(super) fn into_parts(self) -> (Router<Context>, Vec<WebRoute>) {
        (self.router, self.listed)
    }
}
