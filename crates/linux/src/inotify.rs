//! inotify instances of other processes, and their watches.
//!
//! An instance is reached by a descriptor that is copied from its process. It stays one instance:
//! a watch that is added here is the process's own.

#![expect(unsafe_code, reason = "inotify is set by system calls")]

use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::Path;

use crate::connections::{pidfd_getfd, pidfd_open};
use crate::file_handle::FileHandle;
use crate::process_tree::own_pid;

/// The name that the kernel gives to an instance.
const LINK: &str = "anon_inode:inotify";
/// The request that sets the number of the next watch (`linux/inotify.h`).
const INOTIFY_IOC_SETNEXTWD: libc::c_ulong = 0x4004_4900;
const EVENTS_BYTES: usize = 64 << 10;

/// An inotify instance, by a descriptor of a process.
#[derive(Debug)]
pub struct Inotify {
    /// The kernel's id of the process.
    pub pid: i32,
    /// The id of the process as it sees itself.
    pub own_pid: i32,
    pub descriptor: RawFd,
    instance: OwnedFd,
}

/// A watch of an instance, as `/proc/PID/fdinfo` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watch {
    /// The number by which events name it.
    pub number: i32,
    /// The device number in the kernel's own encoding.
    pub device: u32,
    pub inode: u64,
    pub mask: u32,
    pub handle: FileHandle,
}

/// Finds the inotify instances that processes have open. One that several descriptors lead to is
/// found several times.
#[must_use]
pub fn find(pids: &[i32]) -> Vec<Inotify> {
    // A process may end at any time.
    pids.iter().flat_map(|pid| find_in(*pid).unwrap_or_default()).collect()
}

fn find_in(pid: i32) -> io::Result<Vec<Inotify>> {
    let (mut found, mut process) = (Vec::new(), None);
    for entry in fs::read_dir(format!("/proc/{pid}/fd"))?.flatten() {
        let Some(descriptor) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        if !is_instance(entry.path()) {
            continue;
        }
        let Some(own_pid) = own_pid(pid) else { break };
        let process = match &process {
            Some(opened) => opened,
            None => process.insert(pidfd_open(pid)?),
        };
        found.push(Inotify { pid, own_pid, descriptor, instance: pidfd_getfd(process, descriptor)? });
    }
    Ok(found)
}

fn is_instance(link: impl AsRef<Path>) -> bool {
    fs::read_link(link).is_ok_and(|leads| leads.as_os_str() == LINK)
}

