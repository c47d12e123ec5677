//! The fence of a job: it is frozen when its host can't renew its lease.
//!
//! OpCenter recovers a job that has a capsule on another host, once its own host is silent. Until
//! then the job must have stopped where it was. What freezes it is its monitor, which outlives the
//! agent.
//!
//! | file in the job directory | written by | content |
//! |---|---|---|
//! | `fence` | the agent, for a job that OpCenter may recover | the control group of the job and the file of the lease |
//! | `fenced` | the monitor, before it freezes the job | nothing |
//!
//! A job that is `fenced` is not thawed before [`lift`]. The agent calls that when its
//! [lease] is confirmed and OpCenter's order is to execute the job here.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use mooring_linux::cgroup::Cgroup;
use mooring_ops::file::{self, Durability, Mode};

use super::job_dir::{self, JobDir};
use crate::error::{Error, Result};
use crate::lease;

/// The longest time between two looks of a monitor at the lease. A second is less than the time
/// from the end of a lease to a recovery.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// The time between two looks at a lease that has ended.
const CLOSED_INTERVAL: Duration = Duration::from_millis(250);

/// Puts a job under its host's lease, or takes it out.
///
/// # Errors
/// The file can't be written or removed.
pub(crate) fn set(job_dir: &JobDir, lease: &Path, is_recoverable: bool) -> Result<()> {
    let path = job_dir.fence();
    let failed = || Error::system(format!("write {}", path.display()));
    if !is_recoverable {
        return match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed()(error)),
            _ => Ok(()),
        };
    }
    if path.exists() {
        return Ok(());
    }
    let fence = Fence { group: &job_dir.cgroup_path(), lease };
    file::replace(&path, Durability::Renamed, Mode::Private, &fence.write()).map_err(failed())
}

/// Returns whether a job is under the lease of its host.
pub(crate) fn is_set(job_dir: &JobDir) -> bool {
    job_dir.fence().exists()
}

/// Returns whether the job was frozen for lack of a lease.
pub(crate) fn is_closed(job_dir: &JobDir) -> bool {
    job_dir.fenced().exists()
}

/// Forgets that a job was frozen for lack of a lease, so that [`thaw`](super::thaw) thaws it.
///
/// A monitor may still act on the lease as it was. The job is frozen once more then, with the file
/// that says so.
///
/// # Errors
/// The file can't be removed.
pub(crate) fn lift(job_dir: &JobDir) -> Result<()> {
    let path = job_dir.fenced();
    fs::remove_file(&path).map_err(Error::system(format!("remove {}", path.display())))
}

/// Freezes the job of a directory whenever the lease of its host has ended. Never returns.
pub(super) fn watch(directory: &Path) -> ! {
    let (fence, fenced) = (directory.join(job_dir::FENCE), directory.join(job_dir::FENCED));
    loop {
        let found = fs::read_to_string(&fence).ok();
        let pause = match found.as_deref().and_then(Fence::read) {
            None => LOOK_INTERVAL,
            Some(Fence { group, lease }) => {
                let left = lease::end_in(lease).unwrap_or_default().saturating_sub(lease::now());
                if left.is_zero() {
                    close(group, &fenced);
                }
                left.clamp(CLOSED_INTERVAL, LOOK_INTERVAL)
            }
        };
        lease::sleep(pause);
    }
}

/// The content of the file `fence`.
#[derive(Debug, PartialEq, Eq)]
struct Fence<'a> {
    group: &'a str,
    lease: &'a Path,
}

impl<'a> Fence<'a> {
    fn read(text: &'a str) -> Option<Self> {
        let (group, lease) = text.strip_suffix('\n')?.split_once('\n')?;
        Some(Self { group, lease: Path::new(lease) })
    }

    fn write(&self) -> Vec<u8> {
        [self.group.as_bytes(), self.lease.as_os_str().as_bytes(), b""].join(&b'\n')
    }
}

/// Freezes a job, after the file that says so: all that thaws jobs leaves it alone then.
fn close(group: &str, fenced: &Path) {
    let group = Cgroup::open(group);
    if fenced.exists() && group.is_frozen() {
        return;
    }
    // The monitor has nobody to tell. It tries again until the lease is renewed.
    let marked = file::replace(fenced, Durability::Renamed, Mode::Private, b"");
    drop(marked.is_ok().then(|| group.freeze()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fences_are_written_and_read() {
        let fence = Fence { group: "/mooring/a-1", lease: Path::new("/var/lib/a b/lease") };
        let text = String::from_utf8(fence.write()).unwrap();
        assert_eq!(Fence::read(&text), Some(fence));
        for text in ["", "/mooring/a-1\n", "/mooring/a-1\n/var/lib/le"] {
            assert_eq!(Fence::read(text), None, "{text:?}");
        }
    }
}
