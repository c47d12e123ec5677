//! A process of a job: the lines of `/proc/PID/status`, and its namespaces.

use std::fs::{self, File};

use nix::fcntl::readlinkat;

use super::descriptor::Descriptor;

/// The most threads of one process that are read.
const THREADS_MAX: usize = 4096;

/// A process, as it was read at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// The kernel's id, as this process sees it.
    pub pid: i32,
    /// The id inside the job.
    pub own_pid: i32,
    /// The kernel's id of its parent.
    pub parent: i32,
    /// The name of its program, at most 15 bytes of any kind.
    pub name: Vec<u8>,
    pub state: State,
    /// The kernel's id of the process that traces it.
    pub tracer: Option<i32>,
    /// The real, effective and saved user.
    pub users: [u32; 3],
    /// The real, effective and saved group.
    pub groups: [u32; 3],
    /// The inode of each of its namespaces, in the order of [`Namespace::ALL`].
    pub namespaces: [u64; Namespace::ALL.len()],
    /// The further threads.
    pub threads: Vec<Thread>,
    pub descriptors: Vec<Descriptor>,
}

/// A further thread of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Thread {
    pub state: State,
    /// The kernel's id of the process that traces it.
    pub tracer: Option<i32>,
    /// As of a [`Process`].
    pub namespaces: [u64; Namespace::ALL.len()],
}

/// The state of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It executes or waits for something.
    Running,
    /// It waits for a device or a file system, or for a child in vfork.
    Uninterruptible,
    /// It was stopped by a signal.
    Stopped,
    /// Its tracer has stopped it.
    TracingStop,
    /// It has exited, and its parent has not noticed.
    Zombie,
}

/// A kind of namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Namespace {
    User,
    Network,
    Mount,
    Ipc,
    Uts,
    Pid,
    Cgroup,
    Time,
}

impl Namespace {
    pub const ALL: [Self; 8] =
        [Self::User, Self::Network, Self::Mount, Self::Ipc, Self::Uts, Self::Pid, Self::Cgroup, Self::Time];

    /// The name of its file below `/proc/PID/ns`.
    fn file(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Network => "net",
            Self::Mount => "mnt",
            Self::Ipc => "ipc",
            Self::Uts => "uts",
            Self::Pid => "pid",
            Self::Cgroup => "cgroup",
            Self::Time => "time",
        }
    }
}

impl Process {
    /// Reads a process without its descriptors. Returns `None` where it does not exist.
    pub(super) fn read(pid: i32) -> Option<Self> {
        let status = Status::read(&format!("/proc/{pid}/status"))?;
        let threads = if status.threads > 1 { threads(pid) } else { Vec::new() };
        Some(Self {
            pid,
            own_pid: status.own_pid.unwrap_or(pid),
            parent: status.parent,
            name: status.name,
            state: status.state,
            tracer: status.tracer,
            users: status.users,
            groups: status.groups,
            namespaces: namespaces(&format!("/proc/{pid}/ns")),
            threads,
            descriptors: Vec::new(),
        })
    }

    /// Returns the namespaces that are not those of the first process. Some thread alone may be in
    /// one.
    pub fn other_namespaces(&self, first: &[u64; Namespace::ALL.len()]) -> impl Iterator<Item = Namespace> {
        let tasks = std::iter::once(&self.namespaces).chain(self.threads.iter().map(|thread| &thread.namespaces));
        let tasks: Vec<_> = tasks.collect();
        // What could not be read is 0: the process has ended.
        let differs = |index: usize| tasks.iter().any(|task| task[index] != first[index] && task[index] != 0);
        let differing: Vec<Namespace> =
            Namespace::ALL.into_iter().enumerate().filter(|(index, _)| differs(*index)).map(|(_, kind)| kind).collect();
        differing.into_iter()
    }
}

/// Returns the id of a process in its own namespace. Returns `None` where it does not exist.
#[must_use]
pub fn own_pid(pid: i32) -> Option<i32> {
    Status::read(&format!("/proc/{pid}/status"))?.own_pid
}

