//! All state at one moment, as a pass of the reconciler ended with it.

use std::sync::Arc;

use mooring_types::Timestamp;

use crate::state::db_state::DbState;
use crate::state::observed::Observed;

/// All state at one moment; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Moment {
    pub(crate) state: Arc<DbState>,
    pub(crate) observed: Arc<Observed>,
    pub(crate) now: Timestamp,
}
