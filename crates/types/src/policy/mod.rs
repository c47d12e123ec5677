//! What is to happen to a job in its life without anybody's asking: [`JobPolicy`], stored beside
//! its [spec](crate::job::JobSpec) and changed with `float modify` while it runs. Whoever acts on a
//! part of it reads it anew each time.
//!
//! | part | says |
//! |---|---|
//! | [`VmPolicy`] | what kind of host, and how often a job is tried that finds none |
//! | [`MigratePolicy`] | when it moves to a larger or smaller host by itself |
//! | [`IdlePolicy`] | when it is suspended because nobody uses it |
//! | [`CustomTag`] | what its users call it |
//!
//! Every key has a default, so that a policy that was stored before the key existed can be read.

mod list;
mod migrate;
mod tag;
mod vm;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use list::InvalidPolicy;
pub use migrate::{Bounds, MigratePolicy, Step};
pub use tag::{CustomTag, InvalidTag};
pub use vm::{VmPolicy, Wanted};

use crate::duration;

/// What is to happen to a job by itself.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct JobPolicy {
    /// Whether a client's connection resumes the job while it is suspended.
    pub resume_on_connect: bool,
    /// When it is suspended because nobody uses it; never if absent.
    pub idle: Option<IdlePolicy>,
    /// How often a capsule of the running job is taken, to recover it from; never if absent.
    #[serde(with = "duration::optional_text")]
    pub snapshot_interval: Option<Duration>,
    /// What capsules of the running job hold.
    pub dump_mode: DumpMode,
    /// How long it may execute, times in which it is suspended or held not counted; without end if
    /// absent.
    #[serde(with = "duration::optional_text")]
    pub time_limit: Option<Duration>,
    /// What kind of host it wants, and how often it is tried.
    pub vm_policy: VmPolicy,
    /// When it moves by itself.
    pub migrate_policy: MigratePolicy,
    /// Its tags, by key; see [`CustomTag`].
    pub custom_tags: BTreeMap<String, String>,
    /// Whether it may be submitted anew as it was.
    pub rerun: Rerun,
    /// Whether it may be moved at all.
    pub moves: Moves,
    /// How it reaches the outside.
    pub egress: Egress,
    /// The most cores it may be given by a move.
    pub cpu_max: Option<u32>,
    /// The most memory in GB it may be given by a move.
    #[serde(rename = "memGBMax")]
    pub mem_gb_max: Option<f64>,
}

impl JobPolicy {
    /// Whether a job that has executed for so long has used up its time.
    #[must_use]
    pub fn is_over_time(&self, executed: Duration) -> bool {
        self.time_limit.is_some_and(|limit| executed >= limit)
    }
}

/// When a job is suspended because nobody uses it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IdlePolicy {
    /// After how long without client traffic and without CPU work, both at once.
    #[serde(with = "duration::text")]
    pub after: Duration,
}

/// What capsules of a running job hold.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum DumpMode {
    /// The memory that has changed since the first; none is of use without that.
    #[default]
    Incremental,
    /// All of it; each is of use alone.
    Full,
}

/// Whether a job may be submitted anew as it was.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Rerun {
    /// `float rerun` does it.
    #[default]
    Allowed,
    /// `float rerun` refuses.
    Disabled,
}

/// Whether a job may be moved to another host while it executes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Moves {
    /// By hand, by policy, and when its host is drained.
    #[default]
    Allowed,
    /// Never, also not by hand.
    Disabled,
}

/// How a job's own connections reach the outside.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Egress {
    /// Through the host that carries it, with that host's address: they end with a move.
    #[default]
    Host,
    /// Through a gateway's host, with one address for the job's life: they survive a move.
    Gateway,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_policy_that_knew_fewer_keys_is_read() {
        assert_eq!(serde_json::from_str::<JobPolicy>("{}").unwrap(), JobPolicy::default());
        let stored = r#"{"idle":{"after":"30m0s"},"vmPolicy":{"policy":"onDemand"},"timeLimit":"1h0m0s"}"#;
        let policy: JobPolicy = serde_json::from_str(stored).unwrap();
        assert_eq!(policy.idle, Some(IdlePolicy { after: Duration::from_secs(1800) }));
        assert_eq!((policy.vm_policy.policy, policy.vm_policy.retry_limit), (Wanted::OnDemand, 3));
        let again = serde_json::to_string(&policy).unwrap();
        assert_eq!(serde_json::from_str::<JobPolicy>(&again).unwrap(), policy);
    }

    proptest! {
        #[test]
        fn only_a_job_with_a_limit_runs_out_of_time(limit in prop::option::of(1_u64..10_000), executed in 0_u64..20_000) {
            let time_limit = limit.map(Duration::from_secs);
            let policy = JobPolicy { time_limit, ..JobPolicy::default() };
            let is_over = policy.is_over_time(Duration::from_secs(executed));
            prop_assert_eq!(is_over, limit.is_some_and(|limit| limit <= executed));
        }
    }
}
