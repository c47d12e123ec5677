//! A job in the capsule store: suspended for longer than any time-out of its client, resumed under
//! the same address, snapshotted while it goes on.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mooring_api::Client;
use mooring_api::view::{HostView, JobView};
use mooring_linux::cgroup::Cgroup;
use mooring_testkit::job::executing;
use mooring_testkit::s3::{self, Keys};
use mooring_testkit::wait::wait_for;
use mooring_testkit::witness::{self, Asking, Witness};
use mooring_testkit::world::{Plan, World};
use mooring_types::JobId;
use mooring_types::job::JobStatus;
use mooring_types::migration::{MigrationKind, Outcome, Phase};
use tokio::task::JoinSet;

const WITHIN: Duration = Duration::from_secs(90);
/// The time for which an object store is away.
const AWAY: Duration = Duration::from_secs(8);

#[test]
fn suspend_keeps_connections() {
    let world = World::start(Plan::new(env!("CARGO_BIN_EXE_float"))).unwrap();
    let program = world.bring(&witness::program().unwrap()).unwrap();
    let outcome = world.run_inside(async || {
        let client = world.client().await?;
        let witness = Witness::launch(&client, "sleeper", &program).await?;
        let (id, address) = (witness.session.job.clone(), witness.session.address);
        let asking = Asking::start(address);
        asking.answered(20, WITHIN).await?;
        for round in 1..=2 {
            client.job_suspend(&id).await?;
            let suspended = status(&client, &id, JobStatus::Suspended).await?;
            ensure!(suspended.host_name.is_empty() && suspended.working_host.is_empty(), "{suspended:?}");
            ensure!(suspended.port_mappings.len() == 1, "it keeps its port: {:?}", suspended.port_mappings);
            wait_for("the host to let go", WITHIN, async || {
                let hosts = client.host_list().await?;
                Ok((witness.processes() == 0 && hosts.iter().all(|host| host.jobs == 0)).then_some(()))
            })
            .await?;
            wait_for("only the newest capsule", WITHIN, async || Ok((capsules(&world)? == 1).then_some(()))).await?;
            // Nothing is answered, and nothing breaks.
            let still = asking.seen();
            let refused = client.job_suspend(&id).await.err().context("suspended twice")?;
            ensure!(refused.to_string().contains("Suspended"), "{refused}");
            client.job_resume(&id).await?;
            let resumed = executing(&client, &id, WITHIN).await?;
            let seen = asking.answered(20, WITHIN).await?;
            ensure!(seen.broken == 0 && seen.fault.is_none(), "{seen:?} after {still:?}");
            ensure!(resumed.port_mappings == suspended.port_mappings, "{resumed:?}");
            let kinds: Vec<MigrationKind> = resumed.migrations.iter().map(|migration| migration.kind).collect();
            ensure!(kinds == [MigrationKind::Suspend, MigrationKind::Resume].repeat(round), "{kinds:?}");
            ensure!(resumed.migrations.iter().all(|known| known.outcome == Outcome::Succeeded), "{resumed:?}");
        }
        // What is cancelled while it is suspended leaves nothing.
        client.job_suspend(&id).await?;
        status(&client, &id, JobStatus::Suspended).await?;
        drop(asking.finish().await);
        client.job_cancel(&id).await?;
        status(&client, &id, JobStatus::Cancelled).await?;
        wait_for("the capsule to go", WITHIN, async || Ok((capsules(&world)? == 0).then_some(()))).await
    });
    outcome.unwrap();
}

