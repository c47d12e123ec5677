//! The admin endpoint of a gateway process: HTTP on loopback.
//!
//! | path | response |
//! |---|---|
//! | `/healthz` | 200: the process runs |
//! | `/readyz` | 200 once a slice is applied, from OpCenter, the cache or a predecessor; else 503 |
//! | `/metrics` | [`metrics`](crate::metrics), for Prometheus |
//!
//! Each process of a gateway has its own endpoint. The file `admin-address` in the state directory
//! has the address of the process that serves. A retired process leaves a configured port to its
//! successor, and keeps a port that the kernel chose.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use mooring_ops::file::{Durability, Mode, replace};
use tokio::net::TcpListener;

use crate::state::Gateway;

const ADDRESS_FILE: &str = "admin-address";
/// The content type of the metrics.
const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const LISTEN_RETRY_DELAY: Duration = Duration::from_secs(1);

/// Serves the endpoint for ever.
pub async fn serve(address: SocketAddr, state_dir: &Path, gateway: &Gateway) {
    let listener = listen(address, state_dir).await;
    let router = Router::new()
        .route("/healthz", get(|| std::future::ready(StatusCode::OK)))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(gateway.clone());
    let chosen = address.port() != 0;
    tokio::select! {
        served = axum::serve(listener, router) => {
            if let Err(error) = served {
                tracing::error!(%error, "the admin endpoint has failed");
            }
        }
        () = gateway.role().retired(), if chosen => {}
    }
    std::future::pending().await
}

/// Listens as soon as the address is free, and writes the address to its file.
async fn listen(address: SocketAddr, state_dir: &Path) -> TcpListener {
    let mut is_logged = false;
    loop {
        match open(address, state_dir).await {
            Ok(listener) => return listener,
            Err(error) => {
                if !std::mem::replace(&mut is_logged, true) {
                    tracing::warn!(%error, "can't listen on {address} yet, retrying");
                }
                tokio::time::sleep(LISTEN_RETRY_DELAY).await;
            }
        }
    }
}

async fn open(address: SocketAddr, state_dir: &Path) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    let file = state_dir.join(ADDRESS_FILE);
    replace(&file, Durability::Renamed, Mode::Public, format!("{address}\n").as_bytes())?;
    tracing::info!(%address, "metrics are at http://{address}/metrics");
    Ok(listener)
}

async fn ready(State(gateway): State<Gateway>) -> (StatusCode, &'static str) {
    if gateway.is_ready() {
        (StatusCode::OK, "")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "this gateway has no slice yet\n")
    }
}

async fn metrics(State(gateway): State<Gateway>) -> Response {
    match gateway.metrics().text() {
        Ok(text) => ([(CONTENT_TYPE, METRICS_TYPE)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
