//! Network namespaces that exist as files: a bind mount keeps a namespace alive without a process
//! in it.

#![expect(unsafe_code, reason = "a child enters its namespace between fork and exec")]

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::statfs::{NSFS_MAGIC, statfs};

use crate::{Error, Result};

/// The entries of a job's own table of TCP connections. More connections than that share entries.
const TABLE_ENTRIES: u32 = 16384;
const TABLE_ENTRIES_SETTING: &str = "tcp_child_ehash_entries";
/// The limits that the kernel makes smaller for a smaller table; a job keeps those of its host.
const LIMITS_BY_TABLE: [&str; 2] = ["tcp_max_tw_buckets", "tcp_max_syn_backlog"];

/// Makes a network namespace at `path`, with its loopback up, unless one exists there.
pub fn create(path: &Path) -> Result<()> {
    make(path, unshared)
}

/// Makes a network namespace like [`create`], with a table of TCP connections of its own.
///
/// To list a namespace's sockets the kernel walks through the whole table, which all namespaces
/// share otherwise. That takes 14 ms instead of one where the common table has 262,144 entries.
/// Kernels before 6.1 have no other.
pub fn create_with_own_table(path: &Path) -> Result<()> {
    make(path, || {
        // The table follows a setting of the namespace in which another one is made. So that is
        // done in a namespace which ends at once, and the host's setting stays.
        let limits = LIMITS_BY_TABLE.map(|name| (name, fs::read_to_string(sysctl_path(name))));
        unshared()?;
        let own_table = fs::write(sysctl_path(TABLE_ENTRIES_SETTING), TABLE_ENTRIES.to_string());
        unshared()?;
        if own_table.is_ok() {
            for (name, limit) in limits {
                let set = limit.and_then(|limit| fs::write(sysctl_path(name), limit));
                set.map_err(Error::system(format!("set {name}")))?;
            }
        }
        Ok(())
    })
}

fn sysctl_path(name: &str) -> PathBuf {
    Path::new("/proc/sys/net/ipv4").join(name)
}

/// Moves the calling thread into a new namespace.
fn unshared() -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNET).map_err(Error::errno("make a network namespace"))
}

/// Makes a namespace that `enter_new` leads the calling thread into.
fn make(path: &Path, enter_new: impl FnOnce() -> Result<()> + Send) -> Result<()> {
    if exists(path) {
        return Ok(());
    }
    let attempt = || format!("make network namespace {}", path.display());
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(Error::system(attempt()))?;
    }
    File::create(path).map_err(Error::system(attempt()))?;
    in_fresh_thread(|| {
        enter_new()?;
        mount(Some("/proc/thread-self/ns/net"), path, None::<&str>, MsFlags::MS_BIND, None::<&str>)
            .map_err(Error::errno(attempt()))
    })?;
    let mut up = Command::new("ip");
    up.args(["link", "set", "lo", "up"]);
    enter_command(&mut up, path)?;
    let status = up.status().map_err(Error::system("run `ip`"))?;
    if status.success() {
        return Ok(());
    }
    delete(path)?;
    Err(Error::Tool { tool: "ip link set lo up".into(), said: status.to_string() })
}

/// Says whether a namespace exists at `path`.
#[must_use]
pub fn exists(path: &Path) -> bool {
    statfs(path).is_ok_and(|found| found.filesystem_type() == NSFS_MAGIC)
}

/// Removes the namespace at `path`. It ends once no process is in it.
pub fn delete(path: &Path) -> Result<()> {
    while exists(path) {
        umount2(path, MntFlags::MNT_DETACH).map_err(Error::errno(format!("unmount {}", path.display())))?;
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::system(format!("remove {}", path.display()))(error))
        }
        _ => Ok(()),
    }
}

/// Moves a link of this namespace into the one at `path`.
pub fn move_link(link: &str, path: &Path) -> Result<()> {
    ip_of_process(path, |process| ["link", "set", link, "netns", process].map(str::to_owned).to_vec())
}

/// Makes a link in the namespace at `path`, under a number that nothing there has. Its other end,
/// `peer`, is in this namespace.
pub fn add_link(link: &str, number: u32, path: &Path, peer: &str) -> Result<()> {
    let number = number.to_string();
    ip_of_process(path, |process| {
        let arguments = ["link", "add", link, "index", &number, "netns", process, "type", "veth", "peer", "name", peer];
        arguments.map(str::to_owned).to_vec()
    })
}

/// Runs an `ip` command that names the namespace at `path` by a process in it.
fn ip_of_process(path: &Path, arguments: impl FnOnce(&str) -> Vec<String>) -> Result<()> {
    // `ip` knows no file of a namespace. This process ends with its standard input.
    let mut anchor = Command::new("cat");
    anchor.stdin(Stdio::piped()).stdout(Stdio::null());
    enter_command(&mut anchor, path)?;
    let mut anchor = anchor.spawn().map_err(Error::system("run `cat`"))?;
    let arguments = arguments(&anchor.id().to_string());
    let ran = Command::new("ip").args(&arguments).output().map_err(Error::system("run `ip`"));
    drop(anchor.stdin.take());
    let waited = anchor.wait().map_err(Error::system("wait for `cat`"));
    let ran = ran?;
    waited?;
    if ran.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&ran.stderr).trim().to_owned();
    Err(Error::Tool { tool: format!("ip {}", arguments.join(" ")), said })
}

/// Runs `work` on a thread that has entered the namespace at `path`.
///
/// # Panics
/// `work` panicked.
pub fn run_in<T: Send>(path: &Path, work: impl FnOnce() -> T + Send) -> Result<T> {
    in_fresh_thread(|| {
        enter(path)?;
        Ok(work())
    })
}

/// Moves the calling thread into the namespace at `path` for good. Meant for threads that belong to
/// one namespace, like those of a runtime; [`run_in`] serves all other purposes.
pub fn enter(path: &Path) -> Result<()> {
    let namespace = open(path)?;
    setns(namespace.as_fd(), CloneFlags::CLONE_NEWNET)
        .map_err(Error::errno(format!("enter network namespace {}", path.display())))
}

/// Makes `command` run in the namespace at `path`.
pub fn enter_command(command: &mut Command, path: &Path) -> Result<()> {
    let namespace = open(path)?;
    // SAFETY: the closure makes a single system call on a descriptor that it owns; it allocates
    // nothing and takes no lock.
    unsafe {
        command.pre_exec(move || setns(namespace.as_fd(), CloneFlags::CLONE_NEWNET).map_err(Into::into));
    }
    Ok(())
}

fn open(path: &Path) -> Result<File> {
    File::open(path).map_err(Error::system(format!("open network namespace {}", path.display())))
}

/// A thread that changes namespaces is thrown away afterwards.
fn in_fresh_thread<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    thread::scope(|scope| match scope.spawn(work).join() {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}
