//! A failure with the phase of the migration in which it happened.

use mooring_types::migration::Phase;

use crate::error::{Error, Result};

/// A failure in a phase of a migration.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) phase: Phase,
    pub(crate) error: Error,
}

/// Names the phase in which something fails.
pub(crate) trait InPhase<T> {
    fn in_phase(self, phase: Phase) -> Result<T, Failure>;
}

impl<T, E: Into<Error>> InPhase<T> for Result<T, E> {
    fn in_phase(self, phase: Phase) -> Result<T, Failure> {
        self.map_err(|error| Failure { phase, error: error.into() })
    }
}
