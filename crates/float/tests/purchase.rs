//! Hosts that say how they are paid for, and jobs whose VM policies take one kind, or one kind
//! first: wherever a job is placed.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mooring_testkit::wait::wait_for;
use mooring_testkit::world::{Plan, World};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(60);
const SPOT: &str = "[spotOnly=true,retryLimit=1,retryInterval=1s]";
const ON_DEMAND: &str = "[onDemand=true,retryLimit=1,retryInterval=1s]";

/// Returns the JSON that a command prints.
fn answer(world: &World, line: &[&str]) -> Result<Value> {
    let ran = world.float(&[&["-F", "json"], line].concat())?;
    ensure!(ran.code == Some(0), "{line:?}: {ran:?}");
    serde_json::from_str(&ran.stdout).with_context(|| format!("{line:?}: {ran:?}"))
}

/// Returns the message of a command that refuses.
fn refusal(world: &World, line: &[&str]) -> Result<String> {
    let ran = world.float(line)?;
    ensure!(ran.code == Some(1) && ran.stdout.is_empty(), "{line:?}: {ran:?}");
    Ok(ran.stderr)
}

/// A job that does nothing, with these options.
fn submit(world: &World, name: &str, options: &[&str]) -> Result<String> {
    let line = [&["submit", "-i", "dir:/", "-m", "0.2", "-n", name], options, &["--", "sleep", "3600"]].concat();
    Ok(answer(world, &line)?["id"].as_str().context("a job has an id")?.to_owned())
}

async fn becomes(world: &World, job: &str, status: &str) -> Result<Value> {
    wait_for(&format!("job {job} to be {status}"), LIMIT, async || {
        let now = answer(world, &["show", "-j", job])?;
        Ok((now["status"] == status).then_some(now))
    })
    .await
}

async fn executes_on(world: &World, job: &str, host: &str) -> Result<Value> {
    wait_for(&format!("job {job} to execute on {host}"), LIMIT, async || {
        let now = answer(world, &["show", "-j", job])?;
        ensure!(now["category"] != "failed", "{now}");
        let settled = now["migrations"].as_array().is_none_or(|all| all.iter().all(|one| one["outcome"] != "running"));
        Ok((now["status"] == "Executing" && now["hostName"] == host && settled).then_some(now))
    })
    .await
}

fn told(job: &Value) -> String {
    job["statusReason"].as_str().unwrap_or_default().to_owned()
}

/// Two hosts of which the second one, to which nothing would go by its name, is a spot instance.
#[test]
fn jobs_go_where_their_vm_policy_says_and_nowhere_else() {
    let mut plan = Plan::new(env!("CARGO_BIN_EXE_float"));
    plan.arguments = ["--purchase", "host-2=spot"].map(str::to_owned).to_vec();
    let world = World::start(plan).unwrap();
    let outcome = world.run_inside(async || {
        let hosts = answer(&world, &["hosts"])?;
        let hosts = hosts.as_array().context("a list")?;
        let of = |name: &str| hosts.iter().find(|host| host["name"] == name).context("a host");
        ensure!(of("host-1")?["purchase"] == "onDemand" && of("host-2")?["purchase"] == "spot", "{hosts:?}");
        let table = world.float(&["hosts", "-F", "table"])?.stdout;
        ensure!(table.contains("| PURCHASE ") && table.contains("| onDemand ") && table.contains("| spot "), "{table}");
        let cores = of("host-2")?["cores"].to_string();
        submission(&world, &cores).await?;
        moves(&world).await?;
        resumes_and_drains(&world).await?;
        status(&world)
    });
    outcome.unwrap();
}

/// All of it in numbers.
fn status(world: &World) -> Result<()> {
    let status = answer(world, &["status"])?;
    ensure!(status["License Status"] == "valid" && status["version"] == env!("CARGO_PKG_VERSION"), "{status}");
    ensure!(status["address"] == world.url().trim_start_matches("http://"), "{status}");
    let hosts = json!({ "total": 3, "ready": 3, "draining": 0, "notReady": 0, "unreachable": 0 });
    ensure!(status["hosts"] == hosts && status["gateways"]["total"] == 0, "{status}");
    let listed = answer(world, &["list"])?;
    let all = listed.as_array().context("a list")?;
    let of = |category: &str| all.iter().filter(|job| job["category"] == category).count();
    ensure!(of("running") == 4 && status["jobs"]["running"] == 4, "{status}");
    let cancelled = all.iter().filter(|job| job["status"] == "Cancelled").count();
    ensure!(cancelled > 0 && status["jobs"]["cancelled"] == cancelled, "{status}");
    ensure!(status["jobs"]["failed"] == of("failed") - cancelled && status["jobs"]["total"] == all.len(), "{status}");
    let table = world.float(&["status", "-F", "table"])?.stdout;
    ensure!(table.contains("License Status") && table.contains("running: 4"), "{table}");
    Ok(())
}

