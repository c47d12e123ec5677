//! The volumes of a job.
//!
//! ```text
//!  g<generation>/
//!    volumes/0.ext4          the file system of a fresh volume, of the requested size
//!    volumes/0/              its mount point; also that of a bucket, an export or a host path
//!    upper/mnt/own/          the same fresh volume: everything below `upper` moves with the job
//! ```
//!
//! * A host path is opened once, without following links, and mounted by its descriptor. A job
//!   that may write there can exchange what is at the path at any moment. For CRIU it is an
//!   external mount. The destination opens the same path, which needs the job's open files there.
//! * A [fresh] volume is a file system of the job's own in a file. Its content moves with the job's
//!   changed files, into a file system of the same size at the destination.
//! * A [bucket] and an [export] are mounted by the host, and are external mounts for CRIU. The
//!   destination mounts them before the freeze; the source unmounts them after the migration.
//!
//! Mounts, and the process of a bucket in a control group of its own, outlive the agent. Each step
//! may be repeated: existing mounts are kept.
//!
//! What is [hidden] is never mounted into a job.

mod bucket;
mod export;
mod fresh;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use mooring_linux::host_path::HostPath;
use mooring_linux::mount;
use mooring_types::job::{Bucket, Export, Volume, VolumeMode, VolumeSource};
use mooring_types::mounts::Scheme;
use serde_json::{Value, json};

use super::hidden::{self, Hidden};
use super::job_dir::JobDir;
use super::user::User;
use crate::error::{Error, Result};

/// The remote volume schemes that this host can mount.
pub(crate) fn mountable() -> Vec<Scheme> {
    let can = [(Scheme::Nfs, export::is_possible()), (Scheme::S3, bucket::is_possible())];
    can.into_iter().filter(|(_, can)| *can).map(|(scheme, _)| scheme).collect()
}

/// Checks that this host can mount a job's volumes.
///
/// # Errors
/// A path or a program is missing, or a path has to do with a hidden one.
pub(crate) fn check(volumes: &[Volume], hidden: Hidden<'_>) -> Result<()> {
    let mountable = mountable();
    for volume in volumes {
        let refused = |reason: String| refusal(volume, reason);
        match &volume.source {
            VolumeSource::HostPath(path) => drop(open(path, hidden).map_err(refused)?),
            VolumeSource::Fresh { .. } => {}
            VolumeSource::Existing(_) | VolumeSource::Remote { .. } => {
                if let Some(reason) = volume.unsupported() {
                    return Err(refused(reason.into()));
                }
                if let Some(scheme) = volume.scheme().filter(|scheme| !mountable.contains(scheme)) {
                    return Err(refused(format!("this host lacks what that takes: {}", scheme.needs().1)));
                }
            }
        }
    }
    Ok(())
}

/// Opens a path of the host that a job may have as a volume.
fn open(path: &Path, hidden: Hidden<'_>) -> Result<HostPath, String> {
    let open = hidden::open(path)?;
    if hidden.relation(&open).map_err(|error| error.chain())?.overlaps() {
        return Err("the agent keeps its own files there".into());
    }
    Ok(open)
}

/// The mounts of the container's configuration; a mount below another one follows it.
pub(crate) fn mounts(job_dir: &JobDir, volumes: &[Volume]) -> Vec<Value> {
    let mut all: Vec<(usize, &Volume)> = volumes.iter().enumerate().collect();
    all.sort_by_key(|(_, volume)| volume.mount.components().count());
    let mount = |(index, volume): (usize, &Volume)| {
        let mode = match volume.mode {
            VolumeMode::ReadWrite => "rw",
            VolumeMode::ReadOnly => "ro",
        };
        let source = mounted_at(job_dir, index);
        let options = ["bind", mode, "nosuid", "nodev"];
        json!({ "destination": volume.mount, "type": "bind", "source": source, "options": options })
    };
    all.into_iter().map(mount).collect()
}

/// The devices of those mounted volumes that other hosts may have mounted as well.
pub(crate) fn shared_devices(job_dir: &JobDir, volumes: &[Volume]) -> BTreeSet<u64> {
    let device = |(index, volume): (usize, &Volume)| match &volume.source {
        VolumeSource::HostPath(_) | VolumeSource::Remote { .. } => fs::metadata(mounted_at(job_dir, index)).ok(),
        VolumeSource::Fresh { .. } | VolumeSource::Existing(_) => None,
    };
    volumes.iter().enumerate().filter_map(device).map(|found| found.dev()).collect()
}

/// Returns whether some of a job's files are in its volumes, which then have to be mounted before
/// files arrive.
pub(crate) fn take_files(volumes: &[Volume]) -> bool {
    volumes.iter().any(|volume| matches!(volume.source, VolumeSource::Fresh { .. }))
}

