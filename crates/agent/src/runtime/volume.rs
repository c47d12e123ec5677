//! The data of a job under paths of its own.
//!
//! * A path of the host is bound into the job's root. CRIU takes such a mount for something outside and binds the same path of the host where the
//!   job is restored, which has to have it, with what the job has open in it.
//! * A fresh volume is a directory of the job's own layer: it is there at the start and moves with the files that the job has changed. Its
//!   size is what its user counts on, not a limit.
//!
//! Nothing that the agent keeps for itself is bound into a job, whoever asks, and no path that leads elsewhere.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use mooring_types::job::{Volume, VolumeMode, VolumeSource};
use serde_json::{Value, json};

use crate::error::{Error, Result};

/// Whether this host can give a job its data.
///
/// # Errors
/// It lacks a path, or that has to do with what is `hidden` from jobs.
pub(crate) fn check(volumes: &[Volume], hidden: &[PathBuf]) -> Result<()> {
    for volume in volumes {
        let refused = |reason: String| Error::Volume { volume: volume.redacted().to_string(), reason };
        match &volume.source {
            VolumeSource::HostPath(path) => {
                // A link may lead anywhere, and whoever may write where it is may change it.
                let real = path.canonicalize().map_err(|error| refused(format!("{}: {error}", path.display())))?;
                let overlaps = |other: &PathBuf| {
                    let other = other.canonicalize().unwrap_or_else(|_| other.clone());
                    real.starts_with(&other) || other.starts_with(&real)
                };
                if real != *path {
                    let reason = format!("{} is a way to {}: give that", path.display(), real.display());
                    return Err(refused(reason));
                }
                if hidden.iter().any(overlaps) {
                    return Err(refused("the agent keeps its own files there".into()));
                }
            }
            VolumeSource::Fresh { .. } => {}
            VolumeSource::Existing(_) | VolumeSource::Remote { .. } => {
                return Err(refused(volume.unsupported().unwrap_or("hosts don't mount that").into()));
            }
        }
    }
    Ok(())
}

/// The mounts of the container's configuration.
pub(crate) fn mounts(volumes: &[Volume]) -> impl Iterator<Item = Value> {
    volumes.iter().filter_map(|volume| {
        let VolumeSource::HostPath(path) = &volume.source else { return None };
        let mode = match volume.mode {
            VolumeMode::ReadWrite => "rw",
            VolumeMode::ReadOnly => "ro",
        };
        let options = ["bind", mode, "nosuid", "nodev"];
        Some(json!({ "destination": volume.mount, "type": "bind", "source": path, "options": options }))
    })
}

/// Makes the directories of a new job's own volumes in its upper layer.
///
/// # Errors
/// One could not be made.
pub(crate) fn furnish(upper: &Path, volumes: &[Volume]) -> io::Result<()> {
    let own = volumes.iter().filter(|volume| matches!(volume.source, VolumeSource::Fresh { .. }));
    own.map(|volume| volume.mount.strip_prefix("/").unwrap_or(&volume.mount))
        .try_for_each(|below| fs::create_dir_all(upper.join(below)))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn volume(text: &str) -> Volume {
        text.parse().unwrap()
    }

    #[test]
    fn paths_are_bound_and_own_volumes_are_made() {
        let volumes = [volume("/data:/mnt/data:ro"), volume("[size=1]:/mnt/own"), volume("/srv:/srv")];
        let mounts: Vec<Value> = mounts(&volumes).collect();
        assert_eq!(
            mounts,
            [
                json!({ "destination": "/mnt/data", "type": "bind", "source": "/data", "options": ["bind", "ro", "nosuid", "nodev"] }),
                json!({ "destination": "/srv", "type": "bind", "source": "/srv", "options": ["bind", "rw", "nosuid", "nodev"] }),
            ]
        );
        let upper = tempfile::tempdir().unwrap();
        furnish(upper.path(), &volumes).unwrap();
        assert!(upper.path().join("mnt/own").is_dir() && !upper.path().join("srv").exists());
    }

    #[test]
    fn what_is_not_there_or_the_agents_own_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let (data, own, link) = (root.path().join("data"), root.path().join("agent"), root.path().join("link"));
        fs::create_dir(&data).unwrap();
        fs::create_dir_all(own.join("jobs")).unwrap();
        symlink(&own, &link).unwrap();
        let hidden = [own.clone()];
        let check = |path: &Path| check(&[volume(&format!("{}:/mnt", path.display()))], &hidden);
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
        let remote = super::check(&[volume("nfs://a/b:/mnt")], &hidden).unwrap_err().to_string();
        assert_eq!(remote, "can't mount volume nfs://a/b:/mnt: hosts don't mount NFS exports");
    }
}
