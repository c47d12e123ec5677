//! Retention of measurements.
//!
//! A job's history is whole for a day and has one measurement for each [`STEP`] before, for [`KEPT`]. That of a job that has ended goes
//! after [`KEPT_ENDED`].

use std::time::Duration;

use mooring_store::StoreError;
use mooring_types::Clock;
use tokio_util::sync::CancellationToken;

use crate::state::context::Context;

const DAY: Duration = Duration::from_secs(24 * 3600);
/// For how long every measurement is kept.
const WHOLE: Duration = DAY;
/// For how long one for each step is kept.
const KEPT: Duration = DAY.saturating_mul(30);
/// For how long anything is kept of a job that has ended.
const KEPT_ENDED: Duration = DAY.saturating_mul(7);
const STEP: Duration = Duration::from_secs(300);
/// How often what is too old is looked for.
const PERIOD: Duration = Duration::from_secs(600);

/// Removes what is too old, until asked to stop.
pub(crate) async fn tidy(context: Context, stop: CancellationToken) {
    loop {
        if let Err(error) = tidy_once(&context).await {
            tracing::warn!(error = &error as &dyn std::error::Error, "old measurements stay");
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = context.sleep(PERIOD) => {}
        }
    }
}

async fn tidy_once(context: &Context) -> Result<(), StoreError> {
    let now = context.clock.now();
    let mut tx = context.store.begin().await?;
    let gone = tx.usage_thin(now - WHOLE, STEP).await? + tx.usage_forget(now - KEPT, now - KEPT_ENDED).await?;
    if gone > 0 {
        tracing::debug!("{gone} old measurements are removed");
        tx.commit().await?;
    }
    Ok(())
}
