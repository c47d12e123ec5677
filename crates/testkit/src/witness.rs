//! A job that remembers who it is and how often it was asked, and a client that notices when it
//! forgets.
//!
//! ```text
//!   client                                       witness
//!   one line ───────────────────────────────────►
//!                                           ◄─── "<identity> <count> <read at> <resumed at>"
//! ```
//!
//! There is one request under way at a time and the client knows what the answer has to be: the
//! same identity, the next count. A job that was started again, that runs twice, or that lost or
//! repeated a request shows at the next answer. When the connection itself breaks the client
//! connects again and goes on; whether the request under way arrived is open then, and nothing
//! else.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use jiff::SignedDuration;
use mooring_api::{Client, Submission};
use mooring_types::{Clock, GatewayId, SystemClock, Timestamp};
use parking_lot::Mutex;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::session::Session;
use crate::streams::program_named;
use crate::wait::wait_for;

/// The pause between two requests.
const INTERVAL: Duration = Duration::from_millis(10);
/// The pause before a reconnect.
const RECONNECT: Duration = Duration::from_millis(100);
/// Time limit until the witness listens.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// Nothing on a busy machine takes that long, and no move is shorter.
const STOP: SignedDuration = SignedDuration::from_millis(100);
/// The port inside the job.
const PORT: u16 = 9000;

/// A witness that executes behind a gateway.
#[derive(Debug, Clone)]
pub struct Witness {
    /// The job and how one reaches it.
    pub session: Session,
    mark: String,
}

/// The answer of a witness.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Made up at its start.
    pub identity: String,
    /// The number of lines read, this one included.
    pub count: u64,
    /// When it read this one.
    pub read_at: Timestamp,
    /// The end of the last pause that it noticed, or its start.
    pub resumed_at: Timestamp,
}

/// A client that asks all the time.
#[derive(Debug)]
pub struct Asking {
    stop: CancellationToken,
    seen: Arc<Mutex<Seen>>,
    tasks: JoinSet<()>,
}

/// The client's record so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// Answers received.
    pub answers: u64,
    /// Broken connections.
    pub broken: u32,
    /// The first answer that can't be.
    pub fault: Option<String>,
    last: Option<(String, u64)>,
}

/// The program beside the running test or measurement.
pub fn program() -> Result<PathBuf> {
    program_named("witness")
}

impl Witness {
    /// Creates a gateway called `name` and submits `program` to it under the same name. Waits until
    /// it can be reached. `program` is a copy of [`program`] that jobs see.
    pub async fn launch(client: &Client, name: &str, program: &Path) -> Result<Self> {
        let (request, mark) = request(name, program)?;
        Self::reached(Session::launch(client, request).await?, mark).await
    }

    /// The same behind a gateway that runs.
    pub async fn launch_behind(client: &Client, gateway: &GatewayId, name: &str, program: &Path) -> Result<Self> {
        let (request, mark) = request(name, program)?;
        Self::reached(Session::launch_behind(client, gateway, request).await?, mark).await
    }

    async fn reached(session: Session, mark: String) -> Result<Self> {
        wait_for("the witness behind its gateway", READY_WITHIN, async || {
            Ok(ask(&mut connect(session.address).await.ok()).await.ok())
        })
        .await?;
        Ok(Self { session, mark })
    }

    /// Returns the number of this machine's processes that execute this job.
    #[must_use]
    pub fn processes(&self) -> usize {
        self.pids().len()
    }

    /// Returns the process ids on this machine of the processes that execute this job.
    #[must_use]
    pub fn pids(&self) -> Vec<u32> {
        let mark = self.mark.as_bytes();
        // The job's first process, a shell, has the mark among its arguments as well.
        let is_witness = |line: Vec<u8>| {
            let mut words = line.split(|byte| *byte == 0);
            words.next().is_some_and(|program| program.ends_with(b"witness")) && words.any(|word| word == mark)
        };
        let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        pids.filter(|pid: &u32| std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(is_witness)).collect()
    }
}

/// Returns the submission of a witness, and the mark of its process.
fn request(name: &str, program: &Path) -> Result<(Submission, String)> {
    let mark = format!("{name}-{:016x}", rand::random::<u64>());
    let request = Submission {
        name: Some(name.parse()?),
        image: Some("dir:/".parse()?),
        command: vec![program.display().to_string(), format!("0.0.0.0:{PORT}"), mark.clone()],
        publish: vec![PORT.to_string().parse()?],
        ..Submission::default()
    };
    Ok((request, mark))
}

impl Asking {
    /// Begins to ask.
    #[must_use]
    pub fn start(address: SocketAddr) -> Self {
        let (stop, seen) = (CancellationToken::new(), Arc::default());
        let mut tasks = JoinSet::new();
        tasks.spawn(keep_asking(address, Arc::clone(&seen), stop.clone()));
        Self { stop, seen, tasks }
    }

    /// Returns the record so far.
    #[must_use]
    pub fn seen(&self) -> Seen {
        self.seen.lock().clone()
    }