#[test]
fn a_capsule_is_taken_of_a_job_that_goes_on() {
    let world = World::start(Plan::new(env!("CARGO_BIN_EXE_float"))).unwrap();
    let program = world.bring(&witness::program().unwrap()).unwrap();
    let outcome = world.run_inside(async || {
        let client = world.client().await?;
        let witness = Witness::launch(&client, "model", &program).await?;
        let id = witness.session.job.clone();
        let asking = Asking::start(witness.session.address);
        for _ in 0..3 {
            let before = client.job_get(&id).await?;
            client.job_snapshot(&id).await?;
            let after = wait_for("the capsule", WITHIN, async || {
                let job = client.job_get(&id).await?;
                let made = job.migrations.len() > before.migrations.len() && job.status == JobStatus::Executing;
                Ok(made.then_some(job))
            })
            .await?;
            let made = after.migrations.last().context("no record of it")?;
            ensure!(made.kind == MigrationKind::Snapshot && made.outcome == Outcome::Succeeded, "{made:?}");
            ensure!(after.host_name == before.host_name && after.generation == before.generation, "{after:?}");
            let seen = asking.answered(20, WITHIN).await?;
            ensure!(seen.broken == 0 && seen.fault.is_none() && witness.processes() > 0, "{seen:?}");
        }
        // The first stays, as the newest builds on it.
        wait_for("a capsule to go", WITHIN, async || Ok((capsules(&world)? == 2).then_some(()))).await?;
        let made = client.job_get(&id).await?.migrations;
        ensure!(made[2].bytes_moved * 2 < made[0].bytes_moved, "{made:?}");
        Ok(())
    });
    outcome.unwrap();
}

/// The address of the gateways' host, which jobs' hosts reach.
const BUCKETS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(198, 18, 0, 1)), 9000);

fn keys() -> Keys {
    Keys { access: "mooring".into(), secret: "a-secret".into() }
}

/// A world whose capsules are in a bucket.
fn world_with_bucket() -> World {
    let keys = keys();
    let plan = Plan {
        arguments: [
            "--capsule-store",
            "s3://capsules/lab",
            "--capsule-store-endpoint",
            "http://198.18.0.1:9000",
            "--capsule-store-region",
            "us-east-1",
        ]
        .map(str::to_owned)
        .into(),
        environment: vec![
            ("AWS_ACCESS_KEY_ID".into(), keys.access.clone().into()),
            ("AWS_SECRET_ACCESS_KEY".into(), keys.secret.clone().into()),
        ],
        ..Plan::new(env!("CARGO_BIN_EXE_float"))
    };
    World::start(plan).expect("a world")
}

/// An object store, as long as this value lives.
struct Serving(JoinSet<Result<Infallible>>);

impl Serving {
    fn start(buckets: &Path) -> Self {
        let (buckets, mut task) = (buckets.to_owned(), JoinSet::new());
        task.spawn(async move { s3::serve(BUCKETS, &buckets, &keys()).await });
        Self(task)
    }

    /// Breaks all connections and takes no more.
    async fn stop(mut self) {
        self.0.shutdown().await;
    }
}

