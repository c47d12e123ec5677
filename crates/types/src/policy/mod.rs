//! The policy of a job: the actions that happen without a request.
//!
//! A [`JobPolicy`] is stored beside the [spec](crate::job::JobSpec). `float modify` changes it
//! while the job executes: so each part is read again whenever it is applied.
//!
//! | part | decides |
//! |---|---|
//! | [`VmPolicy`] | the kind of host, and retries while no host has room |
//! | [`MigratePolicy`] | when the job migrates to a larger or smaller host |
//! | [`IdlePolicy`] | when an unused job is suspended |
//! | [`CustomTag`] | the user's labels |
//!
//! Every key has a default, so that a policy stored before the key existed can be read.

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
use crate::gateway::WakeOn;

/// The policy of a job.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct JobPolicy {
    /// `true` if a client connection resumes the suspended job.
    pub resume_on_connect: bool,
    /// The clients that do; a connection may have others.
    pub wake_on: WakeOn,
    /// When an unused job is suspended; never where absent.
    pub idle: Option<IdlePolicy>,
    /// The time between snapshots, for recovery; no snapshots where absent.
    #[serde(with = "duration::optional_text")]
    pub snapshot_interval: Option<Duration>,
    /// The content of snapshots.
    pub dump_mode: DumpMode,
    /// The longest time that the job may execute, without suspension; unlimited where absent.
    #[serde(with = "duration::optional_text")]
    pub time_limit: Option<Duration>,
    /// The kind of host, and retries.
    pub vm_policy: VmPolicy,
    /// Automatic migration by usage.
    pub migrate_policy: MigratePolicy,
    /// The tags by key; see [`CustomTag`].
    pub custom_tags: BTreeMap<String, String>,
    /// The permission for `float rerun` to submit the job again.
    pub rerun: Rerun,
    /// The permission to migrate between hosts.
    pub moves: Moves,
    /// The way of the job's own connections to the outside.
    pub egress: Egress,
    /// The most cores that a migration may give.
    pub cpu_max: Option<u32>,
    /// The most memory that a migration may give, in GB.
    #[serde(rename = "memGBMax")]
    pub mem_gb_max: Option<f64>,
}

impl JobPolicy {
    /// Says whether a job that has executed for this time has reached its limit.
    #[must_use]
    pub fn is_over_time(&self, executed: Duration) -> bool {
        self.time_limit.is_some_and(|limit| executed >= limit)
    }
}

/// The policy of suspending an unused job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IdlePolicy {
    /// The time without client traffic and processor usage, both at once.
    #[serde(with = "duration::text")]
    pub after: Duration,
    /// The longest time for which open queries, kernels and terminals alone keep the job awake.
    #[serde(with = "duration::text", default = "IdlePolicy::default_awake_limit")]
    pub awake_limit: Duration,
}

impl IdlePolicy {
    /// The limit where none is given: a long query has its time, and a forgotten one ends.
    pub const AWAKE_LIMIT: Duration = Duration::from_secs(4 * 3600);

    /// Suspends after a time without use, with the usual limit.
    #[must_use]
    pub fn after(after: Duration) -> Self {
        Self { after, awake_limit: Self::AWAKE_LIMIT }
    }

    fn default_awake_limit() -> Duration {
        Self::AWAKE_LIMIT
    }
}

/// The content of snapshots.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum DumpMode {
    /// The memory that has changed since the first snapshot, which is the base of the others.
    #[default]
    Incremental,
    /// All memory, without a base.
    Full,
}

/// The permission to submit a job again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Rerun {
    /// `float rerun` is allowed.
    #[default]
    Allowed,
    /// `float rerun` is refused.
    Disabled,
}

/// The permission of a job to migrate between hosts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Moves {
    /// On request, by policy, and when its host is drained.
    #[default]
    Allowed,
    /// Never, not even on request.
    Disabled,
}

/// The way of a job's own connections to the outside.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Egress {
    /// By the job's host, with the address of the host. A migration ends such connections.
    #[default]
    Host,
    /// By the host of a gateway, with an address that never changes. Such connections survive a
    /// migration.
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
        assert_eq!(policy.idle, Some(IdlePolicy::after(Duration::from_secs(1800))));
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
