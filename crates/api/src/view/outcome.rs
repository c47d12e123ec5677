//! The keys of a migration's outcome: `outcome`, and `failedPhase` and `failure` after a failure.

use mooring_types::migration::{Outcome, Phase};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use utoipa::ToSchema;

/// The outcome of a migration.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(tag = "outcome", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub(super) enum OutcomeKeys {
    /// The migration is in progress.
    Running,
    /// The migration failed and is rolled back.
    RollingBack {
        /// The phase that failed.
        #[schema(value_type = String)]
        failed_phase: Phase,
        /// The reason.
        failure: String,
    },
    /// The destination executes the job, or its capsule is stored.
    Succeeded,
    /// The source executes the job as before.
    Failed {
        /// The phase that failed.
        #[schema(value_type = String)]
        failed_phase: Phase,
        /// The reason.
        failure: String,
    },
}

pub(super) fn serialize<S: Serializer>(outcome: &Outcome, serializer: S) -> Result<S::Ok, S::Error> {
    let keys = match outcome.clone() {
        Outcome::Running => OutcomeKeys::Running,
        Outcome::RollingBack { phase, reason } => OutcomeKeys::RollingBack { failed_phase: phase, failure: reason },
        Outcome::Succeeded => OutcomeKeys::Succeeded,
        Outcome::Failed { phase, reason } => OutcomeKeys::Failed { failed_phase: phase, failure: reason },
    };
    keys.serialize(serializer)
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Outcome, D::Error> {
    Ok(match OutcomeKeys::deserialize(deserializer)? {
        OutcomeKeys::Running => Outcome::Running,
        OutcomeKeys::RollingBack { failed_phase, failure } => {
            Outcome::RollingBack { phase: failed_phase, reason: failure }
        }
        OutcomeKeys::Succeeded => Outcome::Succeeded,
        OutcomeKeys::Failed { failed_phase, failure } => Outcome::Failed { phase: failed_phase, reason: failure },
    })
}
