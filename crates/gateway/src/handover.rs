//! One process of a gateway takes over from another, with clients in between that notice nothing.
//!
//! ```text
//!  successor                              the one that serves
//!      │ ── Ask ──────────────────────────────► │   at its door, `handover.sock` in the state directory
//!      │ ◄────────── Sockets, with descriptors ─│   as many messages as it takes
//!      │ serves, on the same kernel sockets     │   serves
//!      │ ── Serving ──────────────────────────► │   accepts nobody any more, closes its sockets and its door
//!      │ ◄──────────────────────────── Retired ─│
//!      │ opens its door, writes `serving.json`  │   keeps its connections until they end
//! ```
//!
//! The listening sockets are the same kernel objects on both sides, so their queues are kept and there is no moment at which nobody
//! listens. Until `Serving` has arrived the one that serves goes on as before, whatever becomes of the successor; from then on the
//! successor is the one. A successor that gets no answer in time fails to start, and whoever started it decides what then.
//!
//! `serving.json` says which process serves. It is what tells that a hand-over is complete, and lets a process that finds no
//! predecessor say whose place it takes.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mooring_api::watch::GatewaySlice;
use mooring_linux::fds;
use mooring_types::ConnectionId;
use serde::{Deserialize, Serialize};
use tokio::net::UnixListener;

use crate::state::Gateway;

/// How long either side waits for the other's next message.
pub const ANSWERS_WITHIN: Duration = Duration::from_secs(5);
/// What is said when something is.
const VERSION: u32 = 1;
const DOOR: &str = "handover.sock";
const SERVING: &str = "serving.json";
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Why a process could not take over.
#[derive(Debug, thiserror::Error)]
pub enum HandoverError {
    /// Nobody answers at the door, or not as it should.
    #[error("can't {attempt}")]
    Peer {
        /// The attempt.
        attempt: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The other one is of a version with another protocol.
    #[error("the process that serves speaks version {theirs} of the hand-over, not {VERSION}")]
    Version {
        /// Its version.
        theirs: u32,
    },
}

/// What the two say to each other.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "camelCase", rename_all_fields = "camelCase")]
enum Say {
    Ask { version: u32 },
    Sockets { version: u32, sockets: Vec<Socket>, more: bool, slice: Option<GatewaySlice> },
    Serving,
    Retired,
}

/// A listening socket; its descriptor comes with the message, in the same order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Socket {
    /// The connection that it is for.
    pub connection: ConnectionId,
    /// Where it listens.
    pub address: SocketAddr,
}

/// Which process serves, as `serving.json` has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Serving {
    /// Its id.
    pub pid: u32,
    /// See [`GatewayReport::incarnation`](mooring_api::watch::GatewayReport::incarnation).
    pub incarnation: u64,
}

/// What was handed over. The predecessor goes on serving until [`Taken::serve`].
#[derive(Debug)]
pub struct Taken {
    /// What the predecessor was serving.
    pub slice: Option<GatewaySlice>,
    /// The listening sockets.
    pub sockets: HashMap<SocketAddr, TcpListener>,
    predecessor: UnixStream,
}

/// Asks the process that serves for its listening sockets. Blocks, at most a few times [`ANSWERS_WITHIN`].
///
/// # Errors
/// Nobody serves, or it does not answer, or not as this version understands.
pub fn take(state_dir: &Path) -> Result<Taken, HandoverError> {
    let failed = |attempt| move |source| HandoverError::Peer { attempt, source };
    let predecessor =
        UnixStream::connect(state_dir.join(DOOR)).map_err(failed("reach the process that serves at its door"))?;
    bound(&predecessor).map_err(failed("bound the wait for the process that serves"))?;
    say(&predecessor, &Say::Ask { version: VERSION }, &[]).map_err(failed("ask for the listening sockets"))?;
    let mut taken = Taken { slice: None, sockets: HashMap::new(), predecessor };
    loop {
        let received = hear(&taken.predecessor).map_err(failed("receive the listening sockets"))?;
        let (Say::Sockets { version, sockets, more, slice }, descriptors) = received else {
            return Err(failed("understand the process that serves")(io::ErrorKind::InvalidData.into()));
        };
        if version != VERSION {
            return Err(HandoverError::Version { theirs: version });
        }
        if sockets.len() != descriptors.len() {
            return Err(failed("match descriptors and addresses")(io::ErrorKind::InvalidData.into()));
        }
        let named = sockets.into_iter().map(|socket| socket.address);
        taken.sockets.extend(named.zip(descriptors.into_iter().map(TcpListener::from)));
        taken.slice = taken.slice.or(slice);
        if !more {
            return Ok(taken);
        }
    }
}

impl Taken {
    /// Says that this process serves, and waits until the predecessor has stopped to. Blocks, at most [`ANSWERS_WITHIN`].
    ///
    /// # Errors
    /// The predecessor does not say that it has.
    pub fn serve(predecessor: &UnixStream) -> Result<(), HandoverError> {
        let failed = |attempt| move |source| HandoverError::Peer { attempt, source };
        say(predecessor, &Say::Serving, &[]).map_err(failed("say that this process serves"))?;
        match hear(predecessor).map_err(failed("hear that the predecessor accepts nobody any more"))? {
            (Say::Retired, _) => Ok(()),
            _ => Err(failed("understand the predecessor")(io::ErrorKind::InvalidData.into())),
        }
    }

