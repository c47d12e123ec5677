//! Findings of the look at a running job: what matters to a migration of it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A finding about a running job, as its host's agent looked at it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    pub kind: FindingKind,
    /// The consequence for a migration.
    pub effect: Effect,
    /// The process id as the job sees it; absent where no process is concerned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<i32>,
    /// The name of the process's program; empty where no process is concerned.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub program: String,
    /// The sentence for people: who, the thing, and what to do.
    pub text: String,
}

/// The kind of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum FindingKind {
    /// A process that is traced or debugged.
    Traced,
    /// A process in namespaces that are not the job's.
    Namespace,
    /// A socket that reads raw packets.
    PacketSocket,
    /// A message queue that a process has open.
    OpenQueue,
    /// A message queue that nobody has open.
    Queue,
    /// A socket of a protocol that can't be checkpointed.
    Protocol,
    /// A kernel object that can't be checkpointed, like one of perf.
    Object,
    /// An open device.
    Device,
    /// A process of another user, on a host that can't checkpoint it.
    OtherUser,
    /// An epoll set with a target that the process has closed.
    ClosedTarget,
    /// Deleted files that are open.
    DeletedFile,
}

/// The consequence of a finding for a migration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Effect {
    /// The job can't migrate.
    Refuses,
    /// A migration waits a moment for it to pass, and is refused if it does not.
    Waits,
    /// The agent takes care of it.
    Mended,
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Refuses => "refuses",
            Self::Waits => "waits",
            Self::Mended => "mended",
        })
    }
}
