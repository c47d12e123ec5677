//! The image `dir:/`: of the host's own root, programs and libraries.
//!
//! | path | in the image |
//! |---|---|
//! | `/usr`, `/opt`, `/bin`, `/sbin`, `/lib`, `/lib32`, `/lib64`, `/libx32` | as on the host |
//! | `/etc` | what every user of the host may read, without keys; a `shadow` in which nobody has a password |
//! | `/home`, `/root`, `/run`, `/tmp`, `/var` | directories of the job's own, with what programs expect in them |
//! | `/dev`, `/proc`, `/sys` | mount points |
//! | all else | absent |
//!
//! The job's upper layer says so, as it does for hidden paths. So the host's root is never changed,
//! and a job may make what it lacks. The host is surveyed before a job starts or arrives. What
//! comes into being in `/` or `/etc` later is not covered for this job.

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use mooring_linux::host_path::HostPath;
use mooring_linux::mount;
use mooring_ops::file::{self, Durability, Mode};

use crate::error::{Error, Result};
use crate::runtime::hidden;

/// The directories of `/` that stay as they are.
const KEPT: [&str; 9] = ["bin", "etc", "lib", "lib32", "lib64", "libx32", "opt", "sbin", "usr"];
const MOUNT_POINTS: [&str; 3] = ["dev", "proc", "sys"];
/// The directories of a job's own, with their modes.
const OWN: [(&str, u32); 5] = [("home", 0o755), ("root", 0o700), ("run", 0o755), ("tmp", 0o1777), ("var", 0o755)];
/// The directories that programs expect in them.
const OWN_BELOW: [(&str, u32); 6] = [
    ("run/lock", 0o1777),
    ("var/cache", 0o755),
    ("var/lib", 0o755),
    ("var/log", 0o755),
    ("var/spool", 0o755),
    ("var/tmp", 0o1777),
];
const LINKS: [(&str, &str); 2] = [("var/lock", "/run/lock"), ("var/run", "/run")];
/// Files of `/etc` that no job sees, also where they are open to every user.
const SECRETS: [&str; 11] = [
    "gshadow",
    "gshadow-",
    "ipsec.secrets",
    "krb5.keytab",
    "letsencrypt",
    "mooring",
    "shadow-",
    "ssl/private",
    "sudoers",
    "sudoers.d",
    "wireguard",
];
/// The users with their passwords. Programs that let users in want one.
const SHADOW: &str = "etc/shadow";
/// The place of the keys of the host's SSH server, and how their names begin.
const SSH: &str = "ssh";
const HOST_KEYS: &str = "ssh_host_";

/// The parts of the host's root that the image lacks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct HostRoot {
    /// Relative to the root, none below another.
    absent: BTreeSet<PathBuf>,
    /// The job's own `/etc/shadow`.
    shadow: String,
}

impl HostRoot {
    /// Surveys an image; `None` for one that is not the root of this host.
    ///
    /// # Errors
    /// It can't be read.
    pub(crate) fn survey(image: &HostPath) -> Result<Option<Self>> {
        let root = HostPath::follow(Path::new("/")).map_err(Error::system("open the root of this host"))?;
        if image.location()?.below(&root.location()?) != Some(Path::new("")) {
            return Ok(None);
        }
        Self::of(&image.path()).map(Some).map_err(Error::system("survey the root of this host"))
    }

    fn of(root: &Path) -> io::Result<Self> {
        let mut absent = BTreeSet::new();
        for entry in fs::read_dir(root)? {
            let name = entry?.file_name();
            let is_known = |known: &str| name == known;
            let stays = KEPT.into_iter().chain(MOUNT_POINTS).chain(OWN.map(|(own, _)| own)).any(is_known);
            if !stays {
                absent.insert(PathBuf::from(name));
            }
        }
        let etc = root.join("etc");
        if etc.symlink_metadata().is_ok_and(|found| found.is_dir()) {
            closed(&etc, Path::new("etc"), &mut absent)?;
            absent.extend(SECRETS.map(|secret| Path::new("etc").join(secret)));
        }
        absent.remove(Path::new(SHADOW));
        let all = absent.clone();
        absent.retain(|path| !path.ancestors().skip(1).any(|above| all.contains(above)));
        let users = fs::read(root.join("etc/passwd")).unwrap_or_default();
        let users = String::from_utf8_lossy(&users);
        let names = users.lines().filter_map(|line| line.split(':').next()).filter(|name| !name.is_empty());
        Ok(Self { absent, shadow: names.map(|name| format!("{name}:*:::::::\n")).collect() })
    }

