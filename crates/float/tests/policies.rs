//! Policies that follow a job's use: a larger size before its memory is short, the capsule store
//! when nobody uses it.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use mooring_api::view::{EventView, JobView, MetricView};
use mooring_api::{Client, Submission};
use mooring_testkit::job::executing;
use mooring_testkit::session::Session;
use mooring_testkit::wait::wait_for;
use mooring_testkit::witness::{self, Asking};
use mooring_testkit::world::{Plan, World};
use mooring_types::job::JobStatus;
use mooring_types::migration::{MigrationKind, Outcome};
use mooring_types::{Event, JobId};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const WITHIN: Duration = Duration::from_secs(60);
/// A job's memory, in GB.
const MEM_GB: f64 = 0.5;
/// After how long without use a job is suspended.
const IDLE: Duration = Duration::from_secs(3);

/// Holds 460 MB after some seconds, and then more and more slowly, up to `$3` MB, beside the
/// witness `$1` with the mark `$2`.
const GROWS: &str = r#"
{
  i=0; while [ $i -lt 23 ]; do head -c 20000000 /dev/zero; sleep 0.2; i=$((i+1)); done
  i=460; while [ $i -lt $3 ]; do head -c 1000000 /dev/zero; sleep 0.4; i=$((i+1)); done
  exec sleep 100000
} | tail >/dev/null &
exec "$1" 0.0.0.0:9000 "$2"
"#;

/// Answers every request with who it is and how many it has answered.
const COUNTS: &str = r#"
import http.server, random
identity, count = random.random(), 0
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        global count
        count += 1
        body = f"{identity} {count}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.do_GET()
    def log_message(self, *_):
        pass
http.server.HTTPServer(("0.0.0.0", 8000), Handler).serve_forever()
"#;

fn world(virtual_hosts: u32) -> World {
    let arguments = ["--metrics-interval", "500ms"].map(str::to_owned).to_vec();
    World::start(Plan { virtual_hosts, arguments, ..Plan::new(env!("CARGO_BIN_EXE_float")) }).expect("a world")
}

/// A witness whose memory grows up to `up_to_mb` MB, with a policy that evades the lack of it and
/// nothing else.
async fn growing(world: &World, client: &Client, up_to_mb: u32) -> Result<Session> {
    let program = world.bring(&witness::program()?)?.display().to_string();
    let mark = format!("grows-{:016x}", rand::random::<u64>());
    let command = ["/bin/sh", "-c", GROWS, "grows", &program, &mark, &up_to_mb.to_string()];
    let request = Submission {
        name: Some("grows".parse()?),
        image: Some("dir:/".parse()?),
        command: command.map(str::to_owned).to_vec(),
        mem_gb: Some(MEM_GB),
        migrate_policy: Some("[disable=true,evadeOOM=true]".parse()?),
        publish: vec!["9000".parse()?],
        ..Submission::default()
    };
    Session::launch(client, request).await
}

#[test]
fn a_job_that_is_about_to_lack_memory_goes_on_with_more_of_it() {
    let world = world(2);
    let outcome = world.run_inside(async || {
        let client = world.client().await?;
        let session = growing(&world, &client, 540).await?;
        let before = client.job_get(&session.job).await?;
        let asking = Asking::start(session.address);
        let after = wait_for("the job with more memory than it began with", 2 * WITHIN, async || {
            let job = client.job_get(&session.job).await?;
            ensure!(!job.status.is_final(), "{}: {}", job.status, job.status_reason);
            Ok(job.mem_used.is_some_and(|used| used > MEM_GB).then_some(job))
        })
        .await?;
        let seen = asking.answered(20, WITHIN).await?;
        ensure!(seen.broken == 0 && seen.fault.is_none(), "{seen:?}");
        ensure!((after.mem_gb, after.cpu) == (1.0, before.cpu) && after.host_name != before.host_name, "{after:?}");
        let [made] = after.migrations.as_slice() else { anyhow::bail!("{:?}", after.migrations) };
        ensure!(made.kind == MigrationKind::Migrate && made.outcome == Outcome::Succeeded, "{made:?}");
        ensure!(made.reason == "nearly all of its memory is in use", "{made:?}");
        is_told(&world, &client, &after).await
    });
    outcome.unwrap();
}

