//! Control groups of both versions.
//!
//! A group has one path below the root of the hierarchy. With version 1 it exists in the hierarchy
//! of each controller.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::{Error, Result};

const ROOT: &str = "/sys/fs/cgroup";
/// The group, beside those of jobs, for threads of frozen jobs that are traced.
const TRACED: &str = "traced";
/// The most processes and threads of a group for each of its cores. The kernel has 32,768 numbers
/// for them by default, for all groups together.
pub const PROCESSES_PER_CORE: u64 = 4096;
const FREEZE_LIMIT: Duration = Duration::from_secs(5);

/// The version of the kernel's interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// One hierarchy per controller.
    V1,
    /// One hierarchy for all controllers.
    V2,
}

/// Returns the version that is mounted at `/sys/fs/cgroup`.
#[must_use]
pub fn version() -> Version {
    if Path::new(ROOT).join("cgroup.controllers").exists() { Version::V2 } else { Version::V1 }
}

/// Says whether memory in swap can be limited.
#[must_use]
pub fn limits_swap() -> bool {
    match version() {
        Version::V1 => Path::new(ROOT).join("memory/memory.memsw.limit_in_bytes").exists(),
        // A kernel without swap has no limit, and needs none.
        Version::V2 => true,
    }
}

/// Says whether groups have a weight among those that use a disk.
#[must_use]
pub fn weighs_disk_use() -> bool {
    // The root has no weight itself. These files come with it.
    let file = match version() {
        Version::V1 => "blkio/blkio.bfq.io_serviced",
        Version::V2 => "io.cost.qos",
    };
    Path::new(ROOT).join(file).exists()
}

/// A control group.
#[derive(Debug, Clone)]
pub struct Cgroup {
    path: String,
    version: Version,
}

impl Cgroup {
    /// Returns the group with another name in the same parent.
    #[must_use]
    pub fn sibling(&self, name: &str) -> Self {
        let parent = self.path.rsplit_once('/').map_or("", |(parent, _)| parent);
        Self { path: format!("{parent}/{name}").trim_matches('/').to_owned(), version: self.version }
    }

    /// Returns the group whose name has this ending in addition.
    #[must_use]
    pub fn with_ending(&self, ending: &str) -> Self {
        Self { path: format!("{}-{ending}", self.path), version: self.version }
    }

    /// Returns the group at `path` below the root. It need not exist.
    #[must_use]
    pub fn open(path: &str) -> Self {
        Self { path: path.trim_matches('/').to_owned(), version: version() }
    }

    /// Freezes the group. Returns once all its processes are frozen, or fails after five seconds.
    pub fn freeze(&self) -> Result<()> {
        self.freeze_within(FREEZE_LIMIT)
    }

    /// Freezes the group. Returns once all its processes are frozen, or fails after `limit`; the
    /// group may be partly frozen then.
    pub fn freeze_within(&self, limit: Duration) -> Result<()> {
        match self.version {
            Version::V1 => self.set_and_await("freezer", "freezer.state", "FROZEN", "freezer.state", "FROZEN", limit),
            Version::V2 => self.set_and_await("", "cgroup.freeze", "1", "cgroup.events", "frozen 1", limit),
        }
    }

    /// Says whether all processes of the group are frozen.
    #[must_use]
    pub fn is_frozen(&self) -> bool {
        let (file, wanted) = match self.version {
            Version::V1 => ("freezer.state", "FROZEN"),
            Version::V2 => ("cgroup.events", "frozen 1"),
        };
        let text = fs::read_to_string(self.directory(self.freezer()).join(file)).unwrap_or_default();
        text.lines().any(|line| line.trim() == wanted)
    }

    /// Thaws the group.
    pub fn thaw(&self) -> Result<()> {
        match self.version {
            Version::V1 => {
                self.set_and_await("freezer", "freezer.state", "THAWED", "freezer.state", "THAWED", FREEZE_LIMIT)
            }
            Version::V2 => self.set_and_await("", "cgroup.freeze", "0", "cgroup.events", "frozen 0", FREEZE_LIMIT),
        }
    }

    /// Returns the processes of the group; none where it does not exist.
    #[must_use]
    pub fn pids(&self) -> Vec<i32> {
        let text = fs::read_to_string(self.directory(self.freezer()).join("cgroup.procs")).unwrap_or_default();
        text.lines().filter_map(|line| line.parse().ok()).collect()
    }

