//! An external job behind a gateway: its port stays when the job moves.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mooring_api::view::JobView;
use mooring_testkit::job::mapped;
use mooring_testkit::wait::wait_for;
use mooring_testkit::witness::{self, Answer};
use mooring_testkit::world::{Plan, Ran, World};
use mooring_types::job::JobStatus;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

const LIMIT: Duration = Duration::from_secs(60);
/// Long against what an answer takes, short against what a client waits.
const QUIET: Duration = Duration::from_millis(500);

/// A witness that the test runs itself, outside of any host.
struct Elsewhere {
    process: Child,
    address: SocketAddr,
}

impl Elsewhere {
    fn start(world: &World, program: &Path, port: u16) -> Result<Self> {
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let mut command = Command::new(program);
        command.arg(address.to_string()).stdin(Stdio::null());
        mooring_linux::netns::enter_command(&mut command, &world.namespace())?;
        Ok(Self { process: command.spawn()?, address })
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A client that asks a witness who it is.
struct Asker(BufReader<TcpStream>);

impl Asker {
    async fn connect(address: SocketAddr) -> Result<Self> {
        Ok(Self(BufReader::new(TcpStream::connect(address).await?)))
    }

    /// Asks, and waits for the answer.
    async fn ask(&mut self) -> Result<String> {
        self.0.get_mut().write_all(b"?\n").await?;
        self.answer().await
    }

    /// Waits for the answer to what was asked.
    async fn answer(&mut self) -> Result<String> {
        let mut line = String::new();
        ensure!(self.0.read_line(&mut line).await? > 0, "the connection was closed");
        Ok(line.parse::<Answer>()?.identity)
    }
}

fn float(world: &World, line: &str) -> Result<Ran> {
    world.float(&line.split(' ').collect::<Vec<_>>())
}

fn view(world: &World, line: &str) -> Result<JobView> {
    let ran = float(world, &format!("{line} -F json"))?;
    ensure!(ran.code == Some(0), "{line}: {}", ran.stderr);
    serde_json::from_str(&ran.stdout).with_context(|| ran.stdout.clone())
}

#[test]
fn its_port_stays_its_clients_wait_and_it_comes_back_elsewhere() {
    let world = World::start(Plan::new(env!("CARGO_BIN_EXE_float")).with_endpoints_here()).unwrap();
    let program = world.bring(&witness::program().unwrap()).unwrap();
    let first = Elsewhere::start(&world, &program, 21001).unwrap();
    let second = Elsewhere::start(&world, &program, 21002).unwrap();
    float(&world, "gateway create -n lab").unwrap();
    let job = view(&world, &format!("job register -n slurm --endpoint {} --gateway lab", first.address)).unwrap();
    assert_eq!((job.status, job.image.as_str()), (JobStatus::Executing, "external"));
    assert_eq!(job.endpoints, ["21001=127.0.0.1:21001"]);
    let id = job.id.to_string();

    let outcome = world.run_inside(async || {
        let mapping = mapped(&world.client().await?, &job.id, LIMIT).await?;
        let gateway: SocketAddr = mapping.split_once(" -> ").context("a mapping")?.1.parse()?;
        let mut before = Asker::connect(gateway).await?;
        let identity = before.ask().await?;

        // While it is being moved a client gets no answer and keeps its connection.
        view(&world, &format!("job update -j {id} --status Floating"))?;
        wait_for("clients to wait", LIMIT, async || Ok(timeout(QUIET, before.ask()).await.is_err().then_some(())))
            .await?;
        let mut late = Asker::connect(gateway).await?;
        ensure!(timeout(QUIET, late.ask()).await.is_err(), "a job that floats answered");

        // It comes back as another process: who was connected can't go on, who waited is let
        // through, and the port is the same.
        let moved = view(&world, &format!("job update -j {id} --status Executing --endpoint {}", second.address))?;
        ensure!(moved.endpoints == ["21001=127.0.0.1:21002"], "{moved:?}");
        ensure!(moved.port_mappings == [mapping.as_str()], "{moved:?}");
        let answer = timeout(LIMIT, late.answer()).await??;
        ensure!(answer != identity, "the old one answered");
        let ended = timeout(LIMIT, before.answer()).await?;
        ensure!(ended.is_err(), "the old connection goes on: {ended:?}");
        let again = timeout(LIMIT, Asker::connect(gateway).await?.ask()).await??;
        ensure!(again == answer, "{again} and {answer}");
        Ok(())
    });
    outcome.unwrap();

    let refused = |line: &str, said: &str| {
        let ran = float(&world, line).unwrap();
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{line}");
        assert!(ran.stderr.contains(said), "{line}: {}", ran.stderr);
    };
    refused("job register -n x --endpoint nowhere", "invalid endpoint `nowhere`");
    refused("job register -n x --endpoint a:1 --status Asleep", "`Asleep` is no status");
    refused(&format!("job update -j {id} --status Cancelling"), "not one that can be declared");
    refused(&format!("job update -j {id}"), "nothing to update");
    refused(&format!("job update -j {id} --endpoint 99=a:1"), "registered without target port 99");
    refused(&format!("migrate -f -j {id}"), "runs under another scheduler");
    let ended = view(&world, &format!("job update -j {id} --status Completed")).unwrap();
    assert!(ended.status == JobStatus::Completed && ended.port_mappings.is_empty(), "{ended:?}");
    refused(&format!("job update -j {id} --status Executing"), "the job is Completed already");
}
