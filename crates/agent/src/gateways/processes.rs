//! The processes of one gateway, as the agent knows them and has them on disk in `process.json`.
//!
//! ```text
//!  Start ─► current ──────── HandOver ─────► current + successor ──── Promote ───► current + retired
//!    ▲         │ died                              │ ended, or too slow                  │ its last connection ended
//!    └─────────┴─────────────── GiveUp ◄───────────┘                                     └─► current
//! ```
//!
//! One process serves. A restart starts a successor beside it, which takes the listening sockets over; the one that served before is
//! retired then, and ends by itself. A second restart does not wait for that, so any number of retired processes may live.

use std::fs::{self, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use mooring_ops::file::{self, Durability, Mode};
use serde::{Deserialize, Serialize};

use mooring_linux::process::ProcessId;

/// How long a successor may take until it serves.
pub(super) const HAND_OVER_LIMIT: Duration = Duration::from_secs(10);
const RECORD: &str = "process.json";
/// Larger than what a gateway writes about itself.
const SERVING_MAX: u64 = 4096;

/// The processes of one gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Processes {
    /// The one that serves. Older agents kept this alone.
    #[serde(flatten)]
    pub(super) current: ProcessId,
    /// The restart that it was started for.
    #[serde(default)]
    pub(super) restart: u64,
    /// The one that is taking over from it.
    #[serde(default)]
    pub(super) successor: Option<Successor>,
    /// Those that keep their connections until these end.
    #[serde(default)]
    pub(super) retired: Vec<ProcessId>,
}

/// A process that is taking over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Successor {
    #[serde(flatten)]
    pub(super) init: ProcessId,
    /// The restart that it was started for.
    pub(super) restart: u64,
}

/// What to do about a gateway's processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing.
    Stay,
    /// Start one: none serves.
    Start,
    /// Start one that takes over from the current one.
    HandOver,
    /// The successor serves: it is the current one.
    Promote,
    /// The successor does not serve, and will not: end both and start one.
    GiveUp {
        /// Why.
        reason: &'static str,
    },
}

impl Processes {
    /// One that serves, alone.
    pub(super) fn new(current: ProcessId, restart: u64, retired: Vec<ProcessId>) -> Self {
        Self { current, restart, successor: None, retired }
    }

    /// What to do next: `serving` is the process that says that it serves, `waited` for how long the successor has been waited for.
    pub(super) fn next(
        &self,
        lives: impl Fn(&ProcessId) -> bool,
        serving: Option<i32>,
        restart_wanted: u64,
        waited: Duration,
    ) -> Step {
        match &self.successor {
            Some(successor) if !lives(&successor.init) => Step::GiveUp { reason: "the new process has ended" },
            Some(successor) if serving == Some(successor.init.pid) => Step::Promote,
            Some(_) if waited >= HAND_OVER_LIMIT => Step::GiveUp { reason: "the old process does not hand over" },
            Some(_) => Step::Stay,
            None if !lives(&self.current) => Step::Start,
            None if self.restart < restart_wanted => Step::HandOver,
            None => Step::Stay,
        }
    }

    /// The successor serves now.
    pub(super) fn promote(&mut self, successor: Successor) {
        self.retired.push(self.current);
        (self.current, self.restart, self.successor) = (successor.init, successor.restart, None);
    }

    /// All that may live.
    pub(super) fn all(&self) -> Vec<ProcessId> {
        let successor = self.successor.iter().map(|successor| successor.init);
        successor.chain([self.current]).chain(self.retired.iter().copied()).collect()
    }

    /// What is kept in the gateway's directory.
    pub(super) fn read(directory: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(directory.join(RECORD)).ok()?).ok()
    }

    /// Keeps it in the gateway's directory.
    pub(super) fn keep(&self, directory: &Path) -> io::Result<()> {
        let bytes = serde_json::to_vec(self)?;
        file::replace(&directory.join(RECORD), Durability::Renamed, Mode::Private, &bytes)
    }
}

/// The process that says in the gateway's state directory that it serves. The directory is not ours: what is there may be anything.
pub(super) fn serving(state: &Path) -> Option<i32> {
    #[derive(Deserialize)]
    struct Serving {
        pid: i32,
    }
    let flags = nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(state.join("serving.json")).ok()?;
    let mut text = Vec::new();
    file.take(SERVING_MAX).read_to_end(&mut text).ok()?;
    serde_json::from_slice::<Serving>(&text).ok().map(|serving| serving.pid)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn init(pid: i32) -> ProcessId {
        ProcessId { pid, started: 1 }
    }

    fn handing_over() -> Processes {
        let successor = Some(Successor { init: init(2), restart: 1 });
        Processes { successor, ..Processes::new(init(1), 0, Vec::new()) }
    }

    #[test]
    fn a_restart_hands_over_once() {
        let mut processes = Processes::new(init(1), 0, Vec::new());
        let next = |processes: &Processes, serving| processes.next(|_| true, Some(serving), 1, Duration::ZERO);
        assert_eq!(next(&processes, 1), Step::HandOver);
        processes.successor = Some(Successor { init: init(2), restart: 1 });
        assert_eq!(next(&processes, 1), Step::Stay);
        assert_eq!(next(&processes, 2), Step::Promote);
        processes.promote(Successor { init: init(2), restart: 1 });
        assert_eq!(processes, Processes::new(init(2), 1, vec![init(1)]));
        assert_eq!(next(&processes, 2), Step::Stay);
    }

    #[test]
    fn a_process_that_died_is_started_again_and_retired_ones_are_kept() {
        let processes = Processes::new(init(2), 1, vec![init(1)]);
        assert_eq!(processes.next(|init| init.pid != 2, Some(2), 2, Duration::ZERO), Step::Start);
    }

    #[test]
    fn a_hand_over_is_given_up_when_it_can_not_succeed() {
        let processes = handing_over();
        let ended = processes.next(|init| init.pid == 1, Some(1), 1, Duration::ZERO);
        assert!(matches!(ended, Step::GiveUp { .. }));
        assert!(matches!(processes.next(|_| true, Some(1), 1, HAND_OVER_LIMIT), Step::GiveUp { .. }));
        // It may have been served by the time that somebody looks again.
        assert_eq!(processes.next(|_| true, Some(2), 1, HAND_OVER_LIMIT), Step::Promote);
        assert_eq!(processes.next(|init| init.pid == 2, Some(1), 1, Duration::ZERO), Step::Stay);
    }

    #[test]
    fn what_is_kept_comes_back_and_an_older_agents_record_is_understood() {
        let directory = tempfile::tempdir().unwrap();
        let processes = Processes { retired: vec![init(7), init(8)], ..handing_over() };
        processes.keep(directory.path()).unwrap();
        assert_eq!(Processes::read(directory.path()), Some(processes));
        fs::write(directory.path().join(RECORD), r#"{"pid":1,"started":1}"#).unwrap();
        assert_eq!(Processes::read(directory.path()), Some(Processes::new(init(1), 0, Vec::new())));
    }

    #[test]
    fn what_a_gateway_says_is_read_with_care() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("serving.json");
        assert_eq!(serving(directory.path()), None);
        fs::write(&file, r#"{"pid":12,"incarnation":3}"#).unwrap();
        assert_eq!(serving(directory.path()), Some(12));
        fs::rename(&file, directory.path().join("other")).unwrap();
        std::os::unix::fs::symlink("other", &file).unwrap();
        assert_eq!(serving(directory.path()), None);
        fs::remove_file(&file).unwrap();
        nix::unistd::mkfifo(&file, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert_eq!(serving(directory.path()), None);
    }
}
