//! The processes of a job as `/proc` shows them, and what they hold.
//!
//! ```text
//!   /proc/PID/status     name, state, tracer, users, pid in the job     process
//!   /proc/PID/task/TID   the same of each further thread                process
//!   /proc/PID/ns         namespaces                                     process
//!   /proc/PID/fd         open descriptors by kind                       descriptor
//!   /proc/PID/fdinfo     targets of epoll sets                          descriptor
//!   mqueue, mounted      message queues of the IPC namespace            queue
//! ```
//!
//! Everything here is the input of a program that may be hostile. Names are bytes. A process that
//! vanishes while it is read is left out, and so is a descriptor that is closed meanwhile.

mod descriptor;
mod process;
mod queue;

use std::collections::{BTreeMap, BTreeSet};

use crate::epoll;

pub use descriptor::{Descriptor, DescriptorKind};
pub use process::{Namespace, Process, State, Thread, name, own_pid};
pub use queue::{Queue, QueueForm, empty_queues, make_queues, remove_queues};

/// The processes of a job at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProcessTree {
    /// The processes that live, by the kernel's id. Zombies are included, without descriptors.
    pub processes: BTreeMap<i32, Process>,
    /// The message queues of the first process's IPC namespace.
    pub queues: Vec<Queue>,
}

impl ProcessTree {
    /// Reads the processes with these ids. `first` is the first process of the job, by whose
    /// namespaces the others are judged.
    #[must_use]
    pub fn read(first: i32, pids: &[i32]) -> Self {
        let queues = queue::list(first);
        let of_queues: BTreeSet<(u64, u64)> = queues.iter().map(|queue| (queue.device, queue.inode)).collect();
        let mut reader = descriptor::Reader::new(&of_queues);
        let processes = pids.iter().filter_map(|pid| {
            let mut process = Process::read(*pid)?;
            if process.state != State::Zombie {
                process.descriptors = reader.read(*pid);
            }
            Some((*pid, process))
        });
        let mut processes: BTreeMap<i32, Process> = processes.collect();
        for process in processes.values_mut() {
            process.descriptors.iter_mut().for_each(|descriptor| find_targets(process.pid, descriptor, pids));
        }
        Self { processes, queues }
    }
}

