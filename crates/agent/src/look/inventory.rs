//! The inventory of a job at one moment: its processes with their descriptors and limits, its
//! sockets and its mounts. Memory and the content of files are not in it.
//!
//! It is read from the frozen job before its checkpoint, travels with the checkpoint, and is read
//! again from the restored job.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use mooring_linux::process_tree::{Descriptor, DescriptorKind, Process, State};
use mooring_linux::{tcp_table, unix_sockets};
use serde::{Deserialize, Serialize};

use super::seen::{Seen, readable};

/// The ending of a link to a file that has lost its name.
const REMOVED: &[u8] = b" (deleted)";
const INOTIFY: &str = "inotify";
/// The beginning of a line of an inotify descriptor for each of its watches.
const WATCH: &str = "inotify wd:";

/// The inventory of a job. All names are as the job sees them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Inventory {
    /// By the process id inside the job.
    pub(super) processes: BTreeMap<i32, Listed>,
    /// The TCP and UDP ports that something listens at, and the names of unix sockets.
    pub(super) bound: BTreeSet<String>,
    /// The TCP connections that processes have, each with its two ends.
    pub(super) connections: BTreeSet<String>,
    /// The mount points. The type of a masked file's mount differs between hosts.
    pub(super) mounts: BTreeSet<String>,
}

/// A process of the job.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Listed {
    pub(super) name: String,
    pub(super) is_zombie: bool,
    /// Says whether a signal has stopped it; absent where CRIU has seized it.
    pub(super) is_stopped: Option<bool>,
    pub(super) users: [u32; 3],
    pub(super) groups: [u32; 3],
    /// The number of threads apart from the first.
    pub(super) threads: usize,
    /// The current directory.
    pub(super) directory: String,
    /// The limits, in the kernel's words.
    pub(super) limits: BTreeMap<String, String>,
    /// The kind or the name of each open descriptor.
    pub(super) descriptors: BTreeMap<i32, String>,
    /// The number of inotify watches of those descriptors that have any.
    pub(super) watches: BTreeMap<i32, usize>,
}

impl Inventory {
    /// Lists what was seen of a job, and what else it has. The job is frozen: it does not change
    /// meanwhile. What can't be read is left out.
    pub(super) fn of(seen: &Seen, namespace: &Path) -> Self {
        let processes = seen.tree.processes.values().map(|process| (process.own_pid, Listed::of(process)));
        let tcp = tcp_table::list(namespace).unwrap_or_default();
        let udp = tcp_table::list_datagram(namespace).unwrap_or_default();
        let unix = unix_sockets::bound(namespace).unwrap_or_default();
        let listeners = tcp.iter().filter(|socket| socket.is_listener());
        let connections = tcp.iter().filter(|socket| socket.is_connected());
        // A relative name leads nowhere once the current directory is another.
        let names = unix
            .iter()
            .filter(|socket| socket.name.is_absolute())
            .map(|socket| format!("unix socket {}", readable(socket.name.as_os_str().as_encoded_bytes())));
        Self {
            processes: processes.collect(),
            bound: listeners
                .map(|socket| format!("TCP port {}", socket.local))
                .chain(udp.iter().map(|socket| format!("UDP port {}", socket.local)))
                .chain(names)
                .collect(),
            connections: connections.map(|socket| format!("{} to {}", socket.local, socket.peer)).collect(),
            mounts: mounts(seen.first),
        }
    }
}

impl Listed {
    fn of(process: &Process) -> Self {
        let descriptors: BTreeMap<i32, String> =
            process.descriptors.iter().map(|descriptor| (descriptor.number, essence(descriptor))).collect();
        let with_watches = descriptors.iter().filter(|(_, what)| *what == INOTIFY);
        let watches = with_watches.map(|(number, _)| (*number, watches(process.pid, *number)));
        Self {
            name: readable(&process.name),
            is_zombie: process.state == State::Zombie,
            is_stopped: (process.state != State::TracingStop).then_some(process.state == State::Stopped),
            users: process.users,
            groups: process.groups,
            threads: process.threads.len(),
            directory: link(&format!("/proc/{}/cwd", process.pid)),
            limits: limits(&fs::read_to_string(format!("/proc/{}/limits", process.pid)).unwrap_or_default()),
            watches: watches.collect(),
            descriptors,
        }
    }
}

