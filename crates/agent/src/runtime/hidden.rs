//! The paths of this host that no job sees: the state of the agent and of an OpCenter beside it,
//! and what the administrator names.
//!
//! A path is compared by its name and by its location in its file system. So another mount of the
//! same file system hides as much.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};

use mooring_linux::host_path::HostPath;
use mooring_linux::mount;

use crate::error::{Error, Result};

/// The hidden paths of this host.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Hidden<'a>(pub(crate) &'a [PathBuf]);

/// The hidden paths in relation to another path.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Relation {
    /// The path is a hidden one, or below one.
    pub(crate) is_inside: bool,
    /// The hidden paths below the path, relative to it.
    pub(crate) below: BTreeSet<PathBuf>,
}

impl Relation {
    /// Returns whether the path has something of a hidden one.
    pub(crate) fn overlaps(&self) -> bool {
        self.is_inside || !self.below.is_empty()
    }
}

impl Hidden<'_> {
    /// Compares an open path with the hidden ones.
    ///
    /// # Errors
    /// It was removed meanwhile.
    pub(crate) fn relation(self, open: &HostPath) -> Result<Relation> {
        let (name, location) = (open.name(), open.location()?);
        let mut relation = Relation::default();
        for hidden in self.0 {
            let real = hidden.canonicalize().unwrap_or_else(|_| hidden.clone());
            // One that is not there yet has no location.
            let there = HostPath::follow(hidden).ok().map(|hidden| hidden.location()).transpose()?;
            let is_inside = there.as_ref().is_some_and(|there| location.below(there).is_some());
            relation.is_inside |= is_inside || name.starts_with(&real);
            let below = there.as_ref().and_then(|there| there.below(&location));
            relation.below.extend(below.into_iter().chain(real.strip_prefix(name).ok()).map(Path::to_owned));
        }
        // The path of a hidden one itself is no path below it, and a whiteout hides all below it.
        relation.below.retain(|below| !below.as_os_str().is_empty());
        let all = relation.below.clone();
        relation.below.retain(|below| !below.ancestors().skip(1).any(|above| all.contains(above)));
        Ok(relation)
    }
}

/// Hides paths of a directory that is a job's image by the upper layer of the job, which does not
/// execute. The layer gets the directories above each path, as they are in the image, and a
/// whiteout at the path.
///
/// The layer may have come from another host, which hides other paths. No link in it is followed.
///
/// # Errors
/// It can't be written.
pub(crate) fn hide(upper: &Path, image: &Path, below: &BTreeSet<PathBuf>) -> Result<()> {
    for path in below {
        let attempt = || Error::system(format!("hide {}", path.display()));
        if make_way(upper, image, path).map_err(attempt())? {
            match upper.join(path).symlink_metadata() {
                // A directory of the job's own.
                Ok(own) if own.is_dir() => mount::make_opaque(&upper.join(path))?,
                Ok(_) => {}
                Err(_) => mount::whiteout(&upper.join(path))?,
            }
        }
    }
    Ok(())
}

/// Makes the directories above a path. Returns whether the image has the path below directories
/// that the job has left in place.
fn make_way(upper: &Path, image: &Path, path: &Path) -> io::Result<bool> {
    let mut above: Vec<&Path> = path.ancestors().skip(1).filter(|above| !above.as_os_str().is_empty()).collect();
    above.reverse();
    for directory in above {
        let own = upper.join(directory);
        match own.symlink_metadata() {
            Ok(found) if found.is_dir() => {}
            Ok(_) => return Ok(false),
            Err(_) => {
                let Ok(found) = mount::look_below(image, directory) else { return Ok(false) };
                if !found.is_dir() {
                    return Ok(false);
                }
                fs::create_dir(&own)?;
                chown(&own, Some(found.uid()), Some(found.gid()))?;
                fs::set_permissions(&own, found.permissions())?;
            }
        }
    }
    Ok(true)
}

