//! Polling for `--wait`, across restarts of OpCenter.

use std::time::{Duration, Instant};

use mooring_api::ClientError;

/// The longest outage of OpCenter that a waiting command tolerates; migrations and drains continue
/// meanwhile.
const OPCENTER_OUTAGE_LIMIT: Duration = Duration::from_secs(60);

/// Repeats a read until OpCenter answers. Errors that a retry can't help are returned at once.
pub(super) async fn read_past_outage<T>(
    poll_interval: Duration,
    read: impl AsyncFn() -> Result<T, ClientError>,
) -> Result<T, ClientError> {
    let began = Instant::now();
    loop {
        match read().await {
            Err(error) if may_pass(&error) && began.elapsed() < OPCENTER_OUTAGE_LIMIT => {
                tokio::time::sleep(poll_interval).await;
            }
            answer => return answer,
        }
    }
}

fn may_pass(error: &ClientError) -> bool {
    matches!(error, ClientError::Unreachable { .. }) || error.code().is_some_and(|code| code.is_retryable())
}
