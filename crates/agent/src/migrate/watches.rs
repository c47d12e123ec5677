//! The inotify watches of a frozen job that CRIU can't restore, and events of the migration itself.
//!
//! CRIU refuses a job with a watch that it can't restore. So such watches are taken from the frozen
//! job, and it gets them back with their numbers:
//!
//! ```text
//!   find (executes) ─► freeze ─► take ─► checkpoint ─┬─► the job goes on here ─► put back ─► thaw
//!                                 │                  └─► restore elsewhere ─► put back ─► thaw
//!                                 └─ the record in the job directory, and an image
//! ```
//!
//! A checkpoint has no events, and what CRIU and the agent do to files makes new ones. So the job
//! is frozen when no event waits, and all events that are there before it is thawed are removed. A
//! program that does not read its events within a second loses them with a migration. Where a watch
//! has to be taken from it, its job is not checkpointed: the end of a watch is an event as well.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use mooring_linux::Error as LinuxError;
use mooring_linux::file_handle::FileHandle;
use mooring_linux::inotify::{self, Inotify, Watch};
use mooring_linux::process_tree::own_pid;
use mooring_ops::log::chain;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::runtime::inotify::{Finder, Place, write_cache};
use crate::runtime::job_dir::JobDir;
use crate::runtime::own_image::{self, OwnImage};
use crate::runtime::seize::describe;

/// The image of a checkpoint, which is a copy of the record.
const IMAGE: OwnImage = OwnImage("watches.img");
/// The longest wait for events to be read while the job executes.
const QUIET_TIMEOUT: Duration = Duration::from_millis(100);
const QUIET_POLL_INTERVAL: Duration = Duration::from_millis(5);

/// The watches of a job as they were found before its freeze.
#[derive(Debug, Default)]
pub(crate) struct Watched {
    /// The instances whose events are read.
    read: Vec<Inotify>,
    /// The watches that CRIU restores, by handle and mask.
    by_criu: HashSet<(FileHandle, u32)>,
    others: HashMap<FileHandle, Place>,
}

/// An instance, by a descriptor of a process.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    /// The process's id as the job sees it.
    pid: i32,
    descriptor: i32,
    /// Events waited when the job was frozen.
    has_events: bool,
    taken: Vec<Taken>,
}

/// A watch that CRIU can't restore.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Taken {
    number: i32,
    mask: u32,
    place: Place,
}

impl Watched {
    /// Finds the watches of a job that executes, and writes CRIU's path cache. What the job adds
    /// later is found when it is frozen.
    ///
    /// # Errors
    /// The root can't be read, or the cache can't be written.
    pub(crate) fn find(job_dir: &JobDir, images: &Path) -> Result<Self> {
        let failed = || Error::system(format!("find what job {} watches", job_dir.container()));
        let pids = job_dir.cgroup().pids();
        let mut instances = inotify::find(&pids);
        if instances.is_empty() {
            return Ok(Self::default());
        }
        let (mut by_criu, mut others, mut cached) = (HashSet::new(), HashMap::new(), Vec::new());
        if let Some(finder) = Finder::new(job_dir, pids).map_err(failed())? {
            for watch in instances.iter().flat_map(Inotify::watches).filter(|watch| finder.knows(watch)) {
                let key = (watch.handle.clone(), watch.mask);
                if by_criu.contains(&key) || others.contains_key(&watch.handle) {
                    continue;
                }
                let Some(place) = finder.find(&watch) else { continue };
                if finder.criu_restores(&watch, &place) {
                    by_criu.insert(key);
                    cached.push((watch, place));
                } else {
                    others.insert(watch.handle, place);
                }
            }
        }
        write_cache(&cached, images).map_err(failed())?;
        let began = Instant::now();
        while instances.iter().any(Inotify::has_events) && began.elapsed() < QUIET_TIMEOUT {
            thread::sleep(QUIET_POLL_INTERVAL);
        }
        instances.retain(|instance| !instance.has_events());
        Ok(Self { read: instances, by_criu, others })
    }

    /// Returns whether an event waits that its program is about to read.
    pub(crate) fn has_events(&self) -> bool {
        self.read.iter().any(|instance| instance.has_events() && instance.is_open())
    }

    /// Returns the place of a watched file, of a watch that CRIU can't restore. `Some(None)` where
    /// it is not found.
    fn to_take(&self, finder: &Finder, watch: &Watch) -> Option<Option<Place>> {
        if self.by_criu.contains(&(watch.handle.clone(), watch.mask)) {
            return None;
        }
        let known = self.others.get(&watch.handle).filter(|place| finder.is_at(watch, place));
        Some(known.cloned().or_else(|| finder.find(watch)))
    }
}

