//! The table of findings: what may be seen of a job, and what it means for a migration.
//!
//! A row looks for one kind and returns what it hits. A new kind is a row in [`TABLE`], its
//! function, and a line in the table of tests.

use std::collections::BTreeMap;

use mooring_linux::process_tree::{DescriptorKind, Namespace, Process};
use mooring_types::finding::{Effect, Finding, FindingKind};

use super::seen::{Seen, readable};

/// Protocols of sockets that CRIU restores. Packet sockets have a row of their own.
const PROTOCOLS: [&str; 12] =
    ["TCP", "TCPv6", "UDP", "UDPv6", "UDP-Lite", "UDPLITEv6", "RAW", "RAWv6", "PING", "PINGv6", "UNIX", "UNIX-STREAM"];
/// Objects of the kernel that CRIU restores. Not fanotify: without privileges it names files by
/// numbers of their file system. Those change with the host.
const OBJECTS: [&str; 5] = ["eventfd", "signalfd", "timerfd", "inotify", "pidfd"];
const TUN: &[u8] = b"/dev/net/tun";

/// A row: one kind of findings.
struct Row {
    kind: FindingKind,
    effect: Effect,
    find: fn(&Seen) -> Vec<Hit>,
}

/// One thing that a row has found: `<who> <thing>: <advice>`.
struct Hit {
    process: Option<(i32, String)>,
    thing: String,
    advice: String,
}

const TABLE: [Row; 11] = [
    Row { kind: FindingKind::Traced, effect: Effect::Refuses, find: traced },
    Row { kind: FindingKind::Namespace, effect: Effect::Refuses, find: namespaces },
    Row { kind: FindingKind::PacketSocket, effect: Effect::Refuses, find: packet_sockets },
    Row { kind: FindingKind::OpenQueue, effect: Effect::Refuses, find: open_queues },
    Row { kind: FindingKind::Queue, effect: Effect::Waits, find: queues },
    Row { kind: FindingKind::Protocol, effect: Effect::Refuses, find: protocols },
    Row { kind: FindingKind::Object, effect: Effect::Refuses, find: objects },
    Row { kind: FindingKind::Device, effect: Effect::Refuses, find: devices },
    Row { kind: FindingKind::OtherUser, effect: Effect::Refuses, find: other_users },
    Row { kind: FindingKind::ClosedTarget, effect: Effect::Waits, find: closed_targets },
    Row { kind: FindingKind::DeletedFile, effect: Effect::Mended, find: deleted_files },
];

/// Returns the findings, in the order of the table. Processes of which the same is to be said are
/// one finding, which names the first.
pub(super) fn of(seen: &Seen) -> Vec<Finding> {
    TABLE.iter().flat_map(|row| grouped(row, (row.find)(seen))).collect()
}

fn grouped(row: &Row, hits: Vec<Hit>) -> Vec<Finding> {
    let mut more: BTreeMap<String, usize> = BTreeMap::new();
    let mut firsts: Vec<Hit> = Vec::new();
    for hit in hits {
        let alike = more.entry(format!("{}: {}", hit.thing, hit.advice)).or_insert(0);
        *alike += 1;
        if *alike == 1 {
            firsts.push(hit);
        }
    }
    let finding = |hit: Hit| {
        let said = format!("{}: {}", hit.thing, hit.advice);
        let alike = match more.get(&said) {
            Some(2) => " (1 more process is like it)".to_owned(),
            Some(count) if *count > 2 => format!(" ({} more processes are like it)", count - 1),
            _ => String::new(),
        };
        let (pid, program) = match hit.process {
            Some((pid, program)) => (Some(pid), program),
            None => (None, String::new()),
        };
        let who = pid.map(|pid| format!("process {pid} ({program}) ")).unwrap_or_default();
        Finding { kind: row.kind, effect: row.effect, pid, program, text: format!("{who}{said}{alike}") }
    };
    firsts.into_iter().map(finding).collect()
}

