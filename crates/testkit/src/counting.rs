//! A kernel that counts and a client that watches, sending all the time.
//!
//! ```text
//!   kernel's cell:  0, 1, 2, …          each number printed on its own, one per interval
//!   client:         kernel_info_request on the control channel, one per interval, each answered
//! ```
//!
//! The cell tells at its end how many numbers it printed, so that numbers lost at the end are
//! noticed as well. A message may hold several numbers, and a number may be cut in two: lines
//! count. A *gap* is the time between two arrivals of the cell's output; the open one counts as
//! well.
//!
//! JupyterLab drops output above 1000 messages a second, averaged over 3 s; each request makes two.
//! Requests to a job that is away pile up and are answered at once afterwards. At an interval of
//! 20 ms that stays below the limit for about 25 s; a longer absence needs a longer interval.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use parking_lot::{Mutex, MutexGuard};
use serde::Serialize;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::channels::{Channels, Closed, Message, Messages, Requests};
use crate::distribution::Distribution;
use crate::jupyter::{Jupyter, Kernel};
use crate::sequence::Sequence;
use crate::wait::wait_for;

/// Time limit of the first number: the kernel has to start.
const STARTS_WITHIN: Duration = Duration::from_secs(90);
/// Time limit of the last number and the last reply.
const ENDS_WITHIN: Duration = Duration::from_secs(60);

/// A kernel that counts, watched.
#[derive(Debug)]
pub struct Counting {
    jupyter: Jupyter,
    kernel: Kernel,
    record: Arc<Mutex<Record>>,
    stop_sending: CancellationToken,
    tasks: JoinSet<()>,
}

/// A point in a [`Counting`].
#[derive(Debug, Clone, Copy)]
pub struct Mark {
    arrivals: usize,
    lost: u64,
    repeated: u64,
    replies_lost: u64,
}

/// A client's record since a [`Mark`].
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GapReport {
    /// The longest time between two messages.
    pub longest_gap_seconds: f64,
    /// The median of all gaps since the counting began.
    pub typical_gap_seconds: f64,
    /// Messages received.
    pub messages: usize,
    /// Numbers that never came although a higher one did.
    pub lost: u64,
    /// Numbers that came more than once.
    pub repeated: u64,
    /// The end of the WebSocket, if it ended.
    pub websocket_closed: Option<String>,
    /// Requests that were never answered although a later one was.
    pub replies_lost: u64,
}

/// A client's record from beginning to end.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Total {
    /// Numbers received.
    pub numbers: u64,
    /// In how many messages they came.
    pub messages: usize,
    /// Numbers that the kernel printed and the client never received.
    pub lost: u64,
    /// Numbers that came more than once.
    pub repeated: u64,
    /// Numbers that came after a higher one.
    pub out_of_order: u64,
    /// Requests sent.
    pub requests: u64,
    /// Requests that were never answered.
    pub replies_lost: u64,
    /// Requests that were answered more than once.
    pub replies_repeated: u64,
    /// The end of the WebSocket, if it came before the end of the counting.
    pub websocket_closed: Option<String>,
    /// The gaps between messages, in seconds.
    pub gaps: Option<Distribution>,
}

impl Total {
    /// Returns whether everything came, once and in order, over one WebSocket.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        let wrong = self.lost + self.repeated + self.out_of_order + self.replies_lost + self.replies_repeated;
        wrong == 0 && self.websocket_closed.is_none() && self.numbers > 0 && self.requests > 0
    }
}

impl Counting {
    /// Starts a kernel that counts, a number per `interval`, and waits for the first number and the
    /// first reply.
    pub async fn start(jupyter: &Jupyter, interval: Duration) -> Result<Self> {
        let kernel = jupyter.kernel_start().await?;
        let Channels { mut requests, messages } = jupyter.kernel_channels(&kernel).await?;
        let cell = requests.execute(&cell(interval)).await?;
        let record = Arc::new(Mutex::new(Record::new(cell)));
        let stop_sending = CancellationToken::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(receive(messages, record.clone()));
        tasks.spawn(send(requests, record.clone(), interval, stop_sending.clone()));
        let counting = Self { jupyter: jupyter.clone(), kernel, record, stop_sending, tasks };
        let begun = |record: &Record| record.numbers.next() > 0 && record.replies.next() > record.replies_first;
        counting.wait("the first number", STARTS_WITHIN, begun).await?;
        Ok(counting)
    }