#[test]
fn a_store_that_is_away_for_a_while_fails_no_suspend() {
    let world = world_with_bucket();
    let program = world.bring(&witness::program().unwrap()).unwrap();
    let buckets = world.files().join("buckets");
    let outcome = world.run_inside(async || {
        std::fs::create_dir(&buckets)?;
        s3::make_bucket(&buckets, "capsules")?;
        let client = world.client().await?;
        let witness = Witness::launch(&client, "patient", &program).await?;
        let id = witness.session.job.clone();
        let asking = Asking::start(witness.session.address);
        asking.answered(20, WITHIN).await?;

        // Away while the job executes.
        client.job_suspend(&id).await?;
        tokio::time::sleep(AWAY).await;
        ensure!(!is_frozen(&witness)?, "it is frozen for a store that is away");
        let serving = Serving::start(&buckets);
        resumes(&client, &id).await?;
        asking.answered(20, WITHIN).await?;

        // Away as soon as the job is frozen: it goes on, and is frozen again.
        client.job_suspend(&id).await?;
        let pids = witness.pids();
        let freeze = async {
            while !any_is_frozen(&pids) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(WITHIN, freeze).await.context("it was not frozen")?;
        serving.stop().await;
        wait_for("the job to go on", AWAY, async || Ok((!is_frozen(&witness)?).then_some(()))).await?;
        let serving = Serving::start(&buckets);
        resumes(&client, &id).await?;
        let seen = asking.answered(20, WITHIN).await?;
        ensure!(seen.broken == 0 && seen.fault.is_none(), "{seen:?}");
        serving.stop().await;
        Ok(())
    });
    outcome.unwrap();
}

/// Waits until a suspend has succeeded, and resumes the job.
async fn resumes(client: &Client, job: &JobId) -> Result<()> {
    let suspended = status(client, job, JobStatus::Suspended).await?;
    let last = suspended.migrations.last().context("no migration")?;
    ensure!(last.outcome == Outcome::Succeeded, "{last:?}");
    client.job_resume(job).await?;
    executing(client, job, WITHIN).await.map(drop)
}

/// Returns whether the processes of a witness are frozen.
fn is_frozen(witness: &Witness) -> Result<bool> {
    let pids = witness.pids();
    ensure!(!pids.is_empty(), "the witness has no process");
    Ok(any_is_frozen(&pids))
}

fn any_is_frozen(pids: &[u32]) -> bool {
    pids.iter().any(|pid| {
        let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        // The freezers of control groups of version 1 and 2.
        let group = groups.lines().find_map(|line| line.split_once(":freezer:").or_else(|| line.split_once("0::")));
        group.is_some_and(|(_, path)| Cgroup::open(path.trim_start_matches('/')).is_frozen())
    })
}

#[test]
fn suspend_without_a_store_keeps_the_job() {
    let world = world_with_bucket();
    let program = world.bring(&witness::program().unwrap()).unwrap();
    let buckets = world.files().join("buckets");
    let outcome = world.run_inside(async || {
        let client = world.client().await?;
        // Each host tells at its start that it can't reach the store.
        let told = "the capsule store at http://198.18.0.1:9000 can't be reached from this host";
        wait_for("the hosts' problems", WITHIN, async || {
            let tells = |host: &HostView| host.problems.iter().any(|problem| problem.starts_with(told));
            let hosts = client.host_list().await?;
            Ok(hosts.iter().filter(|host| host.role.takes_jobs()).all(tells).then_some(()))
        })
        .await?;
        let witness = Witness::launch(&client, "remote", &program).await?;
        let id = witness.session.job.clone();
        let asking = Asking::start(witness.session.address);
        asking.answered(20, WITHIN).await?;

        client.job_suspend(&id).await?;
        let kept = wait_for("the failure to be told", WITHIN, async || {
            let job = client.job_get(&id).await?;
            let failed = job
                .migrations
                .last()
                .is_some_and(|made| matches!(made.outcome, Outcome::Failed { phase: Phase::PreCopy, .. }));
            Ok((failed && job.status == JobStatus::Executing).then_some(job))
        })
        .await?;
        ensure!(kept.status_reason.contains("capsule store"), "{}", kept.status_reason);
        asking.answered(20, WITHIN).await?;

        std::fs::create_dir(&buckets)?;
        s3::make_bucket(&buckets, "capsules")?;
        let tried = async {
            client.job_suspend(&id).await?;
            status(&client, &id, JobStatus::Suspended).await?;
            ensure!(manifests(&buckets)? == 1, "no capsule in the bucket");
            client.job_resume(&id).await?;
            executing(&client, &id, WITHIN).await?;
            let seen = asking.answered(20, WITHIN).await?;
            ensure!(seen.broken == 0 && seen.fault.is_none(), "{seen:?}");
            Ok(())
        };
        let keys = keys();
        tokio::select! {
            outcome = tried => outcome,
            served = s3::serve(BUCKETS, &buckets, &keys) => served.map(|never| match never {}),
        }
    });
    outcome.unwrap();
}

async fn status(client: &Client, job: &JobId, wanted: JobStatus) -> Result<JobView> {
    wait_for(&format!("the job to be {wanted}"), WITHIN, async || {
        let job = client.job_get(job).await?;
        Ok((job.status == wanted).then_some(job))
    })
    .await
}

/// Returns the number of capsules in the store of a world.
fn capsules(world: &World) -> Result<usize> {
    manifests(&world.directory().join("capsules"))
}

/// Returns the number of manifests below a directory.
fn manifests(directory: &Path) -> Result<usize> {
    let mut found = 0;
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        found += if path.is_dir() { manifests(&path)? } else { usize::from(path.ends_with("manifest.json")) };
    }
    Ok(found)
}