impl Hit {
    fn new(process: &Process, thing: impl Into<String>, advice: impl Into<String>) -> Self {
        let process = Some((process.own_pid, readable(&process.name)));
        Self { process, thing: thing.into(), advice: advice.into() }
    }
}

/// Returns a hit for the first descriptor of each process for which `hit` has one.
fn by_descriptor(seen: &Seen, hit: impl Fn(&Process, &DescriptorKind, i32) -> Option<Hit>) -> Vec<Hit> {
    let of_process = |process: &Process| {
        process.descriptors.iter().find_map(|descriptor| hit(process, &descriptor.kind, descriptor.number))
    };
    seen.living().into_iter().filter_map(of_process).collect()
}

fn traced(seen: &Seen) -> Vec<Hit> {
    let tracer = |process: &Process| process.tracer.or_else(|| process.threads.iter().find_map(|thread| thread.tracer));
    let hit = |process: &Process| {
        let tracer = tracer(process)?;
        let by = match (seen.tree.processes.get(&tracer), seen.outsiders.get(&tracer)) {
            (Some(own), _) => format!("{} ({})", readable(&own.name), own.own_pid),
            (None, Some(name)) => format!("{} from outside the job (process {tracer} of its host)", readable(name)),
            // It has ended meanwhile, and let the process go.
            (None, None) => return None,
        };
        Some(Hit::new(process, format!("is traced by {by}"), "detach it"))
    };
    seen.living().into_iter().filter_map(hit).collect()
}

fn namespaces(seen: &Seen) -> Vec<Hit> {
    let Some(first) = seen.namespaces() else { return Vec::new() };
    let hit = |process: &Process| {
        let names: Vec<&str> = process.other_namespaces(first).map(name_of_namespace).collect();
        let thing = match names.as_slice() {
            [] => return None,
            [name] => format!("has a {name} namespace of its own"),
            [names @ .., last] => format!("has {} and {last} namespaces of its own", names.join(", ")),
        };
        Some(Hit::new(process, thing, "end it, then migrate"))
    };
    seen.living().into_iter().filter_map(hit).collect()
}

fn name_of_namespace(kind: Namespace) -> &'static str {
    match kind {
        Namespace::User => "user",
        Namespace::Network => "network",
        Namespace::Mount => "mount",
        Namespace::Ipc => "IPC",
        Namespace::Uts => "host name",
        Namespace::Pid => "process",
        Namespace::Cgroup => "control group",
        Namespace::Time => "time",
    }
}

fn packet_sockets(seen: &Seen) -> Vec<Hit> {
    by_descriptor(seen, |process, kind, _| match kind {
        DescriptorKind::PacketSocket { interface } => {
            let on = interface.as_ref().map(|name| format!(" on {}", readable(name.as_bytes()))).unwrap_or_default();
            Some(Hit::new(process, format!("reads raw packets{on}"), "end it"))
        }
        _ => None,
    })
}

fn open_queues(seen: &Seen) -> Vec<Hit> {
    by_descriptor(seen, |process, kind, _| match kind {
        DescriptorKind::Queue { name } => Some(Hit::new(
            process,
            format!("has the message queue /{} open", readable(name)),
            "end it, or close the queue",
        )),
        _ => None,
    })
}

fn queues(seen: &Seen) -> Vec<Hit> {
    let open: Vec<&[u8]> = seen
        .living()
        .into_iter()
        .flat_map(|process| &process.descriptors)
        .filter_map(|descriptor| match &descriptor.kind {
            DescriptorKind::Queue { name } => Some(name.as_slice()),
            _ => None,
        })
        .collect();
    // One without messages moves.
    let full = seen.tree.queues.iter().filter(|queue| queue.messages > 0);
    let unopened = full.filter(|queue| !open.contains(&queue.name.as_slice()));
    let hit = |queue: &mooring_linux::process_tree::Queue| {
        let name = readable(&queue.name);
        let thing = format!("the job has a message queue /{name}, in which messages of {} bytes wait", queue.bytes);
        Hit { process: None, thing, advice: "read them, or remove it from /dev/mqueue".into() }
    };
    unopened.map(hit).collect()
}