/// Creates and mounts the volumes of a job that starts or arrives on this host. The job runs as
/// `user`.
pub(crate) async fn make(job_dir: &JobDir, volumes: &[Volume], user: &User, hidden: Hidden<'_>) -> Result<()> {
    for (index, volume) in volumes.iter().enumerate() {
        if let VolumeSource::HostPath(_) = volume.source {
            continue;
        }
        let directory = mounted_at(job_dir, index);
        let made = fs::create_dir_all(&directory);
        made.map_err(|error| refusal(volume, format!("{}: {error}", directory.display())))?;
        if let VolumeSource::Fresh { size_gb } = volume.source {
            fresh::make(&image_of(job_dir, index), size_gb, user)
                .await
                .map_err(|error| refusal(volume, error.chain()))?;
        }
    }
    attach(job_dir, volumes, user, hidden).await?;
    for (index, volume) in volumes.iter().enumerate() {
        if let VolumeSource::Fresh { .. } = volume.source {
            fresh::clear(&mounted_at(job_dir, index)).map_err(|error| refusal(volume, error.to_string()))?;
        }
    }
    Ok(())
}

/// Mounts those of a job's volumes that are not mounted.
pub(crate) async fn attach(job_dir: &JobDir, volumes: &[Volume], user: &User, hidden: Hidden<'_>) -> Result<()> {
    let mut all: Vec<(usize, &Volume)> = volumes.iter().enumerate().collect();
    all.sort_by_key(|(_, volume)| volume.mount.components().count());
    for (index, volume) in all {
        attach_one(job_dir, index, volume, user, hidden).await.map_err(|error| match error {
            Error::Volume { .. } => error,
            other => refusal(volume, other.chain()),
        })?;
    }
    Ok(())
}

async fn attach_one(job_dir: &JobDir, index: usize, volume: &Volume, user: &User, hidden: Hidden<'_>) -> Result<()> {
    let directory = mounted_at(job_dir, index);
    let malformed = |reason: &str| Error::VolumeSource { reason: reason.to_owned() };
    match &volume.source {
        VolumeSource::Existing(_) => Ok(()),
        VolumeSource::HostPath(_) if mount::is_mounted(&directory)? => Ok(()),
        VolumeSource::HostPath(path) => {
            let open = open(path, hidden).map_err(|reason| refusal(volume, reason))?;
            Ok(open.bind_to(&directory)?)
        }
        VolumeSource::Fresh { .. } => {
            if !mount::is_mounted(&directory)? {
                fresh::mount(&image_of(job_dir, index), &directory).await?;
            }
            let below = volume.mount.strip_prefix("/").unwrap_or(&volume.mount);
            let upper = job_dir.upper();
            if !upper.join(below).is_dir() {
                fs::create_dir_all(upper.join(below)).map_err(Error::system(format!("make {}", below.display())))?;
            }
            Ok(mount::bind_below(&upper, below, &directory)?)
        }
        VolumeSource::Remote { .. } if bucket::carries(&directory).await? => Ok(()),
        VolumeSource::Remote { scheme: Scheme::S3, .. } => {
            let bucket = Bucket::of(volume).map_err(malformed)?;
            bucket::mount(&bucket, volume.mode, &directory, &job_dir.volumes_cgroup(), user).await
        }
        VolumeSource::Remote { .. } => {
            let export = Export::of(volume).map_err(malformed)?;
            export::mount(&export, volume.mode, &directory).await
        }
    }
}

/// Unmounts all volumes of a job that does not execute here, and ends their processes; keeps the
/// content. Continues after errors and returns the first.
///
/// # Errors
/// A volume is still in use; another call continues there.
pub(crate) async fn detach(job_dir: &JobDir) -> Result<()> {
    let (upper, volumes) = (mount::unmount_below(&job_dir.upper()), mount::unmount_below(&job_dir.volumes()));
    upper?;
    volumes?;
    bucket::end(&job_dir.volumes_cgroup()).await
}

fn mounted_at(job_dir: &JobDir, index: usize) -> PathBuf {
    job_dir.volumes().join(index.to_string())
}

fn image_of(job_dir: &JobDir, index: usize) -> PathBuf {
    job_dir.volumes().join(format!("{index}.ext4"))
}

