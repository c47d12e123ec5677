//! Targets of epoll sets that another process of the job has open.
//!
//! CRIU refuses a job with an epoll set that has a target which its process has closed. Where
//! another process of the job has it open, it is taken from the set of the frozen job. The job gets
//! it back, here or where it is restored:
//!
//! ```text
//!   freeze ─► take ─► checkpoint ─┬─► the job goes on here ─► put back ─► thaw
//!              │                  └─► restore elsewhere ─► restore ─► thaw
//!              └─ the record in the job directory, and an image
//! ```

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::Path;

use mooring_linux::epoll::{self, Descriptor, Target};
use mooring_linux::process;
use mooring_linux::process_tree::own_pid;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::runtime::job_dir::JobDir;
use crate::runtime::own_image::{self, OwnImage};

/// The image of a checkpoint, which is a copy of the record.
const IMAGE: OwnImage = OwnImage("epoll-targets.img");

/// A target that was taken from a set. Processes are named by their ids as the job sees them.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Taken {
    pid: i32,
    set: i32,
    target: Target,
    holder_pid: i32,
    holder: i32,
}

/// Takes the targets from the sets of a frozen job that CRIU does not find, and adds them to its
/// checkpoint.
///
/// # Errors
/// The record can't be written. [`put_back`] makes up for it.
pub(crate) fn take(job_dir: &JobDir, images: &Path) -> Result<()> {
    put_back_now(job_dir);
    let pids = job_dir.cgroup().pids();
    let sets: Vec<Descriptor> = pids.iter().flat_map(|pid| epoll::sets(*pid)).collect();
    // CRIU writes a set that was inherited with the parent.
    let is_inherited = |set: &Descriptor| {
        let of_parent = process::parent(set.pid).map(|pid| Descriptor { pid, ..*set });
        of_parent.is_some_and(|parents| sets.contains(&parents) && epoll::are_same(parents, *set))
    };
    let own = sets.iter().filter(|set| !is_inherited(set));
    let found: Vec<(Descriptor, Target, Descriptor)> = own
        .flat_map(|set| epoll::lost_targets(*set).into_iter().map(move |target| (*set, target)))
        .filter_map(|(set, target)| Some((set, target, epoll::find(set, &target, &pids)?)))
        .collect();
    if found.is_empty() {
        return Ok(());
    }
    let taken = |(set, target, holder): &(Descriptor, Target, Descriptor)| {
        let (pid, holder_pid) = (own_pid(set.pid)?, own_pid(holder.pid)?);
        Some(Taken { pid, set: set.number, target: *target, holder_pid, holder: holder.number })
    };
    let taken: Vec<Taken> = found.iter().filter_map(taken).collect();
    IMAGE.write_with_record(images, &job_dir.epoll_targets(), &taken)?;
    for (set, target, holder) in &found {
        // Another process may have the same set, from which it is taken already.
        let _ = epoll::remove(*set, target, *holder);
    }
    Ok(())
}

/// Gives a job that goes on here the targets that were taken from it. Has to be called before any
/// thaw of a job that was checkpointed; does nothing where nothing was recorded.
pub(crate) async fn put_back(job_dir: &JobDir) {
    let job_dir = job_dir.clone();
    // What it panics with is logged already.
    let _ = tokio::task::spawn_blocking(move || put_back_now(&job_dir)).await;
}

fn put_back_now(job_dir: &JobDir) {
    let record = job_dir.epoll_targets();
    let Some(taken) = own_image::record(&record) else { return };
    if let Err(error) = put(job_dir, taken) {
        tracing::error!(%error, "a target of an epoll set of {} is lost", job_dir.container());
    }
    if let Err(error) = fs::remove_file(&record) {
        tracing::error!(%error, "can't remove {}", record.display());
    }
}

/// Gives a restored job, which is frozen, the targets that its checkpoint has.
///
/// # Errors
/// The image can't be read, or a target can't be added.
pub(crate) fn restore(job_dir: &JobDir, images: &Path) -> Result<()> {
    // The processes that the record was taken from are gone.
    let _ = fs::remove_file(job_dir.epoll_targets());
    let Some(taken) = IMAGE.read(images)? else { return Ok(()) };
    put(job_dir, taken).map_err(Error::system("give an epoll set its targets again"))
}

/// Adds targets. Goes on after an error and returns the first.
fn put(job_dir: &JobDir, taken: Vec<Taken>) -> io::Result<()> {
    let pids: HashMap<i32, i32> =
        job_dir.cgroup().pids().into_iter().filter_map(|pid| Some((own_pid(pid)?, pid))).collect();
    let known = |pid: i32| pids.get(&pid).copied().ok_or(io::ErrorKind::NotFound);
    let mut outcome = Ok(());
    for Taken { pid, set, target, holder_pid, holder } in taken {
        let added = known(pid).and_then(|pid| Ok((Descriptor { pid, number: set }, known(holder_pid)?)));
        let added = added.map_err(io::Error::from).and_then(|(set, pid)| {
            let holder = Descriptor { pid, number: holder };
            epoll::add(set, &target, holder)
        });
        outcome = outcome.and(added);
    }
    outcome
}
