//! Jobs that wait. A query without an answer, a busy kernel and a program in a terminal are use. A
//! connection that is only open is not.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use mooring_api::view::JobView;
use mooring_api::{Client, Submission};
use mooring_testkit::job::executing;
use mooring_testkit::jupyter::Jupyter;
use mooring_testkit::session::Session;
use mooring_testkit::wait::wait_for;
use mooring_testkit::world::{Plan, World};
use mooring_types::JobId;
use mooring_types::job::JobStatus;

const WITHIN: Duration = Duration::from_secs(90);
/// After how long without use a job is suspended.
const IDLE: Duration = Duration::from_secs(4);
/// The time for which a job waits, longer than [`IDLE`] and all that comes to it.
const WAITS: Duration = Duration::from_secs(30);
/// The address of the machine on the network of the hosts.
const MACHINE: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);

/// Sends a line, and prints what comes until `done`.
const ASKS: &str = "
import socket, sys, time
database = socket.create_connection((sys.argv[1], int(sys.argv[2])))
database.sendall(sys.argv[3].encode() + b'\\n')
try:
    for line in database.makefile():
        if line == 'done\\n':
            break
    print('got', line, flush=True)
except OSError as error:
    print('broke', type(error).__name__, flush=True)
time.sleep(3600)
";

/// A shell on a terminal of its own, in which a program is started.
const TERMINAL: &str = r#"
import os, pty, sys
pid, terminal = pty.fork()
if pid == 0:
    os.execlp('bash', 'bash', '--norc', '-i')
os.write(terminal, b'sleep ' + sys.argv[1].encode() + b'; echo go""t\n')
while True:
    sys.stdout.write(os.read(terminal, 1000).decode())
    sys.stdout.flush()
"#;

fn world() -> World {
    let machine = format!("{MACHINE}/32");
    let arguments = ["--metrics-interval", "500ms", "--job-range", &machine].map(str::to_owned).to_vec();
    World::start(Plan { virtual_hosts: 1, arguments, ..Plan::new(env!("CARGO_BIN_EXE_float")) }).expect("a world")
}

/// Serves queries: `slow` is answered after [`WAITS`], `fast` at once, and `trickle` with a little
/// all the time until then.
fn database() -> Result<SocketAddr> {
    let listener = TcpListener::bind((MACHINE, 0))?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || drop(answer(stream)));
        }
    });
    Ok(address)
}

fn answer(stream: TcpStream) -> Result<()> {
    let (mut lines, mut stream) = (BufReader::new(stream.try_clone()?), stream);
    let mut query = String::new();
    while lines.read_line(&mut query)? > 0 {
        match query.trim() {
            "slow" => thread::sleep(WAITS),
            "trickle" => {
                let began = Instant::now();
                while began.elapsed() < WAITS {
                    stream.write_all(&[&[b'x'; 500][..], b"\n"].concat())?;
                    thread::sleep(Duration::from_millis(300));
                }
            }
            _ => {}
        }
        stream.write_all(b"done\n")?;
        query.clear();
    }
    Ok(())
}

fn submission(name: &str, command: &[&str]) -> Result<Submission> {
    Ok(Submission {
        name: Some(name.parse()?),
        image: Some("dir:/".parse()?),
        command: command.iter().map(|word| (*word).to_owned()).collect(),
        mem_gb: Some(0.1),
        idle: Some(IDLE),
        ..Submission::default()
    })
}

/// Starts a job and waits until it executes.
async fn start(client: &Client, job: Submission) -> Result<(JobId, Instant)> {
    let job = client.job_submit(&job).await?.id;
    executing(client, &job, WITHIN).await?;
    Ok((job, Instant::now()))
}

/// Waits until a job says what keeps it awake.
async fn kept_awake(client: &Client, job: &JobId, sentence: &str) -> Result<()> {
    wait_for(sentence, WAITS, async || {
        let view = client.job_get(job).await?;
        Ok(view.in_use.iter().any(|used| used.contains(sentence)).then_some(()))
    })
    .await
}

/// Waits until a job is suspended.
async fn suspended(client: &Client, job: &JobId) -> Result<JobView> {
    wait_for("the job to be suspended", WITHIN, async || {
        let view = client.job_get(job).await?;
        Ok((view.status == JobStatus::Suspended).then_some(view))
    })
    .await
}

/// Checks that a job is suspended only after it got its answer.
async fn suspended_after_its_answer(client: &Client, (job, began): (JobId, Instant)) -> Result<()> {
    let view = suspended(client, &job).await?;
    let (log, time) = (client.job_log(&job, 0).await?.text, began.elapsed());
    ensure!(log.contains("got") && !log.contains("broke"), "{} after {time:?}: `{log}`", view.name);
    ensure!(view.status_reason == "idle for 4s" && view.in_use.is_empty(), "{view:?}");
    Ok(())
}

