//! The look at a job before it is frozen.
//!
//! ```text
//!   /proc ──► scan ──► Seen ──► findings::of ──► mended    the agent takes care of it
//!                      pure data   one table     waits     looked at again, for half a second
//!                                                refuses   the migration fails, the job goes on
//! ```
//!
//! A checkpoint that must fail costs the job's clients a pause. So the agent looks at the job's
//! processes while they execute, at the begin of a migration. Nothing is sent then, and gateways
//! hold no byte. It looks again just before the freeze, since a job may have changed. What both
//! miss fails in CRIU.
//!
//! The frozen job is looked at a last time. Its inventory is written into the checkpoint then, and
//! compared with the restored job before that executes.
//!
//! Each few seconds it looks at all jobs that execute, and reports the findings. `float check`
//! prints them.
//!
//! * [`scan`]: reads the job's processes, and the few facts about the host that matter.
//! * [`inventory`]: the processes, sockets and mounts of a job; [`differences`]: between two
//!   inventories.
//! * [`findings`]: the table of all kinds of findings, a pure function of what was seen.
//!
//! A reason is told to users. It names the program and its process id as the job sees it, the
//! thing, and what a person can do.

mod differences;
mod findings;
mod inventory;
mod scan;
mod seen;

pub(crate) use differences::Differences;
pub(crate) use seen::readable;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use mooring_linux::process_tree::ProcessTree;
use mooring_types::finding::{Effect, Finding, FindingKind};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::inventory::Inventory;
use self::seen::Seen;
use crate::error::{Error, Result};
use crate::host::Host;
use crate::job::Jobs;
use crate::job::held::HeldJob;
use crate::runtime::job_dir::JobDir;
use crate::runtime::own_image::OwnImage;

/// The longest wait for findings that pass.
const WAIT_MAX: Duration = Duration::from_millis(500);
const WAIT_INTERVAL: Duration = Duration::from_millis(20);
/// The interval of looks at jobs that execute.
const LOOK_INTERVAL: Duration = Duration::from_secs(3);
/// The number of findings that a reason names.
const NAMED_MAX: usize = 2;
const INVENTORY: OwnImage = OwnImage("job-inventory.img");

/// Looks whether a job that executes can be checkpointed. Waits a moment for what passes.
///
/// # Errors
/// It can't: the error is the reason, for users.
pub(crate) async fn before_freeze(job: &HeldJob) -> Result<()> {
    let began = Instant::now();
    loop {
        let findings = at(job.host(), &job.job_dir()).await;
        let waits = findings.iter().any(|finding| finding.effect == Effect::Waits);
        let refused = findings.iter().any(|finding| finding.effect == Effect::Refuses);
        if !refused && waits && began.elapsed() < WAIT_MAX {
            tokio::time::sleep(WAIT_INTERVAL).await;
            continue;
        }
        return match refusal(&findings) {
            None => Ok(()),
            Some(reason) => Err(Error::Unmovable { reason }),
        };
    }
}

/// Returns the reason against a checkpoint of a job for its message queues, if there is any.
pub(crate) fn against_queues(first: i32, pids: &[i32]) -> Option<String> {
    let tree = ProcessTree::read(first, pids);
    let mut findings = findings::of(&Seen { first, tree, has_sys_resource: true, ..Seen::default() });
    findings.retain(|finding| matches!(finding.kind, FindingKind::Queue | FindingKind::OpenQueue));
    refusal(&findings)
}

/// Looks at a job that executes. A job without processes has no findings.
pub(crate) async fn at(host: &Host, job_dir: &JobDir) -> Vec<Finding> {
    let (name, job_dir) = (host.config.name.to_string(), job_dir.clone());
    let looked = tokio::task::spawn_blocking(move || findings::of(&scan::scan(name, &job_dir))).await;
    looked.unwrap_or_default()
}

/// A frozen job before its checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FrozenBy {
    /// Its control group.
    Cgroup,
    /// CRIU, which traces its processes.
    Criu,
}

/// Looks at a job that is frozen for its checkpoint, and writes its inventory. Blocks for some
/// milliseconds.
///
/// # Errors
/// The job can't be checkpointed: the error is the reason, for users. Or the inventory can't be
/// written.
pub(crate) fn at_frozen(host: &str, job_dir: &JobDir, images: &Path, by: FrozenBy) -> Result<()> {
    let seen = scan::scan(host.to_owned(), job_dir);
    if by == FrozenBy::Cgroup
        && let Some(reason) = refusal(&findings::of(&seen))
    {
        return Err(Error::Unmovable { reason });
    }
    INVENTORY.write(images, &Inventory::of(&seen, &job_dir.namespace()))
}

/// Compares a restored, frozen job with the inventory of its checkpoint. Older checkpoints have
/// none. Blocks for some milliseconds.
///
/// # Errors
/// The inventory can't be read.
pub(crate) fn at_restored(host: &str, job_dir: &JobDir, images: &Path) -> Result<Differences> {
    let Some(before) = INVENTORY.read::<Inventory>(images)? else { return Ok(Differences::default()) };
    let after = Inventory::of(&scan::scan(host.to_owned(), job_dir), &job_dir.namespace());
    Ok(Differences::between(&before, &after))
}

/// Looks at the jobs that execute, at intervals, for those who ask before a migration.
pub(crate) async fn run(host: Arc<Host>, jobs: Jobs, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(LOOK_INTERVAL) => {}
        }
        for (job, generation, job_dir) in jobs.executing() {
            if jobs.looked_at(&job, generation, at(&host, &job_dir).await) {
                host.observed.notify_one();
            }
        }
    }
}

/// Returns the reason against a migration, if there is any.
fn refusal(findings: &[Finding]) -> Option<String> {
    let against: Vec<&str> = findings
        .iter()
        .filter(|finding| matches!(finding.effect, Effect::Refuses | Effect::Waits))
        .map(|finding| finding.text.as_str())
        .collect();
    let named = against.iter().take(NAMED_MAX).copied().collect::<Vec<_>>().join("; ");
    match against.len() {
        0 => None,
        count if count <= NAMED_MAX => Some(named),
        count => Some(format!("{named}; and {} more, which `float check` lists", count - NAMED_MAX)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(effect: Effect, text: &str) -> Finding {
        Finding { kind: FindingKind::Traced, effect, pid: None, program: String::new(), text: text.into() }
    }

    #[test]
    fn a_refusal_names_two_findings() {
        assert_eq!(refusal(&[finding(Effect::Mended, "a")]), None);
        let mut all = vec![finding(Effect::Mended, "a"), finding(Effect::Refuses, "b"), finding(Effect::Waits, "c")];
        assert_eq!(refusal(&all).as_deref(), Some("b; c"));
        all.push(finding(Effect::Refuses, "d"));
        assert_eq!(refusal(&all).as_deref(), Some("b; c; and 1 more, which `float check` lists"));
    }
}
