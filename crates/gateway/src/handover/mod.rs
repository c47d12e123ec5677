//! The hand-over from one process of a gateway to the next, without an effect on clients.
//!
//! ```text
//!  successor                              predecessor, which serves
//!      │ ── Ask ──────────────────────────────► │   on `handover.sock` in the state directory
//!      │ ◄────────── Sockets, with descriptors ─│   in as many messages as are needed
//!      │ serves, on the same kernel sockets     │   serves
//!      │ ── Serving ──────────────────────────► │   accepts no clients, closes its sockets
//!      │ ◄──────────────────────────── Retired ─│
//!      │ listens on `handover.sock`,            │   keeps its connections until they end
//!      │ writes `serving.json`                  │
//! ```
//!
//! The listening sockets are the same kernel objects on both sides: their queues are kept, and they
//! listen at every moment. Until `Serving` arrives the predecessor serves on, even if the successor
//! fails; from then on the successor serves. A successor without an answer in time fails to start,
//! and its starter decides what to do.
//!
//! `serving.json` names the process that serves. It shows that a hand-over is complete. A process
//! that starts without a predecessor reads there which process it replaces.

pub(crate) mod message;

use std::collections::HashMap;
use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use mooring_api::watch::GatewaySlice;
use mooring_linux::fds;
use mooring_ops::accept;
use mooring_ops::file::{Durability, Mode, replace};
use serde::{Deserialize, Serialize};
use tokio::net::UnixListener;

use self::message::{Message, VERSION, receive, send, send_sockets};
use crate::state::Gateway;

/// Time limit of the other side's next message.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
const SOCKET_FILE: &str = "handover.sock";
const SERVING_FILE: &str = "serving.json";

/// A failed hand-over, as the successor sees it.
#[derive(Debug, thiserror::Error)]
pub enum HandoverError {
    /// The predecessor does not answer, or breaks the protocol.
    #[error("can't {attempt}")]
    Peer {
        attempt: &'static str,
        #[source]
        source: io::Error,
    },
    /// The predecessor's messages have another version.
    #[error("the serving process speaks version {theirs} of the hand-over, not {VERSION}")]
    Version { theirs: u32 },
}

/// The process that serves, as `serving.json` names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServingProcess {
    pub pid: u32,
    /// See [`GatewayReport::incarnation`](mooring_api::watch::GatewayReport::incarnation).
    pub incarnation: u64,
}

/// The parts that a predecessor hands over. The predecessor serves on until [`confirm_serving`].
#[derive(Debug)]
pub struct Takeover {
    /// The slice that the predecessor serves.
    pub slice: Option<GatewaySlice>,
    /// The listening sockets.
    pub sockets: HashMap<SocketAddr, TcpListener>,
    /// The connection to the predecessor.
    pub predecessor: UnixStream,
}

/// Asks the serving process for its listening sockets.
///
/// Blocks a few times [`ANSWER_TIMEOUT`] at most.
///
/// # Errors
/// No process serves, or the serving process does not answer as this version expects.
pub fn take_over(state_dir: &Path) -> Result<Takeover, HandoverError> {
    let failed = |attempt| move |source| HandoverError::Peer { attempt, source };
    let predecessor =
        UnixStream::connect(state_dir.join(SOCKET_FILE)).map_err(failed("connect to the serving process"))?;
    set_timeouts(&predecessor).map_err(failed("set the time limits of the hand-over"))?;
    send(&predecessor, &Message::Ask { version: VERSION }, &[]).map_err(failed("ask for the listening sockets"))?;
    let mut takeover = Takeover { slice: None, sockets: HashMap::new(), predecessor };
    loop {
        let received = receive(&takeover.predecessor).map_err(failed("receive the listening sockets"))?;
        let (Message::Sockets { version, sockets, more, slice }, descriptors) = received else {
            return Err(failed("understand the serving process")(io::ErrorKind::InvalidData.into()));
        };
        if version != VERSION {
            return Err(HandoverError::Version { theirs: version });
        }
        if sockets.len() != descriptors.len() {
            return Err(failed("match descriptors and addresses")(io::ErrorKind::InvalidData.into()));
        }
        let addresses = sockets.into_iter().map(|socket| socket.address);
        takeover.sockets.extend(addresses.zip(descriptors.into_iter().map(TcpListener::from)));
        takeover.slice = takeover.slice.or(slice.map(|slice| *slice));
        if !more {
            return Ok(takeover);
        }
    }
}