fn refusal(volume: &Volume, reason: String) -> Error {
    Error::Volume { volume: volume.redacted().to_string(), reason }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::os::unix::fs::symlink;
    use std::time::Duration;

    use mooring_types::{Generation, JobId};

    use std::io;

    use super::*;

    fn volume(text: &str) -> Volume {
        text.parse().unwrap()
    }

    fn job_dir(jobs: &Path) -> JobDir {
        JobDir::new(jobs, "mooring", "m", &JobId::random(&mut rand::rng()), Generation(1), Ipv4Addr::LOCALHOST)
    }

    #[test]
    fn everything_is_bound_the_outer_before_the_inner() {
        let volumes = [volume("/data:/mnt/data:ro"), volume("[size=1]:/mnt"), volume("s3://bucket:/srv")];
        let job_dir = job_dir(Path::new("/jobs"));
        let own = |index: usize| job_dir.volumes().join(index.to_string());
        let bind = |to: &str, from: PathBuf, mode: &str| json!({ "destination": to, "type": "bind", "source": from, "options": ["bind", mode, "nosuid", "nodev"] });
        assert_eq!(
            mounts(&job_dir, &volumes),
            [bind("/mnt", own(1), "rw"), bind("/srv", own(2), "rw"), bind("/mnt/data", own(0), "ro")]
        );
    }

    #[tokio::test]
    async fn a_fresh_volume_is_as_large_as_was_asked_for_and_leaves_nothing() {
        let world = tempfile::tempdir_in("/var/tmp").expect("a directory");
        let job_dir = job_dir(world.path());
        let volumes = [volume("[size=1]:/a"), volume("[size=1]:/a/b")];
        let user = User { uid: 1000, gid: 1000, ..User::default() };
        fs::create_dir_all(job_dir.upper()).expect("a directory");
        make(&job_dir, &volumes, &user, Hidden(&[])).await.expect("volumes");
        attach(&job_dir, &volumes, &user, Hidden(&[])).await.expect("the same volumes");
        let (own, seen) = (job_dir.volumes().join("0/file"), job_dir.upper().join("a/file"));
        fs::write(&own, vec![1; 64 << 20]).expect("room");
        assert_eq!(fs::metadata(&seen).expect("seen with what moves").len(), 64 << 20);
        let owner = fs::metadata(job_dir.upper().join("a/b")).expect("the inner").uid();
        assert_eq!(owner, 1000);
        let (most, rest) = (job_dir.upper().join("a/b/most"), job_dir.upper().join("a/b/rest"));
        let most = fs::File::create(most).expect("a file");
        nix::fcntl::fallocate(&most, nix::fcntl::FallocateFlags::empty(), 0, 940_000_000).expect("room");
        drop(most);
        let full = fs::write(rest, vec![1; 60_000_000]).expect_err("too much");
        assert_eq!(full.kind(), io::ErrorKind::StorageFull);
        detach(&job_dir).await.expect("unmounted");
        assert!(!seen.exists());
        attach(&job_dir, &volumes, &user, Hidden(&[])).await.expect("mounted again");
        assert_eq!(fs::metadata(&seen).expect("still there").len(), 64 << 20);
        detach(&job_dir).await.expect("unmounted");
        mooring_linux::tree::remove_tree(job_dir.directory()).expect("removed");
        let left = |entry: fs::DirEntry| fs::read_to_string(entry.path().join("loop/backing_file")).unwrap_or_default();
        let of_ours = |file: String| file.contains(job_dir.directory().to_str().unwrap_or_default());
        let started = tokio::time::Instant::now();
        // The kernel lets go of a device a moment after its last mount; another process may have a
        // copy of that as long as it lives.
        while fs::read_dir("/sys/block").expect("devices").flatten().map(left).any(of_ours) {
            assert!(started.elapsed() < crate::runtime::tool::TOOL_TIMEOUT, "a loop device is left");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let large = [volume("[size=65536]:/a")];
        let error = make(&job_dir, &large, &user, Hidden(&[])).await.expect_err("no room").to_string();
        assert!(error.contains("has no room for it"), "{error}");
    }

    #[test]
    fn what_is_not_there_or_the_agents_own_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let (data, own, link) = (root.path().join("data"), root.path().join("agent"), root.path().join("link"));
        fs::create_dir(&data).unwrap();
        fs::create_dir_all(own.join("jobs")).unwrap();
        symlink(&own, &link).unwrap();
        let hidden = [own.clone()];
        let check = |path: &Path| check(&[volume(&format!("{}:/mnt", path.display()))], Hidden(&hidden));
        check(&data).unwrap();
        for (bad, why) in [
            (root.path().join("nothing"), "No such file"),
            (own.join("jobs"), "the agent keeps its own files there"),
            (root.path().to_owned(), "the agent keeps its own files there"),
            (link, "agent: give that"),
        ] {
            let error = check(&bad).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
        let remote = super::check(&[volume("jfs://a/b:/mnt")], Hidden(&hidden)).unwrap_err().to_string();
        assert_eq!(remote, "can't mount volume jfs://a/b:/mnt: hosts don't mount JuiceFS file systems");
        if !export::is_possible() {
            let remote = super::check(&[volume("nfs://a/b:/mnt")], Hidden(&hidden)).unwrap_err().to_string();
            assert!(remote.ends_with(
                "this host lacks what that takes: the package `nfs-common` and a kernel with an NFS client"
            ));
        }
    }
}
