//! Elements of nftables sets, added and removed by netlink messages of this process.
//!
//! These changes are part of a migration's pause. The tool `nft` takes some ten milliseconds for
//! one of them, most of it to start and to read the rules that are there.
//!
//! ```text
//!   begin │ add or delete an element of a set │ … │ end      one transaction: all or nothing
//! ```

use std::os::fd::{AsRawFd, OwnedFd};
use std::thread;

use nix::errno::Errno;
use nix::sys::socket::sockopt::ReceiveTimeout;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, setsockopt, socket,
};
use nix::sys::time::{TimeVal, TimeValLike};

use crate::{Error, Result};

/// The family of tables for IPv4 and IPv6.
const FAMILY_INET: u8 = 1;
const SUBSYSTEM: u16 = 10;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const ADD_ELEMENT: u16 = SUBSYSTEM << 8 | 12;
const DELETE_ELEMENT: u16 = SUBSYSTEM << 8 | 14;
const REQUEST: u16 = 1;
const REQUEST_ANSWER: u16 = 4;
/// An element that is there already is no error.
const CREATE: u16 = 0x400;
const ERROR: u16 = 2;
const NESTED: u16 = 0x8000;
/// The attributes of a change: the table, the set, and the list of elements.
const TABLE: u16 = 1;
const SET: u16 = 2;
const ELEMENTS: u16 = 3 | NESTED;
/// Within the list: an element, its key, and the key's bytes.
const ELEMENT: u16 = 1 | NESTED;
const KEY: u16 = 1 | NESTED;
const VALUE: u16 = 1;
const HEADER_BYTES: usize = 16;
const ANSWER_MAX_BYTES: usize = 8 << 10;
/// The longest wait for the kernel's answer, which comes at once.
const ANSWER_TIMEOUT_SECONDS: i64 = 5;

/// A change of a set. Each field of a key is filled up to a multiple of four bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change<'a> {
    Add {
        set: &'a str,
        key: &'a [u8],
    },
    /// Deletes an element that is there.
    Delete {
        set: &'a str,
        key: &'a [u8],
    },
}

/// Carries out all changes to sets of a table, or none, in the namespace of the calling thread.
///
/// # Errors
/// The table, a set or an element to delete is not there, or the kernel refuses.
pub(crate) fn apply(table: &str, changes: &[Change<'_>]) -> Result<()> {
    let failed = || Error::errno(format!("change the packet rules of table {table}"));
    let netlink = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkNetFilter)
        .map_err(failed())?;
    setsockopt(&netlink, ReceiveTimeout, &TimeVal::seconds(ANSWER_TIMEOUT_SECONDS)).map_err(failed())?;
    let batch = encode(table, changes);
    sendto(netlink.as_raw_fd(), &batch, &NetlinkAddr::new(0, 0), MsgFlags::empty()).map_err(failed())?;
    let answered = answers(&netlink, changes.len()).map_err(failed());
    close(netlink, changes);
    answered
}

/// Closes the socket. The kernel does that only when everything that was deleted is gone, which
/// takes some milliseconds that nobody has to wait for.
fn close(netlink: OwnedFd, changes: &[Change<'_>]) {
    if changes.iter().any(|change| matches!(change, Change::Delete { .. })) {
        // Without another thread it is closed here.
        let _ = thread::Builder::new().name("netlink".to_owned()).spawn(move || drop(netlink));
    }
}

/// Receives an answer for each change.
fn answers(netlink: &OwnedFd, changes: usize) -> nix::Result<()> {
    let (mut answers, mut buffer) = (0, [0; ANSWER_MAX_BYTES]);
    while answers < changes {
        let length = recv(netlink.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
        for answer in errors(&buffer[..length]) {
            match answer {
                0 => answers += 1,
                code => return Err(Errno::from_raw(code.saturating_neg())),
            }
        }
    }
    Ok(())
}

/// Returns whether an error means that a table or a set is not there.
pub(crate) fn is_missing(error: &Error) -> bool {
    matches!(error, Error::System { source, .. } if source.kind() == std::io::ErrorKind::NotFound)
}

fn encode(table: &str, changes: &[Change<'_>]) -> Vec<u8> {
    let mut batch = message(BATCH_BEGIN, REQUEST, 0, SUBSYSTEM, &[]);
    for change in changes {
        let (kind, flags, set, key) = match change {
            Change::Add { set, key } => (ADD_ELEMENT, REQUEST | REQUEST_ANSWER | CREATE, set, key),
            Change::Delete { set, key } => (DELETE_ELEMENT, REQUEST | REQUEST_ANSWER, set, key),
        };
        let element = attribute(ELEMENT, &attribute(KEY, &attribute(VALUE, key)));
        let name = |kind, text: &str| attribute(kind, &[text.as_bytes(), b"\0"].concat());
        let content = [name(TABLE, table), name(SET, set), attribute(ELEMENTS, &element)].concat();
        batch.extend(message(kind, flags, FAMILY_INET, 0, &content));
    }
    batch.extend(message(BATCH_END, REQUEST, 0, SUBSYSTEM, &[]));
    batch
}

/// A message: its header, a family and a resource, and attributes.
fn message(kind: u16, flags: u16, family: u8, resource: u16, attributes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(HEADER_BYTES + 4 + attributes.len()).unwrap_or(u32::MAX);
    let mut message = length.to_ne_bytes().to_vec();
    message.extend(kind.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    // The sequence number and the sender.
    message.extend([0; 8]);
    message.extend([family, 0]);
    message.extend(resource.to_be_bytes());
    message.extend(attributes);
    message
}

fn attribute(kind: u16, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + content.len()).unwrap_or(u16::MAX);
    let mut attribute = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
    attribute.extend(content);
    attribute.resize(attribute.len().next_multiple_of(4), 0);
    attribute
}

/// The error codes of the kernel's answers: 0, or a negative number.
fn errors(mut answers: &[u8]) -> Vec<i32> {
    let mut codes = Vec::new();
    while let Some(header) = answers.first_chunk::<HEADER_BYTES>() {
        let [a, b, c, d, kind @ ..] = header;
        let length = u32::from_ne_bytes([*a, *b, *c, *d]) as usize;
        let is_error = kind.first_chunk::<2>().is_some_and(|kind| u16::from_ne_bytes(*kind) == ERROR);
        let code = answers.get(HEADER_BYTES..length).and_then(|body| body.first_chunk::<4>());
        codes.extend(code.filter(|_| is_error).map(|code| i32::from_ne_bytes(*code)));
        answers = answers.get(length.max(HEADER_BYTES).next_multiple_of(4)..).unwrap_or_default();
    }
    codes
}