    /// The kernel.
    #[must_use]
    pub fn kernel(&self) -> &Kernel {
        &self.kernel
    }

    /// This point.
    #[must_use]
    pub fn mark(&self) -> Mark {
        let record = self.record();
        Mark {
            arrivals: record.arrivals.len(),
            lost: record.numbers.lost(),
            repeated: record.numbers.repeated(),
            replies_lost: record.replies.lost(),
        }
    }

    /// Returns the record from `mark` until now, with the gaps that are open at both ends.
    #[must_use]
    pub fn since(&self, mark: Mark) -> GapReport {
        let record = self.record();
        let from = mark.arrivals.saturating_sub(1).min(record.arrivals.len());
        let open = record.arrivals.last().map(|last| last.elapsed().as_secs_f64());
        GapReport {
            longest_gap_seconds: gaps(&record.arrivals[from..]).chain(open).fold(0.0, f64::max),
            typical_gap_seconds: Distribution::of(gaps(&record.arrivals)).map_or(0.0, |gaps| gaps.median),
            messages: record.arrivals.len() - mark.arrivals,
            lost: record.numbers.lost().saturating_sub(mark.lost),
            repeated: record.numbers.repeated() - mark.repeated,
            websocket_closed: record.closed.as_ref().map(ToString::to_string),
            replies_lost: record.replies.lost().saturating_sub(mark.replies_lost),
        }
    }

    /// Waits until everything flows again: a number printed and a request sent after this call have
    /// arrived and been answered.
    pub async fn caught_up(&self, limit: Duration) -> Result<()> {
        let sent = self.record().requests;
        let answered = |record: &Record| record.replies.next() > record.replies_first + sent;
        self.wait("a reply", limit, answered).await?;
        let arrivals = self.record().arrivals.len();
        self.wait("a number", limit, |record| record.arrivals.len() > arrivals + 1).await
    }

    /// Stops the cell and the requests, waits for what is under way, and ends the kernel.
    pub async fn finish(mut self) -> Result<Total> {
        self.stop_sending.cancel();
        if self.record().closed.is_none() {
            self.jupyter.kernel_interrupt(&self.kernel).await?;
            let complete = |record: &Record| {
                record.printed.is_some() && record.replies.next() == record.replies_first + record.requests
            };
            // What does not come is counted below; that it did not come in time is no error of its
            // own.
            let _ = self.wait("the last number", ENDS_WITHIN, complete).await;
        }
        self.tasks.shutdown().await;
        self.jupyter.kernel_shutdown(&self.kernel).await?;
        Ok(self.record().total())
    }

    /// Waits until `condition` holds of the record.
    async fn wait(&self, what: &str, limit: Duration, condition: impl Fn(&Record) -> bool) -> Result<()> {
        wait_for(what, limit, async || {
            let record = self.record();
            match &record.closed {
                _ if condition(&record) => Ok(Some(())),
                Some(closed) => bail!("the WebSocket is {closed}"),
                None => Ok(None),
            }
        })
        .await
        .context("a kernel that counts")
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        lock(&self.record)
    }
}

/// All that arrived.
#[derive(Debug)]
struct Record {
    /// The number of the request that runs the cell.
    cell: u64,
    /// When output of the cell arrived.
    arrivals: Vec<Instant>,
    /// The beginning of a line whose end has not come yet.
    line: String,
    numbers: Sequence,
    /// The number of printed numbers, known at the cell's end.
    printed: Option<u64>,
    requests: u64,
    replies: Sequence,
    replies_first: u64,
    closed: Option<Closed>,
}

