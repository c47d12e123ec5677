//! The processes of a world, told by a mark in their environment or by the namespace they live in,
//! and the control groups they leave.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use mooring_linux::cgroup::Cgroup;
use mooring_linux::process;
use nix::sys::signal::Signal;

/// Time limit until killed processes are gone.
const ENDS_WITHIN: Duration = Duration::from_secs(30);

/// A process of a world.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Daemon {
    pub pid: i32,
    /// Its arguments, the program first.
    pub arguments: Vec<String>,
    started: u64,
}

impl Daemon {
    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let sent = process::signal(self.pid, self.started, signal);
        sent.then_some(()).with_context(|| format!("process {} has ended", self.pid))
    }

    /// Returns whether the process still runs.
    #[must_use]
    pub fn runs(&self) -> bool {
        process::start_time(self.pid) == Some(self.started)
    }

    fn of(pid: i32) -> Option<Self> {
        let started = process::start_time(pid)?;
        let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let arguments = line
            .strip_suffix(b"\0")
            .unwrap_or(&line)
            .split(|byte| *byte == 0)
            .map(|word| String::from_utf8_lossy(word).into_owned());
        Some(Self { pid, arguments: arguments.collect(), started })
    }
}

/// The processes whose environment has `mark`, this one excepted.
pub(super) fn marked(mark: &str) -> Vec<Daemon> {
    all().filter(|pid| is_marked(*pid, mark)).filter_map(Daemon::of).collect()
}

/// Kills every process with `mark` and every one in a network namespace that is mounted below
/// `root`, until there is none. Removes their control groups.
pub(super) fn end(root: &Path, mark: &str) {
    let namespaces = namespaces_below(root);
    let lives_there = |pid: i32| {
        let namespace = fs::metadata(format!("/proc/{pid}/ns/net"));
        namespace.is_ok_and(|namespace| namespaces.contains(&namespace.ino()))
    };
    let mut groups = BTreeSet::new();
    let began = Instant::now();
    while began.elapsed() < ENDS_WITHIN {
        let left: Vec<Daemon> =
            all().filter(|pid| is_marked(*pid, mark) || lives_there(*pid)).filter_map(Daemon::of).collect();
        if left.is_empty() {
            break;
        }
        for daemon in left {
            groups.extend(groups_of(&daemon.pid.to_string()));
            let _ = daemon.signal(Signal::SIGKILL);
            // A frozen process dies when it thaws.
            groups.iter().for_each(|group| drop(Cgroup::open(group).thaw()));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    for group in groups {
        let _ = Cgroup::open(&group).remove();
    }
}

/// The control groups of a process in which this one is not.
fn groups_of(pid: &str) -> BTreeSet<String> {
    let paths = |pid: &str| {
        let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        text.lines().filter_map(|line| line.splitn(3, ':').nth(2)).map(str::to_owned).collect::<BTreeSet<_>>()
    };
    let own = paths("self");
    let is_ours = |path: &String| own.iter().any(|own| Path::new(own).starts_with(path));
    paths(pid).into_iter().filter(|path| !is_ours(path)).collect()
}

fn all() -> impl Iterator<Item = i32> {
    let this = i32::try_from(std::process::id()).unwrap_or_default();
    let entries = fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok);
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(move |pid| *pid != this)
}

fn is_marked(pid: i32, mark: &str) -> bool {
    let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    environment.split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes())
}

/// The network namespaces that are mounted below `root`, by inode, those included that another
/// mount hides. The one of this process is never among them.
fn namespaces_below(root: &Path) -> BTreeSet<u64> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let own = fs::metadata("/proc/self/ns/net").map(|own| own.ino()).ok();
    // Of a namespace's mount, the fourth field is like `net:[4026532177]`, the fifth the place.
    let namespace = |line: &str| {
        let mut fields = line.split(' ').skip(3);
        let (what, place) = (fields.next()?, fields.next()?);
        let inode = what.strip_prefix("net:[")?.strip_suffix(']')?.parse().ok()?;
        (Path::new(place).starts_with(root) && Some(inode) != own).then_some(inode)
    };
    mounts.lines().filter_map(namespace).collect()
}
