//! Findings: what matters to a migration of a running job.

use mooring_types::JobId;
use mooring_types::finding::{Effect, Finding, FindingKind};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A finding about a running job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct FindingView {
    #[schema(value_type = String)]
    pub job_id: JobId,
    /// The name of the job.
    pub job_name: String,
    /// The kind, like `traced` or `namespace`.
    #[schema(value_type = String)]
    pub kind: FindingKind,
    /// `refuses`: a migration fails before the job is frozen. `waits`: it does so unless this
    /// passes within half a second. `mended`: the agent takes care of it.
    #[schema(value_type = String)]
    pub effect: Effect,
    /// The process id as the job sees it; absent where no process is concerned.
    pub pid: Option<i32>,
    /// The name of the process's program; empty where no process is concerned.
    pub program: String,
    /// The sentence: who, the thing, and what to do.
    pub text: String,
}

impl FindingView {
    /// Returns the view of a finding about a job.
    #[must_use]
    pub fn new(job_id: JobId, job_name: String, finding: Finding) -> Self {
        let Finding { kind, effect, pid, program, text } = finding;
        Self { job_id, job_name, kind, effect, pid, program, text }
    }
}
