//! Data volumes that hosts make and mount, through the real program: a fresh one has its size wherever its job goes, a bucket is where its
//! job is, and of neither is anything left on a host that the job has left.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mooring_testkit::s3::{self, Keys};
use mooring_testkit::tour::move_once;
use mooring_testkit::wait::wait_for;
use mooring_testkit::world::{Plan, World};
use nix::sys::signal::Signal;
use serde_json::Value;

/// How long a job may take to get to where it is expected.
const LIMIT: Duration = Duration::from_secs(60);
/// The address of the gateways' host, which jobs' hosts reach.
const BUCKETS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(198, 18, 0, 1)), 9000);

/// It keeps a file open, and says again and again what it has written, and how much room there is: enough for half of its volume, and
/// not for more than all of it. What is left in the file system is filled once.
const FILLER: &str = r#"exec 8>>/mnt/own/log
fallocate -l 900M /mnt/own/most && head -c 60M /dev/zero 2>&1 >/mnt/own/rest | grep -o 'No space left'
rm /mnt/own/most /mnt/own/rest
i=0; while :; do
  i=$((i+1)); echo $i >&8
  half=no; fallocate -l 450M /mnt/own/half && half=yes; rm -f /mnt/own/half
  more=no; fallocate -l 960M /mnt/own/more 2>/dev/null && more=yes; rm -f /mnt/own/more
  echo "$i $(wc -l </mnt/own/log) half=$half more=$more"; sleep 0.1
done"#;

fn float(world: &World, line: &[&str]) -> Result<Value> {
    let ran = world.float(&[&["-F", "json"], line].concat())?;
    ensure!(ran.code == Some(0), "{line:?}: {ran:?}");
    serde_json::from_str(&ran.stdout).with_context(|| format!("{line:?}: {ran:?}"))
}

fn submit(world: &World, volume: &str, script: &str) -> Result<String> {
    let line = ["submit", "-i", "dir:/", "-m", "0.2", "--dataVolume", volume, "--", "/bin/bash", "-c", script];
    Ok(float(world, &line)?["id"].as_str().context("a job has an id")?.to_owned())
}

async fn becomes(world: &World, job: &str, status: &str) -> Result<Value> {
    wait_for(&format!("{job} to be {status}"), LIMIT, async || {
        let now = float(world, &["show", "-j", job])?;
        ensure!(!["FailToExecute", "FailToComplete"].contains(&now["status"].as_str().unwrap_or_default()), "{now}");
        Ok((now["status"] == status).then_some(now))
    })
    .await
}

/// Waits until a job has written some lines more, and gives back all.
async fn goes_on(world: &World, job: &str) -> Result<Vec<String>> {
    let client = world.client().await?;
    let lines =
        async || -> Result<Vec<String>> { Ok(client.job_log(job, 0).await?.text.lines().map(str::to_owned).collect()) };
    let before = lines().await?.len();
    wait_for("more lines of the job", LIMIT, async || {
        let now = lines().await?;
        Ok((now.len() > before + 5).then_some(now))
    })
    .await
}

/// Kills all agents of hosts, and waits until others are there.
async fn kill_agents(world: &World) -> Result<()> {
    let killed = world.daemons(&["server", "agent"]);
    for agent in &killed {
        agent.signal(Signal::SIGKILL)?;
    }
    wait_for("new agents", LIMIT, async || {
        let now = world.daemons(&["server", "agent"]);
        Ok((now.len() == killed.len() && killed.iter().all(|agent| !agent.runs())).then_some(()))
    })
    .await
}

/// The loop devices whose files are in this world.
fn loop_devices(world: &World) -> usize {
    let file = |entry: fs::DirEntry| fs::read_to_string(entry.path().join("loop/backing_file")).ok();
    let devices = fs::read_dir("/sys/block").into_iter().flatten().flatten();
    devices.filter_map(file).filter(|file| Path::new(file).starts_with(world.directory())).count()
}

async fn devices_are(world: &World, wanted: usize) -> Result<()> {
    wait_for(&format!("{wanted} loop devices"), LIMIT, async || Ok((loop_devices(world) == wanted).then_some(()))).await
}

#[test]
fn a_fresh_volume_has_its_size_and_what_is_in_it_wherever_its_job_goes() {
    let mut world = World::start(Plan::new(env!("CARGO_BIN_EXE_float"))).unwrap();
    let outcome = world.run_inside(async || {
        let client = world.client().await?;
        let job = submit(&world, "[size=1]:/mnt/own", FILLER)?;
        becomes(&world, &job, "Executing").await?;
        goes_on(&world, &job).await?;
        devices_are(&world, 1).await?;
        for _ in 0..2 {
            let moved = move_once(&client, &job).await?;
            ensure!(moved.outcome == "succeeded", "{moved:?}");
            goes_on(&world, &job).await?;
            devices_are(&world, 1).await?;
        }
        kill_agents(&world).await?;
        goes_on(&world, &job).await?;
        ensure!(loop_devices(&world) == 1);
        let moved = move_once(&client, &job).await?;
        ensure!(moved.outcome == "succeeded", "{moved:?}");
        goes_on(&world, &job).await?;
        client.job_suspend(&job).await?;
        becomes(&world, &job, "Suspended").await?;
        devices_are(&world, 0).await?;
        client.job_resume(&job).await?;
        becomes(&world, &job, "Executing").await?;
        goes_on(&world, &job).await?;
        devices_are(&world, 1).await?;
        Ok(job)
    });
    let job = outcome.unwrap();
    world.stop().unwrap();
    world.run_inside(async || devices_are(&world, 0).await).unwrap();
    world.start_again().unwrap();
    let outcome = world.run_inside(async || {
        becomes(&world, &job, "Executing").await?;
        let lines = goes_on(&world, &job).await?;
        ensure!(lines[0] == "No space left", "{lines:?}");
        for (index, line) in lines.iter().skip(1).enumerate() {
            let number = index + 1;
            ensure!(*line == format!("{number} {number} half=yes more=no"), "line {number} is {line}");
        }
        float(&world, &["cancel", "-f", "-j", &job])?;
        becomes(&world, &job, "Cancelled").await?;
        devices_are(&world, 0).await
    });
    outcome.unwrap();
}

