//! Message queues without messages, over a checkpoint.
//!
//! CRIU refuses a job that has a message queue. One that is empty, and that no process has open, is
//! nothing but a name, limits, an owner and a mode. It is removed from the frozen job and made
//! again, here or where the job is restored. One with messages, or one that is open, is refused
//! before that.

use std::fs;
use std::io;
use std::path::Path;

use mooring_linux::process_tree::{self, ProcessTree, QueueForm};

use crate::error::{Error, Result};
use crate::look;
use crate::runtime::job_dir::JobDir;
use crate::runtime::own_image::{self, OwnImage};

/// The image of a checkpoint, which is a copy of the record.
const IMAGE: OwnImage = OwnImage("message-queues.img");

/// Removes the empty queues of a frozen job, and adds them to its checkpoint.
///
/// # Errors
/// The record can't be written, or a queue can't be removed. [`put_back`] makes up for it.
pub(crate) fn take(job_dir: &JobDir, images: &Path) -> Result<()> {
    put_back_now(job_dir);
    let Some(pid) = job_dir.cgroup().pids().first().copied() else { return Ok(()) };
    let failed = || Error::system(format!("take the message queues of {}", job_dir.container()));
    if ProcessTree::read(pid, &[]).queues.is_empty() {
        return Ok(());
    }
    // It may have changed since the look.
    if let Some(reason) = look::against_queues(pid, &job_dir.cgroup().pids()) {
        return Err(Error::Unmovable { reason });
    }
    let queues = process_tree::empty_queues(pid).map_err(failed())?;
    IMAGE.write_with_record(images, &job_dir.message_queues(), &queues)?;
    process_tree::remove_queues(pid, &queues).map_err(failed())
}

/// Gives a job that goes on here its queues again. Has to be called before any thaw of a job that
/// was checkpointed; does nothing where nothing was recorded.
pub(crate) async fn put_back(job_dir: &JobDir) {
    let job_dir = job_dir.clone();
    // What it panics with is logged already.
    let _ = tokio::task::spawn_blocking(move || put_back_now(&job_dir)).await;
}

fn put_back_now(job_dir: &JobDir) {
    let record = job_dir.message_queues();
    let Some(queues) = own_image::record(&record) else { return };
    if let Err(error) = make(job_dir, queues) {
        tracing::error!(%error, "a message queue of {} is lost", job_dir.container());
    }
    if let Err(error) = fs::remove_file(&record) {
        tracing::error!(%error, "can't remove {}", record.display());
    }
}

/// Makes the queues of a restored, frozen job.
///
/// # Errors
/// The image can't be read, or a queue can't be made.
pub(crate) fn restore(job_dir: &JobDir, images: &Path) -> Result<()> {
    // The namespace that the record was taken from is gone.
    let _ = fs::remove_file(job_dir.message_queues());
    let Some(queues) = IMAGE.read(images)? else { return Ok(()) };
    make(job_dir, queues).map_err(Error::system("make the job's message queues again"))
}

fn make(job_dir: &JobDir, queues: Vec<QueueForm>) -> io::Result<()> {
    let pid = job_dir.cgroup().pids().first().copied().ok_or(io::ErrorKind::NotFound)?;
    process_tree::make_queues(pid, &queues)
}