impl Record {
    fn new(cell: u64) -> Self {
        Self {
            cell,
            arrivals: Vec::new(),
            line: String::new(),
            numbers: Sequence::default(),
            printed: None,
            requests: 0,
            replies: Sequence::starting_at(cell + 1),
            replies_first: cell + 1,
            closed: None,
        }
    }

    fn note(&mut self, message: &Message) {
        match (message.kind.as_str(), message.request) {
            ("stream", Some(request)) if request == self.cell => {
                self.arrivals.push(message.arrived);
                self.read(message.text());
            }
            ("kernel_info_reply", Some(request)) => self.replies.note(request),
            _ => {}
        }
    }

    fn read(&mut self, text: &str) {
        self.line.push_str(text);
        while let Some(end) = self.line.find('\n') {
            let line: String = self.line.drain(..=end).collect();
            match line.trim().split_once(' ') {
                Some(("end", printed)) => self.printed = printed.parse().ok(),
                _ => line.trim().parse().map_or_else(|_| (), |number| self.numbers.note(number)),
            }
        }
    }

    fn total(&self) -> Total {
        let never = |next: u64, all: u64| all.saturating_sub(next);
        Total {
            numbers: self.numbers.next() - self.numbers.lost(),
            messages: self.arrivals.len(),
            lost: self.numbers.lost() + never(self.numbers.next(), self.printed.unwrap_or_default()),
            repeated: self.numbers.repeated(),
            out_of_order: self.numbers.late(),
            requests: self.requests,
            replies_lost: self.replies.lost() + never(self.replies.next(), self.replies_first + self.requests),
            replies_repeated: self.replies.repeated(),
            websocket_closed: self.closed.as_ref().map(ToString::to_string).or_else(|| match self.printed {
                Some(_) => None,
                None => Some("open, but the cell's end never came".into()),
            }),
            gaps: Distribution::of(gaps(&self.arrivals)),
        }
    }
}

/// The cell. An interrupt asks it to end; it is not raised in the middle of it, so its count is
/// exact.
fn cell(interval: Duration) -> String {
    format!(
        "import signal, sys, time\n\
         stop = []\n\
         before = signal.signal(signal.SIGINT, lambda *_: stop.append(True))\n\
         n = 0\n\
         while not stop:\n\
         \x20   sys.stdout.write(f'{{n}}\\n')\n\
         \x20   sys.stdout.flush()\n\
         \x20   n += 1\n\
         \x20   time.sleep({})\n\
         signal.signal(signal.SIGINT, before)\n\
         print(f'end {{n}}', flush=True)\n",
        interval.as_secs_f64()
    )
}

async fn receive(mut messages: Messages, record: Arc<Mutex<Record>>) {
    loop {
        match messages.next().await {
            Ok(message) => lock(&record).note(&message),
            Err(closed) => {
                lock(&record).closed.get_or_insert(closed);
                return;
            }
        }
    }
}

/// Sends until asked to stop, and then keeps its half open.
async fn send(mut requests: Requests, record: Arc<Mutex<Record>>, interval: Duration, stop: CancellationToken) {
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !stop.is_cancelled() {
        ticks.tick().await;
        lock(&record).requests += 1;
        if let Err(closed) = requests.kernel_info().await {
            // The half that receives may know the code: it gets a moment to say so.
            tokio::time::sleep(Duration::from_millis(500)).await;
            lock(&record).closed.get_or_insert(closed);
            return;
        }
    }
    std::future::pending().await
}

fn gaps(arrivals: &[Instant]) -> impl Iterator<Item = f64> {
    arrivals.windows(2).map(|pair| (pair[1] - pair[0]).as_secs_f64())
}

fn lock(record: &Mutex<Record>) -> MutexGuard<'_, Record> {
    record.lock()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_count_however_they_are_cut() {
        let mut record = Record::new(0);
        for text in ["0\n1\n2", "\n3", "", "\n", "5\n6\n6\nhello\nend 9", "\n"] {
            record.read(text);
        }
        let total = record.total();
        assert_eq!((total.numbers, total.lost, total.repeated), (6, 3, 1));
        assert_eq!(record.printed, Some(9));
        assert!(!total.is_clean());
    }
}
