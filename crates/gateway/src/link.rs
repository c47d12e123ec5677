//! The gateway's side of the watch and of the reports. Both go on for ever; what runs does not depend on them.

use std::path::Path;
use std::time::Duration;

use futures_util::StreamExt;
use mooring_api::watch::HEARTBEAT;
use mooring_api::{Client, ClientError};
use mooring_types::GatewayId;

use crate::cache;
use crate::state::Gateway;

const RECONNECT_DELAY: Duration = Duration::from_millis(500);
/// Clients that come and go are reported at most this often; what a move waits for is never delayed by more.
const REPORT_INTERVAL: Duration = Duration::from_millis(1);

/// Takes in slice after slice.
pub async fn watch(client: &Client, id: &GatewayId, gateway: &Gateway, state_dir: &Path) {
    let mut reachable = true;
    loop {
        let outcome = watch_once(client, id, gateway, state_dir, &mut reachable).await;
        if let Err(error) = outcome
            && std::mem::take(&mut reachable)
        {
            tracing::warn!(error = &error as &dyn std::error::Error, "OpCenter is away: serving what is known");
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
    let mut slices = client.gateway_slices(id.as_str()).await?;
    while let Some(slice) = slices.next().await {
        let slice = slice?;
        *reachable = true;
        gateway.apply(slice.clone());
        gateway.role().close_inherited();
        if !gateway.role().is_retired()
            && let Err(error) = cache::save(state_dir, &slice)
        {
            tracing::warn!(error = &error as &dyn std::error::Error, "a restart will not know this slice");
        }
    }
    Ok(())
}

/// Reports what changes at once, and everything every heartbeat.
pub async fn report(client: &Client, id: &GatewayId, gateway: &Gateway) {
    loop {
        // A report that does not arrive is made good by the next one.
        let sent = client.gateway_report(id.as_str(), &gateway.observe()).await;
        if let Err(error) = &sent {
            tracing::debug!(error = error as &dyn std::error::Error, "the report did not arrive");
            tokio::time::sleep(RECONNECT_DELAY).await;
        }
        tokio::select! {
            () = gateway.observed() => tokio::time::sleep(REPORT_INTERVAL).await,
            () = tokio::time::sleep(HEARTBEAT) => {}
        }
    }
}
