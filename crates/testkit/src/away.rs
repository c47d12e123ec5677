//! A job that is away for long while its client keeps sending.
//!
//! The client sends a line every few milliseconds, and the job answers each. Lines for a job that
//! is away wait at the gateway. The job's own clock tells how soon they arrive: the job knows when
//! it was restored and when it read the next line. A failpoint delays the capsule.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mooring_api::Client;
use mooring_types::migration::{Outcome, Phase};
use mooring_types::{Clock, SystemClock, Timestamp};
use serde::Serialize;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::distribution::Distribution;
use crate::tour::move_once;
use crate::wait::wait_for;
use crate::witness::{Answer, Witness};
use crate::world::World;

/// The pause between two lines of the client.
const INTERVAL: Duration = Duration::from_millis(10);
/// Time limit until all held lines are answered.
const CATCHES_UP_WITHIN: Duration = Duration::from_secs(30);

/// A client's record of migrations with a held capsule.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AwayReport {
    /// The moves.
    pub moves: Vec<AwayMove>,
    /// The number of lines that the client sent.
    pub sent: u64,
    /// The number of answers, each with its own number in order.
    pub answered: u64,
}

/// A client's record of one migration.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AwayMove {
    /// The pause, as OpCenter measured it.
    pub pause_seconds: f64,
    /// From the job's restore until it read the first byte.
    pub first_byte_in_seconds: f64,
    /// From the job's restore until the client received the first byte.
    pub first_byte_out_seconds: f64,
}

/// Moves a witness `moves` times, each time with its capsule held up for `away`, while a client
/// keeps sending.
pub async fn run(
    world: &World,
    client: &Client,
    witness: &Witness,
    moves: usize,
    away: Duration,
    mut each: impl FnMut(&AwayMove),
) -> Result<AwayReport> {
    let sending = Sending::start(witness.session.address).await?;
    let mut made = Vec::new();
    while made.len() < moves {
        let before = sending.caught_up().await?;
        world.failpoint_set(&Phase::Transfer.failpoint(), &format!("wait {}", away.as_secs_f64()))?;
        let migration = move_once(client, &witness.session.job).await?;
        ensure!(migration.outcome == Outcome::Succeeded, "the move: {}", migration.outcome);
        let first = wait_for("an answer after the move", CATCHES_UP_WITHIN, async || {
            sending.check()?;
            Ok(sending.first_since(before.resumed_at))
        })
        .await?;
        let since = |at: Timestamp| at.duration_since(first.answer.resumed_at).as_secs_f64().max(0.0);
        let seen = AwayMove {
            pause_seconds: migration.pause_seconds,
            first_byte_in_seconds: since(first.answer.read_at),
            first_byte_out_seconds: since(first.arrived_at),
        };
        each(&seen);
        made.push(seen);
    }
    sending.caught_up().await?;
    let (sent, answered) = sending.finish().await?;
    ensure!(sent == answered, "{sent} lines were sent and {answered} answered");
    Ok(AwayReport { moves: made, sent, answered })
}

impl AwayReport {
    /// From the restore until bytes moved in both directions, in seconds.
    #[must_use]
    pub fn first_bytes(&self) -> Option<Distribution> {
        Distribution::of(self.moves.iter().map(|made| made.first_byte_in_seconds.max(made.first_byte_out_seconds)))
    }
}

/// A client that sends without waiting for answers.
#[derive(Debug)]
struct Sending {
    stop: CancellationToken,
    sent: watch::Receiver<u64>,
    seen: watch::Receiver<Seen>,
    sender: JoinHandle<Result<()>>,
    receiver: JoinHandle<()>,
}

#[derive(Debug, Clone, Default)]
struct Seen {
    answered: u64,
    last: Option<Answer>,
    /// The first answer after each stop of the job.
    firsts: Vec<First>,
    fault: Option<String>,
}

#[derive(Debug, Clone)]
struct First {
    answer: Answer,
    arrived_at: Timestamp,
}

