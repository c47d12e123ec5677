//! The unix sockets of a network namespace that are bound to files.

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
    /// The lower 32 bits of the file's inode number: the kernel tells no more.
    pub inode: u32,
}

const HEADER_BYTES: usize = 16;
const MESSAGE_BYTES: usize = 16;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const REQUEST_DUMP: u16 = 0x301;
const ERROR: u16 = 2;
const DONE: u16 = 3;
/// The attributes that are asked for: name and file.
const SHOW: u32 = 1 | 2;
const ATTRIBUTE_NAME: u16 = 0;
const ATTRIBUTE_FILE: u16 = 1;
const BUFFER_BYTES: usize = 64 << 10;

/// Returns the sockets of the namespace at `path` that are bound to files.
///
/// # Errors
/// The kernel does not answer, or lacks the interface.
pub fn bound(namespace: &Path) -> Result<Vec<BoundSocket>> {
    netns::run_in(namespace, ask)?
}

fn ask() -> Result<Vec<BoundSocket>> {
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
                _ => sockets.extend(body.get(MESSAGE_BYTES..).and_then(parse)),
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

fn parse(mut attributes: &[u8]) -> Option<BoundSocket> {
    let (mut name, mut inode) = (None, None);
    while let Some((kind, body, next)) = record(attributes, 4) {
        match kind {
            // The name of a socket without a file begins with NUL.
            ATTRIBUTE_NAME if body.first().is_some_and(|byte| *byte != 0) => {
                let end = body.iter().position(|byte| *byte == 0).unwrap_or(body.len());
                name = Some(PathBuf::from(OsStr::from_bytes(&body[..end])));
            }
            ATTRIBUTE_FILE => inode = Some(u32::from_ne_bytes(body.get(..4)?.try_into().ok()?)),
            _ => {}
        }
        attributes = next;
    }
    Some(BoundSocket { name: name?, inode: inode? })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::MetadataExt;
    use std::os::unix::net::{UnixDatagram, UnixListener};

    use super::*;

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
        let datagram = directory.path().join("datagram");
        assert_eq!(
            ours,
            [
                BoundSocket { inode: inode(&datagram), name: datagram },
                BoundSocket { inode: inode(&renamed), name: first },
            ]
        );
    }
}