/// Returns what a descriptor leads to, in words that are the same on every host.
fn essence(descriptor: &Descriptor) -> String {
    match &descriptor.kind {
        DescriptorKind::Socket { protocol } => return format!("socket of {}", readable(protocol.as_bytes())),
        DescriptorKind::PacketSocket { .. } => return "packet socket".to_owned(),
        DescriptorKind::Epoll { .. } => return "epoll set".to_owned(),
        DescriptorKind::Object { name } => return readable(name.as_bytes()),
        DescriptorKind::Deleted { .. } => return "deleted file".to_owned(),
        DescriptorKind::Queue { .. } | DescriptorKind::Device { .. } | DescriptorKind::Other => {}
    }
    name_of(&descriptor.target)
}

/// Returns the name in a link below `/proc`. Numbers of kernel objects differ between hosts.
fn name_of(target: &[u8]) -> String {
    if target.ends_with(REMOVED) {
        return "deleted file".to_owned();
    }
    // pipe:[4711], net:[4026531840]
    let is_path = target.starts_with(b"/");
    let end = target.windows(2).position(|pair| pair == b":[").filter(|_| !is_path).unwrap_or(target.len());
    readable(&target[..end])
}

fn link(path: &str) -> String {
    fs::read_link(path).map(|target| name_of(target.as_os_str().as_encoded_bytes())).unwrap_or_default()
}

/// Reads lines like `Max open files            1024                 524288               files`.
fn limits(text: &str) -> BTreeMap<String, String> {
    const NAME_COLUMNS: usize = 26;
    let limit = |line: &str| {
        let (name, values) = line.split_at_checked(NAME_COLUMNS)?;
        let values: Vec<&str> = values.split_whitespace().take(2).collect();
        Some((name.trim().strip_prefix("Max ")?.to_owned(), values.join(" to ")))
    };
    text.lines().filter_map(limit).collect()
}

fn watches(pid: i32, number: i32) -> usize {
    let text = fs::read_to_string(format!("/proc/{pid}/fdinfo/{number}")).unwrap_or_default();
    text.lines().filter(|line| line.starts_with(WATCH)).count()
}

/// Reads lines like `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root`.
fn mounts(pid: i32) -> BTreeSet<String> {
    let text = fs::read(format!("/proc/{pid}/mountinfo")).unwrap_or_default();
    let mount = |line: &str| line.split(' ').nth(4).map(str::to_owned);
    String::from_utf8_lossy(&text).lines().filter_map(mount).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_same_on_every_host() {
        assert_eq!(name_of(b"/a/b:[7]"), "/a/b:[7]");
        assert_eq!(name_of(b"pipe:[4711]"), "pipe");
        assert_eq!(name_of(b"/tmp/link_remap.5 (deleted)"), name_of(b"/tmp/x (deleted)"));
        assert_eq!(name_of(b"/caf\xe9\n"), "/caf\u{fffd}?");
    }

    #[test]
    fn limits_are_read_as_the_kernel_writes_them() {
        let text = fs::read_to_string("/proc/self/limits").unwrap();
        let read = limits(&text);
        assert_eq!(read.len(), 16, "{read:?}");
        assert!(read.contains_key("open files") && read["core file size"].contains(" to "), "{read:?}");
        assert!(limits("Max é\n").is_empty());
    }

    #[test]
    fn mounts_of_this_process_are_read() {
        let read = mounts(i32::try_from(std::process::id()).unwrap());
        assert!(read.contains("/proc"), "{read:?}");
    }
}
