//! A host that its cloud takes away: what is on it leaves in time, and one that is left where it is
//! takes jobs again.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use mooring_api::Client;
use mooring_api::view::{HostStatus, HostView};
use mooring_testkit::job::executing;
use mooring_testkit::metadata_service::Service;
use mooring_testkit::wait::wait_for;
use mooring_testkit::witness::{self, Asking, Witness};
use mooring_testkit::world::{Plan, World};
use mooring_types::host::Purchase;
use mooring_types::{Clock, SystemClock};
use nix::sys::signal::Signal;

const WITHIN: Duration = Duration::from_secs(60);
/// The time of an answer of a slow metadata service.
const SLOW: Duration = Duration::from_secs(10);
/// The time for which a metadata service refuses requests.
const REFUSES_FOR: Duration = Duration::from_secs(15);
/// The time of a notice beyond that of its answer.
const HEARD_WITHIN: Duration = Duration::from_secs(8);
/// In the world's own namespace, at every address of it.
const ENDPOINT: &str = "http://198.18.0.1:8080";

#[test]
fn reclaimed_host_is_left_in_time() {
    let mut plan = Plan::new(env!("CARGO_BIN_EXE_float"));
    plan.arguments = ["--spot", "aws", "--metadata-endpoint", ENDPOINT].map(str::to_owned).to_vec();
    let world = World::start(plan).unwrap();
    let program = world.bring(&witness::program().unwrap()).unwrap();
    let outcome = world.run_inside(async || {
        let client = world.client().await?;
        let service = Service::start("0.0.0.0:8080".parse()?).await?;
        service.is_spot(IpAddr::from([198, 18, 0, 3]));
        is_known_as_spot(&world, &client, &service).await?;
        let witness = Witness::launch(&client, "tenant", &program).await?;
        let id = &witness.session.job;
        let asking = Asking::start(witness.session.address);
        asking.answered(20, WITHIN).await?;
        let home = client.job_get(id).await?.host_name;
        let (from, to) = if home == "host-1" { (1, 2) } else { (2, 1) };

        // A forgotten token is replaced.
        service.forget_tokens();
        let looked = service.looks(machine(from));
        wait_for("another look", WITHIN, async || Ok((service.looks(machine(from)) > looked).then_some(()))).await?;

        let time = SystemClock.now() + Duration::from_secs(120);
        service.interrupt(machine(from), time);
        let drained = host(&client, &home, HostStatus::Drained).await?;
        let drain = drained.drain.context("no drain")?;
        ensure!(drain.reason == format!("host {home} is reclaimed at {time}"), "{drain:?}");
        ensure!(drain.deadline.is_some_and(|deadline| deadline < time), "{drain:?}");
        let job = executing(&client, id, WITHIN).await?;
        ensure!(job.host_name == format!("host-{to}"), "{job:?}");
        ensure!(job.migrations.last().is_some_and(|last| last.reason == drain.reason), "{job:?}");
        asking.answered(20, WITHIN).await?;
        let ran = world.float(&["hosts", "undrain", &home])?;
        ensure!(ran.code == Some(1) && ran.stderr.contains("is reclaimed at"), "{ran:?}");

        service.withdraw(machine(from));
        host(&client, &home, HostStatus::Ready).await?;
        // At risk alone, with the other host as before: moved back; nobody is suspended.
        service.recommend(machine(to), SystemClock.now());
        let drain = host(&client, &format!("host-{to}"), HostStatus::Drained).await?.drain.context("no drain")?;
        ensure!(drain.deadline.is_none() && drain.reason.contains("may be reclaimed"), "{drain:?}");
        ensure!(executing(&client, id, WITHIN).await?.host_name == home, "it did not move");
        // Nowhere to go: it stays, and executes.
        service.recommend(machine(from), SystemClock.now());
        host(&client, &home, HostStatus::Draining).await?;
        let seen = asking.answered(100, WITHIN).await?;
        ensure!(seen.broken == 0 && seen.fault.is_none(), "{seen:?}");
        let job = executing(&client, id, WITHIN).await?;
        ensure!(job.host_name == home && job.migrations.len() == 2, "{job:?}");
        drop(asking.finish().await);
        Ok(())
    });
    outcome.unwrap();
}

