//! The activity of the jobs of this host on their own. Neither their clients nor their use of
//! processors show it.
//!
//! | a job is in use while | which is seen by |
//! |---|---|
//! | it has spoken last on a connection that it has opened | the counters of its TCP connections |
//! | bytes come on such a connection, however few | the same |
//! | a Jupyter kernel executes a cell | a process with a connection file of Jupyter's as argument, whose first thread does not wait for events |
//! | a program is in the foreground of a terminal | the terminal's foreground process group is not its shell's |
//! | it says so | the file `busy` of its own directory, modified in the future |
//!
//! A connection that is at rest, with the answer to its last query, is none of these. Connections
//! to the ports on which the job listens are its clients'. Those within the job do not count
//! either: a process that waits for another one of the job waits for what that one does.
//!
//! The kernel has no such counters for UDP: a query by UDP is not seen.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::Read;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::time::Duration;

use mooring_linux::occupation::{self, Occupation};
use mooring_linux::process::parent;
use mooring_linux::process_tree::own_pid;
use mooring_linux::tcp_talk::{self, Talk};
use mooring_types::job::{Activity, InUse, LISTED_MAX};
use mooring_types::{Clock, Generation, JobId, Port, SystemClock, Timestamp};
use tokio_util::sync::CancellationToken;

use crate::host::Host;
use crate::job::Jobs;
use crate::look::readable;
use crate::runtime::job_dir::JobDir;
use crate::runtime::own;

const LOOK_INTERVAL: Duration = Duration::from_secs(2);
/// The looks over which received bytes are summed.
const RECEIVED_LOOKS: usize = 5;
/// The bytes within that time from which on a connection receives; fewer are signs of life.
const RECEIVED_MIN: u64 = 2048;
/// The longest time for which a job may say ahead that it is in use.
const SAID_MAX: Duration = Duration::from_secs(24 * 3600);

/// The ends of a connection.
type Ends = (SocketAddr, SocketAddr);

/// Looks at what jobs do.
#[derive(Debug)]
pub(crate) struct ActivityLook {
    host: Arc<Host>,
    jobs: Jobs,
    /// The bytes that each connection has received at the last looks, newest last.
    received: HashMap<(JobId, Generation), BTreeMap<Ends, Vec<u64>>>,
}

impl ActivityLook {
    pub(crate) fn new(host: Arc<Host>, jobs: Jobs) -> Self {
        Self { host, jobs, received: HashMap::new() }
    }

    /// Looks until asked to stop.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(LOOK_INTERVAL) => self.look().await,
            }
        }
    }

    async fn look(&mut self) {
        let mut received = HashMap::new();
        for (job, generation, job_dir) in self.jobs.executing() {
            let published = self.jobs.published(&job);
            let seen = tokio::task::spawn_blocking(move || Seen::of(&job_dir)).await;
            let Ok(seen) = seen else { continue };
            let key = (job.clone(), generation);
            let before = self.received.remove(&key).unwrap_or_default();
            let outward = seen.outward(&published);
            let bytes = outward.iter().map(|talk| ((talk.local, talk.peer), talk.received()));
            let counted = counted(bytes, before);
            if self.jobs.acts(&job, generation, seen.activity(&outward, &counted)) {
                self.host.observed.notify_one();
            }
            received.insert(key, counted);
        }
        self.received = received;
    }
}

/// Adds what connections have received by now to what they had at the looks before.
fn counted(
    received: impl Iterator<Item = (Ends, u64)>,
    mut before: BTreeMap<Ends, Vec<u64>>,
) -> BTreeMap<Ends, Vec<u64>> {
    let counts = |(ends, bytes)| {
        let mut looks = before.remove(&ends).unwrap_or_default();
        looks.push(bytes);
        if looks.len() > RECEIVED_LOOKS {
            looks.remove(0);
        }
        (ends, looks)
    };
    received.map(counts).collect()
}

/// All that was seen of a job at one moment.
#[derive(Debug, Default)]
struct Seen {
    talks: Vec<Talk>,
    foreground: Vec<(i32, String)>,
    kernels: Vec<i32>,
    said: Option<(Timestamp, String)>,
}

impl Seen {
    /// Looks at a job; blocks for a few milliseconds. Of a job that ends meanwhile less is seen.
    fn of(job_dir: &JobDir) -> Self {
        let processes: Vec<Occupation> = job_dir.cgroup().pids().into_iter().filter_map(Occupation::read).collect();
        let own = |pid: i32| own_pid(pid).unwrap_or(pid);
        let foreground = occupation::in_foreground(&processes).into_iter();
        let commands = processes.iter().map(|process| Command::of(process.pid)).collect::<Vec<_>>();
        let executes = |pid: &i32| occupation::waits_for_events(*pid) == Some(false);
        Self {
            talks: tcp_talk::list(&job_dir.namespace()).unwrap_or_default(),
            foreground: foreground.map(|process| (own(process.pid), readable(process.program.as_bytes()))).collect(),
            kernels: kernels(&commands).into_iter().filter(executes).map(own).collect(),
            said: said(job_dir, SystemClock.now()),
        }
    }

    /// Returns the connections that the job has opened to others.
    fn outward(&self, published: &[Port]) -> Vec<&Talk> {
        let listened = self.talks.iter().filter(|talk| talk.is_listener()).map(|talk| talk.local.port());
        let served: BTreeSet<u16> = listened.chain(published.iter().map(|port| port.get())).collect();
        self.talks.iter().filter(|talk| talk.is_connected() && !served.contains(&talk.local.port())).collect()
    }

