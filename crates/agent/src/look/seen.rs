//! The state of a job and its host as the look saw it: plain data.

use std::collections::BTreeMap;

use mooring_linux::process_tree::{Process, ProcessTree};

/// All that findings follow from.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    /// The kernel's id of the job's first process.
    pub(super) first: i32,
    pub(super) tree: ProcessTree,
    /// The names of processes outside of the job that trace one of it, by the kernel's id.
    pub(super) outsiders: BTreeMap<i32, Vec<u8>>,
    /// The names of users in the job, by number.
    pub(super) users: BTreeMap<u32, String>,
    /// The name of the host.
    pub(super) host: String,
    /// Says whether the agent may read the limits of processes of other users.
    pub(super) has_sys_resource: bool,
}

impl Seen {
    /// Returns the processes that live, in the order of their ids in the job.
    pub(super) fn living(&self) -> Vec<&Process> {
        let is_alive = |process: &&Process| process.state != mooring_linux::process_tree::State::Zombie;
        let mut living: Vec<&Process> = self.tree.processes.values().filter(is_alive).collect();
        living.sort_by_key(|process| process.own_pid);
        living
    }

    /// Returns the namespaces of the job, those of its first process.
    pub(super) fn namespaces(&self) -> Option<&[u64; 8]> {
        self.tree.processes.get(&self.first).map(|process| &process.namespaces)
    }
}

/// Returns bytes of a job as text on one line: names are any bytes.
pub(crate) fn readable(bytes: &[u8]) -> String {
    const LENGTH_MAX: usize = 100;
    let text = String::from_utf8_lossy(bytes);
    text.chars().take(LENGTH_MAX).map(|letter| if letter.is_control() { '?' } else { letter }).collect()
}