#[test]
fn a_slow_or_failing_service_is_heard() {
    let mut plan = Plan::new(env!("CARGO_BIN_EXE_float"));
    plan.arguments = ["--spot", "aws", "--metadata-endpoint", ENDPOINT].map(str::to_owned).to_vec();
    let world = World::start(plan).unwrap();
    let outcome = world.run_inside(async || {
        let client = world.client().await?;
        let began = Instant::now();
        // It comes up after the agents have looked, and is slow.
        let service = Service::start("0.0.0.0:8080".parse()?).await?;
        service.answer_after(SLOW);
        wait_for("the agents to look", WITHIN, async || {
            Ok((service.looks(machine(1)) > 1 && service.looks(machine(2)) > 1).then_some(()))
        })
        .await?;
        ensure!(began.elapsed() < 2 * SLOW + HEARD_WITHIN, "the first answers took {:?}", began.elapsed());

        let began = Instant::now();
        service.interrupt(machine(1), SystemClock.now() + Duration::from_secs(120));
        host(&client, "host-1", HostStatus::Drained).await?;
        ensure!(began.elapsed() < SLOW + HEARD_WITHIN, "a slow notice took {:?}", began.elapsed());
        service.answer_after(Duration::ZERO);
        service.withdraw(machine(1));
        host(&client, "host-1", HostStatus::Ready).await?;

        let began = Instant::now();
        service.refuse_for(REFUSES_FOR);
        service.interrupt(machine(2), SystemClock.now() + Duration::from_secs(120));
        host(&client, "host-2", HostStatus::Drained).await?;
        ensure!(began.elapsed() < REFUSES_FOR + HEARD_WITHIN, "a refused notice took {:?}", began.elapsed());
        service.withdraw(machine(2));
        host(&client, "host-2", HostStatus::Ready).await?;

        // Its silence is told until it answers again.
        drop(service);
        let silent = "the metadata service does not answer since ";
        let problems = async |told: bool| {
            wait_for("the hosts' problems", WITHIN, async || {
                let hosts = client.host_list().await?;
                let says = |host: &HostView| host.problems.iter().any(|problem| problem.starts_with(silent));
                Ok(hosts.iter().all(|host| says(host) == told).then_some(()))
            })
            .await
        };
        problems(true).await?;
        let ran = world.float(&["hosts", "-F", "table"])?;
        ensure!(ran.stderr.contains(&format!("host-1: {silent}")), "{ran:?}");
        let _service = Service::start("0.0.0.0:8080".parse()?).await?;
        problems(false).await
    });
    outcome.unwrap();
}

/// The address of a host's machine.
fn machine(number: u8) -> IpAddr {
    IpAddr::from([198, 18, 0, number + 1])
}

/// Waits until OpCenter knows from the cloud that `host-2` is a spot instance and `host-1` is not.
async fn is_known_as_spot(world: &World, client: &Client, service: &Service) -> Result<()> {
    // There was no service when the agents looked; those that start now find it.
    for agent in world.daemons(&["server", "agent"]) {
        agent.signal(Signal::SIGKILL)?;
    }
    wait_for("the agents to look", WITHIN, async || {
        Ok((service.looks(machine(1)) > 0 && service.looks(machine(2)) > 0).then_some(()))
    })
    .await?;
    // What the command line does not say of a host its cloud does.
    let purchases = wait_for("the host to be known as a spot instance", WITHIN, async || {
        let hosts = client.host_list().await?;
        let purchase = |name: &str| hosts.iter().find(|host| host.name == name).map(|host| host.purchase);
        let [first, second] = [purchase("host-1"), purchase("host-2")];
        Ok((second == Some(Purchase::Spot)).then_some(first))
    })
    .await?;
    ensure!(purchases == Some(Purchase::OnDemand), "{purchases:?}");
    Ok(())
}

async fn host(client: &Client, name: &str, status: HostStatus) -> Result<HostView> {
    wait_for(&format!("{name} to be {status}"), WITHIN, async || {
        let hosts = client.host_list().await?;
        Ok(hosts.into_iter().find(|host| host.name == name && host.status == status))
    })
    .await
}
