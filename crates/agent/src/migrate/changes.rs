//! The changes of a job's files while it executes: nobody has to look at all of them when it is
//! frozen.
//!
//! Each directory of the upper layer is marked before it is listed. So each later change is told,
//! and the kernel has told it when the call of the job returns. Some changes are told to nobody.
//! Therefore [mapped](super::mapped) files are looked at in any case, and those that are open for
//! writing at the freeze.
//!
//! The tree is seen through a view without links. A job that executes could put a link in the place
//! of a directory, and have files of the host sent.
//!
//! Where the kernel refuses any of this or has lost events, all files are looked at.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use mooring_linux::directory_changes::{self, Changes, DirectoryChanges};
use mooring_linux::mount_copy::WithoutLinks;
use mooring_ops::log::chain;
use parking_lot::Mutex;
use tokio::task::JoinSet;

use super::listing::is_gone;
use crate::error::Result;
use crate::runtime::job_dir::JobDir;

/// The interval at which the kernel's queue is emptied. It has room for thousands of names, and
/// tells equal events once.
const READ_INTERVAL: Duration = Duration::from_millis(20);
/// The directory, beside the upper layer, in which marks are tried once.
const SCRATCH: &str = "marks";

/// Follows the changes below a job's upper layer until it is dropped.
#[derive(Debug)]
pub(crate) struct Follower {
    view: WithoutLinks,
    marked: Arc<Mutex<Marked>>,
    /// The task that reads; it ends with this value.
    _reading: JoinSet<()>,
}

/// The marked directories by the device of their file system.
#[derive(Debug, Default)]
struct Marked {
    devices: HashMap<u64, DirectoryChanges>,
    /// A directory could not be marked, or changes could not be read.
    is_lost: bool,
}

impl Follower {
    /// Starts without any directory. `None` where this kernel does not tell enough.
    pub(crate) fn start(job_dir: &JobDir) -> Option<Self> {
        static IS_TOLD: OnceLock<bool> = OnceLock::new();
        let tried = || directory_changes::sees_through_overlays(&job_dir.directory().join(SCRATCH));
        let is_told = IS_TOLD.get_or_init(|| tried().inspect_err(refused).unwrap_or_default());
        is_told.then(|| Self::of(&job_dir.upper()).inspect_err(refused).ok()).flatten()
    }

    fn of(directory: &Path) -> Result<Self> {
        let view = WithoutLinks::of(directory)?;
        let marked = Arc::<Mutex<Marked>>::default();
        let mut reading = JoinSet::new();
        let read = marked.clone();
        reading.spawn(async move {
            loop {
                tokio::time::sleep(READ_INTERVAL).await;
                read.lock().read();
            }
        });
        Ok(Self { view, marked, _reading: reading })
    }

    /// The directory that it follows, seen without links.
    pub(crate) fn root(&self) -> PathBuf {
        self.view.path()
    }

    /// Follows a directory, before it is read.
    pub(crate) fn enter(&self, below: &Path, device: u64) {
        self.marked.lock().mark(&self.root(), below, device);
    }

    /// Takes the changes since the last call; `None` where some are not known.
    pub(crate) fn take(&self) -> Option<Changes> {
        self.marked.lock().take()
    }
}

impl Marked {
    fn mark(&mut self, root: &Path, below: &Path, device: u64) {
        if self.is_lost {
            return;
        }
        let marked = self.of(device).and_then(|changes| changes.mark(root, below));
        match marked {
            Err(error) if !is_gone(&error) => self.lose(&error),
            _ => {}
        }
    }

    fn of(&mut self, device: u64) -> io::Result<&mut DirectoryChanges> {
        Ok(match self.devices.entry(device) {
            Entry::Occupied(marked) => marked.into_mut(),
            Entry::Vacant(none) => none.insert(DirectoryChanges::new()?),
        })
    }

    fn read(&mut self) {
        let read: io::Result<()> = self.devices.values_mut().try_for_each(DirectoryChanges::read);
        read.unwrap_or_else(|error| self.lose(&error));
    }

    fn take(&mut self) -> Option<Changes> {
        let taken: io::Result<Option<Vec<_>>> = self.devices.values_mut().map(DirectoryChanges::take).collect();
        let taken = taken.unwrap_or_else(|error| {
            self.lose(&error);
            None
        });
        let mut all = Changes::default();
        for changes in taken.filter(|_| !self.is_lost)? {
            all.names.extend(changes.names);
            all.files.extend(changes.files);
        }
        Some(all)
    }

    /// Gives up: the marks are of no use any more.
    fn lose(&mut self, error: &io::Error) {
        tracing::warn!(%error, "changes of a job's files are not told, all of them are looked at");
        self.is_lost = true;
        self.devices.clear();
    }
}

fn refused(error: &(impl std::error::Error + 'static)) {
    tracing::warn!(error = %chain(error), "this kernel does not tell which files of a job change");
}

#[cfg(test)]
mod tests;