    /// Waits for `more` further answers.
    pub async fn answered(&self, more: u64, limit: Duration) -> Result<Seen> {
        let before = self.seen().answers;
        wait_for("answers of the witness", limit, async || {
            let seen = self.seen();
            if let Some(fault) = seen.fault {
                bail!("{fault}");
            }
            Ok((seen.answers >= before + more).then_some(seen))
        })
        .await
    }

    /// Ends it.
    pub async fn finish(mut self) -> Seen {
        self.stop.cancel();
        while self.tasks.join_next().await.is_some() {}
        self.seen()
    }
}

/// Answers every line on every connection; see [`Answer`].
pub async fn serve(address: SocketAddr) -> Result<()> {
    let listener = TcpListener::bind(address).await.with_context(|| format!("listen at {address}"))?;
    let memory = Arc::new(Mutex::new(Answer {
        identity: format!("{:016x}", rand::random::<u64>()),
        count: 0,
        read_at: SystemClock.now(),
        resumed_at: SystemClock.now(),
    }));
    let mut connections = JoinSet::new();
    connections.spawn(notice_stops(memory.clone()));
    loop {
        let (tcp, _) = listener.accept().await.context("accept a connection")?;
        let memory = memory.clone();
        connections.spawn(async move {
            let (input, mut output) = tcp.into_split();
            let mut lines = BufReader::new(input).lines();
            while lines.next_line().await?.is_some() {
                let answer = {
                    let mut memory = memory.lock();
                    memory.count += 1;
                    memory.read_at = SystemClock.now();
                    memory.clone()
                };
                output.write_all(format!("{answer}\n").as_bytes()).await?;
            }
            std::io::Result::Ok(())
        });
        while connections.try_join_next().is_some() {}
    }
}

/// Watches the wall clock, which goes on while the job is frozen.
async fn notice_stops(memory: Arc<Mutex<Answer>>) -> std::io::Result<()> {
    let mut last = SystemClock.now();
    loop {
        tokio::time::sleep(Duration::from_millis(1)).await;
        let now = SystemClock.now();
        if now.duration_since(last) > STOP {
            memory.lock().resumed_at = now;
        }
        last = now;
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {} {}", self.identity, self.count, self.read_at, self.resumed_at)
    }
}

impl FromStr for Answer {
    type Err = anyhow::Error;

    fn from_str(line: &str) -> Result<Self> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [identity, count, read_at, resumed_at] = words[..] else { bail!("`{line}` is no answer of a witness") };
        Ok(Self {
            identity: identity.to_owned(),
            count: count.parse()?,
            read_at: read_at.parse()?,
            resumed_at: resumed_at.parse()?,
        })
    }
}

async fn keep_asking(address: SocketAddr, seen: Arc<Mutex<Seen>>, stop: CancellationToken) {
    let note = |change: &dyn Fn(&mut Seen)| change(&mut seen.lock());
    let mut connection = None;
    // After a break it is open whether the request under way was counted.
    let mut open = false;
    while !stop.is_cancelled() {
        if connection.is_none() {
            connection = connect(address).await.ok();
        }
        let answer = tokio::select! {
            answer = ask(&mut connection) => answer,
            () = stop.cancelled() => return,
        };
        match answer {
            Ok(Answer { identity, count, .. }) => {
                note(&|seen: &mut Seen| seen.take(&identity, count, open));
                open = false;
                tokio::time::sleep(INTERVAL).await;
            }
            Err(_) => {
                if connection.take().is_some() {
                    open = true;
                    note(&|seen: &mut Seen| seen.broken += 1);
                }
                tokio::time::sleep(RECONNECT).await;
            }
        }
    }
}

impl Seen {
    fn take(&mut self, identity: &str, count: u64, open: bool) {
        self.answers += 1;
        if let Some((known, last)) = &self.last {
            let expected = count == last + 1 || (open && count == last + 2);
            if known != identity || !expected {
                let fault = format!("after `{known} {last}` the witness answered `{identity} {count}`");
                self.fault.get_or_insert(fault);
            }
        }
        self.last = Some((identity.to_owned(), count));
    }
}

async fn connect(address: SocketAddr) -> Result<BufReader<TcpStream>> {
    let tcp = TcpStream::connect(address).await?;
    tcp.set_nodelay(true)?;
    Ok(BufReader::new(tcp))
}

/// One request and its answer.
async fn ask(connection: &mut Option<BufReader<TcpStream>>) -> Result<Answer> {
    let connection = connection.as_mut().context("not connected")?;
    connection.get_mut().write_all(b"?\n").await?;
    let mut line = String::new();
    ensure!(connection.read_line(&mut line).await? > 0, "the connection was closed");
    line.parse()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_can_not_be_is_a_fault() {
        let after = |answers: &[(&str, u64, bool)]| {
            let mut seen = Seen::default();
            answers.iter().for_each(|(identity, count, open)| seen.take(identity, *count, *open));
            seen.fault.is_some()
        };
        assert!(!after(&[("a", 5, false), ("a", 6, false), ("a", 7, true), ("a", 9, true)]));
        for lost in [[("a", 5, false), ("b", 6, false)], [("a", 5, false), ("a", 7, false)]] {
            assert!(after(&lost));
        }
        for repeated in [[("a", 5, false), ("a", 5, true)], [("a", 5, false), ("a", 8, true)]] {
            assert!(after(&repeated));
        }
    }
}
