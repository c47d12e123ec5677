//! Retention of measurements.
//!
//! A job's history is complete for [`COMPLETE_HISTORY`] and has one measurement per
//! [`THINNED_STEP`] for [`THINNED_HISTORY`]. The history of an ended job goes after
//! [`ENDED_HISTORY`].

use std::time::Duration;

use mooring_ops::log::chain;
use mooring_store::StoreError;
use mooring_types::Clock;
use tokio_util::sync::CancellationToken;

use crate::state::context::Context;

const DAY: Duration = Duration::from_secs(24 * 3600);
/// The age up to which every measurement is kept.
const COMPLETE_HISTORY: Duration = DAY;
/// The age up to which one measurement per step is kept.
const THINNED_HISTORY: Duration = DAY.saturating_mul(30);
/// The age up to which measurements of an ended job are kept.
const ENDED_HISTORY: Duration = DAY.saturating_mul(7);
const THINNED_STEP: Duration = Duration::from_secs(300);
/// The time between two removals.
const THIN_INTERVAL: Duration = Duration::from_secs(600);

/// Removes old measurements until asked to stop.
pub(crate) async fn tidy(context: Context, stop: CancellationToken) {
    loop {
        if let Err(error) = tidy_once(&context).await {
            tracing::warn!(error = %chain(&error), "can't remove old measurements; trying again");
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = context.sleep(THIN_INTERVAL) => {}
        }
    }
}

async fn tidy_once(context: &Context) -> Result<(), StoreError> {
    let now = context.clock.now();
    let mut tx = context.store.begin().await?;
    let gone = tx.usage_thin(now - COMPLETE_HISTORY, THINNED_STEP).await?
        + tx.usage_forget(now - THINNED_HISTORY, now - ENDED_HISTORY).await?;
    if gone > 0 {
        tracing::debug!("removed {gone} old measurements");
        tx.commit().await?;
    }
    Ok(())
}
