//! Retention of the audit, and of sessions that have ended.

use std::time::Duration;

use mooring_ops::log::chain;
use mooring_store::StoreError;
use mooring_types::Clock;
use tokio_util::sync::CancellationToken;

use crate::audit::{AGE_MAX, LIMITS};
use crate::auth::has_ended;
use crate::state::context::Context;
use crate::usecase::visit::VISIT_LIFE;

/// The time between two removals.
const TIDY_INTERVAL: Duration = Duration::from_secs(60);

/// Removes old rows until asked to stop.
pub(crate) async fn tidy(context: Context, stop: CancellationToken) {
    loop {
        if let Err(error) = tidy_once(&context).await {
            tracing::warn!(error = %chain(&error), "can't remove old rows of the audit; trying again");
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = context.sleep(TIDY_INTERVAL) => {}
        }
    }
}

async fn tidy_once(context: &Context) -> Result<(), StoreError> {
    let now = context.clock.now();
    let mut tx = context.store.begin().await?;
    let mut gone = tx.audit_trim(now - AGE_MAX, LIMITS).await?;
    for session in tx.session_list().await?.iter().filter(|session| has_ended(session, now)) {
        tx.session_delete(&session.token_hash).await?;
        gone += 1;
    }
    let mut are_out = false;
    for visit in tx.visit_list().await?.iter().filter(|visit| visit.create_time + VISIT_LIFE <= now) {
        tx.visit_delete(&visit.token_hash).await?;
        (are_out, gone) = (true, gone + 1);
    }
    if gone > 0 {
        tx.commit().await?;
    }
    if are_out {
        context.wake();
    }
    Ok(())
}
