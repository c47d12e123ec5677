//! A client that queries a witness continuously, over a lasting connection and over new ones.
//!
//! The witness counts its requests. A repeated count is a setback: the job has forgotten something,
//! or two copies of it answer. Only a recovery explains a setback. A count beyond the number of
//! requests, or another identity, is a fault.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mooring_types::{Clock, SystemClock, Timestamp};
use parking_lot::Mutex;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::witness::Answer;

const REQUEST_INTERVAL: Duration = Duration::from_millis(40);
const RECONNECT_DELAY: Duration = Duration::from_millis(200);
/// One request in this number uses a new connection.
const NEW_CONNECTION_EVERY: u64 = 10;

/// A count that went back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Setback {
    pub(super) at: Timestamp,
    pub(super) before: u64,
    pub(super) after: u64,
}

/// The observations so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) answers: u64,
    pub(super) broken: u64,
    pub(super) setbacks: Vec<Setback>,
    pub(super) fault: Option<String>,
    identity: Option<String>,
    last: u64,
    /// Unanswered requests that the witness may still count.
    open: u64,
}

/// The client. It stops when dropped.
#[derive(Debug)]
pub(super) struct Prober {
    seen: Arc<Mutex<Seen>>,
    _tasks: JoinSet<()>,
}

impl Prober {
    pub(super) fn start(address: SocketAddr) -> Self {
        let seen = Arc::default();
        let mut tasks = JoinSet::new();
        tasks.spawn(keep_asking(address, Arc::clone(&seen)));
        Self { seen, _tasks: tasks }
    }

    pub(super) fn seen(&self) -> Seen {
        self.seen.lock().clone()
    }
}

async fn keep_asking(address: SocketAddr, seen: Arc<Mutex<Seen>>) {
    let note = |change: &dyn Fn(&mut Seen)| change(&mut seen.lock());
    let mut kept = None;
    for number in 0_u64.. {
        let asked = if number % NEW_CONNECTION_EVERY == 0 {
            // A longer wait would hide what the lasting connection sees.
            tokio::time::timeout(Duration::from_secs(5), ask(&mut None, address)).await.unwrap_or(Err(Asked::Open))
        } else {
            ask(&mut kept, address).await
        };
        match asked {
            Ok(answer) => {
                note(&|seen| seen.take(&answer, SystemClock.now()));
                tokio::time::sleep(REQUEST_INTERVAL).await;
            }
            Err(asked) => {
                note(&|seen| {
                    seen.open += u64::from(matches!(asked, Asked::Open));
                    seen.broken += 1;
                });
                tokio::time::sleep(RECONNECT_DELAY).await;
            }
        }
    }
}

/// The reach of an unanswered request.
#[derive(Debug, Clone, Copy)]
enum Asked {
    Never,
    Open,
}

async fn ask(connection: &mut Option<BufReader<TcpStream>>, address: SocketAddr) -> std::result::Result<Answer, Asked> {
    let mut tcp = match connection.take() {
        Some(tcp) => tcp,
        None => BufReader::new(TcpStream::connect(address).await.map_err(|_| Asked::Never)?),
    };
    let answered: Result<Answer> = async {
        tcp.get_mut().set_nodelay(true)?;
        tcp.get_mut().write_all(b"?\n").await?;
        let mut line = String::new();
        ensure!(tcp.read_line(&mut line).await? > 0, "the connection was closed");
        line.parse().context("an answer")
    }
    .await;
    let answer = answered.map_err(|_| Asked::Open)?;
    *connection = Some(tcp);
    Ok(answer)
}

impl Seen {
    fn take(&mut self, answer: &Answer, now: Timestamp) {
        self.answers += 1;
        let (last, count) = (self.last, answer.count);
        let known = self.identity.get_or_insert_with(|| answer.identity.clone());
        if *known != answer.identity {
            self.fault.get_or_insert(format!("the job was `{known}` and says that it is `{}`", answer.identity));
        } else if count <= last {
            self.setbacks.push(Setback { at: now, before: last, after: count });
        } else if last > 0 && count > last + 1 + self.open {
            let open = self.open;
            self.fault.get_or_insert(format!("after {last} the job counts {count}, with {open} requests open"));
        } else if last > 0 {
            self.open -= count - last - 1;
        }
        self.last = count;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_counts_are_setbacks_and_unasked_counts_faults() {
        let answer = |identity: &str, count| Answer {
            identity: identity.to_owned(),
            count,
            read_at: Timestamp::UNIX_EPOCH,
            resumed_at: Timestamp::UNIX_EPOCH,
        };
        let after = |open, answers: &[(&str, u64)]| {
            let mut seen = Seen { open, ..Seen::default() };
            answers.iter().for_each(|(identity, count)| seen.take(&answer(identity, *count), Timestamp::UNIX_EPOCH));
            (seen.setbacks.len(), seen.fault.is_some())
        };
        assert_eq!(after(0, &[("a", 5), ("a", 6), ("a", 7)]), (0, false));
        assert_eq!(after(1, &[("a", 5), ("a", 7), ("a", 8)]), (0, false));
        assert_eq!(after(1, &[("a", 5), ("a", 7), ("a", 9)]), (0, true));
        assert_eq!(after(0, &[("a", 5), ("a", 5), ("a", 6)]), (1, false));
        assert_eq!(after(0, &[("a", 5), ("b", 6)]), (0, true));
    }
}