#[test]
fn a_job_that_waits_is_not_idle() {
    let world = world();
    let outcome = world.run_inside(async || {
        let client = world.client().await?;
        let database = database()?;
        let (host, port) = (database.ip().to_string(), database.port().to_string());
        let asks =
            |name: &'static str, query: &'static str| submission(name, &["python3", "-c", ASKS, &host, &port, query]);
        let rests = start(&client, asks("rests", "fast")?).await?;
        let sleeps = start(&client, submission("sleeps", &["sleep", "3600"])?).await?;
        let slow = start(&client, asks("slow", "slow")?).await?;
        kept_awake(&client, &slow.0, &format!("in use: a connection to {database} waits for an answer")).await?;
        let shown = world.float(&["show", "-j", slow.0.as_str()])?;
        ensure!(shown.stdout.contains("in use: a connection to"), "{shown:?}");
        let trickles = start(&client, asks("trickles", "trickle")?).await?;
        kept_awake(&client, &trickles.0, &format!("in use: bytes come on a connection to {database}")).await?;
        let seconds = WAITS.as_secs().to_string();
        let terminal = start(&client, submission("terminal", &["python3", "-c", TERMINAL, &seconds])?).await?;
        kept_awake(&client, &terminal.0, "is in the foreground of a terminal").await?;
        let says = "echo training > $FLOAT_JOB_PATH/busy; touch -d '+30 seconds' $FLOAT_JOB_PATH/busy; sleep 28; \
                    echo got; sleep 3600";
        let says = start(&client, submission("says", &["sh", "-c", says])?).await?;
        kept_awake(&client, &says.0, "(`/.mooring/busy`): training").await?;
        // A connection at rest, and a job that only sleeps, are idle in their time.
        for (job, _) in [&rests, &sleeps] {
            let view = suspended(&client, job).await?;
            let migrations = &view.migrations;
            let waited = migrations[0].start_time.duration_since(view.exec_time.context("its start")?);
            ensure!(waited.as_secs() < WAITS.as_secs() as i64, "{} after {waited}: {view:?}", view.name);
        }
        for job in [slow, trickles, terminal, says] {
            suspended_after_its_answer(&client, job).await?;
        }
        by_hand(&world, &client, asks("by-hand", "slow")?, database).await
    });
    outcome.unwrap();
}

/// A user may suspend a job that waits, and is told what that cuts.
async fn by_hand(world: &World, client: &Client, job: Submission, database: SocketAddr) -> Result<()> {
    let (job, _) = start(client, job).await?;
    kept_awake(client, &job, "waits for an answer").await?;
    let ran = world.float(&["suspend", "-j", job.as_str(), "--wait"])?;
    let cut = format!("the suspend ends the job's own connections: {database}");
    ensure!(ran.code == Some(0) && ran.stderr.contains(&cut), "{ran:?}");
    Ok(())
}

#[test]
fn the_limit_of_what_waits_can_be_set() {
    let world = world();
    let outcome = world.run_inside(async || {
        let client = world.client().await?;
        let database = database()?;
        let (host, port) = (database.ip().to_string(), database.port().to_string());
        let command = ["python3", "-c", ASKS, &host, &port, "slow"];
        let job = Submission { awake_limit: Some(Duration::ZERO), ..submission("limited", &command)? };
        let (job, began) = start(&client, job).await?;
        let view = suspended(&client, &job).await?;
        ensure!(began.elapsed() < WAITS && view.awake_limit == "0s", "{:?}: {view:?}", began.elapsed());
        ensure!(view.input_args.contains("--awakeLimit 0s"), "{}", view.input_args);
        let refused = world.float(&["submit", "-i", "dir:/", "--awakeLimit", "1h", "--", "true"])?;
        ensure!(refused.code == Some(1) && refused.stderr.contains("without `idle`"), "{refused:?}");
        Ok(())
    });
    outcome.unwrap();
}

#[test]
fn a_kernel_that_executes_a_cell_is_not_idle() {
    let world = world();
    let outcome = world.run_inside(async || {
        let client = world.client().await?;
        let job = Submission {
            name: Some("notebook".parse()?),
            template: Some("jupyter".parse()?),
            idle: Some(2 * IDLE),
            ..Submission::default()
        };
        let Session { job, access_url, .. } = Session::launch(&client, job).await?;
        let jupyter = Jupyter::connect(&access_url).await?;
        let kernel = jupyter.kernel_start().await?;
        let mut channels = jupyter.kernel_channels(&kernel).await?;
        channels.run("import time", WITHIN).await?;
        channels.requests.execute("time.sleep(30); open('/tmp/cell-has-ended', 'w').close()").await?;
        let began = Instant::now();
        // The browser is closed.
        drop((channels, jupyter));
        kept_awake(&client, &job, "in use: a Jupyter kernel").await?;
        let view = suspended(&client, &job).await?;
        ensure!(began.elapsed() > Duration::from_secs(30), "after {:?}: {view:?}", began.elapsed());
        ensure!(view.status_reason == "idle for 8s", "{view:?}");
        client.job_get(&job).await.context("the job").map(drop)
    });
    outcome.unwrap();
}
