//! Parties that can't reach each other: never do two hosts execute one job.
//!
//! A job that has a capsule is frozen before anybody may recover it. While jobs wait in each phase
//! of a migration, two of the three parties are parted by nftables: OpCenter, the source and the
//! destination.
//!
//! Each job numbers its writes to a file of its volume, which all hosts share. A number that is
//! missing is a write that was lost. Where one host executes the job, each number is the successor
//! of the one before. A recovery begins again with its snapshot, once; a number out of turn after
//! that is of a second copy.

use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv4Addr;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use mooring_api::view::{JobView, MigrateRequest};
use mooring_api::{Client, Submission};
use mooring_linux::process::ProcessId;
use mooring_testkit::job::executing;
use mooring_testkit::wait::wait_for;
use mooring_testkit::world::{OPCENTER, Plan, World};
use mooring_types::JobId;
use mooring_types::job::JobStatus;
use mooring_types::migration::{MigrationKind, Outcome, Phase};
use nix::sys::signal::Signal;

const WITHIN: Duration = Duration::from_secs(60);
/// The time from the loss of a host to the end of a recovery on a busy machine.
const RECOVERED_WITHIN: Duration = Duration::from_secs(60);
/// The phases in which a job waits when its parties are parted.
const PHASES: [Phase; 7] =
    [Phase::Prepare, Phase::PreCopy, Phase::Freeze, Phase::Transfer, Phase::Restore, Phase::Verify, Phase::Retire];
/// The seconds for which a job waits there: longer than it takes until all do.
const WAIT: u32 = 40;
/// The time for which parties are parted: until a destination is given up.
const PARTED: Duration = Duration::from_secs(50);
/// The time until everything is in order again.
const SETTLED_WITHIN: Duration = Duration::from_secs(120);
const SOURCE: &str = "host-1";
const DESTINATION: &str = "host-2";

/// Writes a number every 20 ms, each with one write at the end of the file.
const NUMBERS: &str = "
import os, time
file = os.open('/numbers/written', os.O_WRONLY | os.O_APPEND | os.O_CREAT)
number = 0
while True:
    number += 1
    os.write(file, b'%d\\n' % number)
    time.sleep(0.02)
";

/// A job that writes numbers.
struct Writer {
    job: JobId,
    name: String,
}

impl Writer {
    async fn launch(world: &World, client: &Client, name: &str, host: &str) -> Result<Self> {
        let files = world.files().join(name);
        fs::create_dir(&files)?;
        let request = Submission {
            name: Some(name.parse()?),
            image: Some("dir:/".parse()?),
            command: ["/usr/bin/python3", "-c", NUMBERS].map(str::to_owned).to_vec(),
            mem_gb: Some(0.2),
            data_volumes: vec![format!("{}:/numbers", files.display()).parse()?],
            host: Some(host.parse()?),
            ..Submission::default()
        };
        let job = client.job_submit(&request).await?.id;
        executing(client, &job, WITHIN).await?;
        let writer = Self { job, name: name.to_owned() };
        writer.writes(world).await?;
        Ok(writer)
    }

    fn written(&self, world: &World) -> Result<Vec<u64>> {
        let path = world.files().join(&self.name).join("written");
        let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        // The last line may be half written.
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole.lines().map(|line| line.parse().with_context(|| format!("{}: {line:?}", self.name))).collect()
    }

    /// Waits for ten more numbers.
    async fn writes(&self, world: &World) -> Result<()> {
        let before = self.written(world).map_or(0, |numbers| numbers.len());
        wait_for(&format!("numbers of {}", self.name), WITHIN, async || {
            Ok((self.written(world).map_or(0, |numbers| numbers.len()) >= before + 10).then_some(()))
        })
        .await
    }

    /// Makes a snapshot of the job.
    async fn snapshot(&self, client: &Client) -> Result<JobView> {
        client.job_snapshot(&self.job).await?;
        wait_for("the capsule", WITHIN, async || {
            let job = client.job_get(&self.job).await?;
            let taken = job.migrations.last().is_some_and(|made| made.outcome == Outcome::Succeeded);
            Ok((taken && job.status == JobStatus::Executing).then_some(job))
        })
        .await
    }

    /// Returns where the numbers go back or leave one out, as pairs of neighbours.
    fn breaks(&self, world: &World) -> Result<Vec<(u64, u64)>> {
        let numbers = self.written(world)?;
        ensure!(numbers.first() == Some(&1), "{} begins with {:?}", self.name, numbers.first());
        let pairs = numbers.windows(2).map(|pair| (pair[0], pair[1]));
        Ok(pairs.filter(|(before, after)| before + 1 != *after).collect())
    }

