//! TCP connections of a job that no checkpoint has, since no process has them.
//!
//! * A program has closed its socket, and not all of its bytes have been taken.
//! * A connection has been made, and its program has not accepted it yet.
//!
//! The first passes in a moment, as a rule. While the job still executes, the agent waits for that;
//! the gateways read what the job has written, and begin no connection.
//!
//! | an unaccepted connection | what is done |
//! |---|---|
//! | of a gateway | it is left out of the checkpoint and listed beside it; the gateway makes it again |
//! | of a client of a published port, of another job, within the job | waited for, then refused |
//! | of a unix socket, with something sent | waited for, then refused |
//!
//! What comes up between the look and the freeze is found again in the frozen job, which is thawed
//! then. A job in which it does not pass is not frozen.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::time::{Duration, Instant};

use mooring_api::watch::{Unaccepted, UnacceptedConnection};
use mooring_linux::process_tree::ProcessTree;
use mooring_linux::tcp_table::{self, TcpSocket};
use mooring_linux::unix_sockets;
use mooring_types::address::Overlay;

use crate::error::{Error, Result};
use crate::host::Host;
use crate::look;
use crate::runtime::job_dir::JobDir;
use crate::runtime::own_image::OwnImage;

/// The image: an [`Unaccepted`].
const IMAGE: OwnImage = OwnImage("unaccepted.img");
/// The most connections that are listed. All of them are in reports and slices.
const LISTED_MAX: usize = 1024;
/// The longest wait for bytes of closed connections to be taken: the gateways take megabytes at
/// once, another client may be slow.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(3);
/// The longest wait for connections to be accepted: their clients wait for an answer.
const ACCEPT_TIMEOUT: Duration = Duration::from_secs(1);
const POLL: Duration = Duration::from_millis(5);

/// A connection that would be lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Pending {
    Undelivered { socket: TcpSocket, bytes: u32 },
    Unaccepted { port: u16, listener: Option<u64>, connections: usize },
    UnacceptedLocal(unix_sockets::Unaccepted),
}

/// The addresses at which gateways connect to jobs.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Gateways {
    pub(crate) overlay: Option<Overlay>,
    /// The address of this host. Clients of published ports have it as well.
    pub(crate) own: Option<Ipv4Addr>,
}

impl Gateways {
    pub(crate) async fn of_host(host: &Host) -> Self {
        let network = host.network.lock().await;
        Self { overlay: network.overlay(), own: network.own_overlay() }
    }

    /// Keeps the connections of gateways, of those of a job.
    fn of<'a>(&self, mut connections: Vec<&'a TcpSocket>) -> Result<Vec<&'a TcpSocket>> {
        connections.retain(|connection| self.may_be(connection));
        let is_own = |connection: &TcpSocket| self.own.is_some_and(|own| connection.peer.ip() == IpAddr::from(own));
        if connections.iter().any(|connection| is_own(connection)) {
            // A client of a published port has no socket on this host.
            let own = tcp_table::list_own()?;
            let has_socket = |connection: &TcpSocket| {
                own.iter().any(|socket| socket.local == connection.peer && socket.peer == connection.local)
            };
            connections.retain(|connection| !is_own(connection) || has_socket(connection));
        }
        Ok(connections)
    }

    fn may_be(&self, connection: &TcpSocket) -> bool {
        match (self.overlay, connection.peer.ip()) {
            (Some(overlay), IpAddr::V4(peer)) => overlay.is_of_host(peer),
            _ => false,
        }
    }
}

