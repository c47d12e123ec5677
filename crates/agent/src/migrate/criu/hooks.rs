//! CRIU's hooks, answered by the agent.
//!
//! CRIU runs a script at each step; the script asks the agent over a socket and waits for the
//! answer.
//!
//! * Before a dump the agent freezes the job: CRIU's own polling takes up to 100 ms. It looks at
//!   the job, which may be refused here, and writes its inventory. It makes the names that unix
//!   sockets were bound to and drops all packets of the job. It writes down the options of UDP
//!   sockets with what waits in them, and the connections that are not accepted. It takes what CRIU
//!   can't restore: watches, targets of epoll sets and empty message queues. It empties the job's
//!   terminals.
//! * A job with a stopped process is frozen only when CRIU is about to let go of it. Its terminals
//!   are emptied when CRIU has seized it.
//! * After a dump the agent notes the links that CRIU has made for files without their names.
//! * A restore that started before all memory had arrived waits for it before it reads any.
//! * Before CRIU resumes a restored job the agent freezes it, sets these options, and fills its UDP
//!   sockets and terminals. The job executes only once the restore has succeeded and the record
//!   says that this host has the job.
//!
//! Without an agent the hook fails: CRIU gives up the dump or restore, and a dumped job continues.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream as BlockingStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mooring_ops::Tasks;
use mooring_ops::accept;
use mooring_ops::log::chain;
use parking_lot::Mutex;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};

use super::freeze;
use super::memory_gate::MemoryGate;
use crate::error::{CriuError, Error, Result};
use crate::look::{self, FrozenBy};
use crate::migrate::connections::{self, Gateways};
use crate::migrate::datagrams;
use crate::migrate::epoll_targets;
use crate::migrate::message_queues;
use crate::migrate::socket_files::{self, BoundNames};
use crate::migrate::terminals;
use crate::migrate::timers;
use crate::migrate::watches::{self, Watched};
use crate::network::filter::PacketFilter;
use crate::runtime::bundle::{AFTER_DUMP, BEFORE_MEMORY};
use crate::runtime::job_dir::JobDir;
use crate::runtime::removed_names;

/// The control group, beside those of jobs, for the processes that restore jobs.
const RESTORERS: &str = "restorers";
const HOOK_TIMEOUT: Duration = Duration::from_secs(20);
/// The limit of a restore's wait for memory; CRIU's own limit is little longer.
const MEMORY_HOOK_TIMEOUT: Duration = Duration::from_secs(120);

/// The job that the hooks of one container act on.
#[derive(Debug, Clone)]
struct HookTarget {
    job_dir: JobDir,
    images: PathBuf,
    gate: Option<MemoryGate>,
    /// The names of the job's socket files, of a checkpoint.
    sockets: Arc<[PathBuf]>,
    watched: Arc<Watched>,
    gateways: Gateways,
    bound_names: Arc<Mutex<Option<BoundNames>>>,
    refusal: Refusal,
    is_asked: Arc<AtomicBool>,
}

/// The reason for which a hook was refused.
type Refusal = Arc<Mutex<Option<Error>>>;

/// The agent's side of the hooks.
#[derive(Debug, Clone)]
pub(crate) struct Hooks {
    filter: PacketFilter,
    /// The host's name, for reasons against a checkpoint.
    host: Arc<str>,
    subjects: Arc<Mutex<HashMap<String, HookTarget>>>,
}

/// A container whose hooks are answered, until this value is dropped.
#[derive(Debug)]
pub(crate) struct Registration {
    hooks: Hooks,
    container: String,
    /// Names that are there for CRIU alone; they go with this value.
    bound_names: Arc<Mutex<Option<BoundNames>>>,
    refusal: Refusal,
    is_asked: Arc<AtomicBool>,
}

impl Registration {
    /// Names the job's socket files: the hooks of a checkpoint make the names that their sockets
    /// were bound to.
    pub(crate) fn expect_sockets(&self, sockets: Vec<PathBuf>) {
        if let Some(target) = self.hooks.subjects().get_mut(&self.container) {
            target.sockets = sockets.into();
        }
    }

    /// Tells what the job watches: the hooks of a checkpoint take the watches that CRIU can't
    /// restore.
    pub(crate) fn expect_watches(&self, watched: Watched) {
        if let Some(target) = self.hooks.subjects().get_mut(&self.container) {
            target.watched = Arc::new(watched);
        }
    }