/// Strikes those targets of an epoll set from its list of lost ones that another process has open.
fn find_targets(pid: i32, descriptor: &mut Descriptor, pids: &[i32]) {
    let set = epoll::Descriptor { pid, number: descriptor.number };
    let DescriptorKind::Epoll { lost_targets } = &mut descriptor.kind else { return };
    if !lost_targets.is_empty() {
        let mut lost = epoll::lost_targets(set);
        lost.retain(|target| epoll::find(set, target, pids).is_none());
        *lost_targets = lost.into_iter().map(|target| target.number).collect();
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::process::{Child, Command, Stdio};
    use std::time::Instant;

    use super::*;

    /// A child process that is killed when dropped.
    struct Killed(Child);

    impl Drop for Killed {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    /// Runs a program in Python that prints a line once all is as it says.
    fn python(script: &str) -> (Killed, i32) {
        let mut command = Command::new("python3");
        command.args(["-c", script]).stdout(Stdio::piped());
        let mut child = Killed(command.spawn().unwrap());
        let mut line = String::new();
        BufReader::new(child.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n", "{script}");
        let pid = i32::try_from(child.0.id()).unwrap();
        (child, pid)
    }

    fn kinds(tree: &ProcessTree, pid: i32) -> Vec<&DescriptorKind> {
        tree.processes[&pid].descriptors.iter().map(|descriptor| &descriptor.kind).collect()
    }

    #[test]
    fn descriptors_are_told_by_kind() {
        let script = "
import ctypes, os, select, signal, socket, tempfile
keep = [socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0), socket.socket(socket.AF_INET, socket.SOCK_DGRAM)]
keep[0].bind(('lo', 3))
keep.append(tempfile.TemporaryFile(dir='/var/tmp'))
keep[2].write(b'x' * 5000)
keep[2].flush()
(near, near_writer), (far, far_writer) = os.pipe(), os.pipe()
epoll = select.epoll()
epoll.register(near)
epoll.register(far)
other = os.dup(far)
os.close(far)
if os.fork() == 0:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)
    signal.pause()
os.close(near)
os.close(near_writer)
tun = os.open('/dev/net/tun', os.O_RDWR)
print('ready', flush=True)
signal.pause()
";
        let (_child, pid) = python(script);
        let tree = ProcessTree::read(pid, &[pid, i32::MAX]);
        // The numbers after those of the sockets and the file.
        let near = 6;
        assert_eq!(tree.processes.len(), 1, "a process that does not exist is left out");
        let kinds = kinds(&tree, pid);
        assert!(kinds.contains(&&DescriptorKind::PacketSocket { interface: Some("lo".into()) }), "{kinds:?}");
        assert!(kinds.contains(&&DescriptorKind::Socket { protocol: "UDP".into() }), "{kinds:?}");
        assert!(kinds.contains(&&DescriptorKind::Deleted { bytes: 5000 }), "{kinds:?}");
        assert!(kinds.contains(&&DescriptorKind::Epoll { lost_targets: vec![near] }), "{kinds:?}");
        assert!(kinds.contains(&&DescriptorKind::Device { path: b"/dev/net/tun".to_vec() }), "{kinds:?}");
    }

    #[test]
    fn processes_are_told_by_state_and_name() {
        let script = r#"
import ctypes, os, signal, threading
libc = ctypes.CDLL(None)
libc.prctl(15, b"a b\xff\n)", 0, 0, 0)
os.setresgid(12, 34, 34)
os.setresuid(33, 33, 33)
threading.Thread(target=signal.pause, daemon=True).start()
child = os.fork()
if child == 0:
    os._exit(0)
os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
print("ready", flush=True)
signal.pause()
"#;
        let (_child, pid) = python(script);
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        let zombie: i32 = children.trim().parse().unwrap();
        let tree = ProcessTree::read(pid, &[pid, zombie]);
        let process = &tree.processes[&pid];
        assert_eq!(process.name, b"a b\xff\n)");
        assert_eq!((process.users.as_slice(), process.groups.as_slice()), (&[33, 33, 33][..], &[12, 34, 34][..]));
        assert_eq!((process.state, process.parent), (State::Running, i32::try_from(std::process::id()).unwrap()));
        assert_eq!(process.threads.len(), 1, "the first thread is the process");
        assert_eq!(process.namespaces, Process::read(std::process::id() as i32).unwrap().namespaces);
        assert_eq!(tree.processes[&zombie].state, State::Zombie);
    }

    #[test]
    fn tracer_and_other_namespaces_are_seen() {
        let script = "
import ctypes, os, signal
libc = ctypes.CDLL(None)
libc.ptrace.argtypes = [ctypes.c_long] * 2 + [ctypes.c_void_p] * 2
child = os.fork()
if child == 0:
    libc.unshare(0x10000000 | 0x40000000)
    signal.pause()
while os.readlink(f'/proc/{child}/ns/net') == os.readlink('/proc/self/ns/net'):
    pass
assert libc.ptrace(0x4206, child, None, 0x100000) == 0
print('ready', flush=True)
signal.pause()
";
        let (_child, pid) = python(script);
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        let child: i32 = children.trim().parse().unwrap();
        let tree = ProcessTree::read(pid, &[pid, child]);
        let (parent, child) = (&tree.processes[&pid], &tree.processes[&child]);
        assert_eq!((parent.tracer, child.tracer), (None, Some(pid)));
        let differs: Vec<Namespace> = child.other_namespaces(&parent.namespaces).collect();
        assert_eq!(differs, [Namespace::User, Namespace::Network]);
    }

    #[test]
    fn queues_are_listed_with_who_has_them_open() {
        let script = "
import ctypes, os, signal
libc = ctypes.CDLL(None, use_errno=True)
assert libc.unshare(0x08000000) == 0
queue = libc.mq_open(b'/jobs \\xff', os.O_CREAT | os.O_RDWR, 0o600, None)
assert queue >= 0, os.strerror(ctypes.get_errno())
assert libc.mq_send(queue, b'hello', 5, 1) == 0
idle = libc.mq_open(b'/idle', os.O_CREAT | os.O_RDWR, 0o600, None)
os.close(idle)
print('ready', flush=True)
signal.pause()
";
        let (_child, pid) = python(script);
        let tree = ProcessTree::read(pid, &[pid]);
        let mut queues: Vec<(&[u8], u64)> = tree.queues.iter().map(|queue| (&queue.name[..], queue.bytes)).collect();
        queues.sort_unstable();
        assert_eq!(queues, [(&b"idle"[..], 0), (&b"jobs \xff"[..], 5)]);
        let counts: u64 = tree.queues.iter().map(|queue| queue.messages).sum();
        assert_eq!(counts, 1);
        assert!(kinds(&tree, pid).contains(&&DescriptorKind::Queue { name: b"jobs \xff".to_vec() }));
        let empty = empty_queues(pid).unwrap();
        let [QueueForm { ref name, mode: 0o600, messages_max: 10, message_max_bytes: 8192, .. }] = empty[..] else {
            panic!("{empty:?}")
        };
        assert_eq!(name, b"idle");
        remove_queues(pid, &empty).unwrap();
        remove_queues(pid, &empty).unwrap();
        assert!(empty_queues(pid).unwrap().is_empty());
        let other =
            QueueForm { mode: 0o620, user: 33, group: 34, messages_max: 3, message_max_bytes: 77, ..empty[0].clone() };
        make_queues(pid, std::slice::from_ref(&other)).unwrap();
        make_queues(pid, std::slice::from_ref(&other)).unwrap();
        assert_eq!(empty_queues(pid).unwrap(), [other]);
    }

    #[test]
    fn a_large_job_is_read_within_milliseconds() {
        const CHILDREN: usize = 200;
        let script = format!(
            "
import os, signal, socket
files = [os.open('/usr/bin/env', os.O_RDONLY) for _ in range(15)] + [socket.socket() for _ in range(7)]
for _ in range({CHILDREN} - 1):
    if os.fork() == 0:
        signal.pause()
print('ready', flush=True)
signal.pause()
"
        );
        let (child, pid) = python(&script);
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        let children: Vec<i32> = children.split_whitespace().filter_map(|pid| pid.parse().ok()).collect();
        let pids: Vec<i32> = std::iter::once(pid).chain(children.iter().copied()).collect();
        let mut fastest = std::time::Duration::MAX;
        for _ in 0..5 {
            let began = Instant::now();
            let tree = ProcessTree::read(pid, &pids);
            fastest = fastest.min(began.elapsed());
            let descriptors: usize = tree.processes.values().map(|process| process.descriptors.len()).sum();
            assert!(tree.processes.len() == CHILDREN && descriptors >= CHILDREN * 22, "{descriptors}");
        }
        for child in children {
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(child), nix::sys::signal::Signal::SIGKILL);
        }
        drop(child);
        // A build without optimization on a busy machine: the system calls alone take 20 ms.
        assert!(fastest.as_millis() < 200, "{fastest:?}");
    }

    #[test]
    fn names_are_read_as_the_kernel_writes_them() {
        assert_eq!(process::unescape(br"a\nb\\c"), b"a\nb\\c");
        assert_eq!(process::unescape(br"x\"), b"x\\");
    }
}
