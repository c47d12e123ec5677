//! The name servers of a job: those of its host.
//!
//! Hosts may be in different networks, and a job may be suspended for longer than a name server
//! lasts. So a restored job gets the name servers of its new host before it executes. What it was
//! given is kept in `/.mooring`: a file that the job or its user has changed since stays as it is.
//!
//! The file is written in place, after the restore. CRIU compares the sizes of open files, and a
//! program that watches the file notices.

use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::net::IpAddr;
use std::path::Path;

use mooring_ops::log::chain;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};

use super::job_dir::JobDir;
use crate::error::{Error, Result};

/// The job's file, below its root.
const FILE: &str = "etc/resolv.conf";
/// The text that the job was given.
const GIVEN: &str = ".mooring/resolv.conf";
/// The files of a host, the best first. The second may name a resolver of the host's own, whose
/// servers are in one of the others.
const OF_HOST: [&str; 4] = [
    "/run/systemd/resolve/resolv.conf",
    "/etc/resolv.conf",
    "/run/NetworkManager/no-stub-resolv.conf",
    "/run/dnsmasq/resolv.conf",
];
/// The longest file that is compared; a longer one is the job's own.
const MAX_BYTES: u64 = 64 << 10;

/// Writes the file of a new job into its upper layer, where the directories exist.
pub(crate) fn give(upper: &Path) -> io::Result<()> {
    let text = of_host();
    fs::write(upper.join(FILE), &text)?;
    fs::write(upper.join(GIVEN), &text)
}

/// Gives a restored job, which does not execute yet, the name servers of this host. A failure is
/// logged: the job keeps those that it has.
pub(crate) fn renew(job_dir: &JobDir) {
    if let Err(error) = renew_with(&job_dir.root(), &of_host()) {
        tracing::warn!(error = %chain(&error), "{} keeps the name servers of another host", job_dir.container());
    }
}

fn renew_with(root: &Path, text: &str) -> Result<()> {
    let failed = || Error::system(format!("write {FILE} below {}", root.display()));
    let (Some(mut given), Some(mut file)) = (open(root, GIVEN), open(root, FILE)) else { return Ok(()) };
    let had = read(&given).map_err(failed())?;
    if had == text.as_bytes() || read(&file).map_err(failed())? != had {
        return Ok(());
    }
    for file in [&mut file, &mut given] {
        let written = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| file.write_all(text.as_bytes()));
        written.map_err(failed())?;
    }
    Ok(())
}

/// Opens a regular file of the job, without following a link. `None` where there is none.
fn open(root: &Path, below: &str) -> Option<File> {
    let beneath = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS;
    let how = OpenHow::new().flags(OFlag::O_RDWR | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC).resolve(beneath);
    let file = File::from(openat2(File::open(root).ok()?, below, how).ok()?);
    file.metadata().is_ok_and(|found| found.is_file()).then_some(file)
}

