//! All state at one moment, as a pass of the reconciler ended with it.
//!
//! Watchers and open pages render everything they show for each moment. The reconciler therefore
//! sends one only when users see a difference, and every [`MOMENT_AGE_MAX`].

use std::sync::Arc;
use std::time::Duration;

use mooring_types::Timestamp;

use crate::state::db_state::DbState;
use crate::state::observed::Observed;

/// The longest time between two moments. Each renews the sessions of watchers, and tells the times
/// at which hosts were last seen.
pub(crate) const MOMENT_AGE_MAX: Duration = Duration::from_secs(30);

/// All state at one moment; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Moment {
    pub(crate) state: Arc<DbState>,
    pub(crate) observed: Arc<Observed>,
    pub(crate) now: Timestamp,
}

impl Moment {
    /// Returns whether watchers need not be told of this moment after `last`.
    pub(crate) fn repeats(&self, last: &Self) -> bool {
        let age = self.observed.now.saturating_sub(last.observed.now);
        age < MOMENT_AGE_MAX && self.state.looks_like(&last.state) && self.observed.looks_like(&last.observed)
    }
}