    /// Names the addresses of gateways: what they have connected need not be accepted.
    pub(crate) fn expect_gateways(&self, gateways: Gateways) {
        if let Some(target) = self.hooks.subjects().get_mut(&self.container) {
            target.gateways = gateways;
        }
    }

    /// Returns whether the hook before a dump was answered.
    pub(crate) fn is_asked(&self) -> bool {
        self.is_asked.load(Ordering::Relaxed)
    }

    /// Returns CRIU's outcome. When a hook was refused, the reason of the refusal replaces CRIU's
    /// error.
    pub(crate) fn end<T>(self, outcome: Result<T>) -> Result<T> {
        outcome.map_err(|error| self.refusal.lock().take().unwrap_or(error))
    }
}

impl Hooks {
    /// Creates hooks that drop packets with this filter, on the host of that name.
    pub(crate) fn new(filter: PacketFilter, host: &str) -> Self {
        Self { filter, host: host.into(), subjects: Arc::default() }
    }

    /// Answers the hooks of a job's container from now on, for its checkpoint in `images`. Its
    /// restore reads no memory before the gate opens.
    pub(crate) fn register(&self, job_dir: &JobDir, images: &Path, gate: Option<MemoryGate>) -> Registration {
        let (refusal, container) = (Refusal::default(), job_dir.container().to_owned());
        let (job_dir, images) = (job_dir.clone(), images.to_owned());
        let is_asked = Arc::<AtomicBool>::default();
        let bound_names = Arc::default();
        let target = HookTarget {
            job_dir,
            images,
            gate,
            sockets: [].into(),
            watched: Arc::default(),
            gateways: Gateways::default(),
            bound_names: Arc::clone(&bound_names),
            refusal: refusal.clone(),
            is_asked: is_asked.clone(),
        };
        self.subjects().insert(container.clone(), target);
        Registration { hooks: self.clone(), container, bound_names, refusal, is_asked }
    }

    /// Opens the socket at `path`.
    ///
    /// # Errors
    /// The socket can't be created: a socket's path has at most 107 bytes.
    pub(crate) fn listen(path: &Path) -> Result<UnixListener> {
        // A killed agent leaves its socket behind.
        let _ = std::fs::remove_file(path);
        UnixListener::bind(path).map_err(Error::system(format!("listen at {}", path.display())))
    }

    /// Answers hooks; never returns.
    pub(crate) async fn serve(&self, listener: UnixListener, tasks: &Tasks) {
        loop {
            let mut stream = accept::next(&listener, "a hook of CRIU").await;
            let hooks = self.clone();
            tasks.spawn("hook", async move {
                if let Err(error) = hooks.answer(&mut stream).await {
                    tracing::warn!(%error, "a hook went away");
                }
            });
        }
    }

    async fn answer(&self, stream: &mut UnixStream) -> io::Result<()> {
        let mut line = String::new();
        BufReader::new(&mut *stream).read_line(&mut line).await?;
        let answer = match self.handle(line.trim()).await {
            Ok(()) => "ok\n".to_owned(),
            Err(error) => {
                tracing::error!(error = %chain(&error), "the hook `{}` failed", line.trim());
                let answer = format!("{}\n", error.chain());
                let subject = line.split_once(' ').and_then(|(container, _)| self.subjects().get(container).cloned());
                if let Some(subject) = subject {
                    *subject.refusal.lock() = Some(error);
                }
                answer
            }
        };
        stream.write_all(answer.as_bytes()).await
    }

