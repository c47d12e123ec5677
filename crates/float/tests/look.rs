//! The look before the freeze: jobs that can't be checkpointed are refused while they execute.
//! The words name program and process, and a drain goes on with the others.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mooring_api::view::{JobView, MigrationView};
use mooring_api::{Client, Submission};
use mooring_linux::process::has_sys_resource;
use mooring_testkit::tour::move_once;
use mooring_testkit::wait::wait_for;
use mooring_testkit::world::{Plan, World};
use mooring_types::job::JobStatus;
use mooring_types::migration::{Outcome, Phase};
use mooring_types::{Event, JobId};

const LIMIT: Duration = Duration::from_secs(60);
const PYTHON: &str = "/opt/mooring/jupyter/bin/python3";
/// The begin of each program: a child that does something, and a parent that counts on.
const BEGIN: &str = r"
import ctypes, os, signal, socket, time
libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long] * 2 + [ctypes.c_void_p] * 2

def check(answer):
    if answer < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return answer

def name(text):
    libc.prctl(15, text, 0, 0, 0)

def wait():
    print('ready', flush=True)
    while True:
        signal.pause()
";
/// The end of each program, in the parent.
const END: &str = r"
number = 0
while True:
    number += 1
    print(number, flush=True)
    time.sleep(0.05)
";

/// A program and the reason against its migration.
struct Case {
    name: &'static str,
    script: &'static str,
    /// The program with the thing, after `process N `.
    reason: &'static str,
}

/// Jobs may not make namespaces, raw sockets and the like, which `attack_sandbox` tries.
const CASES: [Case; 3] = [
    Case {
        name: "traced",
        script: "
name(b'server')
child = os.fork()
if child == 0:
    wait()
name(b'tracer')
check(libc.ptrace(0x4206, child, None, 0x100000))
",
        reason: "(server) is traced by tracer (",
    },
    Case {
        name: "breakpoint",
        script: "
name(b'server')
child = os.fork()
if child == 0:
    wait()
name(b'tracer')
check(libc.ptrace(0x4206, child, None, 0x100000))
check(libc.ptrace(0x4207, child, None, None))
os.waitpid(child, 0)
print('ready', flush=True)
",
        reason: "(server) is traced by tracer (",
    },
    Case {
        name: "open-queue",
        script: "
queue = check(libc.mq_open(b'/jobs', os.O_CREAT | os.O_RDWR, 0o600, None))
print('ready', flush=True)
",
        reason: "(python3) has the message queue /jobs open: end it",
    },
];

#[test]
fn jobs_that_can_not_move_are_refused_while_they_execute() {
    let world = World::start(Plan::new(env!("CARGO_BIN_EXE_float"))).unwrap();
    let outcome = world.run_inside(async || {
        let client = world.client().await?;
        let mut faults = Vec::new();
        for Case { name, script, reason } in CASES {
            if let Err(error) = refused(&client, name, script, reason).await {
                faults.push(format!("{name}: {error:#}"));
            }
        }
        ensure!(faults.is_empty(), "{faults:#?}");
        let queue = "
queue = check(libc.mq_open(b'/left', os.O_CREAT | os.O_RDWR, 0o600, None))
check(libc.mq_send(queue, b'hello', 5, 1))
os.close(queue)
print('ready', flush=True)
";
        let reason = "the job has a message queue /left, in which messages of 5 bytes wait";
        refused(&client, "queue", queue, reason).await?;
        rare_protocols(&client).await?;
        into_the_store(&client).await?;
        of_another_user(&client).await
    });
    outcome.unwrap();
}

/// Sockets that look unusual, and move.
async fn rare_protocols(client: &Client) -> Result<()> {
    let script = "
kept = [
    socket.socket(socket.AF_INET, socket.SOCK_DGRAM, 136),
    socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0),
    socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET),
]
print('ready', flush=True)
";
    let job = submit(client, "rare", script).await?;
    let migration = move_once(client, &job).await?;
    ensure!(migration.outcome == Outcome::Succeeded, "{migration:?}");
    client.job_cancel(&job).await?;
    Ok(())
}

