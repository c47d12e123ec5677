//! The open descriptors of a process, by kind.

#![expect(unsafe_code, reason = "the protocol of another process's socket is an attribute, read by a system call")]

use std::collections::{BTreeSet, HashMap};
use std::ffi::CString;
use std::fs::{self, File};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use nix::fcntl::readlinkat;

use crate::epoll;

/// The longest name of a protocol in the kernel.
const PROTOCOL_MAX_BYTES: usize = 64;
const DELETED: &[u8] = b" (deleted)";

/// An open descriptor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Descriptor {
    pub number: i32,
    /// The kernel's link: a path, or the kind and number of an object without one.
    pub target: Vec<u8>,
    pub kind: DescriptorKind,
}

/// The kind of an open descriptor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DescriptorKind {
    /// A socket, with the kernel's name of its protocol: `TCPv6`, `UNIX`, `MPTCP`.
    Socket { protocol: String },
    /// A socket that receives packets of an interface, or of all of them.
    PacketSocket { interface: Option<String> },
    /// A message queue.
    Queue { name: Vec<u8> },
    /// An epoll set, with the numbers of those targets that no process of the job has open.
    Epoll { lost_targets: Vec<i32> },
    /// An object without a file, by the kernel's name: `io_uring`, `perf_event`.
    Object { name: String },
    /// A character device apart from terminals and those of memory.
    Device { path: Vec<u8> },
    /// A file of which no name is left.
    Deleted { bytes: u64 },
    /// Any other file, a pipe, a directory.
    Other,
}

/// Reads descriptors of several processes, of which many may share their sockets.
pub(super) struct Reader<'a> {
    queues: &'a BTreeSet<(u64, u64)>,
    /// The kind of each socket by its inode.
    sockets: HashMap<u64, DescriptorKind>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(queues: &'a BTreeSet<(u64, u64)>) -> Self {
        Self { queues, sockets: HashMap::new() }
    }

    /// Reads the descriptors of a process; none where it does not exist.
    pub(super) fn read(&mut self, pid: i32) -> Vec<Descriptor> {
        let path = format!("/proc/{pid}/fd");
        // Names are looked up in the open directory: thousands of whole paths take longer.
        let Ok(directory) = File::open(&path) else { return Vec::new() };
        let entries = fs::read_dir(path).into_iter().flatten().flatten();
        let read = |entry: fs::DirEntry| {
            let name = entry.file_name();
            let number = name.to_str()?.parse().ok()?;
            let target = readlinkat(&directory, name.as_os_str()).ok()?.into_vec();
            Some(Descriptor { number, kind: self.kind(pid, number, &target)?, target })
        };
        entries.filter_map(read).collect()
    }

    fn kind(&mut self, pid: i32, number: i32, target: &[u8]) -> Option<DescriptorKind> {
        let path = || format!("/proc/{pid}/fd/{number}");
        if let Some(inode) = target.strip_prefix(b"socket:[") {
            let inode = std::str::from_utf8(inode.strip_suffix(b"]")?).ok()?.parse().ok()?;
            return self.socket(pid, number, inode);
        }
        if let Some(name) = target.strip_prefix(b"anon_inode:") {
            let name = name.strip_prefix(b"[").and_then(|name| name.strip_suffix(b"]")).unwrap_or(name);
            let name = String::from_utf8_lossy(name).into_owned();
            return Some(match name.as_str() {
                "eventpoll" => {
                    let lost = epoll::lost_targets(epoll::Descriptor { pid, number });
                    DescriptorKind::Epoll { lost_targets: lost.into_iter().map(|target| target.number).collect() }
                }
                _ => DescriptorKind::Object { name },
            });
        }
        if !target.starts_with(b"/") {
            return Some(DescriptorKind::Other);
        }
        Some(self.file(path, target))
    }

    fn socket(&mut self, pid: i32, number: i32, inode: u64) -> Option<DescriptorKind> {
        if let Some(known) = self.sockets.get(&inode) {
            return Some(known.clone());
        }
        let protocol = protocol(&format!("/proc/{pid}/fd/{number}"))?;
        let kind = match protocol.as_str() {
            "PACKET" => DescriptorKind::PacketSocket { interface: interface_of(pid, inode) },
            _ => DescriptorKind::Socket { protocol },
        };
        self.sockets.insert(inode, kind.clone());
        Some(kind)
    }

    /// Looks closer at files that may be more than they seem.
    fn file(&self, path: impl Fn() -> String, target: &[u8]) -> DescriptorKind {
        let may_be_device = target.starts_with(b"/dev/") && target != b"/dev/null" && !target.starts_with(b"/dev/pts/");
        if self.queues.is_empty() && !may_be_device && !target.ends_with(DELETED) {
            return DescriptorKind::Other;
        }
        let Ok(metadata) = fs::metadata(path()) else { return DescriptorKind::Other };
        if self.queues.contains(&(metadata.dev(), metadata.ino())) {
            let name = target.rsplit(|byte| *byte == b'/').next().unwrap_or(target);
            return DescriptorKind::Queue { name: name.to_vec() };
        }
        if metadata.file_type().is_char_device() && !is_plain(metadata.rdev()) {
            return DescriptorKind::Device { path: target.to_vec() };
        }
        // A memfd is a deleted file of the kernel's own, which has no name either.
        match metadata.is_file() && metadata.nlink() == 0 && !target.starts_with(b"/memfd:") {
            true => DescriptorKind::Deleted { bytes: metadata.size() },
            false => DescriptorKind::Other,
        }
    }
}

/// Says whether a device is memory (`/dev/zero`, `/dev/urandom`) or a terminal.
fn is_plain(device: u64) -> bool {
    // Documentation/admin-guide/devices.txt
    const MEMORY: u32 = 1;
    const TERMINALS: [u32; 2] = [4, 5];
    const PTYS: std::ops::RangeInclusive<u32> = 128..=143;
    let major = libc::major(device);
    major == MEMORY || TERMINALS.contains(&major) || PTYS.contains(&major)
}

/// Returns the kernel's name of a socket's protocol.
fn protocol(path: &str) -> Option<String> {
    let path = CString::new(path).ok()?;
    let mut name = [0_u8; PROTOCOL_MAX_BYTES];
    let attribute = c"system.sockprotoname".as_ptr();
    // SAFETY: both strings end with a zero byte, the kernel writes at most `name.len()` bytes, and
    // all of them live for the call.
    let size = unsafe { libc::getxattr(path.as_ptr(), attribute, name.as_mut_ptr().cast(), name.len()) };
    let name = name.get(..usize::try_from(size).ok()?)?;
    Some(String::from_utf8_lossy(name.strip_suffix(b"\0").unwrap_or(name)).into_owned())
}

/// Returns the interface of a packet socket. Returns `None` for all interfaces.
fn interface_of(pid: i32, inode: u64) -> Option<String> {
    // sk RefCnt Type Proto Iface R Rmem User Inode
    let sockets = fs::read_to_string(format!("/proc/{pid}/net/packet")).ok()?;
    let mut sockets = sockets.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    let index = sockets.find(|fields| fields.get(8).is_some_and(|field| *field == inode.to_string()))?[4].to_owned();
    // The only list of an interface's number and name that needs no system call in the namespace.
    let interfaces = fs::read_to_string(format!("/proc/{pid}/net/igmp")).ok()?;
    let mut interfaces = interfaces.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let of_index = interfaces.find(|fields| fields.first() == Some(&index.as_str()) && index != "0")?;
    of_index.get(1).map(|name| (*name).to_owned())
}
