//! Reads a job's processes, and what else findings follow from.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::os::fd::AsFd;
use std::path::Path;

use mooring_linux::process::has_sys_resource;
use mooring_linux::process_tree::{self, ProcessTree};
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};

use super::seen::Seen;
use crate::runtime::job_dir::JobDir;

/// The longest list of users that is read.
const PASSWD_MAX_BYTES: u64 = 1 << 20;

/// Looks at a job. Blocks for some milliseconds.
pub(super) fn scan(host: String, job_dir: &JobDir) -> Seen {
    let pids = job_dir.cgroup().pids();
    let first = fs::read_to_string(job_dir.pid_file()).ok().and_then(|pid| pid.trim().parse().ok()).unwrap_or_default();
    if !pids.contains(&first) {
        return Seen { host, ..Seen::default() };
    }
    let tree = ProcessTree::read(first, &pids);
    let has_sys_resource = has_sys_resource();
    let by_users = tree.processes.values().any(|process| process.users != [0; 3]);
    let users = if by_users && !has_sys_resource { users(&job_dir.root()) } else { BTreeMap::new() };
    Seen { first, outsiders: outsiders(&tree), users, host, has_sys_resource, tree }
}

/// Returns the names of tracers that are not of the job.
fn outsiders(tree: &ProcessTree) -> BTreeMap<i32, Vec<u8>> {
    let tracers = tree.processes.values().flat_map(|process| {
        process.tracer.into_iter().chain(process.threads.iter().filter_map(|thread| thread.tracer))
    });
    let outside = tracers.filter(|tracer| !tree.processes.contains_key(tracer));
    outside.filter_map(|tracer| Some((tracer, process_tree::name(tracer)?))).collect()
}

/// Reads the names of the users that a job knows.
fn users(root: &Path) -> BTreeMap<u32, String> {
    // name:password:uid:…
    let user = |line: &str| {
        let mut fields = line.split(':');
        let name = fields.next()?.to_owned();
        Some((fields.nth(1)?.parse().ok()?, name))
    };
    passwd(root).unwrap_or_default().lines().filter_map(user).collect()
}

/// Reads the job's `/etc/passwd`, which may be anything: a link out of its root, a pipe.
fn passwd(root: &Path) -> Option<String> {
    let root = File::open(root).ok()?;
    let how = OpenHow::new()
        .flags(OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    let file = File::from(openat2(root.as_fd(), "etc/passwd", how).ok()?);
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    let mut bytes = Vec::new();
    file.take(PASSWD_MAX_BYTES).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn users_are_read_from_the_jobs_own_root() {
        let root = tempfile::tempdir().unwrap();
        assert!(users(root.path()).is_empty());
        fs::create_dir(root.path().join("etc")).unwrap();
        let list = root.path().join("etc/passwd");
        fs::write(&list, "www-data:x:33:33::/var/www:/bin/sh\nnonsense\nx:y:-1\n").unwrap();
        assert_eq!(users(root.path()), BTreeMap::from([(33, "www-data".to_owned())]));
        fs::remove_file(&list).unwrap();
        symlink("/etc/shadow", &list).unwrap();
        assert!(users(root.path()).is_empty());
        fs::remove_file(&list).unwrap();
        nix::unistd::mkfifo(&list, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(users(root.path()).is_empty(), "a pipe is not waited for");
    }
}