/// Waits until the job has no connection that would be lost.
///
/// # Errors
/// One stays: its client does not read, or its program does not accept it.
pub(crate) async fn settle(job_dir: &JobDir, gateways: Gateways) -> Result<()> {
    let began = Instant::now();
    loop {
        let looked = job_dir.clone();
        let found = tokio::task::spawn_blocking(move || pending(&looked, gateways)).await;
        let Some(pending) =
            found.map_err(|error| Error::system("list the job's connections")(io::Error::other(error)))??
        else {
            return Ok(());
        };
        if began.elapsed() > pending.timeout() {
            return Err(pending.refusal(job_dir));
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Returns a connection of the job that would be lost, if there is one.
///
/// # Errors
/// The kernel's list can't be read.
pub(crate) fn pending(job_dir: &JobDir, gateways: Gateways) -> Result<Option<Pending>> {
    let sockets = tcp_table::list(&job_dir.namespace())?;
    let unaccepted: Vec<&TcpSocket> = sockets.iter().filter(|socket| socket.is_unaccepted()).collect();
    let of_gateways = gateways.of(unaccepted.clone())?;
    let is_listed = |socket: &TcpSocket| of_gateways.contains(&socket) && of_gateways.len() <= LISTED_MAX;
    if let Some(first) = unaccepted.iter().find(|socket| !is_listed(socket)) {
        let port = first.local.port();
        let is_like_it = |socket: &&&TcpSocket| socket.local.port() == port && !is_listed(socket);
        let mut listeners = sockets.iter().filter(|socket| socket.local.port() == port && socket.waiting().is_some());
        let listener = listeners.next().map(|listener| listener.inode);
        let connections = unaccepted.iter().filter(is_like_it).count();
        return Ok(Some(Pending::Unaccepted { port, listener, connections }));
    }
    if let Some(local) = unix_sockets::unaccepted(&job_dir.namespace())?.into_iter().next() {
        return Ok(Some(Pending::UnacceptedLocal(local)));
    }
    let undelivered = |socket: TcpSocket| socket.undelivered().map(|bytes| Pending::Undelivered { socket, bytes });
    Ok(sockets.into_iter().find_map(undelivered))
}

/// Lists the connections of gateways that a frozen job has not accepted, beside its checkpoint. No
/// packet reaches the job any more.
///
/// # Errors
/// The image can't be written, or a connection has come up that would be lost.
pub(crate) fn record(job_dir: &JobDir, gateways: Gateways, images: &Path) -> Result<()> {
    if let Some(pending) = pending(job_dir, gateways)? {
        return Err(pending.refusal(job_dir));
    }
    let sockets = tcp_table::list(&job_dir.namespace())?;
    let unaccepted = sockets.iter().filter(|socket| socket.is_unaccepted() || socket.is_half_open()).collect();
    let listed = |socket: &TcpSocket| UnacceptedConnection { port: socket.local.port(), peer: socket.peer };
    let connections: Vec<_> = gateways.of(unaccepted)?.into_iter().take(LISTED_MAX).map(listed).collect();
    if connections.is_empty() {
        return Ok(());
    }
    IMAGE.write(images, &Unaccepted { checkpoint: rand::random(), connections })
}

/// Reads the connections that a job lacks which was restored from these images.
pub(crate) fn lacking(images: &Path) -> Option<Unaccepted> {
    let list = IMAGE.read(images);
    list.inspect_err(|error| tracing::warn!(error = %error.chain(), "unaccepted connections are lost")).ok()?
}

impl Pending {
    pub(crate) fn timeout(&self) -> Duration {
        match self {
            Self::Undelivered { .. } => DELIVERY_TIMEOUT,
            Self::Unaccepted { .. } | Self::UnacceptedLocal(_) => ACCEPT_TIMEOUT,
        }
    }

    /// The error of a job that can't be frozen for this connection.
    pub(crate) fn refusal(&self, job_dir: &JobDir) -> Error {
        let reason = match self {
            Self::Undelivered { socket, bytes } => format!(
                "{} has still to read {bytes} bytes of a connection that port {} has closed: try again once it has, or \
                 end that client",
                socket.peer,
                socket.local.port()
            ),
            Self::Unaccepted { port, listener, connections } => format!(
                "{} has not accepted {} at port {port}: try again once it has",
                owner(job_dir, *listener),
                counted(*connections),
            ),
            Self::UnacceptedLocal(local) => format!(
                "{} has not accepted {} at {}: try again once it has",
                owner(job_dir, Some(local.inode.into())),
                counted(local.connections),
                look::readable(&local.name),
            ),
        };
        Error::Unmovable { reason }
    }
}

fn counted(connections: usize) -> String {
    format!("{connections} {}", if connections == 1 { "connection" } else { "connections" })
}

/// The process of the job that has the socket.
fn owner(job_dir: &JobDir, inode: Option<u64>) -> String {
    let Some(inode) = inode else { return "the job".to_owned() };
    let wanted = format!("socket:[{inode}]");
    let has = |pid: &i32| {
        let entries = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        entries.filter_map(|entry| fs::read_link(entry.path()).ok()).any(|target| target.as_os_str() == &*wanted)
    };
    let named = |pid: i32| {
        let tree = ProcessTree::read(pid, &[pid]);
        let process = tree.processes.get(&pid)?;
        Some(format!("process {} ({})", process.own_pid, look::readable(&process.name)))
    };
    job_dir.cgroup().pids().into_iter().find(has).and_then(named).unwrap_or_else(|| "the job".to_owned())
}
