//! The memory of the reconciler between passes.
//!
//! All of it may be lost: idle times are saved from time to time, and the rest follows from the
//! next measurement.

use std::collections::{BTreeMap, HashMap};

use mooring_store::{JobRow, Unused};
use mooring_types::{JobId, Timestamp};

use crate::decide::idle::Idleness;

/// The memory of the jobs whose policies are followed.
#[derive(Debug, Default)]
pub(super) struct Followed {
    pub(super) idle: HashMap<JobId, Kept>,
    pub(super) sizes: HashMap<JobId, Weighed>,
}

/// The idleness of a job.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) now: Idleness,
    pub(super) in_database: Unused,
}

/// The last measurement from which a size was derived.
#[derive(Debug)]
pub(super) struct Weighed {
    pub(super) time: Timestamp,
    /// True when an event already says that no host has room.
    pub(super) is_noted: bool,
}

impl Followed {
    /// Forgets all jobs but these.
    pub(super) fn keep(&mut self, jobs: &BTreeMap<JobId, JobRow>) {
        self.idle.retain(|job, _| jobs.contains_key(job));
        self.sizes.retain(|job, _| jobs.contains_key(job));
    }
}
