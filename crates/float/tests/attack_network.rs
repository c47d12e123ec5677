//! Attacks of a job on the network: other users' jobs, and hosts with their services.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mooring_api::{Client, Submission};
use mooring_testkit::job::{ended, executing};
use mooring_testkit::wait::wait_for;
use mooring_testkit::world::{Plan, World};
use mooring_types::JobId;

const FLOAT: &str = env!("CARGO_BIN_EXE_float");
const LIMIT: Duration = Duration::from_secs(60);
const MACHINE: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
const HOST_1: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 2);
const HOST_2: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 3);
const MIGRATION_PORT: u16 = 7443;
const PORT: u16 = 7777;

/// Tells its address, and takes connections at a port that it does not publish.
const LISTEN: &str = "
import socket, sys
probe = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
probe.connect(('192.0.2.1', 9))
print('at', probe.getsockname()[0], flush=True)
listener = socket.create_server(('0.0.0.0', int(sys.argv[1])))
while True:
    listener.accept()[0].close()
";

/// Tells which addresses it reaches.
const TRY: &str = "
import socket, sys
for target in sys.argv[1:]:
    host, port = target.rsplit(':', 1)
    try:
        socket.create_connection((host, int(port)), 3).close()
        print(target, 'reached')
    except OSError as error:
        print(target, 'not reached:', error)
";

fn job(name: &str, host: &str, program: &str, arguments: &[String]) -> Result<Submission> {
    let command = ["python3", "-c", program].map(str::to_owned).into_iter().chain(arguments.iter().cloned());
    Ok(Submission {
        name: Some(name.parse()?),
        image: Some("dir:/".parse()?),
        command: command.collect(),
        host: Some(host.parse()?),
        mem_gb: Some(0.2),
        ..Submission::default()
    })
}

async fn line_of(client: &Client, job: &JobId, beginning: &str) -> Result<String> {
    wait_for(&format!("`{beginning}` of job {job}"), LIMIT, async || {
        let text = client.job_log(job, 0).await?.text;
        Ok(text.lines().find_map(|line| line.strip_prefix(beginning)).map(str::to_owned))
    })
    .await
}

/// Starts a job that listens, and returns its address.
async fn listening(client: &Client, name: &str, host: &str) -> Result<String> {
    let job = client.job_submit(&job(name, host, LISTEN, &[PORT.to_string()])?).await?.id;
    executing(client, &job, LIMIT).await?;
    line_of(client, &job, "at ").await
}

/// Runs a job that tries to reach these, and returns those that it reached.
async fn reached(client: &Client, name: &str, host: &str, targets: &[String]) -> Result<Vec<String>> {
    let job = client.job_submit(&job(name, host, TRY, targets)?).await?.id;
    ended(client, &job, LIMIT * 2).await?;
    let text = client.job_log(&job, 0).await?.text;
    ensure!(text.lines().count() == targets.len(), "{text}");
    Ok(text.lines().filter_map(|line| line.strip_suffix(" reached")).map(str::to_owned).collect())
}

#[test]
fn job_reaches_no_other_users_jobs_and_no_hosts() {
    let arguments = ["--image-path", "/"].map(str::to_owned).into();
    let world = World::start(Plan { arguments, ..Plan::new(FLOAT) }).unwrap();
    let outcome = world.run_inside(async || {
        let admin = world.client().await?;
        let (attacker, victim) = (world.user(&admin, "mallory").await?, world.user(&admin, "victim").await?);
        let mut theirs = Vec::new();
        for host in ["host-1", "host-2"] {
            theirs.push(format!("{}:{PORT}", listening(&victim, &format!("victim-{host}"), host).await?));
        }
        let own = format!("{}:{PORT}", listening(&attacker, "own", "host-2").await?);
        let opcenter: u16 = world.url().rsplit(':').next().context("a port")?.trim_end_matches('/').parse()?;
        let opcenter = format!("{MACHINE}:{opcenter}");
        let hosts = [MACHINE, HOST_1, HOST_2].map(|host| format!("{host}:{MIGRATION_PORT}"));
        let targets: Vec<String> = theirs.iter().chain(&hosts).chain([&own, &opcenter]).cloned().collect();
        // The agents have been told of all jobs when the attacker's own job is reached.
        let seen = wait_for("the attacker's own job to be reached", LIMIT, async || {
            let seen = reached(&attacker, "attack", "host-1", &targets).await?;
            Ok(seen.contains(&own).then_some(seen))
        })
        .await?;
        ensure!(seen == [own, opcenter], "the attacker reaches {seen:?} of {targets:?}");
        Ok(())
    });
    outcome.unwrap();
}