    /// Makes the image of the host's root by the upper layer of a job that does not execute. What
    /// the job has left there stays.
    ///
    /// # Errors
    /// The layer can't be written.
    pub(crate) fn apply(&self, upper: &Path, image: &Path) -> Result<()> {
        hidden::hide(upper, image, &self.absent)?;
        let shadow = upper.join(SHADOW);
        if shadow.symlink_metadata().is_err() && upper.join("etc").symlink_metadata().is_ok_and(|etc| etc.is_dir()) {
            file::replace(&shadow, Durability::Renamed, Mode::Private, self.shadow.as_bytes())
                .map_err(Error::system(format!("write {}", shadow.display())))?;
        }
        for (own, mode) in OWN {
            let path = upper.join(own);
            match path.symlink_metadata() {
                Ok(found) if found.is_dir() => mount::make_opaque(&path)?,
                // The job has removed or replaced it.
                Ok(_) => {}
                Err(_) => furnish(upper, own, mode)?,
            }
        }
        Ok(())
    }

    /// Returns whether the image has nothing of the host at a path.
    pub(crate) fn lacks(&self, path: &Path) -> bool {
        let mut absent = self.absent.iter().map(PathBuf::as_path).chain(OWN.map(|(own, _)| Path::new(own)));
        absent.any(|absent| path.starts_with(absent))
    }
}

/// Makes a directory of the job's own, with what programs expect in it.
fn furnish(upper: &Path, own: &str, mode: u32) -> Result<()> {
    let attempt = || Error::system(format!("make {}", upper.join(own).display()));
    directory(&upper.join(own), mode).map_err(attempt())?;
    mount::make_opaque(&upper.join(own))?;
    let make = || {
        for (below, mode) in OWN_BELOW.into_iter().filter(|(below, _)| Path::new(below).starts_with(own)) {
            directory(&upper.join(below), mode)?;
        }
        LINKS
            .into_iter()
            .filter(|(link, _)| Path::new(link).starts_with(own))
            .try_for_each(|(link, to)| symlink(to, upper.join(link)))
    };
    make().map_err(attempt())
}

fn directory(path: &Path, mode: u32) -> io::Result<()> {
    fs::create_dir(path)?;
    fs::set_permissions(path, Permissions::from_mode(mode))
}