/// A suspend and a snapshot of a traced job are refused as a migration is.
async fn into_the_store(client: &Client) -> Result<()> {
    let job = submit(client, "stored", CASES[0].script).await?;
    for suspends in [true, false] {
        let before = client.job_get(&job).await?.migrations.len();
        match suspends {
            true => client.job_suspend(&job).await?,
            false => client.job_snapshot(&job).await?,
        };
        let view = wait_for("the refusal", LIMIT, async || {
            let view = client.job_get(&job).await?;
            let failed = view.migrations.get(before).is_some_and(|migration| migration.outcome.is_final());
            Ok((failed && view.status == JobStatus::Executing).then_some(view))
        })
        .await?;
        told(client, &view, CASES[0].reason).await?;
    }
    client.job_cancel(&job).await?;
    Ok(())
}

/// A process of another user moves where the agent may read its limits. Elsewhere the reason is
/// the host's.
async fn of_another_user(client: &Client) -> Result<()> {
    let script = "
if os.fork() == 0:
    name(b'worker')
    os.setgroups([])
    os.setresgid(33, 33, 33)
    os.setresuid(33, 33, 33)
    wait()
";
    if !has_sys_resource() {
        return refused(client, "user", script, "(worker) runs as www-data, and the agent of host-").await;
    }
    let job = submit(client, "user", script).await?;
    let migration = move_once(client, &job).await?;
    ensure!(migration.outcome == Outcome::Succeeded, "{migration:?}");
    client.job_cancel(&job).await?;
    Ok(())
}

async fn refused(client: &Client, name: &str, script: &str, reason: &str) -> Result<()> {
    let job = submit(client, name, script).await?;
    let migration = move_once(client, &job).await?;
    let Outcome::Failed { phase: Phase::PreCopy, .. } = migration.outcome else {
        anyhow::bail!("not refused before the freeze: {migration:?}")
    };
    ensure!(migration.pause_seconds == 0.0, "it was frozen: {migration:?}");
    let view = client.job_get(&job).await?;
    told(client, &view, reason).await?;
    let counted = async || anyhow::Ok(client.job_log(&job, 0).await?.text.lines().count());
    let before = counted().await?;
    wait_for("the job to count on", LIMIT, async || Ok((counted().await? > before).then_some(()))).await?;
    client.job_cancel(&job).await?;
    Ok(())
}

/// The same words are in the outcome, the status and the events, and are ours.
async fn told(client: &Client, view: &JobView, reason: &str) -> Result<()> {
    let last: &MigrationView = view.migrations.last().context("a record")?;
    let Outcome::Failed { reason: outcome, .. } = &last.outcome else { anyhow::bail!("{last:?}") };
    ensure!(outcome.contains(reason), "the reason is `{outcome}`, and should have `{reason}`");
    ensure!(outcome.starts_with("process ") || outcome.starts_with("the job "), "{outcome}");
    ensure!(!outcome.to_lowercase().contains("criu") && !outcome.contains('\n'), "{outcome}");
    ensure!(view.status_reason.ends_with(outcome.as_str()), "{}", view.status_reason);
    let events = client.job_events(&view.id).await?;
    let said =
        events.iter().any(|entry| matches!(&entry.event, Event::MigrationFailed { reason, .. } if reason == outcome));
    ensure!(said, "no event says so: {events:?}");
    Ok(())
}

async fn submit(client: &Client, name: &str, script: &str) -> Result<JobId> {
    let job = Submission {
        image: Some("dir:/".parse()?),
        name: Some(name.parse()?),
        mem_gb: Some(0.2),
        with_root: true,
        host: Some("host-1".parse()?),
        command: vec![PYTHON.to_owned(), "-c".to_owned(), [BEGIN, script, END].concat()],
        ..Submission::default()
    };
    let job = client.job_submit(&job).await?.id;
    wait_for("the program", LIMIT, async || {
        let view = client.job_get(&job).await?;
        ensure!(!view.status.is_final(), "it is {}: {}", view.status, view.status_reason);
        let text = client.job_log(&job, 0).await?.text;
        Ok((text.contains("ready") && view.status == JobStatus::Executing).then_some(()))
    })
    .await?;
    Ok(job)
}

