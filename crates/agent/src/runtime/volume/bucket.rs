//! A bucket as a file system, served by an `s3fs` process.
//!
//! The process runs in a session and a control group of its own beside the job's. It survives a
//! restart of the agent, runs while the job is frozen, and its resources are not counted as the
//! job's. It exits when the bucket is unmounted. The keys are in a file for root alone, which is
//! removed once they were read. Temporary keys have a session token, which such a file can't hold:
//! they are in the process's environment, which root alone can read.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use mooring_linux::cgroup::Cgroup;
use mooring_linux::{mount, process};
use mooring_types::job::{Bucket, VolumeMode};
use nix::sys::statfs::statfs;
use tokio::process::Command;
use tokio::time::Instant;

use crate::error::{Error, Result};
use crate::runtime::tool::{has_program, last_lines};
use crate::runtime::user::User;

const PROGRAM: &str = "s3fs";
/// The time limit of mounting a bucket.
const BUCKET_MOUNT_TIMEOUT: Duration = Duration::from_secs(45);
/// The time that the process has to exit after the unmount.
const BUCKET_EXIT_TIMEOUT: Duration = Duration::from_secs(10);
/// The time limit of a check of the mount.
const MOUNT_CHECK_TIMEOUT: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(10);
/// The cores for all buckets of one job.
const CORES: u32 = 2;
const MEMORY: u64 = 2_000_000_000;
/// The variables from which the program would take keys of another volume.
const FOREIGN_KEYS: [&str; 6] = [
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWSACCESSKEYID",
    "AWSSECRETACCESSKEY",
    "AWSSESSIONTOKEN",
];

/// Returns whether this host has the program and FUSE.
pub(super) fn is_possible() -> bool {
    has_program(PROGRAM) && Path::new("/dev/fuse").exists()
}

/// Returns whether the mount answers; unmounts one that does not.
pub(super) async fn carries(directory: &Path) -> Result<bool> {
    if !mount::is_mounted(directory)? {
        return Ok(false);
    }
    let looked = directory.to_owned();
    let look = tokio::task::spawn_blocking(move || statfs(&looked).is_ok());
    if matches!(tokio::time::timeout(MOUNT_CHECK_TIMEOUT, look).await, Ok(Ok(true))) {
        return Ok(true);
    }
    mount::unmount_below(directory)?;
    Ok(false)
}

/// Mounts the bucket; new files belong to `user`.
pub(super) async fn mount(
    bucket: &Bucket,
    mode: VolumeMode,
    directory: &Path,
    cgroup: &Cgroup,
    user: &User,
) -> Result<()> {
    let [keys, log, cache] = ["keys", "log", "cache"].map(|kind| directory.with_extension(kind));
    let failed = || format!("make {} ready", directory.display());
    fs::create_dir_all(&cache).map_err(Error::system(failed()))?;
    if let (Some((access, secret)), None) = (&bucket.keys, &bucket.token) {
        write_keys(&keys, access, secret).map_err(Error::system(failed()))?;
    }
    let outcome = start(bucket, mode, directory, cgroup, user, &log).await;
    drop(fs::remove_file(&keys));
    outcome
}