/// Finds what not every user of the host may read, and the keys of its SSH server.
fn closed(directory: &Path, name: &Path, found: &mut BTreeSet<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let (kind, below) = (entry.file_type()?, name.join(entry.file_name()));
        // A link leads to what it leads to in the image.
        if kind.is_symlink() {
            continue;
        }
        // It may be removed at this moment.
        let Ok(metadata) = entry.metadata() else { continue };
        let open = if kind.is_dir() { 0o005 } else { 0o004 };
        let is_host_key = name.ends_with(SSH) && entry.file_name().as_encoded_bytes().starts_with(HOST_KEYS.as_bytes());
        if metadata.permissions().mode() & open != open || is_host_key {
            found.insert(below);
        } else if kind.is_dir() {
            closed(&entry.path(), &below, found)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &Path, mode: u32) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "").unwrap();
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    fn names(directory: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn programs_are_left_and_secrets_are_not() {
        let world = tempfile::tempdir_in("/var/tmp").unwrap();
        let [root, upper, work, merged] = ["root", "upper", "work", "merged"].map(|name| world.path().join(name));
        for directory in [&upper.join("etc"), &upper.join("root/kept"), &work, &merged] {
            fs::create_dir_all(directory).unwrap();
        }
        for (path, mode) in [
            ("usr/bin/sh", 0o755),
            ("opt/lab/bin/lab", 0o755),
            ("etc/passwd", 0o644),
            ("etc/shadow", 0o644),
            ("etc/ssl/certs/ca.pem", 0o644),
            ("etc/ssl/private/key", 0o644),
            ("etc/ssh/sshd_config", 0o644),
            ("etc/ssh/ssh_host_rsa_key.pub", 0o644),
            ("etc/app/token", 0o600),
            ("etc/app/settings", 0o644),
            ("root/.ssh/id", 0o600),
            ("home/ada/notes", 0o644),
            ("var/lib/db/data", 0o644),
            ("var/tmp/left", 0o644),
            ("run/secret", 0o644),
            ("tmp/left", 0o644),
            ("srv/data", 0o644),
            ("boot/kernel", 0o644),
            ("stray", 0o644),
        ] {
            file(&root.join(path), mode);
        }
        fs::write(root.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\nada:x:1:1::/:/bin/sh\n").unwrap();
        fs::write(root.join("etc/shadow"), "root:$y$hash:1:0:99999:7:::\n").unwrap();
        fs::create_dir(root.join("proc")).unwrap();
        let survey = HostRoot::of(&root).unwrap();
        for (path, is_lacking) in
            [("var/lib/mooring/agent", true), ("srv/data", true), ("opt/lab", false), ("etc", false)]
        {
            assert_eq!(survey.lacks(Path::new(path)), is_lacking, "{path}");
        }
        for _ in 0..2 {
            survey.apply(&upper, &root).unwrap();
        }
        mount::overlay(std::slice::from_ref(&root), &upper, &work, &merged).unwrap();
        assert_eq!(names(&merged), ["etc", "home", "opt", "proc", "root", "run", "tmp", "usr", "var"]);
        assert_eq!(names(&merged.join("etc")), ["app", "passwd", "shadow", "ssh", "ssl"]);
        assert_eq!(names(&merged.join("etc/app")), ["settings"]);
        assert_eq!(names(&merged.join("etc/ssh")), ["sshd_config"]);
        assert_eq!(names(&merged.join("etc/ssl")), ["certs"]);
        assert_eq!(names(&merged.join("root")), ["kept"]);
        assert_eq!(names(&merged.join("var")), ["cache", "lib", "lock", "log", "run", "spool", "tmp"]);
        for empty in ["home", "tmp", "var/lib", "var/tmp"] {
            assert_eq!(names(&merged.join(empty)), Vec::<String>::new(), "{empty}");
        }
        let mode = |path: &str| fs::metadata(merged.join(path)).unwrap().permissions().mode() & 0o7777;
        assert_eq!((mode("tmp"), mode("var/tmp"), mode("run/lock")), (0o1777, 0o1777, 0o1777));
        assert!(merged.join("usr/bin/sh").exists() && merged.join("opt/lab/bin/lab").exists());
        let shadow = fs::read_to_string(merged.join("etc/shadow")).unwrap();
        assert_eq!(shadow, "root:*:::::::\nada:*:::::::\n");
        // A job may make what it lacks.
        fs::write(merged.join("etc/shadow"), "own").unwrap();
        fs::create_dir(merged.join("srv")).unwrap();
        assert_eq!(names(&merged.join("srv")), Vec::<String>::new());
        mount::unmount_below(world.path()).unwrap();
        survey.apply(&upper, &root).unwrap();
        assert_eq!(fs::read_to_string(upper.join("etc/shadow")).unwrap(), "own");
    }

    #[test]
    fn another_directory_is_what_it_is() {
        let world = tempfile::tempdir().unwrap();
        assert_eq!(HostRoot::survey(&HostPath::open(world.path()).unwrap()).unwrap(), None);
        let root = HostRoot::survey(&HostPath::open(Path::new("/")).unwrap()).unwrap().unwrap();
        assert!(root.absent.contains(Path::new("etc/gshadow")) && !root.absent.contains(Path::new("usr")), "{root:?}");
    }
}