async fn submission(world: &World, cores: &str) -> Result<()> {
    let usual = submit(world, "usual", &[])?;
    let job = executes_on(world, &usual, "host-2").await?;
    let shown = job["workingHost"].as_str().unwrap_or_default();
    ensure!(shown.starts_with("198.18.0.3 (") && shown.ends_with("GB/Spot)"), "{shown}");
    let stays = submit(world, "stays", &["--vmPolicy", ON_DEMAND])?;
    let job = executes_on(world, &stays, "host-1").await?;
    ensure!(job["workingHost"].as_str().is_some_and(|shown| shown.ends_with("GB/OnDemand)")), "{job}");

    // The spot host has too few cores: only a policy that takes the other host finds room.
    let many = ["-c", cores];
    let elsewhere = submit(world, "elsewhere", &[many.as_slice(), &["--vmPolicy", "[retryLimit=0]"]].concat())?;
    let job = becomes(world, &elsewhere, "NoAvailableHost").await?;
    ensure!(told(&job).starts_with("no ready host has "), "{job}");
    answer(world, &["cancel", "-f", "-j", &stays])?;
    becomes(world, &stays, "Cancelled").await?;
    let elsewhere = submit(world, "elsewhere", &many)?;
    executes_on(world, &elsewhere, "host-1").await?;
    let waits = submit(world, "waits", &[many.as_slice(), &["--vmPolicy", SPOT]].concat())?;
    let job = becomes(world, &waits, "NoAvailableHost").await?;
    ensure!(told(&job).starts_with("no ready spot host has "), "{job}");
    ensure!(told(&job).ends_with("; waited for 1s in vain"), "{job}");
    let refused = refusal(world, &["submit", "-i", "dir:/", "--host", "host-1", "--vmPolicy", SPOT, "--", "true"])?;
    let sentence = "Invalid argument, host `host-1` is on-demand, and the job's VM policy is `spotOnly` (code: 1003)";
    ensure!(refused.contains(sentence) && refused.contains("give another `--vmPolicy`"), "{refused}");
    for job in [&usual, &elsewhere] {
        answer(world, &["cancel", "-f", "-j", job])?;
        becomes(world, job, "Cancelled").await?;
    }
    Ok(())
}

/// Migrates by hand, also to another size. A rerun has the size of the first submission.
async fn moves(world: &World) -> Result<()> {
    let job = submit(world, "moves", &["--vmPolicy", SPOT])?;
    let before = executes_on(world, &job, "host-2").await?;
    let refused = refusal(world, &["migrate", "-f", "-j", &job, "--host", "host-1"])?;
    let sentence = "host `host-1` is on-demand, and the job's VM policy is `spotOnly` (code: 1003)";
    ensure!(refused.contains(sentence) && refused.contains("`float modify --vmPolicy`"), "{refused}");
    let refused = refusal(world, &["migrate", "-f", "-j", &job])?;
    ensure!(refused.contains("no ready spot host has "), "{refused}");
    let after = answer(world, &["show", "-j", &job])?;
    ensure!(after["lastUpdate"] == before["lastUpdate"] && after["status"] == "Executing", "{after}");

    answer(world, &["modify", "-j", &job, "--vmPolicy", ON_DEMAND])?;
    ensure!(answer(world, &["show", "-j", &job])?["hostName"] == "host-2", "it has moved by itself");
    answer(world, &["migrate", "-f", "-j", &job, "-m", "0.4"])?;
    let larger = executes_on(world, &job, "host-1").await?;
    let arguments = larger["inputArgs"].as_str().unwrap_or_default();
    ensure!(larger["memGB"] == 0.4 && arguments.contains(" -m 0.2 "), "{larger}");
    let again = answer(world, &["rerun", "-f", "-j", &job])?;
    ensure!(again["memGB"] == 0.2 && again["vmPolicy"]["policy"] == "onDemand", "{again}");
    for job in [&job, again["id"].as_str().context("an id")?] {
        answer(world, &["cancel", "-f", "-j", job])?;
        becomes(world, job, "Cancelled").await?;
    }
    Ok(())
}

async fn resumes_and_drains(world: &World) -> Result<()> {
    let bound = submit(world, "bound", &["--vmPolicy", SPOT])?;
    let asleep = submit(world, "asleep", &["--vmPolicy", SPOT])?;
    let (free, kept) = (submit(world, "free", &[])?, submit(world, "kept", &["--vmPolicy", SPOT])?);
    for job in [&bound, &asleep, &free, &kept] {
        executes_on(world, job, "host-2").await?;
    }
    answer(world, &["suspend", "-f", "-j", &asleep])?;
    becomes(world, &asleep, "Suspended").await?;
    answer(world, &["hosts", "drain", "host-2", "--wait"])?;
    executes_on(world, &free, "host-1").await?;
    let job = becomes(world, &bound, "Suspended").await?;
    let reason = "host host-2 is drained by admin, and its VM policy takes no other host; it is resumed as soon as";
    ensure!(told(&job).starts_with(reason), "{job}");
    becomes(world, &kept, "Suspended").await?;
    let job = answer(world, &["suspend", "-f", "-j", &kept])?;
    ensure!(told(&job) == "requested by admin", "{job}");
    // What is to be resumed in vain is suspended as before, and says why.
    answer(world, &["resume", "-j", &asleep])?;
    let job = wait_for("the resume to be given up", LIMIT, async || {
        let now = answer(world, &["show", "-j", &asleep])?;
        Ok((now["status"] == "Suspended").then_some(now))
    })
    .await?;
    ensure!(told(&job).starts_with("no ready spot host has "), "{job}");
    ensure!(told(&job).ends_with("; waited for 1s in vain"), "{job}");
    answer(world, &["hosts", "undrain", "host-2"])?;
    let job = executes_on(world, &bound, "host-2").await?;
    let resumed = job["migrations"].as_array().and_then(|all| all.last()).context("a record")?;
    ensure!(resumed["kind"] == "resume" && resumed["reason"] == "host host-2 has room for it", "{job}");
    // Nobody but their user has these go on.
    for job in [&asleep, &kept] {
        ensure!(answer(world, &["show", "-j", job])?["status"] == "Suspended", "it was resumed by itself");
    }
    answer(world, &["resume", "-j", &asleep])?;
    executes_on(world, &asleep, "host-2").await.map(drop)
}
