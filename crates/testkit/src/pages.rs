//! A web server with a few pages that a test wrote, as an external job may serve them.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use axum::Router;
use axum::http::header::{CONTENT_SECURITY_POLICY, HeaderMap, HeaderValue};
use axum::response::Html;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// A page.
#[derive(Debug, Clone, Copy)]
pub struct Page {
    /// Its path.
    pub path: &'static str,
    /// Its Content Security Policy.
    pub policy: Option<&'static str>,
    /// Its document.
    pub html: &'static str,
}

/// A server that runs until it is dropped.
#[derive(Debug)]
pub struct Pages {
    address: SocketAddr,
    _task: JoinSet<()>,
}

impl Pages {
    /// Serves pages at a free port of 127.0.0.1.
    pub async fn start(pages: &[Page]) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("listen at a free port")?;
        let address = listener.local_addr()?;
        let router = pages.iter().fold(Router::new(), |router, page| {
            let mut headers = HeaderMap::new();
            headers.extend(page.policy.map(|policy| (CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy))));
            let answer = (headers, Html(page.html));
            router.route(page.path, get(async move || answer.clone()))
        });
        let mut task = JoinSet::new();
        task.spawn(async move { drop(axum::serve(listener, router).await) });
        Ok(Self { address, _task: task })
    }

    /// The address of the server.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}