/// Opens a path that a user names.
///
/// # Errors
/// It is not there, or a part of it is a link.
pub(crate) fn open(path: &Path) -> Result<HostPath, String> {
    HostPath::open(path).map_err(|error| match (error.raw_os_error(), path.canonicalize()) {
        (Some(nix::libc::ELOOP), Ok(real)) => format!("{} is a way to {}: give that", path.display(), real.display()),
        (Some(nix::libc::ELOOP), Err(_)) => format!("{} has a link in it", path.display()),
        (_, _) => format!("{}: {error}", path.display()),
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn upper_layer_hides_and_changes_nothing_else() {
        let world = tempfile::tempdir_in("/var/tmp").unwrap();
        let [image, work, upper, root] = ["image", "work", "upper", "root"].map(|name| world.path().join(name));
        for directory in ["srv/state/jobs", "srv/other", "own/secret", "gone", "moved/secret"] {
            fs::create_dir_all(image.join(directory)).unwrap();
        }
        for directory in [&upper.join("own/secret/mine"), &work, &root] {
            fs::create_dir_all(directory).unwrap();
        }
        fs::write(image.join("srv/kept"), "kept").unwrap();
        fs::write(image.join("own/secret/theirs"), "").unwrap();
        fs::set_permissions(image.join("srv"), fs::Permissions::from_mode(0o1731)).unwrap();
        chown(image.join("srv"), Some(12), Some(34)).unwrap();
        // A job that is not running has left a link in the place of a directory.
        symlink(image.join("srv"), upper.join("moved")).unwrap();
        let below = ["srv/state", "own/secret", "none/there", "gone", "moved/secret"].map(PathBuf::from).into();
        hide(&upper, &image, &below).unwrap();
        hide(&upper, &image, &below).unwrap();
        assert!(!image.join("srv/secret").exists(), "a link was followed");
        mount::overlay(&[image], &upper, &work, &root).unwrap();
        let seen = fs::metadata(root.join("srv")).unwrap();
        assert_eq!((seen.uid(), seen.gid(), seen.permissions().mode() & 0o7777), (12, 34, 0o1731));
        assert!(!root.join("srv/state").exists() && !root.join("gone").exists() && root.join("srv/other").exists());
        assert_eq!(fs::read_to_string(root.join("srv/kept")).unwrap(), "kept");
        assert!(root.join("own/secret/mine").exists() && !root.join("own/secret/theirs").exists());
        fs::create_dir(root.join("srv/state")).unwrap();
        assert_eq!(fs::read_dir(root.join("srv/state")).unwrap().count(), 0);
        mount::unmount_below(world.path()).unwrap();
    }

    #[test]
    fn hidden_paths_are_found_by_every_way() {
        let world = tempfile::tempdir_in("/var/tmp").unwrap();
        let [state, beside, bound, link] =
            ["srv/state", "srv/beside", "bound", "link"].map(|name| world.path().join(name));
        fs::create_dir_all(state.join("jobs")).unwrap();
        fs::create_dir_all(&beside).unwrap();
        symlink(&state, &link).unwrap();
        HostPath::open(&world.path().join("srv")).unwrap().bind_to(&bound).unwrap();
        let later = world.path().join("srv/later");
        // The administrator may name a link, and a path that does not exist.
        let hidden = [link.clone(), later];
        let relation = |path: &Path| Hidden(&hidden).relation(&open(path).unwrap()).unwrap();
        let below = |paths: &[&str]| Relation { is_inside: false, below: paths.iter().map(PathBuf::from).collect() };
        let inside = Relation { is_inside: true, below: BTreeSet::new() };
        assert_eq!(relation(&beside), below(&[]));
        assert_eq!(relation(&state), inside);
        assert_eq!(relation(&state.join("jobs")), inside);
        assert_eq!(relation(&bound.join("state/jobs")), inside);
        assert_eq!(relation(&world.path().join("srv")), below(&["state", "later"]));
        assert_eq!(relation(&bound), below(&["state"]));
        assert_eq!(relation(world.path()), below(&["srv/state", "srv/later"]));
        let nested = [state.join("jobs"), state.clone()];
        let open_world = open(world.path()).unwrap();
        assert_eq!(Hidden(&nested).relation(&open_world).unwrap(), below(&["srv/state"]));
        assert!(open(&link).unwrap_err().ends_with("srv/state: give that"));
        mount::unmount_below(world.path()).unwrap();
    }
}