/// Tells the predecessor that this process serves, and waits until it accepts no clients any more.
///
/// Blocks [`ANSWER_TIMEOUT`] at most.
///
/// # Errors
/// The predecessor does not confirm.
pub fn confirm_serving(predecessor: &UnixStream) -> Result<(), HandoverError> {
    let failed = |attempt| move |source| HandoverError::Peer { attempt, source };
    send(predecessor, &Message::Serving, &[]).map_err(failed("tell the predecessor that this process serves"))?;
    match receive(predecessor).map_err(failed("receive the predecessor's confirmation"))? {
        (Message::Retired, _) => Ok(()),
        _ => Err(failed("understand the predecessor")(io::ErrorKind::InvalidData.into())),
    }
}

/// The process that served last, if `serving.json` names one.
#[must_use]
pub fn last_serving(state_dir: &Path) -> Option<ServingProcess> {
    serde_json::from_slice(&fs::read(state_dir.join(SERVING_FILE)).ok()?).ok()
}

/// Listens for a successor and records that this process serves.
///
/// # Errors
/// The state directory can't be written.
pub fn listen(state_dir: &Path, incarnation: u64) -> io::Result<UnixListener> {
    let socket = state_dir.join(SOCKET_FILE);
    match fs::remove_file(&socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&socket)?;
    let serving = serde_json::to_vec(&ServingProcess { pid: std::process::id(), incarnation })?;
    replace(&state_dir.join(SERVING_FILE), Durability::Renamed, Mode::Public, &serving)?;
    Ok(listener)
}

/// Answers successors until one has taken over.
pub async fn serve_successors(gateway: &Gateway, listener: UnixListener) {
    loop {
        let stream = accept::next(&listener, "a successor").await;
        tracing::info!("a successor asks for the listening sockets");
        let predecessor = gateway.clone();
        // The messages take milliseconds, and the socket's time limits bound them.
        let outcome = tokio::task::spawn_blocking(move || hand_over(&predecessor, &stream.into_std()?)).await;
        match outcome {
            Ok(Ok(())) => {
                tracing::info!("the successor serves; this process keeps its connections until they end");
                return;
            }
            Ok(Err(error)) => tracing::warn!(%error, "the successor did not take over; this process serves on"),
            Err(error) => tracing::error!(%error, "the hand-over failed; this process serves on"),
        }
        gateway.serve_on();
    }
}

fn hand_over(gateway: &Gateway, successor: &UnixStream) -> io::Result<()> {
    successor.set_nonblocking(false)?;
    set_timeouts(successor)?;
    let (Message::Ask { version }, _) = receive(successor)? else { return Err(io::ErrorKind::InvalidData.into()) };
    if version != VERSION {
        let refusal = Message::Sockets { version: VERSION, sockets: Vec::new(), more: false, slice: None };
        send(successor, &refusal, &[])?;
        return Err(io::Error::other(format!("it speaks version {version} of the hand-over, not {VERSION}")));
    }
    let (slice, sockets) = gateway.hand_over();
    let chunks: Vec<_> = sockets.chunks(fds::DESCRIPTORS_MAX).collect();
    let (last, earlier) = chunks.split_last().map_or((&[][..], &[][..]), |(last, earlier)| (*last, earlier));
    for chunk in earlier {
        send_sockets(successor, chunk, true, None)?;
    }
    send_sockets(successor, last, false, slice)?;
    let (Message::Serving, _) = receive(successor)? else { return Err(io::ErrorKind::InvalidData.into()) };
    drop(sockets);
    gateway.retire();
    // The successor serves now, even if it does not receive this.
    if let Err(error) = send(successor, &Message::Retired, &[]) {
        tracing::warn!(%error, "can't confirm the hand-over to the successor");
    }
    Ok(())
}

fn set_timeouts(socket: &UnixStream) -> io::Result<()> {
    socket.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    socket.set_write_timeout(Some(ANSWER_TIMEOUT))
}
