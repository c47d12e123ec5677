//! The end of a freeze, unless the job is frozen for another reason as well.
//!
//! | a job is frozen | until |
//! |---|---|
//! | for lack of a [lease](super::fence) | OpCenter's order to execute it is confirmed |
//! | for lack of [disk](crate::job::disk_guard) | the disk of its host has room again |

use super::fence;
use super::job_dir::JobDir;
use crate::error::Result;

/// Thaws a job. Where it is frozen for another reason as well, it stays frozen.
///
/// # Errors
/// The control group refuses.
pub(crate) fn thaw(job_dir: &JobDir) -> Result<()> {
    if fence::is_closed(job_dir) || job_dir.short_of_disk().exists() {
        return Ok(());
    }
    Ok(job_dir.cgroup().thaw()?)
}