    /// Splits it.
    #[must_use]
    pub fn into_parts(self) -> (Option<GatewaySlice>, HashMap<SocketAddr, TcpListener>, UnixStream) {
        (self.slice, self.sockets, self.predecessor)
    }
}

/// The process that served last, if there was one.
#[must_use]
pub fn last_serving(state_dir: &Path) -> Option<Serving> {
    serde_json::from_slice(&fs::read(state_dir.join(SERVING)).ok()?).ok()
}

/// Opens the door for a successor and says that this process serves.
///
/// # Errors
/// The state directory can't be written.
pub fn open_door(state_dir: &Path, incarnation: u64) -> io::Result<UnixListener> {
    let door = state_dir.join(DOOR);
    match fs::remove_file(&door) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&door)?;
    let new: PathBuf = state_dir.join(SERVING).with_extension("new");
    fs::write(&new, serde_json::to_vec(&Serving { pid: std::process::id(), incarnation })?)?;
    fs::rename(&new, state_dir.join(SERVING))?;
    Ok(listener)
}

/// Waits at the door until a successor has taken over.
pub async fn attend(gateway: &Gateway, door: UnixListener) {
    loop {
        let stream = match door.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "can't let a successor in");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        tracing::info!("a successor asks for the listening sockets");
        let leaving = gateway.clone();
        // What is said takes milliseconds, and the sockets' time-outs bound it.
        let handed = tokio::task::spawn_blocking(move || hand_over(&leaving, &stream.into_std()?)).await;
        match handed {
            Ok(Ok(())) => {
                tracing::info!("the successor serves: this process keeps its connections until they end");
                return;
            }
            Ok(Err(error)) => tracing::warn!(%error, "the successor did not take over: this process goes on serving"),
            Err(error) => tracing::error!(%error, "handing over failed: this process goes on serving"),
        }
        gateway.keep_serving();
    }
}

fn hand_over(gateway: &Gateway, successor: &UnixStream) -> io::Result<()> {
    successor.set_nonblocking(false)?;
    bound(successor)?;
    let (Say::Ask { version }, _) = hear(successor)? else { return Err(io::ErrorKind::InvalidData.into()) };
    if version != VERSION {
        let refusal = Say::Sockets { version: VERSION, sockets: Vec::new(), more: false, slice: None };
        say(successor, &refusal, &[])?;
        return Err(io::Error::other(format!("it speaks version {version} of the hand-over, not {VERSION}")));
    }
    let (slice, sockets) = gateway.hand_over();
    let (last, pieces) = match sockets.chunks(fds::DESCRIPTORS_MAX).collect::<Vec<_>>().split_last() {
        Some((last, pieces)) => (last.to_vec(), pieces.iter().map(|piece| piece.to_vec()).collect()),
        None => (Vec::new(), Vec::new()),
    };
    let pieces: Vec<Vec<_>> = pieces;
    for piece in pieces {
        send(successor, &piece, true, None)?;
    }
    send(successor, &last, false, slice)?;
    let (Say::Serving, _) = hear(successor)? else { return Err(io::ErrorKind::InvalidData.into()) };
    drop((last, sockets));
    gateway.retire();
    // The successor is the one now, whether it hears this or not.
    if let Err(error) = say(successor, &Say::Retired, &[]) {
        tracing::warn!(%error, "the successor does not listen any more");
    }
    Ok(())
}

/// A listening socket that is handed over.
pub(crate) type Handed = (Socket, std::sync::Arc<tokio::net::TcpListener>);

fn send(successor: &UnixStream, handed: &[Handed], more: bool, slice: Option<GatewaySlice>) -> io::Result<()> {
    let sockets = handed.iter().map(|(socket, _)| socket.clone()).collect();
    let descriptors: Vec<_> = handed.iter().map(|(_, listener)| listener.as_fd()).collect();
    say(successor, &Say::Sockets { version: VERSION, sockets, more, slice }, &descriptors)
}

fn bound(socket: &UnixStream) -> io::Result<()> {
    socket.set_read_timeout(Some(ANSWERS_WITHIN))?;
    socket.set_write_timeout(Some(ANSWERS_WITHIN))
}

fn say(socket: &UnixStream, what: &Say, descriptors: &[std::os::fd::BorrowedFd<'_>]) -> io::Result<()> {
    fds::send(socket, &serde_json::to_vec(what)?, descriptors)
}

fn hear(socket: &UnixStream) -> io::Result<(Say, Vec<std::os::fd::OwnedFd>)> {
    let fds::Message { body, descriptors } = fds::receive(socket)?.ok_or(io::ErrorKind::UnexpectedEof)?;
    Ok((serde_json::from_slice(&body)?, descriptors))
}
