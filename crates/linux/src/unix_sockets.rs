//! The unix sockets of a network namespace: those that are bound to files, and connections that
//! wait to be accepted.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::sys::socket::{AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, socket};

use crate::{Error, Result, netns};

/// A socket that is bound to a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BoundSocket {
    /// The name that it was bound to, which may lead elsewhere or nowhere by now.
    pub name: PathBuf,
    /// The device of the file's file system, in the kernel's own encoding.
    pub device: u32,
    /// The lower 32 bits of the file's inode number: the kernel tells no more.
    pub inode: u32,
}

/// A socket with connections that are not accepted, on which something was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unaccepted {
    /// The number of the listening socket.
    pub inode: u32,
    /// The name that it was bound to; one without a file begins with `@`.
    pub name: Vec<u8>,
    pub connections: usize,
}

/// A socket as the kernel lists it.
#[derive(Debug, Default)]
struct Listed {
    inode: u32,
    state: u8,
    name: Vec<u8>,
    /// The inode number and the device.
    file: Option<(u32, u32)>,
    /// The numbers of the sockets that wait to be accepted.
    waiting: Vec<u32>,
    /// The bytes that are sent and not read.
    unread: u32,
}

const LISTEN: u8 = 10;
const HEADER_BYTES: usize = 16;
const MESSAGE_BYTES: usize = 16;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const REQUEST_DUMP: u16 = 0x301;
const ERROR: u16 = 2;
const DONE: u16 = 3;
/// The attributes that are asked for: name, file, waiting connections and queues.
const SHOW: u32 = 1 | 2 | 8 | 16;
const ATTRIBUTE_NAME: u16 = 0;
const ATTRIBUTE_FILE: u16 = 1;
const ATTRIBUTE_WAITING: u16 = 3;
const ATTRIBUTE_QUEUES: u16 = 4;
const BUFFER_BYTES: usize = 64 << 10;

/// Returns the sockets of the namespace at `path` that are bound to files.
///
/// # Errors
/// The kernel does not answer, or lacks the interface.
pub fn bound(namespace: &Path) -> Result<Vec<BoundSocket>> {
    let bound = |socket: Listed| {
        // The name of a socket without a file begins with NUL.
        let name = Some(socket.name).filter(|name| name.first().is_some_and(|byte| *byte != 0))?;
        let end = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
        let (inode, device) = socket.file?;
        Some(BoundSocket { name: PathBuf::from(OsStr::from_bytes(&name[..end])), device, inode })
    };
    Ok(netns::run_in(namespace, ask)??.into_iter().filter_map(bound).collect())
}

/// Returns the sockets of the namespace at `path` with connections that are not accepted, and on
/// which something was sent.
///
/// # Errors
/// The kernel does not answer, or lacks the interface.
pub fn unaccepted(namespace: &Path) -> Result<Vec<Unaccepted>> {
    let sockets = netns::run_in(namespace, ask)??;
    let unread: HashMap<u32, u32> = sockets.iter().map(|socket| (socket.inode, socket.unread)).collect();
    let waits = |inode: &&u32| unread.get(inode).is_some_and(|bytes| *bytes > 0);
    let of = |socket: &Listed| {
        let connections = socket.waiting.iter().filter(waits).count();
        let mut name = socket.name.clone();
        if let Some(first) = name.first_mut().filter(|byte| **byte == 0) {
            *first = b'@';
        }
        name.truncate(name.iter().position(|byte| *byte == 0).unwrap_or(name.len()));
        (connections > 0).then_some(Unaccepted { inode: socket.inode, name, connections })
    };
    Ok(sockets.iter().filter(|socket| socket.state == LISTEN).filter_map(of).collect())
}

fn ask() -> Result<Vec<Listed>> {
    let failed = || Error::errno("list the unix sockets of a job");
    let netlink = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkSockDiag)
        .map_err(failed())?;
    let mut request = Vec::new();
    request.extend_from_slice(&40_u32.to_ne_bytes());
    request.extend_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    request.extend_from_slice(&REQUEST_DUMP.to_ne_bytes());
    // Sequence and sender, then family, protocol, all states, any socket, attributes and cookie.
    request.extend_from_slice(&[0; 8]);
    request.extend_from_slice(&[libc::AF_UNIX as u8, 0, 0, 0]);
    request.extend_from_slice(&u32::MAX.to_ne_bytes());
    request.extend_from_slice(&0_u32.to_ne_bytes());
    request.extend_from_slice(&SHOW.to_ne_bytes());
    request.extend_from_slice(&[0; 8]);
    sendto(netlink.as_raw_fd(), &request, &NetlinkAddr::new(0, 0), MsgFlags::empty()).map_err(failed())?;
    let mut sockets = Vec::new();
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let length = recv(netlink.as_raw_fd(), &mut buffer, MsgFlags::empty()).map_err(failed())?;
        let mut rest = &buffer[..length];
        while let Some((kind, body, next)) = record(rest, HEADER_BYTES) {
            match kind {
                DONE => return Ok(sockets),
                ERROR => return Err(failed()(nix::Error::EOPNOTSUPP)),
                _ => sockets.extend(parse(body)),
            }
            rest = next;
        }
    }
}