#[test]
fn drain_goes_on_past_a_job_that_can_not_move() {
    let world = World::start(Plan::new(env!("CARGO_BIN_EXE_float"))).unwrap();
    let outcome = world.run_inside(async || {
        let client = world.client().await?;
        let traced = submit(&client, "traced", CASES[0].script).await?;
        let healthy = submit(&client, "healthy", "print('ready', flush=True)\n").await?;
        let said = "is traced by tracer (";
        wait_for("the finding", LIMIT, async || {
            let found = client.job_findings(&traced).await?;
            Ok(found.iter().any(|finding| finding.pid.is_some() && finding.text.contains(said)).then_some(()))
        })
        .await?;
        let ran = world.float(&["check", "-j", traced.as_str(), "-F", "table"])?;
        ensure!(ran.code == Some(0) && ran.stdout.contains(said) && ran.stdout.contains("refuses"), "{ran:?}");
        let ran = world.float(&["hosts", "drain", "host-1", "--dry-run", "-F", "json"])?;
        ensure!(ran.stdout.contains(said) && !ran.stdout.contains("healthy"), "{ran:?}");
        ensure!(client.job_findings(&healthy).await?.is_empty());
        let ran = world.float(&["hosts", "drain", "host-1"])?;
        ensure!(ran.code == Some(0), "{ran:?}");
        wait_for("the healthy job to leave", LIMIT, async || {
            let view = client.job_get(&healthy).await?;
            Ok((view.host_name == "host-2" && view.status == JobStatus::Executing).then_some(()))
        })
        .await?;
        let view = wait_for("a refusal", LIMIT, async || {
            let view = client.job_get(&traced).await?;
            Ok(view.migrations.last().is_some_and(|last| last.outcome.is_final()).then_some(view))
        })
        .await?;
        ensure!(
            view.host_name == "host-1" && view.migrations.iter().all(|tried| tried.pause_seconds == 0.0),
            "{view:?}"
        );
        told(&client, &view, CASES[0].reason).await?;
        let ran = world.float(&["hosts", "drain", "host-1", "--within", "8s", "--wait"])?;
        ensure!(ran.code == Some(1), "{ran:?}");
        for expected in ["the time is over, and 1 job is left on host host-1: traced", said, "; tried ", ", again "] {
            ensure!(ran.stderr.contains(expected), "{expected}: {ran:?}");
        }
        ensure!(!ran.stderr.contains("healthy"), "{ran:?}");
        let ran = world.float(&["hosts", "-F", "table"])?;
        ensure!(ran.stderr.contains(said) && ran.stderr.contains(&format!("traced ({traced}): process ")), "{ran:?}");
        let ran = world.float(&["hosts", "-F", "json"])?;
        let hosts: serde_json::Value = serde_json::from_str(&ran.stdout)?;
        let host = hosts.as_array().and_then(|hosts| hosts.iter().find(|host| host["name"] == "host-1"));
        let job = &host.context("host-1")?["drain"]["jobs"][0];
        ensure!(job["jobName"] == "traced" && job["leaves"] == false && job["tries"].as_u64() >= Some(2), "{hosts}");
        ensure!(job["reason"].as_str().is_some_and(|reason| reason.contains(said)), "{hosts}");
        ensure!(job["nextAttempt"].is_string(), "{hosts}");
        // A failed attempt is one event, and says nothing of the other host.
        let events = client.job_events(&traced).await?;
        let texts: Vec<String> = events.iter().map(|entry| entry.event.to_string()).collect();
        let (told, failed) = (texts.iter().filter(|text| text.contains(said)).count(), client.job_get(&traced).await?);
        let failed = failed.migrations.iter().filter(|tried| tried.outcome.is_final()).count();
        ensure!(told == failed && !texts.iter().any(|text| text.contains("closed the connection")), "{texts:#?}");
        Ok(())
    });
    outcome.unwrap();
}