/// Takes the watches from a frozen job that CRIU can't restore, and adds them to its checkpoint.
///
/// # Errors
/// A watched file is not found, its program does not read events, or the record can't be written.
/// [`put_back`] makes up for it.
pub(crate) fn take(job_dir: &JobDir, images: &Path, watched: &Watched) -> Result<()> {
    put_back_now(job_dir);
    let failed = || Error::system(format!("take what job {} watches", job_dir.container()));
    let pids = job_dir.cgroup().pids();
    let instances = inotify::find(&pids);
    if instances.is_empty() {
        return Ok(());
    }
    let finder = Finder::new(job_dir, pids).map_err(failed())?;
    let mut entries = Vec::new();
    for instance in &instances {
        let mut taken = Vec::new();
        let watches = instance.watches();
        let known = finder.iter().flat_map(|finder| {
            let of_root = watches.iter().filter(|watch| finder.knows(watch));
            of_root.filter_map(|watch| watched.to_take(finder, watch).map(|place| (watch, place)))
        });
        for (&Watch { number, mask, .. }, place) in known {
            let place = place.ok_or_else(|| refusal(instance, "watches a file that has no name any more"))?;
            taken.push(Taken { number, mask, place });
        }
        let has_events = instance.has_events();
        if has_events && !taken.is_empty() {
            return Err(refusal(instance, "does not read what inotify tells it"));
        }
        entries.push(Entry { pid: instance.own_pid, descriptor: instance.descriptor, has_events, taken });
    }
    IMAGE.write_with_record(images, &job_dir.watches(), &entries)?;
    for (instance, entry) in instances.iter().zip(&entries) {
        for Taken { number, .. } in &entry.taken {
            // Another process may have the same instance, from which it is taken already.
            let _ = instance.remove(*number);
        }
    }
    Ok(())
}

fn refusal(instance: &Inotify, what: &str) -> Error {
    let reason = format!("{} {what}: end it, or try again", describe(instance.pid));
    LinuxError::Refused { attempt: "freeze the job".to_owned(), reason }.into()
}

/// Gives a job that goes on here what was taken from it, and removes the events of its checkpoint.
/// Has to be called before any thaw of a job that was checkpointed; does nothing where nothing was
/// recorded.
pub(crate) async fn put_back(job_dir: &JobDir) {
    let job_dir = job_dir.clone();
    // What it panics with is logged already.
    let _ = tokio::task::spawn_blocking(move || put_back_now(&job_dir)).await;
}

fn put_back_now(job_dir: &JobDir) {
    let record = job_dir.watches();
    let Some(entries) = own_image::record(&record) else { return };
    let cgroup = job_dir.cgroup();
    // CRIU lets the job execute when it is killed.
    if !cgroup.is_frozen()
        && let Err(error) = cgroup.freeze()
    {
        tracing::warn!(error = %chain(&error), "a job executes while it gets its watches back");
    }
    if let Err(error) = put(job_dir, entries, |entry| !entry.has_events) {
        tracing::error!(error = %chain(&error), "a watch of {} is lost", job_dir.container());
    }
    if let Err(error) = fs::remove_file(&record) {
        tracing::error!(%error, "can't remove {}", record.display());
    }
}

/// Gives a restored job, which is frozen, the watches that its checkpoint has. Removes the events
/// of its restore.
///
/// # Errors
/// The image can't be read, or a watch can't be added.
pub(crate) fn restore(job_dir: &JobDir, images: &Path) -> Result<()> {
    // The processes that the record was taken from are gone.
    let _ = fs::remove_file(job_dir.watches());
    let Some(entries) = IMAGE.read(images)? else { return Ok(()) };
    put(job_dir, entries, |_| true)
}

/// Adds watches, and removes the events of the instances for which `is_over` says so. Goes on after
/// an error and returns the first.
fn put(job_dir: &JobDir, entries: Vec<Entry>, is_over: impl Fn(&Entry) -> bool) -> Result<()> {
    let pids: HashMap<i32, i32> =
        job_dir.cgroup().pids().into_iter().filter_map(|pid| Some((own_pid(pid)?, pid))).collect();
    let (root, mut outcome) = (job_dir.root(), Ok(()));
    for entry in entries {
        let put = || {
            let pid = *pids.get(&entry.pid).ok_or(io::ErrorKind::NotFound)?;
            let instance = Inotify::open(pid, entry.pid, entry.descriptor)?;
            let add = |taken: &Taken| instance.add(taken.number, taken.mask, &taken.place.open(&root, &pids)?);
            let added = entry.taken.iter().map(add).fold(Ok(()), io::Result::and);
            // A number is not used again while a program may still know it.
            let last = instance.watches().iter().map(|watch| watch.number).max();
            let next = last.and_then(|last| last.checked_add(1)).filter(|_| !entry.taken.is_empty());
            let numbered = next.map_or(Ok(()), |next| instance.number_next(next));
            if is_over(&entry) {
                instance.drain()?;
            }
            added.and(numbered)
        };
        let attempt = format!("give process {} of {} its watches", entry.pid, job_dir.container());
        outcome = outcome.and(put().map_err(Error::system(attempt)));
    }
    outcome
}
