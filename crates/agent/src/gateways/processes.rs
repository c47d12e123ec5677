//! The processes of one gateway, recorded in `process.json`.
//!
//! ```text
//!  Start ─► current ──── HandOver ────► current + successor ──── Promote ───► current + retired
//!    ▲         │ died                         │ ended, or too slow                 │ ended
//!    └─────────┴──────────── GiveUp ◄─────────┘                                    └─► current
//! ```
//!
//! One process serves. A restart starts a successor beside it, which takes over the listening
//! sockets. The former process is retired then: it ends with its last connection. A second restart
//! does not wait for that, so any number of retired processes may live.

use std::fs::{self, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use mooring_ops::file::{self, Durability, Mode};
use serde::{Deserialize, Serialize};

use mooring_linux::process::ProcessId;

/// The time that a successor has until it serves.
pub(super) const HAND_OVER_TIMEOUT: Duration = Duration::from_secs(10);
const RECORD: &str = "process.json";
/// An upper bound of the size of `serving.json`.
const SERVING_FILE_MAX_BYTES: u64 = 4096;

/// The processes of one gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Processes {
    /// The process that serves. Older agents recorded only this one.
    #[serde(flatten)]
    pub(super) current: ProcessId,
    /// The restart for which the current process was started.
    #[serde(default)]
    pub(super) restart: u64,
    /// The process that takes over from the current one.
    #[serde(default)]
    pub(super) successor: Option<Successor>,
    /// The processes that keep their connections until these end.
    #[serde(default)]
    pub(super) retired: Vec<ProcessId>,
}

/// A process that is taking over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Successor {
    #[serde(flatten)]
    pub(super) init: ProcessId,
    /// The restart for which the successor was started.
    pub(super) restart: u64,
}

/// The next step of a gateway's processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Stay,
    /// Start a process: none serves.
    Start,
    /// Start a process that takes over from the current one.
    HandOver,
    /// Make the successor the current process: it serves.
    Promote,
    /// End both processes and start one: the successor will not serve.
    GiveUp {
        reason: &'static str,
    },
}

impl Processes {
    /// A single process that serves.
    pub(super) fn new(current: ProcessId, restart: u64, retired: Vec<ProcessId>) -> Self {
        Self { current, restart, successor: None, retired }
    }

    /// Returns the next step. `serving` is the process that says that it serves; `waited` is the
    /// time since the successor was started.
    pub(super) fn next(
        &self,
        lives: impl Fn(&ProcessId) -> bool,
        serving: Option<i32>,
        desired_restart: u64,
        waited: Duration,
    ) -> Step {
        match &self.successor {
            Some(successor) if !lives(&successor.init) => Step::GiveUp { reason: "the new process has ended" },
            Some(successor) if serving == Some(successor.init.pid) => Step::Promote,
            Some(_) if waited >= HAND_OVER_TIMEOUT => Step::GiveUp { reason: "the old process does not hand over" },
            Some(_) => Step::Stay,
            None if !lives(&self.current) => Step::Start,
            None if self.restart < desired_restart => Step::HandOver,
            None => Step::Stay,
        }
    }

    /// Makes the successor the current process.
    pub(super) fn promote(&mut self, successor: Successor) {
        self.retired.push(self.current);
        (self.current, self.restart, self.successor) = (successor.init, successor.restart, None);
    }

    /// All processes that may live.
    pub(super) fn all(&self) -> Vec<ProcessId> {
        let successor = self.successor.iter().map(|successor| successor.init);
        successor.chain([self.current]).chain(self.retired.iter().copied()).collect()
    }

    /// Reads the record in the gateway's directory.
    pub(super) fn read(directory: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(directory.join(RECORD)).ok()?).ok()
    }

    /// Writes the record into the gateway's directory.
    pub(super) fn keep(&self, directory: &Path) -> io::Result<()> {
        file::replace(&directory.join(RECORD), Durability::Renamed, Mode::Private, &serde_json::to_vec(self)?)
    }
}

/// Returns the process that says in the gateway's state directory that it serves. The gateway can
/// write anything there.
pub(super) fn serving(state: &Path) -> Option<i32> {
    #[derive(Deserialize)]
    struct Serving {
        pid: i32,
    }
    let flags = nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(state.join("serving.json")).ok()?;
    let mut text = Vec::new();
    file.take(SERVING_FILE_MAX_BYTES).read_to_end(&mut text).ok()?;
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
    fn restart_hands_over_once() {
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
    fn dead_process_is_started_again() {
        let processes = Processes::new(init(2), 1, vec![init(1)]);
        assert_eq!(processes.next(|init| init.pid != 2, Some(2), 2, Duration::ZERO), Step::Start);
    }

    #[test]
    fn failed_hand_over_is_given_up() {
        let processes = handing_over();
        let ended = processes.next(|init| init.pid == 1, Some(1), 1, Duration::ZERO);
        assert!(matches!(ended, Step::GiveUp { .. }));
        assert!(matches!(processes.next(|_| true, Some(1), 1, HAND_OVER_TIMEOUT), Step::GiveUp { .. }));
        // A successor that serves late is promoted all the same.
        assert_eq!(processes.next(|_| true, Some(2), 1, HAND_OVER_TIMEOUT), Step::Promote);
        assert_eq!(processes.next(|init| init.pid == 2, Some(1), 1, Duration::ZERO), Step::Stay);
    }

    #[test]
    fn record_of_this_and_older_agents_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let processes = Processes { retired: vec![init(7), init(8)], ..handing_over() };
        processes.keep(directory.path()).unwrap();
        assert_eq!(Processes::read(directory.path()), Some(processes));
        fs::write(directory.path().join(RECORD), r#"{"pid":1,"started":1}"#).unwrap();
        assert_eq!(Processes::read(directory.path()), Some(Processes::new(init(1), 0, Vec::new())));
    }

    #[test]
    fn serving_follows_no_link() {
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