    async fn handle(&self, line: &str) -> Result<()> {
        let unknown = || Error::from(CriuError::UnknownHook { request: line.to_owned() });
        let (container, action) = line.split_once(' ').ok_or_else(unknown)?;
        let target = self.subjects().get(container).cloned().ok_or_else(unknown)?;
        let (job_dir, images, gate) = (target.job_dir.clone(), target.images.clone(), target.gate.clone());
        let gateways = target.gateways;
        let cgroup = job_dir.cgroup();
        match action {
            // CRIU seizes without a freezer.
            "pre-dump" if job_dir.criu_unfrozen().exists() => {
                target.is_asked.store(true, Ordering::Relaxed);
                Ok(())
            }
            "pre-dump" => {
                let (job, watched) = (job_dir.clone(), Arc::clone(&target.watched));
                blocking(move || freeze::freeze(&job, gateways, &watched)).await?;
                self.make_ready(&target, FrozenBy::Cgroup).await?;
                target.is_asked.store(true, Ordering::Relaxed);
                Ok(())
            }
            "network-lock" => {
                let job = job_dir.clone();
                blocking(move || freeze::check(&job, gateways)).await?;
                self.make_ready(&target, FrozenBy::Criu).await
            }
            AFTER_DUMP => removed_names::note(&job_dir),
            "network-unlock" => blocking(move || Ok(cgroup.freeze()?)).await,
            BEFORE_MEMORY => match &gate {
                Some(gate) => gate.pass().await,
                None => Ok(()),
            },
            "pre-resume" => {
                if gate.is_some_and(|gate| gate.waited().is_none()) {
                    return Err(CriuError::RestoredWithoutMemory.into());
                }
                let restorers = cgroup.sibling(RESTORERS);
                cgroup.send_outsiders_to(&restorers)?;
                let frozen = cgroup.clone();
                blocking(move || Ok(frozen.freeze()?)).await?;
                // A restorer that was forked in between is frozen too until it has left the group.
                cgroup.send_outsiders_to(&restorers)?;
                blocking(move || {
                    datagrams::restore(&job_dir, &images)?;
                    terminals::restore(&job_dir, &images)
                })
                .await
            }
            _ => Err(unknown()),
        }
    }

    /// Looks at a job that does not execute any more, and makes it ready for CRIU.
    async fn make_ready(&self, target: &HookTarget, by: FrozenBy) -> Result<()> {
        let (job_dir, images, gateways) = (target.job_dir.clone(), target.images.clone(), target.gateways);
        let looked = {
            let (host, job_dir, images) = (self.host.clone(), job_dir.clone(), images.clone());
            blocking(move || look::at_frozen(&host, &job_dir, &images, by))
        };
        // The look comes before anything is taken out of the job.
        tokio::try_join!(looked, self.isolate(target))?;
        let watched = Arc::clone(&target.watched);
        blocking(move || {
            connections::record(&job_dir, gateways, &images)?;
            datagrams::record(&job_dir, &images)?;
            timers::record(&job_dir, &images)?;
            watches::take(&job_dir, &images, &watched)?;
            epoll_targets::take(&job_dir, &images)?;
            message_queues::take(&job_dir, &images)?;
            terminals::take(&job_dir, &images)
        })
        .await
    }

    /// Makes the names that CRIU looks for, and drops all packets of the job.
    async fn isolate(&self, target: &HookTarget) -> Result<()> {
        let job_dir = &target.job_dir;
        removed_names::expect(job_dir)?;
        let sockets = || target.sockets.iter().map(PathBuf::as_path);
        socket_files::record(job_dir, &target.images, sockets())?;
        *target.bound_names.lock() = Some(BoundNames::make(job_dir, sockets())?);
        // Packets from and within the job are dropped as well: its kernel's timers send after the
        // freeze. A packet sent after CRIU has read the send queue would be known to the peer
        // alone.
        Ok(self.filter.isolate(job_dir).await?)
    }

    fn subjects(&self) -> parking_lot::MutexGuard<'_, HashMap<String, HookTarget>> {
        self.subjects.lock()
    }
}

async fn blocking(work: impl FnOnce() -> Result<()> + Send + 'static) -> Result<()> {
    tokio::task::spawn_blocking(work).await.map_err(|_| CriuError::FreezeAborted)?
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.hooks.subjects().remove(&self.container);
        drop(self.bound_names.lock().take());
    }
}

/// Asks the agent on behalf of CRIU and waits for its answer.
///
/// # Errors
/// The agent can't be reached, or refuses.
pub fn ask(socket: &Path, container: &str, action: &str) -> io::Result<()> {
    let mut stream = BlockingStream::connect(socket)?;
    stream.set_read_timeout(Some(if action == BEFORE_MEMORY { MEMORY_HOOK_TIMEOUT } else { HOOK_TIMEOUT }))?;
    writeln!(stream, "{container} {action}")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    if answer.trim() == "ok" { Ok(()) } else { Err(io::Error::other(answer.trim().to_owned())) }
}
