//! The activity of a job on its own, as its host sees it. It keeps the job from being idle; the
//! connections that the job has opened belong to it.

use std::fmt;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::Timestamp;

/// The most uses and the most peers that are kept.
pub const LISTED_MAX: usize = 16;
/// The file by which a job says that it is in use, as the job knows it.
pub const BUSY_FILE: &str = "/.mooring/busy";

/// The activity of a job on its own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Activity {
    /// The things that keep the job from being idle.
    pub uses: Vec<InUse>,
    /// The peers of the connections that the job has opened, each once. A suspend ends them.
    pub outward: Vec<SocketAddr>,
}

/// A thing that keeps a job from being idle.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum InUse {
    /// The job has said so itself, until a time.
    Said {
        /// The end.
        until: Timestamp,
        /// The first line of the file; may be empty.
        reason: String,
    },
    /// A Jupyter kernel executes something.
    Kernel {
        /// The process as the job sees it.
        pid: i32,
    },
    /// A program is in the foreground of a terminal.
    Foreground {
        /// The process as the job sees it.
        pid: i32,
        /// The name of its program.
        program: String,
    },
    /// The job has spoken last on a connection that it has opened.
    Answer {
        /// The other end.
        peer: SocketAddr,
    },
    /// Bytes come on a connection that the job has opened.
    Receives {
        /// The other end.
        peer: SocketAddr,
    },
}

impl InUse {
    /// Returns whether the job says so itself, for a limited time. Everything else is only
    /// inferred.
    #[must_use]
    pub fn is_said(&self) -> bool {
        matches!(self, Self::Said { .. })
    }
}

impl fmt::Display for InUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Said { until, reason } => {
                write!(f, "the job says so until {} (`{BUSY_FILE}`)", until.strftime("%Y-%m-%d %H:%M UTC"))?;
                if reason.is_empty() { Ok(()) } else { write!(f, ": {reason}") }
            }
            Self::Kernel { pid } => write!(f, "a Jupyter kernel (process {pid}) executes a cell"),
            Self::Foreground { pid, program } => {
                write!(f, "{program} (process {pid}) is in the foreground of a terminal")
            }
            Self::Answer { peer } => write!(f, "a connection to {peer} waits for an answer"),
            Self::Receives { peer } => write!(f, "bytes come on a connection to {peer}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_use_is_a_sentence_and_round_trips() {
        let peer = "198.18.0.1:5555".parse().unwrap();
        let until = "2026-01-02T12:30:00Z".parse().unwrap();
        for (used, sentence) in [
            (InUse::Answer { peer }, "a connection to 198.18.0.1:5555 waits for an answer"),
            (InUse::Receives { peer }, "bytes come on a connection to 198.18.0.1:5555"),
            (InUse::Kernel { pid: 12 }, "a Jupyter kernel (process 12) executes a cell"),
            (
                InUse::Foreground { pid: 7, program: "make".into() },
                "make (process 7) is in the foreground of a terminal",
            ),
            (
                InUse::Said { until, reason: "training".into() },
                "the job says so until 2026-01-02 12:30 UTC (`/.mooring/busy`): training",
            ),
        ] {
            assert_eq!(used.to_string(), sentence);
            let json = serde_json::to_string(&used).unwrap();
            assert_eq!(serde_json::from_str::<InUse>(&json).unwrap(), used);
        }
    }
}