/// It writes a file of the bucket anew again and again, says how often and what is in another one, and appends to one that it keeps open.
const WRITER: &str = r#"i=0; while :; do
  i=$((i+1)); echo $i >/mnt/set/tick || echo failed
  echo "$i $(cat /mnt/set/tick) $(cat /mnt/set/given)"; sleep 0.1
done"#;

#[test]
fn a_bucket_is_where_its_job_is() {
    let keys = Keys { access: "the-access-key".into(), secret: "the-secret-key".into() };
    let world = World::start(Plan::new(env!("CARGO_BIN_EXE_float"))).unwrap();
    let buckets = world.files().join("buckets");
    fs::create_dir_all(buckets.join("data/set")).unwrap();
    let outcome = world.run_inside(async || {
        let session = async {
            let client = world.client().await?;
            fs::write(buckets.join("data/set/given"), "from-outside\n")?;
            for (name, value) in [("access", &keys.access), ("hidden", &keys.secret)] {
                let ran = world.float(&["secret", "set", name, value])?;
                ensure!(ran.code == Some(0), "{ran:?}");
            }
            let volume = format!("[mode=rw,endpoint=http://{BUCKETS},accessKey={{secret:access}},secret={{secret:hidden}}]s3://data/set:/mnt/set");
            let job = submit(&world, &volume, WRITER)?;
            becomes(&world, &job, "Executing").await?;
            goes_on(&world, &job).await?;
            let ticks = async || {
                let tick = || fs::read_to_string(buckets.join("data/set/tick")).unwrap_or_default();
                let before = tick();
                wait_for("the bucket to have what the job writes", LIMIT, async || {
                    Ok((!tick().is_empty() && tick() != before).then_some(()))
                })
                .await
            };
            ticks().await?;
            let carriers = async |wanted: usize| {
                wait_for(&format!("{wanted} mounted buckets"), LIMIT, async || {
                    Ok((world.daemons(&["s3fs"]).len() == wanted).then_some(()))
                })
                .await
            };
            carriers(1).await?;
            for _ in 0..2 {
                let moved = move_once(&client, &job).await?;
                ensure!(moved.outcome == "succeeded", "{moved:?}");
                goes_on(&world, &job).await?;
                ticks().await?;
                carriers(1).await?;
            }
            kill_agents(&world).await?;
            ticks().await?;
            carriers(1).await?;
            client.job_suspend(&job).await?;
            becomes(&world, &job, "Suspended").await?;
            carriers(0).await?;
            client.job_resume(&job).await?;
            becomes(&world, &job, "Executing").await?;
            ticks().await?;
            let lines = goes_on(&world, &job).await?;
            for (index, line) in lines.iter().enumerate() {
                let number = index + 1;
                ensure!(*line == format!("{number} {number} from-outside"), "line {number} is {line}");
            }
            // Nobody is told the keys who need not know them.
            let told = [float(&world, &["show", "-j", &job])?.to_string(), world.log()].concat();
            let processes = fs::read_dir("/proc")?.flatten();
            let told: String = processes
                .filter_map(|process| fs::read(process.path().join("cmdline")).ok())
                .map(|line| String::from_utf8_lossy(&line).into_owned())
                .chain([told])
                .filter(|line| !line.contains("secret\0set"))
                .collect();
            ensure!(!told.contains(&keys.secret), "the secret key is told");
            float(&world, &["cancel", "-f", "-j", &job])?;
            becomes(&world, &job, "Cancelled").await?;
            carriers(0).await?;
            // What can't be mounted is told, without what is secret in it.
            let wrong = format!("[endpoint=http://{BUCKETS},accessKey=wrong,secret=wrong-secret]s3://data/set:/mnt/set");
            let job = submit(&world, &wrong, WRITER)?;
            let told = wait_for("the job to fail", LIMIT, async || {
                let now = float(&world, &["show", "-j", &job])?;
                Ok((now["status"] == "FailToExecute").then_some(now))
            })
            .await?;
            let reason = told["statusReason"].as_str().unwrap_or_default();
            ensure!(reason.starts_with("can't mount volume [accessKey=********,"), "{told}");
            ensure!(!told.to_string().contains("wrong-secret"), "{told}");
            carriers(0).await
        };
        tokio::select! {
            outcome = session => outcome,
            served = s3::serve(BUCKETS, &buckets, &keys) => served.map(|never| match never {}),
        }
    });
    outcome.unwrap();
}