/// Returns the name of a process's program. Returns `None` where it does not exist.
#[must_use]
pub fn name(pid: i32) -> Option<Vec<u8>> {
    let mut name = fs::read(format!("/proc/{pid}/comm")).ok()?;
    name.pop_if(|last| *last == b'\n');
    Some(name)
}

fn threads(pid: i32) -> Vec<Thread> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let others = tasks.filter_map(|task| task.file_name().to_str()?.parse::<i32>().ok()).filter(|task| *task != pid);
    let read = |task: i32| {
        let status = Status::read(&format!("/proc/{pid}/task/{task}/status"))?;
        let namespaces = namespaces(&format!("/proc/{pid}/task/{task}/ns"));
        Some(Thread { state: status.state, tracer: status.tracer, namespaces })
    };
    others.take(THREADS_MAX).filter_map(read).collect()
}

fn namespaces(directory: &str) -> [u64; Namespace::ALL.len()] {
    let Ok(directory) = File::open(directory) else { return [0; Namespace::ALL.len()] };
    // user:[4026531837]
    let inode = |kind: Namespace| {
        let link = readlinkat(&directory, kind.file()).ok()?;
        link.to_str()?.split_once('[')?.1.strip_suffix(']')?.parse().ok()
    };
    Namespace::ALL.map(|kind| inode(kind).unwrap_or(0))
}

/// The lines of a `status` file that are of interest.
struct Status {
    name: Vec<u8>,
    state: State,
    own_pid: Option<i32>,
    parent: i32,
    tracer: Option<i32>,
    users: [u32; 3],
    groups: [u32; 3],
    threads: usize,
}

impl Status {
    fn read(path: &str) -> Option<Self> {
        let text = fs::read(path).ok()?;
        let mut status = Self {
            name: Vec::new(),
            state: State::Running,
            own_pid: None,
            parent: 0,
            tracer: None,
            users: [0; 3],
            groups: [0; 3],
            threads: 1,
        };
        // A line feed in a name is escaped, so that every line is the kernel's.
        for line in text.split(|byte| *byte == b'\n') {
            let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
            let (key, value) = (&line[..colon], &line[colon + 1..]);
            if key == b"Name" {
                status.name = unescape(value.strip_prefix(b"\t").unwrap_or(value));
                continue;
            }
            let Ok(value) = std::str::from_utf8(value) else { continue };
            let mut fields = value.split_whitespace();
            match key {
                b"State" => status.state = State::of(fields.next()?),
                b"NSpid" => status.own_pid = fields.next_back().and_then(|pid| pid.parse().ok()),
                b"PPid" => status.parent = fields.next()?.parse().ok()?,
                b"TracerPid" => status.tracer = fields.next()?.parse().ok().filter(|tracer| *tracer != 0),
                b"Uid" => status.users = three(fields)?,
                b"Gid" => status.groups = three(fields)?,
                b"Threads" => status.threads = fields.next()?.parse().ok()?,
                _ => {}
            }
        }
        Some(status)
    }
}

impl State {
    fn of(letter: &str) -> Self {
        match letter {
            "D" => Self::Uninterruptible,
            "T" => Self::Stopped,
            "t" => Self::TracingStop,
            "Z" | "X" => Self::Zombie,
            _ => Self::Running,
        }
    }
}

fn three<'a>(mut fields: impl Iterator<Item = &'a str>) -> Option<[u32; 3]> {
    let mut next = || fields.next()?.parse().ok();
    Some([next()?, next()?, next()?])
}

/// Reads a name in which the kernel has escaped line feeds and backslashes.
pub(super) fn unescape(text: &[u8]) -> Vec<u8> {
    let mut name = Vec::with_capacity(text.len());
    let mut rest = text.iter();
    while let Some(byte) = rest.next() {
        name.push(match (byte, rest.as_slice().first()) {
            (b'\\', Some(b'n')) => {
                rest.next();
                b'\n'
            }
            (b'\\', Some(b'\\')) => {
                rest.next();
                b'\\'
            }
            _ => *byte,
        });
    }
    name
}
