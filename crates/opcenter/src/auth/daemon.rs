//! Daemons: agents and gateways, known by the certificate of their connection.
//!
//! The certificate was verified when the connection began. It counts as long as the database has
//! the host or gateway with the key that the certificate is for.

use std::collections::HashMap;

use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;
use mooring_api::ErrorCode;
use mooring_store::{GatewayRow, HostRow};
use mooring_tls::{Daemon, Peer};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::audit;
use crate::error::{ApiError, ApiResult};
use crate::state::context::Context;

/// The open connections of daemons. They end with the daemon's key.
#[derive(Debug, Default)]
pub(crate) struct DaemonConnections(Mutex<HashMap<Daemon, CancellationToken>>);

impl DaemonConnections {
    /// Returns what is cancelled when the connections of a daemon have to end.
    pub(crate) fn begun(&self, daemon: &Daemon) -> CancellationToken {
        self.0.lock().entry(daemon.clone()).or_default().clone()
    }

    /// Ends the connections of a daemon.
    pub(crate) fn end(&self, daemon: &Daemon) {
        if let Some(connections) = self.0.lock().remove(daemon) {
            connections.cancel();
        }
    }
}

/// The agent of the host in the path.
#[derive(Debug, Clone)]
pub(crate) struct HostAgent(pub(crate) HostRow);

impl FromRequestParts<Context> for HostAgent {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, context: &Context) -> ApiResult<Self> {
        let peer = peer(parts)?;
        let Daemon::Host(id) = &peer.daemon else { return Err(unknown()) };
        let mut tx = context.store.begin().await?;
        let host = tx.host_list().await?.into_iter().find(|host| host.id == *id);
        let host = host.filter(|host| host.public_key == peer.key.to_string()).ok_or_else(unknown)?;
        audit::by(&format!("host {}", host.name));
        if named(parts, context).await? == id.as_str() { Ok(Self(host)) } else { Err(another()) }
    }
}

/// The process of the gateway in the path.
#[derive(Debug, Clone)]
pub(crate) struct GatewayProcess(pub(crate) GatewayRow);

impl FromRequestParts<Context> for GatewayProcess {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, context: &Context) -> ApiResult<Self> {
        let peer = peer(parts)?;
        let Daemon::Gateway(id) = &peer.daemon else { return Err(unknown()) };
        let mut tx = context.store.begin().await?;
        let gateway = tx.gateway_list().await?.into_iter().find(|gateway| gateway.id == *id);
        let key = Some(peer.key.to_string());
        let gateway = gateway.filter(|gateway| gateway.public_key == key).ok_or_else(unknown)?;
        audit::by(&format!("gateway {}", gateway.spec.name));
        if named(parts, context).await? == id.as_str() { Ok(Self(gateway)) } else { Err(another()) }
    }
}

/// Returns the daemon of the connection.
fn peer(parts: &Parts) -> ApiResult<Peer> {
    parts.extensions.get::<Peer>().cloned().ok_or_else(unknown)
}

/// Returns the id in the path.
async fn named(parts: &mut Parts, context: &Context) -> ApiResult<String> {
    let Path(names) =
        Path::<HashMap<String, String>>::from_request_parts(parts, context).await.map_err(|_| another())?;
    names.get("id").cloned().ok_or_else(another)
}

fn unknown() -> ApiError {
    ApiError::new(ErrorCode::Unauthenticated, "no certificate of a host or gateway that OpCenter knows")
        .hint("agents and gateways connect with the certificate that OpCenter has signed; a host gets it by its join")
}

fn another() -> ApiError {
    ApiError::new(ErrorCode::PermissionDenied, "the certificate belongs to another object")
}
