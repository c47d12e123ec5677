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
use mooring_types::JobId;
use mooring_types::migration::Outcome;
use nix::sys::signal::Signal;
use serde_json::Value;

/// How long a job may take to get to where it is expected.
const LIMIT: Duration = Duration::from_secs(60);
/// How long a loop device may stay: a process of another test that has mounts of its own has copies of ours until it ends.
const LET_GO_LIMIT: Duration = Duration::from_secs(240);
/// The address of the gateways' host, which jobs' hosts reach.
const BUCKETS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(198, 18, 0, 1)), 9000);

/// It keeps a file open, which another process watches, says again and again what it has written, and fills its volume when it is asked
/// to: a file that most of it is reserved for, and one that is written until there is no space left.
const FILLER: &str = r#"exec 8>>/mnt/own/log
while :; do tail -f /mnt/own/log; done >/dev/null 2>&1 &
i=0; last=0; while :; do
  i=$((i+1)); echo $i >&8; echo "$i $(wc -l </mnt/own/log)"
  asked=$(cat /mnt/ask/number); if [ "$asked" != "$last" ]; then
    last=$asked; fallocate -l 900M /mnt/own/most
    said=$(head -c 60M /dev/zero 2>&1 >/mnt/own/rest | grep -o 'No space left'); rm /mnt/own/most /mnt/own/rest
    echo "asked $asked: $said"
  fi
  sleep 0.1
done"#;

fn float(world: &World, line: &[&str]) -> Result<Value> {
    let ran = world.float(&[&["-F", "json"], line].concat())?;
    ensure!(ran.code == Some(0), "{line:?}: {ran:?}");
    serde_json::from_str(&ran.stdout).with_context(|| format!("{line:?}: {ran:?}"))
}

fn submit(world: &World, volumes: &[&str], script: &str) -> Result<JobId> {
    let volumes: Vec<&str> = volumes.iter().flat_map(|volume| ["--dataVolume", volume]).collect();
    let (line, rest) = (["submit", "-i", "dir:/", "-m", "0.2"], ["--", "/bin/bash", "-c", script]);
    Ok(float(world, &[line.as_slice(), &volumes, &rest].concat())?["id"]
        .as_str()
        .context("a job has an id")?
        .parse()?)
}

async fn becomes(world: &World, job: &JobId, status: &str) -> Result<Value> {
    wait_for(&format!("{job} to be {status}"), LIMIT, async || {
        let now = float(world, &["show", "-j", job.as_str()])?;
        ensure!(!["FailToExecute", "FailToComplete"].contains(&now["status"].as_str().unwrap_or_default()), "{now}");
        Ok((now["status"] == status).then_some(now))
    })
    .await
}