    /// Says what the job does.
    fn activity(&self, outward: &[&Talk], counted: &BTreeMap<Ends, Vec<u64>>) -> Activity {
        let receives = |talk: &Talk| {
            let looks = counted.get(&(talk.local, talk.peer));
            looks.is_some_and(|looks| match looks.as_slice() {
                [first, .., last] => last.saturating_sub(*first) >= RECEIVED_MIN,
                _ => false,
            })
        };
        let of_talk = |talk: &&Talk| match (talk.spoke_last(), receives(talk)) {
            (true, _) => Some(InUse::Answer { peer: talk.peer }),
            (false, true) => Some(InUse::Receives { peer: talk.peer }),
            (false, false) => None,
        };
        let said = self.said.iter().map(|(until, reason)| InUse::Said { until: *until, reason: reason.clone() });
        let kernels = self.kernels.iter().map(|pid| InUse::Kernel { pid: *pid });
        let foreground =
            self.foreground.iter().map(|(pid, program)| InUse::Foreground { pid: *pid, program: program.clone() });
        let uses: BTreeSet<InUse> =
            said.chain(kernels).chain(foreground).chain(outward.iter().filter_map(of_talk)).collect();
        let peers: BTreeSet<SocketAddr> = outward.iter().map(|talk| talk.peer).collect();
        Activity {
            uses: uses.into_iter().take(LISTED_MAX).collect(),
            outward: peers.into_iter().take(LISTED_MAX).collect(),
        }
    }
}

/// A process with what it was started as.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Command {
    pid: i32,
    parent: i32,
    arguments: Vec<String>,
}

impl Command {
    fn of(pid: i32) -> Self {
        Self { pid, parent: parent(pid).unwrap_or_default(), arguments: occupation::arguments(pid) }
    }

    /// Says whether the process was started with a connection file of Jupyter's.
    fn names_connection_file(&self) -> bool {
        self.arguments.iter().any(|argument| {
            let name = argument.rsplit('/').next().unwrap_or_default();
            name.starts_with("kernel-") && name.ends_with(".json")
        })
    }
}

/// Returns the Jupyter kernels among processes. Jupyter starts each kernel with the name of its
/// connection file, some through another program, which waits for it. A fork of a kernel has the
/// same arguments, and is none. What a cell awaits in the kernel's own event loop is not seen.
fn kernels(commands: &[Command]) -> Vec<i32> {
    let named: Vec<&Command> = commands.iter().filter(|command| command.names_connection_file()).collect();
    let is_fork = |command: &Command| {
        named.iter().any(|other| other.pid == command.parent && other.arguments == command.arguments)
    };
    let starts_another = |command: &Command| {
        named.iter().any(|other| other.parent == command.pid && other.arguments != command.arguments)
    };
    let of_jupyter = named.iter().filter(|command| !is_fork(command) && !starts_another(command));
    of_jupyter.map(|command| command.pid).collect()
}

/// Returns until when a job says that it is in use, and why. The time of the file's last change,
/// which the job can't choose, limits it.
fn said(job_dir: &JobDir, now: Timestamp) -> Option<(Timestamp, String)> {
    let file = own::open_busy(&job_dir.upper())?;
    let metadata = file.metadata().ok()?;
    let changed = Timestamp::from_second(metadata.ctime()).ok()?;
    let modified = Timestamp::from_second(metadata.mtime()).ok()?;
    let until = modified.min(changed.checked_add(SAID_MAX).ok()?);
    if until <= now {
        return None;
    }
    let mut text = String::new();
    let _ = file.take(4096).read_to_string(&mut text);
    let line: String = text.lines().next().unwrap_or_default().trim().to_owned();
    Some((until, readable(line.as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(pid: i32, parent: i32, line: &str) -> Command {
        Command { pid, parent, arguments: line.split(' ').map(str::to_owned).collect() }
    }

    #[test]
    fn a_kernel_is_neither_its_starter_nor_its_fork() {
        let file = "/root/.local/share/jupyter/runtime/kernel-4a1f.json";
        let python = format!("python3 -m ipykernel_launcher -f {file}");
        let all = [
            command(1, 0, "jupyter-lab --no-browser"),
            command(7, 1, &python),
            command(8, 7, &python),
            command(10, 1, &format!("conda run -n env {python}")),
            command(11, 10, &python),
            command(20, 1, &format!("R --slave -e IRkernel::main() --args {file}")),
            command(30, 1, "python3 kernel.json"),
        ];
        assert_eq!(kernels(&all), [7, 11, 20]);
    }

    #[test]
    fn received_bytes_are_counted_over_the_last_looks() {
        let ends: Ends = ("10.0.0.2:40000".parse().unwrap(), "198.18.0.1:5555".parse().unwrap());
        let mut looks = BTreeMap::new();
        for bytes in 1..=7 {
            looks = counted([(ends, bytes)].into_iter(), looks);
        }
        assert_eq!(looks, BTreeMap::from([(ends, vec![3, 4, 5, 6, 7])]));
        // A connection that is gone is forgotten.
        assert_eq!(counted(std::iter::empty(), looks), BTreeMap::new());
    }
}
