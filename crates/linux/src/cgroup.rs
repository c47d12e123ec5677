//! Control groups of both versions: freezing, killing, reading.
//!
//! A group is named by one path below the root of the hierarchy; with version 1 it stands in each controller's hierarchy of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use crate::{Error, Result};

const ROOT: &str = "/sys/fs/cgroup";
const FREEZE_LIMIT: Duration = Duration::from_secs(5);

/// Which interface this machine's kernel offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// A hierarchy for each controller.
    V1,
    /// One hierarchy.
    V2,
}

/// The version that is mounted at `/sys/fs/cgroup`.
#[must_use]
pub fn version() -> Version {
    if Path::new(ROOT).join("cgroup.controllers").exists() { Version::V2 } else { Version::V1 }
}

/// A control group.
#[derive(Debug, Clone)]
pub struct Cgroup {
    path: String,
    version: Version,
}

impl Cgroup {
    /// The group at `path` below the root, whether it exists or not.
    #[must_use]
    pub fn open(path: &str) -> Self {
        Self { path: path.trim_matches('/').to_owned(), version: version() }
    }

    /// Freezes every process of the group and returns once they stand still.
    ///
    /// # Errors
    /// The group is not there, or does not freeze within five seconds.
    pub fn freeze(&self) -> Result<()> {
        match self.version {
            Version::V1 => self.set_and_await("freezer", "freezer.state", "FROZEN", "freezer.state", "FROZEN"),
            Version::V2 => self.set_and_await("", "cgroup.freeze", "1", "cgroup.events", "frozen 1"),
        }
    }

    /// Lets every process of the group go on.
    ///
    /// # Errors
    /// The group is not there.
    pub fn thaw(&self) -> Result<()> {
        match self.version {
            Version::V1 => self.set_and_await("freezer", "freezer.state", "THAWED", "freezer.state", "THAWED"),
            Version::V2 => self.set_and_await("", "cgroup.freeze", "0", "cgroup.events", "frozen 0"),
        }
    }

    /// The processes of the group, empty when it is not there.
    #[must_use]
    pub fn pids(&self) -> Vec<i32> {
        let controller = match self.version {
            Version::V1 => "freezer",
            Version::V2 => "",
        };
        let text = fs::read_to_string(self.directory(controller).join("cgroup.procs")).unwrap_or_default();
        text.lines().filter_map(|line| line.parse().ok()).collect()
    }

    /// Removes the group with the groups below it from every hierarchy. Its processes have to be gone.
    ///
    /// # Errors
    /// A group is still in use.
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

    fn directory(&self, controller: &str) -> PathBuf {
        Path::new(ROOT).join(controller).join(&self.path)
    }

    fn set_and_await(&self, controller: &str, file: &str, value: &str, watched: &str, wanted: &str) -> Result<()> {
        let (file, watched) = (self.directory(controller).join(file), self.directory(controller).join(watched));
        fs::write(&file, value).map_err(Error::system(format!("write {value} to {}", file.display())))?;
        let started = Instant::now();
        loop {
            let text = fs::read_to_string(&watched).map_err(Error::system(format!("read {}", watched.display())))?;
            if text.lines().any(|line| line.trim() == wanted) {
                return Ok(());
            }
            if started.elapsed() > FREEZE_LIMIT {
                let reason = format!("{} stays {}", watched.display(), text.trim());
                return Err(Error::Refused { attempt: format!("wait any longer for {wanted}"), reason });
            }
            // The kernel sends no event for version 1; what is awaited takes a fraction of a millisecond.
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