impl Inotify {
    /// Opens the instance that a process has as a descriptor.
    ///
    /// # Errors
    /// The process has ended, or the descriptor is none of an inotify instance.
    pub fn open(pid: i32, own_pid: i32, descriptor: RawFd) -> io::Result<Self> {
        if !is_instance(format!("/proc/{pid}/fd/{descriptor}")) {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(Self { pid, own_pid, descriptor, instance: pidfd_getfd(&pidfd_open(pid)?, descriptor)? })
    }

    /// Reads the watches that have a handle; kernels before 6.6 show none of an overlay.
    #[must_use]
    pub fn watches(&self) -> Vec<Watch> {
        let shown = fs::read(format!("/proc/self/fdinfo/{}", self.instance.as_raw_fd())).unwrap_or_default();
        let lines = shown.split(|byte| *byte == b'\n').filter_map(|line| std::str::from_utf8(line).ok());
        lines.filter_map(read).collect()
    }

    /// Returns whether the process still has the instance as that descriptor.
    #[must_use]
    pub fn is_open(&self) -> bool {
        is_instance(format!("/proc/{}/fd/{}", self.pid, self.descriptor))
    }

    /// Returns whether events wait to be read.
    #[must_use]
    pub fn has_events(&self) -> bool {
        let mut bytes: libc::c_int = 0;
        // SAFETY: the request writes an integer, which lives for the call.
        let answer = unsafe { libc::ioctl(self.instance.as_raw_fd(), libc::FIONREAD, &raw mut bytes) };
        answer == 0 && bytes > 0
    }

    /// Reads all events that wait; returns whether there were any.
    ///
    /// # Errors
    /// The kernel refuses to read.
    pub fn drain(&self) -> io::Result<bool> {
        let mut any = false;
        while self.has_events() {
            any = true;
            let mut events = [0; EVENTS_BYTES];
            nix::unistd::read(&self.instance, &mut events)?;
        }
        Ok(any)
    }

    /// Removes a watch, which the instance tells its process by an event.
    ///
    /// # Errors
    /// There is no such watch.
    pub fn remove(&self, number: i32) -> io::Result<()> {
        // SAFETY: the call takes two integers.
        let answer = unsafe { libc::inotify_rm_watch(self.instance.as_raw_fd(), number) };
        if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Adds a watch with this number for an open file, or sets the mask of that watch.
    ///
    /// # Errors
    /// The file is watched under another number, another watch has this one, or the kernel refuses.
    pub fn add(&self, number: i32, mask: u32, file: &File) -> io::Result<()> {
        self.number_next(number)?;
        let path = CString::new(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
        // SAFETY: the path ends with NUL and lives for the call.
        let answer = unsafe { libc::inotify_add_watch(self.instance.as_raw_fd(), path.as_ptr(), mask) };
        match answer {
            added if added == number => Ok(()),
            added if added < 0 => Err(io::Error::last_os_error()),
            added => Err(io::Error::other(format!("the kernel numbers it {added}"))),
        }
    }

    /// Sets the number of the watch that is added next.
    ///
    /// # Errors
    /// The kernel refuses: it was built without support for checkpoints.
    pub fn number_next(&self, number: i32) -> io::Result<()> {
        // SAFETY: the request takes an integer.
        let answer = unsafe { libc::ioctl(self.instance.as_raw_fd(), INOTIFY_IOC_SETNEXTWD as _, number) };
        if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

/// Parses a line like `inotify wd:1 ino:20454d sdev:2d mask:fc6 ignored_mask:0 fhandle-bytes:20
/// fhandle-type:f8 f_handle:00…`.
fn read(line: &str) -> Option<Watch> {
    let fields = line.strip_prefix("inotify ")?;
    let field = |name: &str| fields.split(' ').find_map(|field| field.strip_prefix(name)?.strip_prefix(':'));
    let number = |name: &str| u64::from_str_radix(field(name)?, 16).ok();
    let digits = field("f_handle")?.as_bytes().chunks(2);
    let bytes: Option<Vec<u8>> =
        digits.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect();
    Some(Watch {
        number: i32::try_from(number("wd")?).ok()?,
        device: u32::try_from(number("sdev")?).ok()?,
        inode: number("ino")?,
        mask: u32::try_from(number("mask")?).ok()?,
        handle: FileHandle { kind: i32::try_from(number("fhandle-type")?).ok()?, bytes: bytes? },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read() {
        let line = "inotify wd:7 ino:20454d sdev:2d mask:fc6 ignored_mask:0 fhandle-bytes:20 fhandle-type:f8 f_handle:00000000fb1d0401";
        let handle = FileHandle { kind: 0xf8, bytes: vec![0, 0, 0, 0, 0xfb, 0x1d, 4, 1] };
        let watch = Watch { number: 7, device: 0x2d, inode: 0x0020_454d, mask: 0xfc6, handle };
        assert_eq!(read(line), Some(watch));
        for none in ["pos:\t0", "inotify wd:1", "inotify wd:1 ino:1 sdev:1 mask:1 fhandle-type:1 f_handle:0g"] {
            assert_eq!(read(none), None, "{none}");
        }
    }

    #[test]
    fn a_watch_is_removed_and_added_with_its_number() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        fs::write(&path, "").unwrap();
        // SAFETY: the call takes an integer, and the descriptor that it makes is this test's.
        let made = unsafe { libc::inotify_init1(libc::IN_NONBLOCK | libc::IN_CLOEXEC) };
        let pid = i32::try_from(std::process::id()).unwrap();
        let inotify = find(&[pid]).into_iter().find(|found| found.descriptor == made).unwrap();
        let mask = libc::IN_ATTRIB | libc::IN_EXCL_UNLINK;
        inotify.add(5, mask, &File::open(&path).unwrap()).unwrap();
        inotify.add(9, libc::IN_CREATE, &File::open(directory.path()).unwrap()).unwrap();
        let mut numbers: Vec<i32> = inotify.watches().iter().map(|watch| watch.number).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, [5, 9]);
        let watch = inotify.watches().into_iter().find(|watch| watch.number == 5).unwrap();
        assert_eq!((watch.mask, Some(watch.handle)), (mask, FileHandle::of(&path)));
        assert!(!inotify.has_events() && !inotify.drain().unwrap());
        fs::set_permissions(&path, fs::metadata(&path).unwrap().permissions()).unwrap();
        assert!(inotify.drain().unwrap() && !inotify.has_events());

        inotify.remove(5).unwrap();
        assert!(inotify.has_events(), "the process would be told");
        inotify.drain().unwrap();
        inotify.add(5, mask, &File::open(&path).unwrap()).unwrap();
        assert_eq!(inotify.watches().len(), 2);
        assert!(inotify.add(9, mask, &File::open(&path).unwrap()).is_err(), "it has another number");
        assert!(Inotify::open(pid, pid, 0).is_err());
        nix::unistd::close(made).unwrap();
    }
}
