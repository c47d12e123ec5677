//! The connections of a job to itself migrate with it, and so do the bytes not sent on them yet.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use mooring_api::view::JobView;
use mooring_api::{Client, Submission};
use mooring_testkit::job::executing;
use mooring_testkit::tour::move_once;
use mooring_testkit::wait::wait_for;
use mooring_testkit::world::{Plan, World};
use mooring_types::JobId;
use mooring_types::migration::Outcome;

const LIMIT: Duration = Duration::from_secs(60);
const MOVES: usize = 5;
/// The longest wait of a reader in addition to the pause. A retransmission comes after a second.
const STALL_MAX_SECONDS: f64 = 0.9;
/// The lines of the job after a move that are looked at: 0.1 s each.
const LINES: usize = 12;
const PYTHON: &str = "/opt/mooring/jupyter/bin/python3";
/// Senders that are always ahead of their readers, over each way to the job itself. A reader counts
/// until a byte is not the one that was sent. One sender fills its queue and ends its direction.
const SCRIPT: &str = r#"
import socket, threading, time
PATTERN = bytes(i * 7 % 251 for i in range(251 * 400))

def expected(at, length):
    at %= 251
    return PATTERN[at:at + length]

class Talk:
    def __init__(self, name, family, host, half=False):
        self.name, self.half, self.read, self.wait, self.fault, self.ended = name, half, 0, 0.0, "", False
        listener = socket.socket(family)
        listener.bind((host, 0))
        listener.listen()
        self.sender = socket.create_connection(listener.getsockname()[:2])
        self.reader, _ = listener.accept()
        threading.Thread(target=self.send, daemon=True).start()
        threading.Thread(target=self.receive, daemon=True).start()

    def send(self):
        self.sent = 0
        self.sender.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 22 if self.half else 1 << 19)
        self.sender.setblocking(not self.half)
        try:
            while True:
                self.sent += self.sender.send(expected(self.sent, 65536))
        except BlockingIOError:
            self.sender.shutdown(socket.SHUT_WR)
        except OSError as error:
            self.fault = f"the sender: {error!r}"

    def receive(self):
        last = time.monotonic()
        while not self.fault:
            try:
                data = self.reader.recv(1024 if self.half else 4096)
            except OSError as error:
                self.fault = f"the reader: {error!r}"
                return
            now = time.monotonic()
            self.wait, last = max(self.wait, now - last), now
            if data != expected(self.read, len(data)):
                self.fault = f"other bytes at {self.read}"
            self.read += len(data)
            if not data:
                self.fault = self.fault or ("" if self.half and self.read == self.sent else f"the end at {self.read}")
                self.ended = True
                return
            time.sleep(0.005)

route = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
route.connect(("198.51.100.1", 9))
own = route.getsockname()[0]
talks = [Talk("v4", socket.AF_INET, "127.0.0.1"), Talk("v6", socket.AF_INET6, "::1"),
         Talk("own address", socket.AF_INET, own), Talk("half closed", socket.AF_INET, "127.0.0.1", True)]
while True:
    time.sleep(0.1)
    print(*(f"{talk.name}: {talk.read} {talk.wait:.3f} {talk.fault or ('ended' if talk.ended else 'flows')}" for talk in talks), sep="; ", flush=True)
    for talk in talks:
        talk.wait = 0.0
"#;

#[test]
fn connections_within_a_job_keep_what_was_not_sent() {
    let world = World::start(Plan::new(env!("CARGO_BIN_EXE_float"))).unwrap();
    let outcome = world.run_inside(async || {
        let client = world.client().await?;
        let command = [PYTHON, "-c", SCRIPT].map(str::to_owned).to_vec();
        let request = Submission { image: Some("dir:/".parse()?), command, ..Submission::default() };
        let job = client.job_submit(&request).await?.id;
        executing(&client, &job, LIMIT).await?;
        let mut lines = 0;
        flowed(&client, &job, &mut lines).await?;
        for _ in 0..MOVES {
            let migration = move_once(&client, &job).await?;
            ensure!(migration.outcome == Outcome::Succeeded, "{migration:?}");
            let waits = flowed(&client, &job, &mut lines).await?;
            println!("pause {:.3} s, longest waits {waits:?}", migration.pause_seconds);
            let limit = migration.pause_seconds + STALL_MAX_SECONDS;
            ensure!(waits.iter().all(|wait| *wait < limit), "a reader waited: {waits:?}, {migration:?}");
        }
        Ok(())
    });
    outcome.unwrap();
}

/// A reader, as it reports itself.
#[derive(Debug)]
struct Reading {
    read: usize,
    /// Its longest wait since the line before.
    wait: f64,
    ended: bool,
}

/// Waits until bytes have flowed on all connections since `line`, or the end has been read. Returns
/// the longest wait of each reader in that time.
async fn flowed(client: &Client, job: &JobId, line: &mut usize) -> Result<Vec<f64>> {
    let from = *line;
    wait_for("bytes to flow", LIMIT, async || {
        let view: JobView = client.job_get(job).await?;
        ensure!(!view.status.is_final(), "it is {}: {}", view.status, view.status_reason);
        let text = client.job_log(job, 0).await?.text;
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        let looks = whole.lines().skip(from).map(readings).collect::<Result<Vec<_>>>()?;
        let [first, .., last] = &looks[..] else { return Ok(None) };
        let flowed = first.iter().zip(last).all(|(first, last)| last.read > first.read || last.ended);
        if !flowed || looks.len() < LINES {
            return Ok(None);
        }
        *line = from + looks.len();
        let waits = (0..last.len()).map(|reader| looks.iter().map(|look| look[reader].wait).fold(0.0, f64::max));
        Ok(Some(waits.collect()))
    })
    .await
}

fn readings(line: &str) -> Result<Vec<Reading>> {
    let reading = |said: &str| {
        let (_, said) = said.split_once(": ").with_context(|| line.to_owned())?;
        let [read, wait, state] = said.splitn(3, ' ').collect::<Vec<_>>()[..] else { bail!("{line}") };
        ensure!(matches!(state, "flows" | "ended"), "{line}");
        Ok(Reading { read: read.parse()?, wait: wait.parse()?, ended: state == "ended" })
    };
    line.split("; ").map(reading).collect()
}