async fn start(
    bucket: &Bucket,
    mode: VolumeMode,
    directory: &Path,
    cgroup: &Cgroup,
    user: &User,
    log: &Path,
) -> Result<()> {
    let failed = || format!("run `{PROGRAM}`");
    let output = File::create(log).map_err(Error::system(failed()))?;
    let errors = output.try_clone().map_err(Error::system(failed()))?;
    cgroup.make_limited(CORES, MEMORY)?;
    let mut command = Command::new(PROGRAM);
    command.args(arguments(bucket, mode, directory, user));
    command.current_dir(directory.parent().unwrap_or(directory));
    command.stdin(Stdio::null()).stdout(output).stderr(errors);
    for name in FOREIGN_KEYS {
        command.env_remove(name);
    }
    command.envs(environment(bucket));
    process::new_session(command.as_std_mut());
    let mut child = command.spawn().map_err(Error::system(failed()))?;
    let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).unwrap_or_default();
    // A process that has exited already is reported below.
    if process::start_time(pid).is_some() {
        cgroup.add(pid)?;
    }
    let started = Instant::now();
    loop {
        if let Some(status) = child.try_wait().map_err(Error::system(format!("wait for `{PROGRAM}`")))? {
            let said = last_lines(&fs::read_to_string(log).unwrap_or_default());
            return Err(Error::tool(PROGRAM, status, &said));
        }
        if mount::is_mounted(directory)? && carries(directory).await? {
            return Ok(());
        }
        if started.elapsed() > BUCKET_MOUNT_TIMEOUT {
            drop(child.kill().await);
            mount::unmount_below(directory)?;
            return Err(Error::TimedOut(format!("mounting {} of {}", bucket.name, bucket.endpoint)));
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Waits for the processes of a job's unmounted buckets, kills the rest and removes their control
/// group.
pub(super) async fn end(cgroup: &Cgroup) -> Result<()> {
    let started = Instant::now();
    while !cgroup.pids().is_empty() && started.elapsed() < BUCKET_EXIT_TIMEOUT {
        tokio::time::sleep(POLL).await;
    }
    cgroup.kill_all()?;
    Ok(cgroup.remove()?)
}

/// The variables with temporary keys.
fn environment(bucket: &Bucket) -> Vec<(&'static str, &str)> {
    match (&bucket.keys, &bucket.token) {
        (Some((access, secret)), Some(token)) => {
            vec![("AWSACCESSKEYID", access), ("AWSSECRETACCESSKEY", secret), ("AWSSESSIONTOKEN", token)]
        }
        _ => Vec::new(),
    }
}

fn write_keys(file: &Path, access: &str, secret: &str) -> std::io::Result<()> {
    drop(fs::remove_file(file));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file)?;
    writeln!(file, "{access}:{secret}")
}

/// The arguments name files relative to their directory: an absolute path may have a separator of
/// options.
fn arguments(bucket: &Bucket, mode: VolumeMode, directory: &Path, user: &User) -> Vec<String> {
    let beside = |kind: &str| {
        let name = PathBuf::from(directory.file_name().unwrap_or_default()).with_extension(kind);
        name.display().to_string()
    };
    let what = match bucket.prefix.as_str() {
        "" => bucket.name.clone(),
        prefix => format!("{}:/{prefix}", bucket.name),
    };
    let mut options = vec![
        format!("url={}", bucket.endpoint),
        format!("endpoint={}", bucket.region),
        format!("uid={},gid={}", user.uid, user.gid),
        format!("tmpdir={}", beside("cache")),
        "allow_other,umask=0022,nosuid,nodev,ensure_diskfree=512".to_owned(),
    ];
    options.push(match bucket.keys {
        Some(_) if bucket.token.is_some() => "use_session_token".into(),
        Some(_) => format!("passwd_file={}", beside("keys")),
        None => "public_bucket=1".into(),
    });
    if !bucket.is_aws {
        options.push("use_path_request_style".into());
    }
    if mode == VolumeMode::ReadOnly {
        options.push("ro".into());
    }
    let options = options.into_iter().flat_map(|option| ["-o".to_owned(), option]);
    [what, directory.display().to_string(), "-f".to_owned()].into_iter().chain(options).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use mooring_types::job::Volume;

    use super::*;

    #[test]
    fn its_keys_are_in_a_file_of_root_alone() {
        let text = "[endpoint=http://10.0.0.1:9000,accessKey=AKEY,secret=SKEY]s3://data/set:/mnt:ro";
        let volume: Volume = text.parse().unwrap();
        let bucket = Bucket::of(&volume).unwrap();
        let arguments = arguments(&bucket, volume.mode, Path::new("/a,b/volumes/3"), &User::default());
        assert_eq!(arguments[..3], ["data:/set", "/a,b/volumes/3", "-f"]);
        for option in
            ["url=http://10.0.0.1:9000", "passwd_file=3.keys", "use_path_request_style", "ro", "tmpdir=3.cache"]
        {
            assert!(arguments.iter().any(|argument| argument == option), "{option}: {arguments:?}");
        }
        assert!(!arguments.iter().any(|argument| argument.contains("KEY")));
        assert!(environment(&bucket).is_empty());
        let temporary: Volume = "[accessKey=AKEY,secret=SKEY,token=TOKEN]s3://data:/mnt".parse().unwrap();
        let bucket = Bucket::of(&temporary).unwrap();
        assert!(
            super::arguments(&bucket, volume.mode, Path::new("/3"), &User::default())
                .contains(&"use_session_token".to_owned())
        );
        assert_eq!(environment(&bucket)[2], ("AWSSESSIONTOKEN", "TOKEN"));
        let world = tempfile::tempdir().unwrap();
        let file = world.path().join("3.keys");
        write_keys(&file, "AKEY", "SKEY").unwrap();
        write_keys(&file, "AKEY", "SKEY").unwrap();
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
