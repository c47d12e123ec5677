//! The gateway's watch and reports. Both retry for ever, and serving does not depend on them.

use std::path::Path;
use std::time::Duration;

use futures_util::StreamExt;
use mooring_api::watch::HEARTBEAT;
use mooring_api::{Client, ClientError};
use mooring_ops::log::chain;
use mooring_types::GatewayId;

use crate::cache;
use crate::state::Gateway;

const RECONNECT_DELAY: Duration = Duration::from_millis(500);
/// The shortest time between two reports of changes: short enough for a migration that waits for
/// one.
const REPORT_INTERVAL: Duration = Duration::from_millis(1);

/// Applies slices from OpCenter, for ever.
pub async fn watch(client: &Client, id: &GatewayId, gateway: &Gateway, state_dir: &Path) {
    let mut reachable = true;
    loop {
        let outcome = watch_once(client, id, gateway, state_dir, &mut reachable).await;
        if let Err(error) = outcome
            && std::mem::take(&mut reachable)
        {
            tracing::warn!(error = %chain(&error), "OpCenter is unreachable, serving the newest slice");
        }
        tokio::time::sleep(RECONNECT_DELAY).await;
    }
}

async fn watch_once(
    client: &Client,
    id: &GatewayId,
    gateway: &Gateway,
    state_dir: &Path,
    reachable: &mut bool,
) -> Result<(), ClientError> {
    let mut slices = client.gateway_slices(id).await?;
    while let Some(slice) = slices.next().await {
        let slice = slice?;
        *reachable = true;
        gateway.apply(slice.clone());
        gateway.role().close_inherited();
        if !gateway.role().is_retired()
            && let Err(error) = cache::save(state_dir, &slice)
        {
            tracing::warn!(error = %chain(&error), "can't cache the slice");
        }
    }
    Ok(())
}

/// Reports changes at once, and everything at every heartbeat, for ever.
pub async fn report(client: &Client, id: &GatewayId, gateway: &Gateway) {
    loop {
        // A lost report is repaired by the next one: reports are whole.
        let sent = client.gateway_report(id, &gateway.observe()).await;
        if let Err(error) = &sent {
            tracing::debug!(error = %chain(error), "can't send the report");
            tokio::time::sleep(RECONNECT_DELAY).await;
        }
        tokio::select! {
            () = gateway.observed() => tokio::time::sleep(REPORT_INTERVAL).await,
            () = tokio::time::sleep(HEARTBEAT) => {}
        }
    }
}