fn protocols(seen: &Seen) -> Vec<Hit> {
    by_descriptor(seen, |process, kind, _| match kind {
        DescriptorKind::Socket { protocol } if protocol == "MPTCP" => {
            let advice = "let it use TCP (programs in Go: with `GODEBUG=multipathtcp=0`)";
            Some(Hit::new(process, "has a socket of MPTCP", advice))
        }
        DescriptorKind::Socket { protocol } if protocol != "NETLINK" && !PROTOCOLS.contains(&protocol.as_str()) => {
            let thing = format!("has a socket of the protocol {}, which can't be moved", readable(protocol.as_bytes()));
            Some(Hit::new(process, thing, "end it, or close the socket"))
        }
        _ => None,
    })
}

fn objects(seen: &Seen) -> Vec<Hit> {
    by_descriptor(seen, |process, kind, _| match kind {
        DescriptorKind::Object { name } if !OBJECTS.contains(&name.as_str()) => {
            let thing = format!("has an object of the kernel open that can't be moved ({})", readable(name.as_bytes()));
            Some(Hit::new(process, thing, "end it"))
        }
        _ => None,
    })
}

fn devices(seen: &Seen) -> Vec<Hit> {
    by_descriptor(seen, |process, kind, _| match kind {
        DescriptorKind::Device { path } if path == TUN => Some(Hit::new(process, "has a tun device open", "end it")),
        DescriptorKind::Device { path } => {
            Some(Hit::new(process, format!("has the device {} open", readable(path)), "end it, or close the device"))
        }
        _ => None,
    })
}

/// CRIU reads the limits of every process. For those of another user or group that takes a
/// capability, which root in a container or a small VM may lack.
fn other_users(seen: &Seen) -> Vec<Hit> {
    if seen.has_sys_resource {
        return Vec::new();
    }
    let hit = |process: &Process| {
        let of_root = process.users == [0; 3] && process.groups == [0; 3];
        let uid = process.users.into_iter().find(|uid| *uid != 0).unwrap_or(0);
        let user = seen.users.get(&uid).map_or_else(|| format!("user {uid}"), |name| readable(name.as_bytes()));
        let who = if uid == 0 { format!("in group {}", process.groups[1]) } else { format!("as {user}") };
        let thing = format!("runs {who}, and the agent of {} lacks CAP_SYS_RESOURCE", seen.host);
        (!of_root).then(|| Hit::new(process, thing, "give it that, or use another host"))
    };
    seen.living().into_iter().filter_map(hit).collect()
}

fn closed_targets(seen: &Seen) -> Vec<Hit> {
    by_descriptor(seen, |process, kind, number| {
        let DescriptorKind::Epoll { lost_targets } = kind else { return None };
        let target = lost_targets.first()?;
        // A set that was inherited is checkpointed with the parent, which may have all targets.
        let parent = seen.tree.processes.get(&process.parent);
        let mut of_parent = parent.into_iter().flat_map(|parent| &parent.descriptors);
        let inherited =
            of_parent.any(|other| other.number == number && matches!(other.kind, DescriptorKind::Epoll { .. }));
        let thing = format!("watches a connection or file that it has closed (number {target})");
        (!inherited).then(|| Hit::new(process, thing, "end it, or the process that still has that open"))
    })
}

fn deleted_files(seen: &Seen) -> Vec<Hit> {
    let hit = |process: &Process| {
        let sizes = process.descriptors.iter().filter_map(|descriptor| match descriptor.kind {
            DescriptorKind::Deleted { bytes } => Some(bytes),
            _ => None,
        });
        let (count, bytes) = sizes.fold((0, 0), |(count, sum), bytes| (count + 1, sum + bytes));
        let thing = match count {
            0 => return None,
            1 => format!("has a deleted file of {} MB open", bytes / 1_000_000),
            _ => format!("has {count} deleted files of {} MB open", bytes / 1_000_000),
        };
        Some(Hit::new(process, thing, "what is in it moves with the job"))
    };
    seen.living().into_iter().filter_map(hit).collect()
}

#[cfg(test)]
mod tests;
