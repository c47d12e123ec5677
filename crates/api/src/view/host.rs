//! Hosts and drains.

use std::fmt;
use std::time::Duration;

use mooring_types::host::{Capability, HostRole, Purchase};
use mooring_types::{HostId, JobId, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// The status of a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "status", rename_all = "camelCase")]
pub enum HostStatus {
    /// The host takes jobs or gateways.
    Ready,
    /// Jobs migrate off the host.
    Draining,
    /// The host is drained: it has no jobs and takes none.
    Drained,
    /// The host reports, and can't take jobs or gateways.
    NotReady {
        /// The reason.
        reason: String,
    },
    /// The host's reports have stopped.
    Unreachable,
}

impl HostStatus {
    /// Returns `true` if the host has started and can take jobs, unless it is drained.
    #[must_use]
    pub fn is_up(&self) -> bool {
        matches!(self, Self::Ready | Self::Draining | Self::Drained)
    }
}

impl fmt::Display for HostStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ready => f.write_str("ready"),
            Self::Draining => f.write_str("draining"),
            Self::Drained => f.write_str("drained"),
            Self::NotReady { reason } => write!(f, "notReady: {reason}"),
            Self::Unreachable => f.write_str("unreachable"),
        }
    }
}

/// A host.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct HostView {
    #[schema(value_type = String)]
    pub id: HostId,
    pub name: String,
    /// The address for other hosts.
    pub address: String,
    /// The address for clients, if it is another one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub public_address: String,
    /// The status, as `status`; with `reason` for a host that is not ready.
    #[serde(flatten)]
    pub status: HostStatus,
    /// The role: jobs, gateways or both.
    #[schema(value_type = String)]
    pub role: HostRole,
    /// The purchase option: `spot` or `onDemand`.
    #[schema(value_type = String)]
    #[serde(default)]
    pub purchase: Purchase,
    pub cores: u32,
    #[serde(rename = "memGB")]
    pub mem_gb: f64,
    /// The cores of its jobs.
    pub cores_used: u32,
    /// The memory in GB of its jobs.
    #[serde(rename = "memGBUsed")]
    pub mem_gb_used: f64,
    /// The kernel release.
    pub kernel: String,
    /// The version of CRIU.
    pub criu: String,
    /// The version of runc.
    pub runc: String,
    /// The capabilities that its agent lacks. Without `CAP_SYS_RESOURCE`, jobs with processes of
    /// users other than root can't migrate from it.
    #[schema(value_type = Vec<String>)]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lacks: Vec<Capability>,
    /// The number of its jobs.
    pub jobs: u32,
    /// The time of the last report.
    #[schema(value_type = Option<String>)]
    pub last_seen: Option<Timestamp>,
    /// Problems of the host.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<String>,
    /// The drain, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain: Option<DrainView>,
}

/// A drain of a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DrainView {
    /// The start of the drain.
    #[schema(value_type = String)]
    pub since: Timestamp,
    /// The time at which all jobs should have left.
    #[schema(value_type = Option<String>)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Timestamp>,
    pub reason: String,
    /// The jobs on the host that the user may see, those first that something hinders to leave.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub jobs: Vec<DrainJobView>,
    /// The names of the gateways on the host, which stay.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gateways: Vec<String>,
}

/// A job that has to leave a drained host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DrainJobView {
    #[schema(value_type = String)]
    pub job_id: JobId,
    pub job_name: String,
    /// True where nothing hinders the job: it leaves, or takes its turn.
    pub leaves: bool,
    /// The action of the job, or the obstacle.
    pub reason: String,
    /// The number of attempts that have failed since the drain began.
    #[serde(default)]
    pub tries: u32,
    /// The time of the next attempt after one that failed.
    #[schema(value_type = Option<String>)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_attempt: Option<Timestamp>,
}

impl DrainJobView {
    /// Tells job, reason and attempts, with the time until the next one.
    #[must_use]
    pub fn told(&self, now: Timestamp) -> String {
        let mut told = format!("{} ({}): {}", self.job_name, self.job_id, self.reason);
        match self.tries {
            0 => {}
            1 => told.push_str("; tried once"),
            tries => told.push_str(&format!("; tried {tries} times")),
        }
        if let Some(next) = self.next_attempt {
            match Duration::try_from(next.duration_since(now)).unwrap_or_default().as_secs_f64().ceil() as u64 {
                0 => told.push_str(", again now"),
                seconds => told.push_str(&format!(", again in {seconds} s")),
            }
        }
        told
    }
}

/// The removal of a host.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", default)]
#[into_params(parameter_in = Query)]
pub struct HostRemoval {
    /// True where the machine is gone for ever: its jobs are recovered or end, and its gateways are
    /// destroyed.
    pub lost: bool,
}

/// A drain to start.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct DrainRequest {
    /// The time limit, like `2m`; none when empty.
    pub within: String,
}

/// The answer to a drain request.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DrainAnswer {
    pub host: HostView,
    /// The names of the gateways on the host, which stay.
    pub gateways: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_on_a_drained_host_is_told_with_its_next_attempt() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let job = DrainJobView {
            job_id: "uqaj8l6a407u88v0106ol".parse().unwrap(),
            job_name: "traced".into(),
            leaves: false,
            reason: "process 12 (python3) is traced by strace (11): detach it".into(),
            tries: 2,
            next_attempt: Some(at("2026-01-02T03:04:25Z")),
        };
        let reason = "traced (uqaj8l6a407u88v0106ol): process 12 (python3) is traced by strace (11): detach it";
        assert_eq!(job.told(at("2026-01-02T03:04:05.2Z")), format!("{reason}; tried 2 times, again in 20 s"));
        assert_eq!(job.told(at("2026-01-02T03:04:26Z")), format!("{reason}; tried 2 times, again now"));
        let untried = DrainJobView { tries: 0, next_attempt: None, ..job };
        assert_eq!(untried.told(at("2026-01-02T03:04:05Z")), reason);
    }
}