/// The history of the job and what the commands print of it.
async fn is_told(world: &World, client: &Client, job: &JobView) -> Result<()> {
    let id = job.id.as_str();
    let history = client.job_metrics(&job.id, None).await?;
    ensure!(history.is_sorted_by(|a, b| a.time < b.time), "{history:?}");
    let with = |mem_gb: f64| history.iter().filter(move |row| row.mem_gb == mem_gb).collect::<Vec<&MetricView>>();
    ensure!(with(MEM_GB).len() > 5 && !with(1.0).is_empty(), "{history:?}");
    // It is shown in thousandths.
    ensure!(with(MEM_GB).iter().any(|row| row.mem_used > 0.95 * MEM_GB - 0.001), "{history:?}");
    ensure!(history.iter().all(|row| row.mem_used < row.mem_gb), "{history:?}");
    ensure!(history.iter().any(|row| row.processes > 2 && row.disk.is_some()), "{history:?}");
    ensure!(history.iter().all(|row| row.cpu_used < 16.0), "a counter that began anew is no use: {history:?}");
    ensure!(history.iter().any(|row| row.cpu_used > 0.0), "{history:?}");
    ensure!(history.iter().any(|row| row.received_per_second > 0 && row.sent_per_second > 0), "{history:?}");
    ensure!(history.iter().any(|row| row.status == JobStatus::Executing), "{history:?}");
    ensure!(client.job_metrics(&job.id, Some(Duration::from_millis(1))).await?.len() < history.len(), "all of it");
    let table = world.float(&["metrics", "-j", id, "--last", "10m", "-F", "table"])?;
    ensure!(table.stdout.contains("Executing") && table.stdout.contains("/0.5"), "{table:?}");
    let on_disk = world.float(&["df", "-j", id, "-F", "table"])?;
    let measured = history.iter().rev().any(|row| on_disk.stdout.contains(&format!("{:.3}", row.disk.unwrap_or(-1.0))));
    ensure!(on_disk.stdout.contains("| GB ON DISK ") && on_disk.stdout.contains(id) && measured, "{on_disk:?}");
    let now = world.float(&["top", "-F", "table"])?;
    ensure!(now.stdout.contains(id) && now.stdout.contains("/1"), "{now:?}");
    Ok(())
}

#[test]
fn a_job_for_which_no_host_has_more_room_stays_and_says_so_once() {
    let world = world(1);
    let outcome = world.run_inside(async || {
        let client = world.client().await?;
        let session = growing(&world, &client, 485).await?;
        let wishes = async || {
            let events = client.job_events(&session.job).await?;
            let notes = events.into_iter().filter(|view| matches!(view.event, Event::ResizePostponed { .. }));
            anyhow::Ok(notes.collect::<Vec<EventView>>())
        };
        wait_for("the wish", WITHIN, async || Ok((!wishes().await?.is_empty()).then_some(()))).await?;
        let told = client.job_metrics(&session.job, None).await?.len();
        wait_for("some more measurements", WITHIN, async || {
            Ok((client.job_metrics(&session.job, None).await?.len() >= told + 6).then_some(()))
        })
        .await?;
        let wishes = wishes().await?;
        ensure!(wishes.len() == 1, "{wishes:?}");
        ensure!(wishes[0].event.to_string().contains("1 GB, but no ready host has "), "{wishes:?}");
        let job = executing(&client, &session.job, WITHIN).await?;
        ensure!(job.mem_gb == MEM_GB && job.migrations.is_empty(), "{job:?}");
        Ok(())
    });
    outcome.unwrap();
}