#[expect(clippy::disallowed_methods, reason = "both tasks are awaited when the client is finished")]
impl Sending {
    async fn start(address: SocketAddr) -> Result<Self> {
        let tcp = TcpStream::connect(address).await.context("connect to the witness")?;
        tcp.set_nodelay(true)?;
        let (input, mut output) = tcp.into_split();
        let stop = CancellationToken::new();
        let (count, sent) = watch::channel(0);
        let (note, seen) = watch::channel(Seen::default());
        let stopped = stop.clone();
        let sender = tokio::spawn(async move {
            let mut ticks = tokio::time::interval(INTERVAL);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
            while !stopped.is_cancelled() {
                ticks.tick().await;
                output.write_all(b"?\n").await.context("send to the witness")?;
                count.send_modify(|count| *count += 1);
            }
            output.shutdown().await.context("end the client's half")
        });
        let receiver = tokio::spawn(async move {
            let mut lines = BufReader::new(input).lines();
            loop {
                match lines.next_line().await {
                    Ok(Some(line)) => note.send_modify(|seen| seen.take(&line)),
                    Ok(None) => return,
                    Err(error) => {
                        return note.send_modify(|seen| seen.fail(format!("receive from the witness: {error}")));
                    }
                }
            }
        });
        Ok(Self { stop, sent, seen, sender, receiver })
    }

    /// Waits until everything sent so far is answered, and gives the last answer.
    async fn caught_up(&self) -> Result<Answer> {
        let sent = *self.sent.borrow() + 1;
        wait_for("all answers", CATCHES_UP_WITHIN, async || {
            self.check()?;
            let seen = self.seen.borrow();
            Ok((seen.answered >= sent).then(|| seen.last.clone()).flatten())
        })
        .await
    }

    fn first_since(&self, before: Timestamp) -> Option<First> {
        self.seen.borrow().firsts.iter().find(|first| first.answer.resumed_at > before).cloned()
    }

    fn check(&self) -> Result<()> {
        match &self.seen.borrow().fault {
            Some(fault) => Err(anyhow::anyhow!("{fault}")),
            None => Ok(()),
        }
    }

    /// Ends the client's half, waits for the last answer, and gives back how many lines were sent
    /// and answered.
    async fn finish(self) -> Result<(u64, u64)> {
        self.stop.cancel();
        self.sender.await??;
        self.receiver.await?;
        let seen = self.seen.borrow();
        ensure!(seen.fault.is_none(), "{seen:?}");
        Ok((*self.sent.borrow(), seen.answered))
    }
}

impl Seen {
    fn take(&mut self, line: &str) {
        let arrived_at = SystemClock.now();
        let answer: Answer = match line.parse() {
            Ok(answer) => answer,
            Err(error) => return self.fail(format!("{error:#}")),
        };
        if let Some(last) = &self.last {
            if answer.identity != last.identity || answer.count != last.count + 1 {
                self.fail(format!("after `{last}` came `{answer}`"));
            } else if answer.resumed_at != last.resumed_at {
                self.firsts.push(First { answer: answer.clone(), arrived_at });
            }
        }
        self.answered += 1;
        self.last = Some(answer);
    }

    fn fail(&mut self, fault: String) {
        self.fault.get_or_insert(fault);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_or_repeated_answer_is_a_fault() {
        let at = "2026-01-01T00:00:00Z";
        let after = |counts: &[u64]| {
            let mut seen = Seen::default();
            counts.iter().for_each(|count| seen.take(&format!("a {count} {at} {at}")));
            seen.fault.is_some()
        };
        assert!(!after(&[1, 2, 3]));
        assert!(after(&[1, 3]));
        assert!(after(&[1, 1]));
    }

    #[test]
    fn the_first_answer_after_a_stop_is_kept() {
        let mut seen = Seen::default();
        let resumed = ["2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z", "2026-01-01T00:00:20Z", "2026-01-01T00:00:20Z"];
        for (index, resumed) in resumed.iter().enumerate() {
            seen.take(&format!("a {index} {resumed} {resumed}"));
        }
        assert_eq!(seen.firsts.len(), 1);
        assert_eq!(seen.firsts[0].answer.count, 2);
    }
}