    /// Makes the group, with limits of processor time (in cores), memory (in bytes; none of it in
    /// swap) and processes. Changes the limits of a group that exists.
    pub fn make_limited(&self, cores: u32, memory: u64) -> Result<()> {
        const PERIOD_MICROS: u64 = 100_000;
        let quota = u64::from(cores) * PERIOD_MICROS;
        let settings = match self.version {
            Version::V1 => vec![
                ("cpu", "cpu.cfs_period_us", PERIOD_MICROS.to_string()),
                ("cpu", "cpu.cfs_quota_us", quota.to_string()),
                ("memory", "memory.limit_in_bytes", memory.to_string()),
                ("freezer", "freezer.state", "THAWED".to_owned()),
            ],
            Version::V2 => {
                vec![("", "cpu.max", format!("{quota} {PERIOD_MICROS}")), ("", "memory.max", memory.to_string())]
            }
        };
        let with_swap = self.directory("memory").join("memory.memsw.limit_in_bytes");
        if self.version == Version::V1 && with_swap.exists() {
            // It is never less than without swap, so it grows first and shrinks last, below.
            let _ = fs::write(&with_swap, memory.to_string());
        }
        for (controller, file, value) in settings {
            let directory = self.directory(controller);
            fs::create_dir_all(&directory).map_err(Error::system(format!("make cgroup {}", directory.display())))?;
            let file = directory.join(file);
            fs::write(&file, &value).map_err(Error::system(format!("write {value} to {}", file.display())))?;
        }
        self.limit_rest(cores, memory)
    }

    /// Limits processes, and keeps the memory out of the swap, where this kernel counts them.
    fn limit_rest(&self, cores: u32, memory: u64) -> Result<()> {
        let processes = (u64::from(cores) * PROCESSES_PER_CORE).to_string();
        let settings = match self.version {
            Version::V1 => {
                [("pids", "pids.max", processes), ("memory", "memory.memsw.limit_in_bytes", memory.to_string())]
            }
            Version::V2 => [("", "pids.max", processes), ("", "memory.swap.max", "0".to_owned())],
        };
        for (controller, file, value) in settings {
            let directory = self.directory(controller);
            if controller == "pids" && Path::new(ROOT).join(controller).exists() {
                fs::create_dir_all(&directory)
                    .map_err(Error::system(format!("make cgroup {}", directory.display())))?;
            }
            let file = directory.join(file);
            if file.exists() {
                fs::write(&file, &value).map_err(Error::system(format!("write {value} to {}", file.display())))?;
            }
        }
        Ok(())
    }

    /// Puts a process into the group.
    pub fn add(&self, pid: i32) -> Result<()> {
        let controllers: &[&str] = match self.version {
            Version::V1 => &["cpu", "memory", "pids", "freezer"],
            Version::V2 => &[""],
        };
        for controller in controllers {
            let file = self.directory(controller).join("cgroup.procs");
            // A machine may lack the hierarchy of the number of processes.
            if *controller != "pids" || file.exists() {
                fs::write(&file, pid.to_string())
                    .map_err(Error::system(format!("write {pid} to {}", file.display())))?;
            }
        }
        Ok(())
    }

    /// Moves the processes that share this process's pid namespace into `other`, so that only the
    /// container is left. A runtime restores from inside the group, and would be frozen with it.
    pub fn send_outsiders_to(&self, other: &Self) -> Result<()> {
        let namespace = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
        let own = namespace("self");
        for pid in self.pids().into_iter().filter(|pid| namespace(&pid.to_string()) == own) {
            other.take_from_freezer(pid)?;
        }
        Ok(())
    }

    /// Lets one thread of the frozen group reach a stop of ptrace.
    pub(crate) fn let_thread_stop(&self, thread: i32) -> Result<()> {
        match self.version {
            Version::V1 => self.sibling(TRACED).add_thread(thread),
            Version::V2 => Ok(()),
        }
    }

    /// Takes a thread back that [`Cgroup::let_thread_stop`] has let go. It is frozen with the
    /// group.
    pub(crate) fn take_thread_back(&self, thread: i32) -> Result<()> {
        match self.version {
            Version::V1 => self.add_thread(thread),
            Version::V2 => Ok(()),
        }
    }