/// Waits until a job has written some lines more, and gives back all.
async fn goes_on(world: &World, job: &JobId) -> Result<Vec<String>> {
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

/// The files in this world that loop devices are of.
fn behind_loop_devices(world: &World) -> Vec<String> {
    let file = |entry: fs::DirEntry| fs::read_to_string(entry.path().join("loop/backing_file")).ok();
    let devices = fs::read_dir("/sys/block").into_iter().flatten().flatten();
    devices.filter_map(file).filter(|file| Path::new(file).starts_with(world.directory())).collect()
}

/// Waits for so many loop devices of volumes. Without any there are none of anything else either.
async fn devices_are(world: &World, wanted: usize) -> Result<()> {
    wait_for(&format!("{wanted} loop devices"), LET_GO_LIMIT, async || {
        let files = behind_loop_devices(world);
        let volumes = files.iter().filter(|file| file.contains("/volumes/")).count();
        Ok((volumes == wanted && (wanted > 0 || files.is_empty())).then_some(()))
    })
    .await
}

/// Has the job fill its volume, and waits until it was told that there is no space left.
async fn is_full(world: &World, job: &JobId, number: u32) -> Result<()> {
    fs::write(world.files().join("ask/number"), number.to_string())?;
    let client = world.client().await?;
    let told = format!("asked {number}: No space left");
    wait_for(&told, LIMIT, async || {
        let text = client.job_log(job, 0).await?.text;
        Ok(text.lines().any(|line| line == told).then_some(()))
    })
    .await
}

#[test]
fn a_fresh_volume_has_its_size_and_what_is_in_it_wherever_its_job_goes() {
    let mut world = World::start(Plan::new(env!("CARGO_BIN_EXE_float"))).unwrap();
    fs::create_dir(world.files().join("ask")).unwrap();
    fs::write(world.files().join("ask/number"), "0").unwrap();
    let outcome = world.run_inside(async || {
        let client = world.client().await?;
        let ask = format!("{}/ask:/mnt/ask", world.files().display());
        let job = submit(&world, &["[size=1]:/mnt/own", &ask], FILLER)?;
        becomes(&world, &job, "Executing").await?;
        is_full(&world, &job, 1).await?;
        devices_are(&world, 1).await?;
        for number in 2..=3 {
            let moved = move_once(&client, &job).await?;
            ensure!(moved.outcome == Outcome::Succeeded, "{moved:?}");
            is_full(&world, &job, number).await?;
            devices_are(&world, 1).await?;
        }
        kill_agents(&world).await?;
        goes_on(&world, &job).await?;
        devices_are(&world, 1).await?;
        let moved = move_once(&client, &job).await?;
        ensure!(moved.outcome == Outcome::Succeeded, "{moved:?}");
        goes_on(&world, &job).await?;
        client.job_suspend(&job).await?;
        becomes(&world, &job, "Suspended").await?;
        devices_are(&world, 0).await?;
        client.job_resume(&job).await?;
        becomes(&world, &job, "Executing").await?;
        is_full(&world, &job, 4).await?;
        devices_are(&world, 1).await?;
        Ok(job)
    });
    let job = outcome.unwrap();
    world.stop().unwrap();
    world.run_inside(async || devices_are(&world, 0).await).unwrap();
    world.start_again().unwrap();
    let outcome = world.run_inside(async || {
        becomes(&world, &job, "Executing").await?;
        is_full(&world, &job, 5).await?;
        let lines = goes_on(&world, &job).await?;
        for (index, line) in lines.iter().filter(|line| !line.starts_with("asked")).enumerate() {
            let number = index + 1;
            ensure!(*line == format!("{number} {number}"), "line {number} is {line}");
        }
        float(&world, &["cancel", "-f", "-j", job.as_str()])?;
        becomes(&world, &job, "Cancelled").await?;
        devices_are(&world, 0).await
    });
    outcome.unwrap();
}

/// It writes a file of the bucket anew again and again, says how often and what is in another one, and appends to one that it keeps open.
const WRITER: &str = r#"exec 9>>/mnt/set/open
i=0; while :; do
  i=$((i+1)); echo $i >/mnt/set/tick || echo failed; echo $i >&9 || echo failed
  echo "$i $(cat /mnt/set/tick) $(cat /mnt/set/given)"; sleep 0.1
done"#;

/// It has nothing open for long.
const READER: &str = "while :; do cat /mnt/set/given || echo broken; sleep 0.1; done";

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
            let job = submit(&world, &[&volume], WRITER)?;
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
                ensure!(moved.outcome == Outcome::Succeeded, "{moved:?}");
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
            let told = [float(&world, &["show", "-j", job.as_str()])?.to_string(), world.log()].concat();
            let processes = fs::read_dir("/proc")?.flatten();
            let told: String = processes
                .filter_map(|process| fs::read(process.path().join("cmdline")).ok())
                .map(|line| String::from_utf8_lossy(&line).into_owned())
                .chain([told])
                .filter(|line| !line.contains("secret\0set"))
                .collect();
            ensure!(!told.contains(&keys.secret), "the secret key is told");
            float(&world, &["cancel", "-f", "-j", job.as_str()])?;
            becomes(&world, &job, "Cancelled").await?;
            carriers(0).await?;
            // What it has written into the file that it kept open is there since it was closed.
            let kept = fs::read_to_string(buckets.join("data/set/open"))?;
            let kept: Vec<&str> = kept.lines().collect();
            ensure!(kept.len() >= lines.len(), "{} lines of {}", kept.len(), lines.len());
            let in_order = |(index, line): (usize, &&str)| *line == (index + 1).to_string();
            ensure!(kept.iter().enumerate().all(in_order), "{kept:?}");
            // One whose carrier has broken down is mounted anew where the job goes, and where it has nothing open.
            let job = submit(&world, &[&volume], READER)?;
            becomes(&world, &job, "Executing").await?;
            goes_on(&world, &job).await?;
            world.daemons(&["s3fs"]).first().context("no carrier")?.signal(Signal::SIGKILL)?;
            wait_for("the job to notice", LIMIT, async || {
                Ok(client.job_log(&job, 0).await?.text.contains("broken").then_some(()))
            })
            .await?;
            let moved = move_once(&client, &job).await?;
            ensure!(moved.outcome == Outcome::Succeeded, "{moved:?}");
            let lines = goes_on(&world, &job).await?;
            ensure!(lines.last().is_some_and(|line| line == "from-outside"), "{lines:?}");
            float(&world, &["cancel", "-f", "-j", job.as_str()])?;
            becomes(&world, &job, "Cancelled").await?;
            carriers(0).await?;
            // What can't be mounted is told, without what is secret in it.
            let wrong = format!("[endpoint=http://{BUCKETS},accessKey=wrong,secret=wrong-secret]s3://data/set:/mnt/set");
            let job = submit(&world, &[&wrong], WRITER)?;
            let told = wait_for("the job to fail", LIMIT, async || {
                let now = float(&world, &["show", "-j", job.as_str()])?;
                Ok((now["status"] == "FailToExecute").then_some(now))
            })
            .await?;
            let reason = told["statusReason"].as_str().unwrap_or_default();
            ensure!(reason.starts_with("can't mount volume [accessKey=********,"), "{told}");
            ensure!(!told.to_string().contains("wrong-secret"), "{told}");
            carriers(0).await?;
            // What no host has the means for is told at once.
            if !Path::new("/sbin/mount.nfs").exists() {
                let job = submit(&world, &["nfs://198.18.0.1/export:/mnt/set"], "true")?;
                let told = becomes(&world, &job, "NoAvailableHost").await?["statusReason"].clone();
                let wanted = "no host can mount NFS exports: that takes the package `nfs-common` and a kernel with an NFS client";
                ensure!(told == wanted, "{told}");
            }
            Ok(())
        };
        tokio::select! {
            outcome = session => outcome,
            served = s3::serve(BUCKETS, &buckets, &keys) => served.map(|never| match never {}),
        }
    });
    outcome.unwrap();
}