fn read(file: &File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(MAX_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The configuration of this host for jobs.
fn of_host() -> String {
    let texts = OF_HOST.into_iter().filter_map(|file| fs::read(file).ok());
    let text = for_jobs(texts.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()));
    if !text.lines().any(|line| server(line).is_some()) {
        tracing::warn!("jobs here resolve no names: this host has only a resolver of its own, which they can't reach");
    }
    text
}

/// The first of these configurations that has a name server which a job can reach, without all
/// others. Where none has one, the file says so.
fn for_jobs(texts: impl Iterator<Item = String>) -> String {
    let reachable = |line: &str| server(line).is_none_or(can_be_reached);
    let mut first = None;
    for text in texts {
        let kept: String = text.lines().filter(|line| reachable(line)).flat_map(|line| [line, "\n"]).collect();
        if kept.lines().any(|line| server(line).is_some()) {
            return kept;
        }
        first.get_or_insert(kept);
    }
    format!("# The host has only a resolver of its own, which jobs can't reach.\n{}", first.unwrap_or_default())
}

/// The server that a line names.
fn server(line: &str) -> Option<&str> {
    let mut words = line.split_ascii_whitespace();
    words.next().filter(|word| *word == "nameserver").and(words.next())
}

/// Returns whether a job, which has a network of its own, can reach a server of its host.
fn can_be_reached(server: &str) -> bool {
    // A zone is an interface of the host.
    let Ok(address) = server.parse::<IpAddr>() else { return !server.contains('%') };
    match address.to_canonical() {
        IpAddr::V4(address) => !address.is_loopback() && !address.is_unspecified(),
        IpAddr::V6(address) => !address.is_loopback() && !address.is_unspecified() && !address.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, symlink};

    use super::*;

    fn of(texts: &[&str]) -> String {
        for_jobs(texts.iter().map(|text| (*text).to_owned()))
    }

    #[test]
    fn servers_that_a_job_can_reach_are_kept() {
        let text = "# comment\nsearch a.example\nnameserver 10.0.0.1\nnameserver\t2001:db8::1\noptions ndots:2\n";
        assert_eq!(of(&[text]), text);
        for local in [
            "nameserver 127.0.0.53",
            "nameserver\t127.0.0.53",
            "nameserver \t 127.1.2.3 # own",
            " nameserver 127.0.0.1",
            "nameserver ::1",
            "nameserver 0.0.0.0",
            "nameserver ::",
            "nameserver ::ffff:127.0.0.1",
            "nameserver fe80::1%eth0",
            "nameserver fe80::1",
        ] {
            assert_eq!(of(&[&format!("{local}\nnameserver 10.0.0.1")]), "nameserver 10.0.0.1\n", "{local}");
        }
    }

    #[test]
    fn a_host_with_only_a_local_resolver_has_its_servers_elsewhere_or_says_so() {
        let local = "nameserver 127.0.0.1\nsearch a.example\n";
        assert_eq!(of(&[local, "nameserver 10.0.0.1"]), "nameserver 10.0.0.1\n");
        let none = of(&[local, "nameserver\n", ""]);
        assert!(none.starts_with("# The host has only") && none.ends_with("\nsearch a.example\n"), "{none}");
        assert!(of(&[]).starts_with("# "));
    }

    #[test]
    fn what_the_job_has_changed_stays() {
        let world = tempfile::tempdir().unwrap();
        let root = world.path().join("root");
        for directory in ["etc", ".mooring"] {
            fs::create_dir_all(root.join(directory)).unwrap();
        }
        let now = || fs::read_to_string(root.join(FILE)).unwrap();
        // A job of an older agent: what it was given is not known.
        fs::write(root.join(FILE), "nameserver 10.0.0.1\n").unwrap();
        renew_with(&root, "nameserver 10.0.0.2\n").unwrap();
        assert_eq!(now(), "nameserver 10.0.0.1\n");

        fs::write(root.join(GIVEN), now()).unwrap();
        let inode = fs::metadata(root.join(FILE)).unwrap().ino();
        for text in ["nameserver 10.0.0.2\nsearch a\n", "nameserver 10.0.0.3\n"] {
            renew_with(&root, text).unwrap();
            renew_with(&root, text).unwrap();
            assert_eq!((now(), fs::metadata(root.join(FILE)).unwrap().ino()), (text.to_owned(), inode));
        }
        fs::write(root.join(FILE), "nameserver 10.9.9.9\n").unwrap();
        renew_with(&root, "nameserver 10.0.0.4\n").unwrap();
        assert_eq!(now(), "nameserver 10.9.9.9\n");

        // Other kinds of files in its place.
        let outside = world.path().join("outside");
        fs::write(&outside, fs::read(root.join(GIVEN)).unwrap()).unwrap();
        fs::remove_file(root.join(FILE)).unwrap();
        symlink(&outside, root.join(FILE)).unwrap();
        renew_with(&root, "nameserver 10.0.0.5\n").unwrap();
        assert_eq!(fs::read_to_string(&outside).unwrap(), "nameserver 10.0.0.3\n");
        fs::remove_file(root.join(FILE)).unwrap();
        nix::unistd::mkfifo(&root.join(FILE), nix::sys::stat::Mode::S_IRWXU).unwrap();
        renew_with(&root, "nameserver 10.0.0.5\n").unwrap();
        fs::remove_dir_all(root.join("etc")).unwrap();
        renew_with(&root, "nameserver 10.0.0.5\n").unwrap();
    }
}