#[test]
fn idle_job_is_suspended_once_and_resumed_by_another_request() {
    let world = world(2);
    let outcome = world.run_inside(async || {
        let client = world.client().await?;
        let request = Submission {
            name: Some("counts".parse()?),
            image: Some("dir:/".parse()?),
            command: ["python3", "-c", COUNTS].map(str::to_owned).to_vec(),
            publish: vec!["8000".parse()?],
            idle: Some(Duration::from_secs(3)),
            resume_on_connect: true,
            ..Submission::default()
        };
        let Session { job, address, .. } = Session::launch(&client, request).await?;
        let (identity, mut count) =
            wait_for("the first answer", WITHIN, async || Ok(ask(address, 0).await.ok())).await?;
        // Somebody who sends much uses it.
        let used = Instant::now();
        while used.elapsed() < 3 * IDLE {
            let (same, next) = ask(address, 20_000).await?;
            ensure!(same == identity && next == count + 1, "{same} {next} after {identity} {count}");
            count = next;
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        let view = client.job_get(&job).await?;
        ensure!(view.status == JobStatus::Executing && view.migrations.is_empty(), "{view:?}");
        let suspended = suspended_under_polls(&client, &job, address).await?;
        ensure!(suspended.status_reason == "idle for 3s" && suspended.mem_used.is_none(), "{suspended:?}");
        ensure!(suspended.migrations.last().is_some_and(|made| made.reason == "idle for 3s"), "{suspended:?}");

        polls_wake_nothing(&client, &job, address).await?;
        let (same, next) = ask(address, 1).await.context("the request that has to wait")?;
        ensure!(same == identity && next > count, "{same} {next} after {identity} {count}");
        let resumed = client.job_get(&job).await?;
        let kinds: Vec<MigrationKind> = resumed.migrations.iter().map(|migration| migration.kind).collect();
        ensure!(kinds.starts_with(&[MigrationKind::Suspend, MigrationKind::Resume]), "{kinds:?}");
        ensure!(resumed.port_mappings == suspended.port_mappings, "{resumed:?}");
        Ok(())
    });
    outcome.unwrap();
}

/// Waits until a job is suspended although a program asks now and then.
async fn suspended_under_polls(client: &Client, job: &JobId, address: SocketAddr) -> Result<JobView> {
    let began = Instant::now();
    loop {
        let answered = ask(address, 0).await;
        let view = client.job_get(job).await?;
        if view.status == JobStatus::Suspended {
            return Ok(view);
        }
        answered?;
        ensure!(began.elapsed() < WITHIN, "{view:?}");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// Goes on asking as before a suspend, and is refused each time.
async fn polls_wake_nothing(client: &Client, job: &JobId, address: SocketAddr) -> Result<()> {
    let began = Instant::now();
    while began.elapsed() < 3 * IDLE {
        let refused = ask(address, 0).await.map(drop).map_err(|error| error.to_string());
        let is_told = |text: &String| text.starts_with("HTTP/1.1 503") && text.contains("is not woken by this request");
        ensure!(refused.as_ref().is_err_and(is_told), "{refused:?}");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let view = client.job_get(job).await?;
    ensure!(view.status == JobStatus::Suspended && view.migrations.len() == 1, "{view:?}");
    Ok(())
}

/// Sends a plain request with a body of `bytes` bytes. Returns the identity and the count of the
/// answer.
async fn ask(address: SocketAddr, bytes: usize) -> Result<(String, u64)> {
    let exchange = async {
        let mut connection = TcpStream::connect(address).await?;
        let method = if bytes > 0 { "POST" } else { "GET" };
        let head = format!("{method} / HTTP/1.1\r\nHost: job\r\nContent-Length: {bytes}\r\nConnection: close\r\n\r\n");
        connection.write_all(head.as_bytes()).await?;
        connection.write_all(&vec![b'x'; bytes]).await?;
        let mut answer = String::new();
        connection.read_to_string(&mut answer).await?;
        anyhow::Ok(answer)
    };
    let answer = tokio::time::timeout(WITHIN, exchange).await.context("no answer")??;
    ensure!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let (_, body) = answer.split_once("\r\n\r\n").with_context(|| format!("no body: {answer}"))?;
    let (identity, count) = body.split_once(' ').with_context(|| format!("who is {body}?"))?;
    Ok((identity.to_owned(), count.parse()?))
}
