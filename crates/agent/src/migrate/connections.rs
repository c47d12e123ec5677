//! TCP connections of a job that no checkpoint has, since no process has them.
//!
//! * A program has closed its socket, and not all of its bytes have been taken.
//! * A connection has been made, and its program has not accepted it yet.
//!
//! Both pass in a moment, as a rule. While the job still executes, the agent waits for that; the
//! gateways read what the job has written, and begin no connection. What comes up between the look
//! and the freeze is found again in the frozen job, which is thawed then. A job in which it does
//! not pass is not frozen.

use std::fs;
use std::time::{Duration, Instant};

use mooring_linux::process_tree::ProcessTree;
use mooring_linux::tcp_table::{self, TcpSocket};

use crate::error::{Error, Result};
use crate::look;
use crate::runtime::job_dir::JobDir;

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
    Unaccepted { listener: TcpSocket, connections: u32 },
}

/// Waits until the job has no connection that a checkpoint would lose.
///
/// # Errors
/// One stays: its client does not read, or its program does not accept it.
pub(crate) async fn settle(job_dir: &JobDir) -> Result<()> {
    let began = Instant::now();
    loop {
        let looked = job_dir.clone();
        let found = tokio::task::spawn_blocking(move || pending(&looked)).await;
        let Some(pending) =
            found.map_err(|error| Error::system("list the job's connections")(std::io::Error::other(error)))??
        else {
            return Ok(());
        };
        if began.elapsed() > pending.timeout() {
            return Err(pending.refusal(job_dir));
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Returns a connection that a checkpoint of the job would lose, if there is one.
///
/// # Errors
/// The kernel's list can't be read.
pub(crate) fn pending(job_dir: &JobDir) -> Result<Option<Pending>> {
    let sockets = tcp_table::list(&job_dir.namespace())?;
    let unaccepted = sockets.iter().find_map(|listener| {
        Some(Pending::Unaccepted { listener: listener.clone(), connections: listener.waiting()? })
    });
    Ok(unaccepted.or_else(|| {
        let mut closed = sockets.into_iter();
        closed.find_map(|socket| socket.undelivered().map(|bytes| Pending::Undelivered { socket, bytes }))
    }))
}

impl Pending {
    pub(crate) fn timeout(&self) -> Duration {
        match self {
            Self::Undelivered { .. } => DELIVERY_TIMEOUT,
            Self::Unaccepted { .. } => ACCEPT_TIMEOUT,
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
            Self::Unaccepted { listener, connections } => format!(
                "{} has not accepted {connections} {} at port {}: try again once it has",
                owner(job_dir, listener.inode),
                if *connections == 1 { "connection" } else { "connections" },
                listener.local.port()
            ),
        };
        Error::Unmovable { reason }
    }
}

/// The process of the job that has the socket.
fn owner(job_dir: &JobDir, inode: u64) -> String {
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
