//! A job's own connections to the outside. Those through its host end at once with a migration
//! instead of hanging. Those through a gateway's host survive it and keep their source address.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use mooring_api::view::{JobView, MigrateRequest};
use mooring_api::{Client, Submission};
use mooring_linux::netns;
use mooring_testkit::job::ended;
use mooring_testkit::session::Session;
use mooring_testkit::wait::wait_for;
use mooring_testkit::world::{Plan, World};
use mooring_types::JobId;
use mooring_types::job::JobStatus;
use mooring_types::migration::Outcome;
use mooring_types::policy::Egress;
use parking_lot::Mutex;

const WITHIN: Duration = Duration::from_secs(60);
const PORT: u16 = 5000;
/// The address of the gateways' host on the network that `float up` makes.
const GATEWAYS: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 18, 0, 1));
/// A machine on that network that is no host.
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 200);
/// The lines of a download; one comes every 10 ms.
const LINES: u32 = 800;
/// Time limit until a program hears that its connection is gone. Without a reset it would hang for
/// minutes.
const SOON: Duration = Duration::from_secs(20);

/// Downloads all lines in order, and begins again after a broken connection. The exit code is the
/// number of repetitions.
const DOWNLOAD: &str = "
import socket, sys, time
breaks = 0
while True:
    try:
        lines = socket.create_connection((sys.argv[1], int(sys.argv[2]))).makefile()
        for number in range(int(sys.argv[3])):
            line = lines.readline()
            if not line: raise ConnectionError
            assert line == f'{number}\\n', line
        sys.exit(breaks)
    except ConnectionError:
        breaks += 1
        time.sleep(0.1)
";

/// A machine outside of the overlay, with a server that sends numbered lines slowly.
struct Outside {
    namespace: PathBuf,
    clients: Arc<Mutex<Vec<SocketAddr>>>,
}

impl Outside {
    fn start(world: &World) -> Result<Self> {
        let namespace = world.files().join("outside.netns");
        netns::create(&namespace)?;
        ip(world, "link add outside type veth peer name outsidep")?;
        ip(world, "link set outside master mooring0 up")?;
        netns::run_in(&world.namespace(), || netns::move_link("outsidep", &namespace))??;
        let clients: Arc<Mutex<Vec<SocketAddr>>> = Arc::default();
        let listener = netns::run_in(&namespace, || -> Result<TcpListener> {
            for line in [&format!("address add {OUTSIDE}/24 dev outsidep"), "link set outsidep up"] {
                let status = Command::new("ip").args(line.split(' ')).status()?;
                ensure!(status.success(), "ip {line}");
            }
            Ok(TcpListener::bind((OUTSIDE, PORT))?)
        })??;
        let seen = clients.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if let Ok(peer) = stream.peer_addr() {
                    seen.lock().push(peer);
                }
                thread::spawn(move || send_lines(stream));
            }
        });
        Ok(Self { namespace, clients })
    }

    fn clients(&self) -> Vec<SocketAddr> {
        self.clients.lock().clone()
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        // The world removes what is left.
        let _ = netns::delete(&self.namespace);
    }
}

fn send_lines(mut stream: TcpStream) {
    for number in 0..LINES {
        // Who has gone away needs no more.
        if writeln!(stream, "{number}").is_err() {
            return;
        }
        thread::sleep(Duration::from_millis(10));
    }
}

fn ip(world: &World, line: &str) -> Result<()> {
    let mut command = Command::new("ip");
    command.args(line.split(' '));
    let ran = world.run(command)?;
    ensure!(ran.code == Some(0), "ip {line}: {}", ran.stderr);
    Ok(())
}

#[test]
fn a_download_through_the_host_ends_at_once_with_a_move() {
    let world = World::start(Plan::new(env!("CARGO_BIN_EXE_float"))).unwrap();
    let outside = Outside::start(&world).unwrap();
    let outcome = world.run_inside(async || {
        let client = world.client().await?;
        let session = download(&client, &outside, Egress::Host).await?;
        moved(&client, &session.job).await?;
        let moved_at = Instant::now();
        wait_for("the download to be begun anew", WITHIN, async || Ok((outside.clients().len() > 1).then_some(())))
            .await?;
        ensure!(moved_at.elapsed() < SOON, "it hung for {:?}", moved_at.elapsed());
        let job = ended(&client, &session.job, WITHIN).await?;
        ensure!(job.rc == "1", "{job:?}");
        let from: Vec<IpAddr> = outside.clients().iter().map(SocketAddr::ip).collect();
        ensure!(from.len() == 2 && from[0] != from[1] && !from.contains(&GATEWAYS), "{from:?}");
        Ok(())
    });
    outcome.unwrap();
}

#[test]
fn a_download_through_a_gateway_s_host_survives_moves() {
    let world = World::start(Plan::new(env!("CARGO_BIN_EXE_float"))).unwrap();
    let outside = Outside::start(&world).unwrap();
    let outcome = world.run_inside(async || {
        let client = world.client().await?;
        let session = download(&client, &outside, Egress::Gateway).await?;
        for _ in 0..2 {
            moved(&client, &session.job).await?;
        }
        let job = ended(&client, &session.job, WITHIN).await?;
        ensure!(job.rc == "0", "{job:?}");
        let from: Vec<IpAddr> = outside.clients().iter().map(SocketAddr::ip).collect();
        ensure!(from == [GATEWAYS], "{from:?}");
        Ok(())
    });
    outcome.unwrap();
}

async fn download(client: &Client, outside: &Outside, egress: Egress) -> Result<Session> {
    let words = ["python3", "-c", DOWNLOAD, &OUTSIDE.to_string(), &PORT.to_string(), &LINES.to_string()];
    let request = Submission {
        name: Some("download".parse()?),
        image: Some("dir:/".parse()?),
        command: words.map(str::to_owned).into(),
        publish: vec!["8080".parse()?],
        egress: Some(egress),
        ..Submission::default()
    };
    let session = Session::launch(client, request).await?;
    wait_for("the download", WITHIN, async || Ok((!outside.clients().is_empty()).then_some(()))).await?;
    Ok(session)
}

async fn moved(client: &Client, job: &JobId) -> Result<JobView> {
    // The host that it left last may still be letting go.
    let before = wait_for("a move to begin", WITHIN, async || {
        Ok(client.job_migrate(job, &MigrateRequest::default()).await.ok())
    })
    .await?;
    wait_for("the move", WITHIN, async || {
        let job = client.job_get(job).await?;
        let outcome = job.migrations.last().map(|migration| migration.outcome.clone());
        ensure!(!matches!(outcome, Some(Outcome::Failed { .. })), "{outcome:?}");
        let done = job.migrations.len() == before.migrations.len() && outcome == Some(Outcome::Succeeded);
        Ok((done && job.status == JobStatus::Executing).then_some(job))
    })
    .await
}
