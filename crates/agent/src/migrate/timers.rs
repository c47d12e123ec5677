//! The timers of a job that are descriptors (`timerfd`), over a restore.
//!
//! CRIU adds whole seconds to the rest of an absolute timer, which fires up to a second early then.
//! It sets one again that is over, and ends a steady one that has fired and was not read. So the
//! agent records each once the job is frozen, by the time at which it fires and the clock that the
//! job sees. It is set again before the restored job is thawed. An absolute timer by the wall clock
//! fires at its time of day.
//!
//! A timer of `timer_create` does not tell whether it is absolute: CRIU restores its rest.

use std::collections::HashMap;
use std::io;
use std::path::Path;

use mooring_linux::process_tree::own_pid;
use mooring_linux::timerfd::{self, Setting, Timer};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::runtime::job_dir::JobDir;
use crate::runtime::own_image::OwnImage;

/// The image: a list of [`Entry`]s.
const IMAGE: OwnImage = OwnImage("timers.img");

/// A timer, by a descriptor of a process.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    /// The process's id as the job sees it.
    pid: i32,
    descriptor: i32,
    setting: Setting,
}

/// Adds the timers of a frozen job to its checkpoint.
///
/// # Errors
/// The image can't be written.
pub(crate) fn record(job_dir: &JobDir, images: &Path) -> Result<()> {
    let entry =
        |timer: Timer| Some(Entry { pid: timer.own_pid, descriptor: timer.descriptor, setting: timer.setting()? });
    let entries: Vec<Entry> = timerfd::find(&job_dir.cgroup().pids()).into_iter().filter_map(entry).collect();
    if entries.is_empty() {
        return Ok(());
    }
    IMAGE.write(images, &entries)
}

/// Sets the timers of a restored job again, which is frozen. Goes on after an error and
/// returns the first.
///
/// # Errors
/// The image can't be read, or a timer can't be set.
pub(crate) fn restore(job_dir: &JobDir, images: &Path) -> Result<()> {
    let Some(entries) = IMAGE.read::<Vec<Entry>>(images)? else { return Ok(()) };
    let pids: HashMap<i32, i32> =
        job_dir.cgroup().pids().into_iter().filter_map(|pid| Some((own_pid(pid)?, pid))).collect();
    let set = |Entry { pid, descriptor, setting }: &Entry| {
        let known = *pids.get(pid).ok_or(io::ErrorKind::NotFound)?;
        Timer::open(known, *pid, *descriptor)?.set(setting)
    };
    let attempt = |entry: &Entry| format!("set timer {} of process {} again", entry.descriptor, entry.pid);
    let outcomes = entries.iter().map(|entry| set(entry).map_err(Error::system(attempt(entry))));
    outcomes.fold(Ok(()), Result::and)
}
