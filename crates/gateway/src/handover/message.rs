//! The messages of a hand-over, and the listening sockets in them.
//!
//! The format is that of the wire between two versions of the program; `VERSION` names it.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use mooring_api::watch::GatewaySlice;
use mooring_linux::fds;
use mooring_types::ConnectionId;
use serde::{Deserialize, Serialize};

/// The version of the messages.
pub(super) const VERSION: u32 = 1;

/// A message between a successor and its predecessor.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub(super) enum Message {
    /// The successor asks for the listening sockets.
    Ask { version: u32 },
    /// The predecessor hands sockets over; `more` says that another such message follows.
    Sockets { version: u32, sockets: Vec<ListeningSocket>, more: bool, slice: Option<Box<GatewaySlice>> },
    /// The successor serves.
    Serving,
    /// The predecessor accepts no clients any more.
    Retired,
}

/// A listening socket; its descriptor comes with the message, in the same order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ListeningSocket {
    /// The connection that the port is assigned to.
    pub connection: ConnectionId,
    pub address: SocketAddr,
}

/// A listening socket to hand over.
pub(crate) type HandedOver = (ListeningSocket, Arc<tokio::net::TcpListener>);

/// Sends sockets to a successor.
pub(super) fn send_sockets(
    successor: &UnixStream,
    handed_over: &[HandedOver],
    more: bool,
    slice: Option<GatewaySlice>,
) -> io::Result<()> {
    let sockets = handed_over.iter().map(|(socket, _)| socket.clone()).collect();
    let descriptors: Vec<_> = handed_over.iter().map(|(_, listener)| listener.as_fd()).collect();
    send(successor, &Message::Sockets { version: VERSION, sockets, more, slice: slice.map(Box::new) }, &descriptors)
}

/// Sends a message with descriptors.
pub(super) fn send(socket: &UnixStream, message: &Message, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    fds::send(socket, &serde_json::to_vec(message)?, descriptors)
}

/// Receives a message with its descriptors.
pub(super) fn receive(socket: &UnixStream) -> io::Result<(Message, Vec<OwnedFd>)> {
    let fds::Message { body, descriptors } = fds::receive(socket)?.ok_or(io::ErrorKind::UnexpectedEof)?;
    Ok((serde_json::from_slice(&body)?, descriptors))
}