    /// Checks that the job executed at one place at a time, and lost nothing that it had written.
    async fn check(&self, world: &World, client: &Client) -> Result<()> {
        let job = client.job_get(&self.job).await?;
        let recovered = job
            .migrations
            .iter()
            .filter(|made| made.kind == MigrationKind::Recover && made.outcome == Outcome::Succeeded);
        let recoveries = recovered.count();
        let breaks = self.breaks(world)?;
        ensure!(breaks.len() == recoveries, "{}: {recoveries} recoveries, {breaks:?}: {job:?}", self.name);
        let goes_back = |(before, after): &(u64, u64)| after <= before;
        ensure!(breaks.iter().all(goes_back), "{}: numbers are missing: {breaks:?}", self.name);
        Ok(())
    }
}

/// Starts a world whose hosts have room for all jobs.
fn world(hosts: u32) -> Result<World> {
    let arguments = vec!["--cores".to_owned(), "16".to_owned()];
    World::start(Plan { virtual_hosts: hosts, arguments, ..Plan::new(env!("CARGO_BIN_EXE_float")) })
}

/// An agent that hangs renews no lease. Its jobs are frozen by their monitors.
#[test]
fn agent_that_hangs_executes_nothing_that_is_recovered() {
    let world = world(2).unwrap();
    let outcome = world.run_inside(async || {
        let client = world.client().await?;
        let recoverable = Writer::launch(&world, &client, "recoverable", SOURCE).await?;
        let bound = Writer::launch(&world, &client, "bound", SOURCE).await?;
        recoverable.snapshot(&client).await?;
        let agents = world.daemons(&["server", "agent", SOURCE]);
        ensure!(agents.len() == 1, "{agents:?}");
        agents[0].signal(Signal::SIGSTOP)?;
        let recovered = recovered(&client, &recoverable.job, SOURCE).await;
        let goes_on = match &recovered {
            Ok(_) => recoverable.writes(&world).await.and(bound.writes(&world).await),
            Err(_) => Ok(()),
        };
        agents[0].signal(Signal::SIGCONT)?;
        let recovered = recovered?;
        goes_on?;
        wait_for("the old copy to be removed", WITHIN, async || {
            let hosts = client.host_list().await?;
            Ok(hosts.iter().any(|host| host.name == SOURCE && host.jobs == 1).then_some(()))
        })
        .await?;
        recoverable.writes(&world).await?;
        recoverable.check(&world, &client).await?;
        // A job that nobody can recover needs no lease.
        bound.check(&world, &client).await?;
        let now = client.job_get(&recoverable.job).await?;
        ensure!(now.host_name == recovered.host_name && now.generation == recovered.generation, "{now:?}");
        Ok(())
    });
    outcome.unwrap();
}

async fn recovered(client: &Client, job: &JobId, from: &str) -> Result<JobView> {
    wait_for("the job on another host", RECOVERED_WITHIN, async || {
        let job = client.job_get(job).await?;
        Ok((job.status == JobStatus::Executing && job.host_name != from).then_some(job))
    })
    .await
}

/// A short time without OpCenter: the job is frozen, and goes on where it was.
#[test]
fn job_goes_on_when_its_host_is_back_in_time() {
    let world = world(1).unwrap();
    let outcome = world.run_inside(async || {
        let client = world.client().await?;
        let writer = Writer::launch(&world, &client, "patient", SOURCE).await?;
        let before = writer.snapshot(&client).await?;
        for time in [Duration::from_secs(9), Duration::from_secs(14)] {
            world.part(SOURCE, OPCENTER)?;
            tokio::time::sleep(time).await;
            let frozen = writer.written(&world)?.len();
            tokio::time::sleep(Duration::from_millis(500)).await;
            ensure!(writer.written(&world)?.len() == frozen, "it executes without a lease after {time:?}");
            world.mend(SOURCE)?;
            writer.writes(&world).await?;
        }
        writer.check(&world, &client).await?;
        let after = executing(&client, &writer.job, WITHIN).await?;
        ensure!((&after.host_name, after.generation) == (&before.host_name, before.generation), "{after:?}");
        Ok(())
    });
    outcome.unwrap();
}