    fn add_thread(&self, thread: i32) -> Result<()> {
        let directory = self.directory(self.freezer());
        fs::create_dir_all(&directory).map_err(Error::system(format!("make cgroup {}", directory.display())))?;
        let file = directory.join("tasks");
        fs::write(&file, thread.to_string()).map_err(Error::system(format!("write {thread} to {}", file.display())))
    }

    /// Moves a process from the freezer of another group into this one. It is thawed or frozen with
    /// this group from then on. Its limits stay those of the other group with version 1.
    pub fn take_from_freezer(&self, pid: i32) -> Result<()> {
        let directory = self.directory(self.freezer());
        fs::create_dir_all(&directory).map_err(Error::system(format!("make cgroup {}", directory.display())))?;
        let file = directory.join("cgroup.procs");
        match fs::write(&file, pid.to_string()) {
            // The process has ended meanwhile.
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
            outcome => outcome.map_err(Error::system(format!("write {pid} to {}", file.display()))),
        }
    }

    /// Kills every process of the group, also frozen ones. Returns once none is left, or fails
    /// after five seconds.
    pub fn kill_all(&self) -> Result<()> {
        let started = Instant::now();
        loop {
            let pids = self.pids();
            if pids.is_empty() {
                return Ok(());
            }
            for pid in &pids {
                // The process may have ended meanwhile.
                let _ = kill(Pid::from_raw(*pid), Signal::SIGKILL);
            }
            // A frozen process of version 1 dies when it is thawed.
            let _ = self.thaw();
            if started.elapsed() > FREEZE_LIMIT {
                let reason = format!("{} processes do not die", pids.len());
                return Err(Error::Refused {
                    attempt: "wait any longer for the end of the job's processes".into(),
                    reason,
                });
            }
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Removes the group and those below it from every hierarchy. Its processes have to be gone.
    pub fn remove(&self) -> Result<()> {
        let hierarchies: Vec<PathBuf> = match self.version {
            Version::V2 => vec![self.directory("")],
            Version::V1 => fs::read_dir(ROOT)
                .map_err(Error::system(format!("list {ROOT}")))?
                .filter_map(|entry| Some(entry.ok()?.path().join(&self.path)))
                .collect(),
        };
        hierarchies.iter().try_for_each(|directory| remove_below(directory))
    }

    /// The hierarchy in which the group is frozen.
    fn freezer(&self) -> &'static str {
        match self.version {
            Version::V1 => "freezer",
            Version::V2 => "",
        }
    }

    pub(crate) fn version(&self) -> Version {
        self.version
    }

    pub(crate) fn directory(&self, controller: &str) -> PathBuf {
        Path::new(ROOT).join(controller).join(&self.path)
    }

    fn set_and_await(
        &self,
        controller: &str,
        file: &str,
        value: &str,
        watched: &str,
        wanted: &str,
        limit: Duration,
    ) -> Result<()> {
        let (file, watched) = (self.directory(controller).join(file), self.directory(controller).join(watched));
        fs::write(&file, value).map_err(Error::system(format!("write {value} to {}", file.display())))?;
        let started = Instant::now();
        loop {
            let text = fs::read_to_string(&watched).map_err(Error::system(format!("read {}", watched.display())))?;
            if text.lines().any(|line| line.trim() == wanted) {
                return Ok(());
            }
            if started.elapsed() > limit {
                let goal = if matches!(wanted, "FROZEN" | "frozen 1") { "frozen" } else { "thawed" };
                let reason = "some of its processes do not follow".to_owned();
                return Err(Error::Refused { attempt: format!("wait any longer until the job is {goal}"), reason });
            }
            // The kernel sends no event for version 1. The wait is a fraction of a millisecond.
            thread::sleep(Duration::from_micros(100));
        }
    }
}

fn remove_below(directory: &Path) -> Result<()> {
    let Ok(entries) = fs::read_dir(directory) else { return Ok(()) };
    for entry in entries.flatten().filter(|entry| entry.path().is_dir()) {
        remove_below(&entry.path())?;
    }
    fs::remove_dir(directory).map_err(Error::system(format!("remove cgroup {}", directory.display())))
}
