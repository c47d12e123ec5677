//! CRIU's questions at the moments that matter.
//!
//! CRIU runs a script at each step; ours asks the agent over a socket and waits for its answer. Before a dump the agent freezes the job
//! (polled by CRIU it would take up to 100 ms) and drops every packet to and from it. Before CRIU lets a restored job go the agent freezes it
//! again: it takes its first step only when the restore has succeeded and this host has put on record that the job is here. A restore that
//! has begun before all memory was there waits for it before it reads any.
//! An agent that is not there is an error, with which CRIU gives the dump or restore up and a dumped job goes on.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::Ipv4Addr;
use std::os::unix::net::UnixStream as BlockingStream;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mooring_linux::cgroup::Cgroup;
use mooring_ops::Tasks;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};

use super::freeze;
use super::memory_gate::MemoryGate;
use crate::error::{CriuError, Error, Result};
use crate::network::filter::PacketFilter;
use crate::runtime::bundle::BEFORE_MEMORY;

/// The control group beside those of jobs for those who restore them.
const RESTORERS: &str = "restorers";
const HOOK_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a restore may wait for memory; its own limit is not much longer.
const MEMORY_HOOK_TIMEOUT: Duration = Duration::from_secs(120);

/// What the hooks of one container act on.
#[derive(Debug, Clone)]
struct HookTarget {
    cgroup: Cgroup,
    address: Ipv4Addr,
    gate: Option<MemoryGate>,
    refusal: Refusal,
}

/// Why a hook was answered with no.
type Refusal = Arc<Mutex<Option<Error>>>;

/// The agent's side of the hooks.
#[derive(Debug, Clone)]
pub(crate) struct Hooks {
    filter: PacketFilter,
    subjects: Arc<Mutex<HashMap<String, HookTarget>>>,
}

/// A container whose hooks are answered; leaving by drop.
#[derive(Debug)]
pub(crate) struct Registration {
    hooks: Hooks,
    container: String,
    refusal: Refusal,
}

impl Registration {
    /// What came of what CRIU did. When it gave up because a hook was answered with no, it says less than the answer did.
    pub(crate) fn end<T>(self, outcome: Result<T>) -> Result<T> {
        outcome.map_err(|error| self.refusal.lock().unwrap_or_else(PoisonError::into_inner).take().unwrap_or(error))
    }
}

impl Hooks {
    /// Hooks that drop packets by this filter.
    pub(crate) fn new(filter: PacketFilter) -> Self {
        Self { filter, subjects: Arc::default() }
    }

    /// Answers the hooks of a container from now on. Its restore reads no memory before it has passed the gate.
    pub(crate) fn register(
        &self,
        container: &str,
        cgroup: Cgroup,
        address: Ipv4Addr,
        gate: Option<MemoryGate>,
    ) -> Registration {
        let refusal = Refusal::default();
        self.subjects().insert(container.to_owned(), HookTarget { cgroup, address, gate, refusal: refusal.clone() });
        Registration { hooks: self.clone(), container: container.to_owned(), refusal }
    }

    /// Opens the socket at `path`.
    ///
    /// # Errors
    /// It can't be made: a path of more than 107 bytes is too long for a socket.
    pub(crate) fn listen(path: &Path) -> Result<UnixListener> {
        // One that a killed agent left is of no use to anyone.
        let _ = std::fs::remove_file(path);
        UnixListener::bind(path).map_err(Error::system(format!("listen at {}", path.display())))
    }

    /// Answers hooks, for ever.
    pub(crate) async fn serve(&self, listener: UnixListener, tasks: &Tasks) {
        loop {
            match listener.accept().await {
                Ok((mut stream, _)) => {
                    let hooks = self.clone();
                    tasks.spawn("hook", async move {
                        if let Err(error) = hooks.answer(&mut stream).await {
                            tracing::warn!(%error, "a hook went away");
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "can't accept a hook");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }

    async fn answer(&self, stream: &mut UnixStream) -> io::Result<()> {
        let mut line = String::new();
        BufReader::new(&mut *stream).read_line(&mut line).await?;
        let answer = match self.handle(line.trim()).await {
            Ok(()) => "ok\n".to_owned(),
            Err(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, "the hook `{}` failed", line.trim());
                let answer = format!("{}\n", error.chain());
                let subject = line.split_once(' ').and_then(|(container, _)| self.subjects().get(container).cloned());
                if let Some(subject) = subject {
                    *subject.refusal.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                }
                answer
            }
        };
        stream.write_all(answer.as_bytes()).await
    }

    async fn handle(&self, line: &str) -> Result<()> {
        let unknown = || Error::from(CriuError::UnknownHook { request: line.to_owned() });
        let (container, action) = line.split_once(' ').ok_or_else(unknown)?;
        let subject = self.subjects().get(container).cloned().ok_or_else(unknown)?;
        match action {
            "pre-dump" => {
                freeze_with(subject.cgroup, freeze::freeze).await?;
                // Also what comes from it: its kernel sends on after the freeze, by timers, and what leaves after CRIU has read a send queue
                // would be known to the receiver and not to the job.
                Ok(self.filter.isolate(subject.address).await?)
            }
            BEFORE_MEMORY => match &subject.gate {
                Some(gate) => gate.pass().await,
                None => Ok(()),
            },
            "pre-resume" => {
                if subject.gate.is_some_and(|gate| gate.waited().is_none()) {
                    return Err(CriuError::RestoredWithoutMemory.into());
                }
                let restorers = subject.cgroup.sibling(RESTORERS);
                subject.cgroup.send_outsiders_to(&restorers)?;
                freeze(subject.cgroup.clone()).await?;
                // One that was made in between stands still as well until it is out.
                Ok(subject.cgroup.send_outsiders_to(&restorers)?)
            }
            _ => Err(unknown()),
        }
    }

    fn subjects(&self) -> std::sync::MutexGuard<'_, HashMap<String, HookTarget>> {
        self.subjects.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn freeze(cgroup: Cgroup) -> Result<()> {
    freeze_with(cgroup, |cgroup| Ok(cgroup.freeze()?)).await
}

async fn freeze_with(cgroup: Cgroup, freeze: fn(&Cgroup) -> Result<()>) -> Result<()> {
    let frozen = tokio::task::spawn_blocking(move || freeze(&cgroup));
    frozen.await.map_err(|_| CriuError::FreezeAborted)?
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.hooks.subjects().remove(&self.container);
    }
}

/// CRIU's side: asks the agent and waits for its answer.
///
/// # Errors
/// The agent is not there, or says no.
pub fn ask(socket: &Path, container: &str, action: &str) -> io::Result<()> {
    let mut stream = BlockingStream::connect(socket)?;
    stream.set_read_timeout(Some(if action == BEFORE_MEMORY { MEMORY_HOOK_TIMEOUT } else { HOOK_TIMEOUT }))?;
    writeln!(stream, "{container} {action}")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    if answer.trim() == "ok" { Ok(()) } else { Err(io::Error::other(answer.trim().to_owned())) }
}
