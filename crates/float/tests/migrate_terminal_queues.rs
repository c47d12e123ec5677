//! The bytes that wait in a job's terminals move with the job.

use std::time::Duration;

use anyhow::{Result, ensure};
use mooring_api::{Client, Submission};
use mooring_testkit::job::executing;
use mooring_testkit::tour::move_once;
use mooring_testkit::wait::wait_for;
use mooring_testkit::world::{Plan, World};
use mooring_types::JobId;
use mooring_types::job::JobStatus;
use mooring_types::migration::Outcome;

const LIMIT: Duration = Duration::from_secs(60);
const PYTHON: &str = "/opt/mooring/jupyter/bin/python3";
/// Fills terminals in every way, lets the bytes wait, and reads them. A program that writes all the
/// time has a slow reader beside it.
const SCRIPT: &str = r#"
import fcntl, os, pty, select, struct, termios, threading, time

def terminal(raw=False, echo=False, packets=False):
    master, slave = pty.openpty()
    settings = termios.tcgetattr(slave)
    if raw:
        settings[0], settings[1], settings[3] = 0, 0, 0
    elif not echo:
        settings[3] &= ~termios.ECHO
    termios.tcsetattr(slave, termios.TCSANOW, settings)
    if packets:
        fcntl.ioctl(master, termios.TIOCPKT, struct.pack("i", 1))
    return master, slave

def fill(to, texts):
    os.set_blocking(to, False)
    written = b""
    for text in texts:
        try:
            written += text[:os.write(to, text)]
        except BlockingIOError:
            break
    os.set_blocking(to, True)
    return written

def read(of):
    got = b""
    while select.select([of], [], [], 0.02)[0]:
        try:
            got += os.read(of, 65536)
        except OSError:
            return got + b"<hung up>"
    return got

def check(what, got, expected):
    if got != expected:
        at = next((at for at, (a, b) in enumerate(zip(got, expected)) if a != b), min(len(got), len(expected)))
        print("BAD", what, len(got), "of", len(expected), "at", at, got[at:at + 40], expected[at:at + 40], flush=True)

def lines(number=0):
    while True:
        number += 1
        yield b"\x1b[32mstep %d of many\x1b[0m\n" % number

def follow():
    master, slave = terminal()
    if os.fork() == 0:
        for line in lines():
            while line:
                line = line[os.write(slave, line):]
    os.close(slave)
    rest = b""
    for line in lines():
        while b"\n" not in rest:
            rest += os.read(master, 3000)
            time.sleep(0.02)
        got, _, rest = rest.partition(b"\n")
        check("flow", got + b"\n", line.replace(b"\n", b"\r\n"))

threading.Thread(target=follow, daemon=True).start()
every = bytes(range(256))
cooked, raw, typed, keys, packets = terminal(), terminal(raw=True), terminal(echo=True), terminal(raw=True), terminal(packets=True)
cycle = 0
while True:
    full = fill(cooked[1], lines())
    binary = fill(raw[1], (every * 4 for _ in range(1000)))
    os.write(typed[0], b"one\rtwo\r\x04hal")
    pressed = fill(keys[0], (every for _ in range(1000)))
    os.write(packets[1], b"packet\n")
    master, slave = terminal()
    os.write(slave, b"good bye\n")
    os.close(slave)
    time.sleep(0.4)
    check("cooked output", read(cooked[0]), full.replace(b"\n", b"\r\n"))
    check("raw output", read(raw[0]), binary)
    check("keys", read(keys[1]), pressed)
    for expected in b"one\n", b"two\n", b"":
        check("a line", os.read(typed[1], 100), expected)
    os.write(typed[0], b"\x7f\x7fello\r")
    check("an edited line", os.read(typed[1], 100), b"hello\n")
    check("echo", read(typed[0]), b"one\r\ntwo\r\nhal\b \b\b \bello\r\n")
    check("a packet", os.read(packets[0], 100), b"\0packet\r\n")
    check("a terminal that is hung up", read(master), b"good bye\r\n<hung up>")
    os.close(master)
    cycle += 1
    print("cycle", cycle, flush=True)
"#;

#[test]
fn what_waits_in_a_terminal_moves() {
    let world = World::start(Plan::new(env!("CARGO_BIN_EXE_float"))).unwrap();
    let outcome = world.run_inside(async || {
        let client = world.client().await?;
        let command = vec![PYTHON.to_owned(), "-c".to_owned(), SCRIPT.to_owned()];
        let request = Submission { image: Some("dir:/".parse()?), command, ..Submission::default() };
        let job = client.job_submit(&request).await?.id;
        cycles(&client, &job).await?;
        for _ in 0..3 {
            let migration = move_once(&client, &job).await?;
            ensure!(migration.outcome == Outcome::Succeeded, "{migration:?}");
            cycles(&client, &job).await?;
        }
        client.job_suspend(&job).await?;
        wait_for("the job to be suspended", LIMIT, async || {
            Ok((client.job_get(&job).await?.status == JobStatus::Suspended).then_some(()))
        })
        .await?;
        client.job_resume(&job).await?;
        executing(&client, &job, LIMIT).await?;
        cycles(&client, &job).await?;
        for _ in 0..3 {
            let before = client.job_get(&job).await?.migrations.len();
            client.job_snapshot(&job).await?;
            let made = wait_for("the snapshot", LIMIT, async || {
                let view = client.job_get(&job).await?;
                let made = view.migrations.len() > before && view.status == JobStatus::Executing;
                Ok(made.then(|| view.migrations.last().cloned()).flatten())
            })
            .await?;
            ensure!(made.outcome == Outcome::Succeeded, "{made:?}");
            cycles(&client, &job).await?;
        }
        Ok(())
    });
    outcome.unwrap();
    assert!(!world.log().contains("did not fit into terminal"), "{}", world.log());
}

/// Waits for two more cycles, and checks all that were until then.
async fn cycles(client: &Client, job: &JobId) -> Result<()> {
    let ended = async || {
        let text = client.job_log(job, 0).await?.text;
        let faults: Vec<&str> = text.lines().filter(|line| !line.starts_with("cycle ")).collect();
        ensure!(faults.is_empty(), "{faults:#?}");
        Ok(text.lines().count())
    };
    let before = ended().await?;
    wait_for("cycles to end", LIMIT, async || {
        let view = client.job_get(job).await?;
        ensure!(!view.status.is_final(), "it is {}: {}", view.status, view.status_reason);
        Ok((ended().await? >= before + 2).then_some(()))
    })
    .await
}