/// Splits the next message or attribute off: its kind, its content and the rest.
fn record(bytes: &[u8], header: usize) -> Option<(u16, &[u8], &[u8])> {
    // A message has a length of four bytes, an attribute one of two; the kind follows.
    let (length, kind) = if header == HEADER_BYTES {
        (u32::from_ne_bytes(bytes.get(..4)?.try_into().ok()?) as usize, bytes.get(4..6)?)
    } else {
        (u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?).into(), bytes.get(2..4)?)
    };
    let body = bytes.get(header..length)?;
    let next = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    Some((u16::from_ne_bytes(kind.try_into().ok()?), body, next))
}

fn parse(message: &[u8]) -> Option<Listed> {
    let number = |bytes: &[u8], at: usize| Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let mut socket = Listed { inode: number(message, 4)?, state: *message.get(2)?, ..Listed::default() };
    let mut attributes = message.get(MESSAGE_BYTES..)?;
    while let Some((kind, body, next)) = record(attributes, 4) {
        match kind {
            ATTRIBUTE_NAME => socket.name = body.to_vec(),
            ATTRIBUTE_FILE => socket.file = number(body, 0).zip(number(body, 4)),
            ATTRIBUTE_WAITING => socket.waiting = (0..body.len() / 4).filter_map(|at| number(body, at * 4)).collect(),
            ATTRIBUTE_QUEUES => socket.unread = number(body, 4)?,
            _ => {}
        }
        attributes = next;
    }
    Some(socket)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;
    use std::os::unix::fs::MetadataExt;
    use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};

    use super::*;
    use crate::mount;

    #[test]
    fn renamed_socket_is_found_by_its_file() {
        let directory = tempfile::tempdir().unwrap();
        let (first, renamed) = (directory.path().join("first"), directory.path().join("renamed"));
        let _listener = UnixListener::bind(&first).unwrap();
        let _datagram = UnixDatagram::bind(directory.path().join("datagram")).unwrap();
        let _pair = UnixDatagram::pair().unwrap();
        fs::rename(&first, &renamed).unwrap();
        let mut ours = bound(Path::new("/proc/thread-self/ns/net")).unwrap();
        ours.retain(|socket| socket.name.starts_with(directory.path()));
        ours.sort_by(|a, b| a.name.cmp(&b.name));
        let inode = |path: &Path| fs::symlink_metadata(path).unwrap().ino() as u32;
        let device = mount::kernel_device(fs::metadata(directory.path()).unwrap().dev());
        let datagram = directory.path().join("datagram");
        assert_eq!(
            ours,
            [
                BoundSocket { device, inode: inode(&datagram), name: datagram },
                BoundSocket { device, inode: inode(&renamed), name: first },
            ]
        );
    }

    #[test]
    fn connections_that_wait_with_something_sent_are_found() {
        let directory = tempfile::tempdir().unwrap();
        let name = directory.path().join("listener");
        let listener = UnixListener::bind(&name).unwrap();
        let ours = || {
            let mut found = unaccepted(Path::new("/proc/thread-self/ns/net")).unwrap();
            found.retain(|found| found.name == name.as_os_str().as_bytes());
            found.into_iter().map(|found| found.connections).collect::<Vec<_>>()
        };
        let _silent = UnixStream::connect(&name).unwrap();
        let mut clients = [UnixStream::connect(&name).unwrap(), UnixStream::connect(&name).unwrap()];
        assert!(ours().is_empty());
        clients.iter_mut().for_each(|client| client.write_all(b"x").unwrap());
        assert_eq!(ours(), [2]);
        let _accepted = [listener.accept().unwrap(), listener.accept().unwrap()];
        assert_eq!(ours(), [1]);
    }
}