/// The lease ends while CRIU reads the job's processes. The checkpoint goes on after that, and the
/// job as well.
#[test]
fn checkpoint_goes_on_when_the_host_is_back_in_time() {
    let world = world(2).unwrap();
    let outcome = world.run_inside(async || {
        let client = world.client().await?;
        let writer = Writer::launch(&world, &client, "read", SOURCE).await?;
        writer.snapshot(&client).await?;
        let directory = world.directory().join("hosts").join(SOURCE).join("jobs").join(writer.job.as_str()).join("g1");
        let first = fs::read_to_string(directory.join("pid"))?;
        let (seized, fenced) = (directory.join("criu-seized"), directory.join("fenced"));
        // CRIU is stopped as soon as it has seized all processes.
        let stopper = thread::spawn(move || -> Result<Vec<ProcessId>> {
            let began = Instant::now();
            while !seized.exists() {
                ensure!(began.elapsed() < WITHIN, "no checkpoint has begun");
                thread::sleep(Duration::from_micros(200));
            }
            let criu = checkpoints_of(first.trim());
            ensure!(criu.iter().all(|criu| criu.signal(Signal::SIGSTOP)), "CRIU has ended");
            Ok(criu)
        });
        client.job_migrate(&writer.job, &MigrateRequest::default()).await?;
        let criu = stopper.join().map_err(|_| anyhow!("the stopper has panicked"))??;
        ensure!(!criu.is_empty(), "the checkpoint was over at once");
        world.part(SOURCE, OPCENTER)?;
        wait_for("the lease to end", WITHIN, async || Ok(fenced.exists().then_some(()))).await?;
        let frozen = writer.written(&world)?.len();
        world.mend(SOURCE)?;
        ensure!(criu.iter().all(|criu| criu.signal(Signal::SIGCONT)), "CRIU has ended");
        wait_for("CRIU to end", WITHIN, async || Ok(criu.iter().all(|criu| !criu.lives()).then_some(()))).await?;
        executing(&client, &writer.job, WITHIN).await?;
        writer.writes(&world).await?;
        ensure!(writer.written(&world)?.len() > frozen, "it does not go on");
        writer.check(&world, &client).await
    });
    outcome.unwrap();
}

/// Returns the CRIU processes that read the job with this first process.
fn checkpoints_of(first: &str) -> Vec<ProcessId> {
    let numbers = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = numbers.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let reads = |pid: &i32| {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        let arguments = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        name.trim() == "criu" && arguments.split(['\0', ' ']).any(|argument| argument == first)
    };
    pids.filter(reads).filter_map(ProcessId::find).collect()
}

#[test]
fn source_without_opcenter() {
    parted(&[(SOURCE, OPCENTER)]).unwrap();
}

#[test]
fn destination_without_opcenter() {
    parted(&[(DESTINATION, OPCENTER)]).unwrap();
}

#[test]
fn hosts_without_each_other() {
    parted(&[(SOURCE, Ipv4Addr::new(198, 18, 0, 3))]).unwrap();
}

/// Brings a job into each phase of a migration, and parts the parties for a while.
fn parted(pairs: &[(&str, Ipv4Addr)]) -> Result<()> {
    let world = world(3)?;
    world.run_inside(async || {
        let client = world.client().await?;
        let mut writers = BTreeMap::new();
        for phase in PHASES {
            let plain = Writer::launch(&world, &client, &format!("plain-{phase}").to_lowercase(), SOURCE).await?;
            writers.insert((phase, false), plain);
        }
        // The rest may be recovered.
        for phase in [Phase::Restore, Phase::Verify] {
            let name = format!("kept-{phase}").to_lowercase();
            let kept = Writer::launch(&world, &client, &name, SOURCE).await?;
            kept.snapshot(&client).await?;
            writers.insert((phase, true), kept);
        }
        let at_home = Writer::launch(&world, &client, "at-home", SOURCE).await?;
        at_home.snapshot(&client).await?;

        for ((phase, _), writer) in &writers {
            // Those that go first are still in their phase when the last has come to its own.
            world.failpoint_set(&phase.failpoint(), &format!("wait {WAIT}"))?;
            let to = MigrateRequest { host: DESTINATION.to_owned(), ..MigrateRequest::default() };
            client.job_migrate(&writer.job, &to).await?;
            wait_for(&format!("{} in {phase}", writer.name), WITHIN, async || {
                Ok(world.failpoints_left().is_empty().then_some(()))
            })
            .await?;
        }
        for (host, from) in pairs {
            world.part(host, *from)?;
        }
        tokio::time::sleep(PARTED).await;
        for (host, _) in pairs {
            world.mend(host)?;
        }
        for writer in writers.values().chain([&at_home]) {
            wait_for(&format!("{} to execute", writer.name), SETTLED_WITHIN, async || {
                let job = client.job_get(&writer.job).await?;
                ensure!(!job.status.is_final(), "{} is {}: {}", writer.name, job.status, job.status_reason);
                Ok((job.status == JobStatus::Executing).then_some(()))
            })
            .await?;
            writer.writes(&world).await?;
        }
        // A copy that is left somewhere would write meanwhile.
        tokio::time::sleep(Duration::from_secs(2)).await;
        for writer in writers.values().chain([&at_home]) {
            writer.check(&world, &client).await?;
        }
        Ok(())
    })
}
