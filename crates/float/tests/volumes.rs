//! Data volumes that hosts make and mount, through the real program. A fresh volume keeps its size
//! and follows its job. A bucket is mounted where its job is. Nothing of either stays on a host
//! that the job has left.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mooring_api::Client;
use mooring_testkit::s3::{self, Keys};
use mooring_testkit::tour::move_once;
use mooring_testkit::wait::wait_for;
use mooring_testkit::world::{Plan, World};
use mooring_types::JobId;
use mooring_types::migration::Outcome;
use nix::sys::signal::Signal;
use serde_json::Value;

/// Time limit until a job has an expected status.
const LIMIT: Duration = Duration::from_secs(60);
/// Time limit until a loop device is gone: processes of other tests have copies of the mounts until
/// they end.
const LET_GO_LIMIT: Duration = Duration::from_secs(240);
/// The address of the gateways' host, which jobs' hosts reach.
const BUCKETS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(198, 18, 0, 1)), 9000);

/// Keeps a file open that another process watches, and prints its number of lines again and again.
/// On request it fills its volume: it reserves most of it for a file and writes another until there
/// is no space left.
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

/// Waits for `wanted` loop devices of volumes; without any there has to be no other loop device
/// either.
async fn devices_are(world: &World, wanted: usize) -> Result<()> {
    wait_for(&format!("{wanted} loop devices"), LET_GO_LIMIT, async || {
        let files = behind_loop_devices(world);
        let volumes = files.iter().filter(|file| file.contains("/volumes/")).count();
        Ok((volumes == wanted && (wanted > 0 || files.is_empty())).then_some(()))
    })
    .await
}

/// Makes the job fill its volume, and waits until it reports that there is no space left.
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
fn fresh_volume_follows_its_job() {
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

/// Rewrites a file of the bucket again and again, prints the count and another file, and appends to
/// one that it keeps open.
const WRITER: &str = r#"exec 9>>/mnt/set/open
i=0; while :; do
  i=$((i+1)); echo $i >/mnt/set/tick || echo failed; echo $i >&9 || echo failed
  echo "$i $(cat /mnt/set/tick) $(cat /mnt/set/given)"; sleep 0.1
done"#;

/// It has nothing open for long.
const READER: &str = "while :; do cat /mnt/set/given || echo broken; sleep 0.1; done";

/// A world beside whose hosts an S3 server has the bucket `data`, with the secrets for it.
struct BucketWorld {
    world: World,
    buckets: PathBuf,
    keys: Keys,
}

impl BucketWorld {
    fn start() -> Result<Self> {
        let keys = Keys { access: "the-access-key".into(), secret: "the-secret-key".into() };
        let world = World::start(Plan::new(env!("CARGO_BIN_EXE_float")))?;
        let buckets = world.files().join("buckets");
        fs::create_dir_all(buckets.join("data/set"))?;
        fs::write(buckets.join("data/set/given"), "from-outside\n")?;
        for (name, value) in [("access", &keys.access), ("hidden", &keys.secret)] {
            let ran = world.float(&["secret", "set", name, value])?;
            ensure!(ran.code == Some(0), "{ran:?}");
        }
        Ok(Self { world, buckets, keys })
    }

    /// Runs a test while the S3 server serves.
    fn run(&self, test: impl AsyncFnOnce(&Self, &Client) -> Result<()> + Send) -> Result<()> {
        self.world.run_inside(async || {
            let client = self.world.client().await?;
            tokio::select! {
                outcome = test(self, &client) => outcome,
                served = s3::serve(BUCKETS, &self.buckets, &self.keys) => served.map(|never| match never {}),
            }
        })
    }

    fn file(&self, name: &str) -> PathBuf {
        self.buckets.join("data/set").join(name)
    }

    /// Waits until the bucket has something new of the job.
    async fn is_written(&self) -> Result<()> {
        let tick = || fs::read_to_string(self.file("tick")).unwrap_or_default();
        let before = tick();
        wait_for("the bucket to have the job's output", LIMIT, async || {
            Ok((!tick().is_empty() && tick() != before).then_some(()))
        })
        .await
    }

    /// Waits until `number` hosts have the bucket mounted.
    async fn is_mounted(&self, number: usize) -> Result<()> {
        wait_for(&format!("{number} mounted buckets"), LIMIT, async || {
            Ok((self.world.daemons(&["s3fs"]).len() == number).then_some(()))
        })
        .await
    }

    /// Checks that neither OpCenter, the log nor the arguments of a process have the secret key.
    fn hides_its_key(&self, job: &JobId) -> Result<()> {
        let shown = [float(&self.world, &["show", "-j", job.as_str()])?.to_string(), self.world.log()];
        let processes = fs::read_dir("/proc")?.flatten();
        let lines = processes
            .filter_map(|process| fs::read(process.path().join("cmdline")).ok())
            .map(|line| String::from_utf8_lossy(&line).into_owned())
            .filter(|line| !line.contains("secret\0set"));
        let found = lines.chain(shown).find(|line| line.contains(&self.keys.secret));
        ensure!(found.is_none(), "the secret key is shown: {found:?}");
        Ok(())
    }

    async fn cancel(&self, job: &JobId) -> Result<()> {
        float(&self.world, &["cancel", "-f", "-j", job.as_str()])?;
        becomes(&self.world, job, "Cancelled").await?;
        self.is_mounted(0).await
    }
}

fn bucket_volume() -> String {
    format!(
        "[mode=rw,endpoint=http://{BUCKETS},accessKey={{secret:access}},secret={{secret:hidden}}]s3://data/set:/mnt/set"
    )
}

async fn migrates(client: &Client, job: &JobId) -> Result<()> {
    let moved = move_once(client, job).await?;
    ensure!(moved.outcome == Outcome::Succeeded, "{moved:?}");
    Ok(())
}

#[test]
fn bucket_follows_its_job() {
    let bucket_world = BucketWorld::start().unwrap();
    let outcome = bucket_world.run(async |bucket, client| {
        let world = &bucket.world;
        let job = submit(world, &[&bucket_volume()], WRITER)?;
        becomes(world, &job, "Executing").await?;
        goes_on(world, &job).await?;
        bucket.is_written().await?;
        bucket.is_mounted(1).await?;
        for _ in 0..2 {
            migrates(client, &job).await?;
            goes_on(world, &job).await?;
            bucket.is_written().await?;
            bucket.is_mounted(1).await?;
        }
        kill_agents(world).await?;
        bucket.is_written().await?;
        bucket.is_mounted(1).await?;
        bucket.hides_its_key(&job)?;
        client.job_suspend(&job).await?;
        becomes(world, &job, "Suspended").await?;
        bucket.is_mounted(0).await?;
        client.job_resume(&job).await?;
        becomes(world, &job, "Executing").await?;
        bucket.is_written().await?;
        let lines = goes_on(world, &job).await?;
        for (line, number) in lines.iter().zip(1..) {
            ensure!(*line == format!("{number} {number} from-outside"), "line {number} is {line}");
        }
        bucket.cancel(&job).await?;
        open_file_is_kept(&bucket.file("open"), lines.len())
    });
    outcome.unwrap();
}

/// Checks that a file that a job kept open has at least `lines` numbered lines after its end.
fn open_file_is_kept(file: &Path, lines: usize) -> Result<()> {
    let text = fs::read_to_string(file)?;
    let kept: Vec<&str> = text.lines().collect();
    ensure!(kept.len() >= lines, "{} lines of {lines}", kept.len());
    let in_order = |(line, number): (&&str, usize)| *line == number.to_string();
    ensure!(kept.iter().zip(1..).all(in_order), "{kept:?}");
    Ok(())
}

/// The mount of a killed carrier stays broken on its host, and the job gets another one elsewhere.
#[test]
fn migration_replaces_a_broken_mount() {
    let bucket_world = BucketWorld::start().unwrap();
    let outcome = bucket_world.run(async |bucket, client| {
        let world = &bucket.world;
        let job = submit(world, &[&bucket_volume()], READER)?;
        becomes(world, &job, "Executing").await?;
        goes_on(world, &job).await?;
        world.daemons(&["s3fs"]).first().context("no carrier")?.signal(Signal::SIGKILL)?;
        wait_for("the job to notice", LIMIT, async || {
            Ok(client.job_log(&job, 0).await?.text.contains("broken").then_some(()))
        })
        .await?;
        migrates(client, &job).await?;
        let lines = goes_on(world, &job).await?;
        ensure!(lines.last().is_some_and(|line| line == "from-outside"), "{lines:?}");
        bucket.cancel(&job).await
    });
    outcome.unwrap();
}

#[test]
fn volumes_that_can_not_be_mounted_are_refused() {
    let bucket_world = BucketWorld::start().unwrap();
    let outcome = bucket_world.run(async |bucket, _| {
        let world = &bucket.world;
        let wrong = format!("[endpoint=http://{BUCKETS},accessKey=wrong,secret=wrong-secret]s3://data/set:/mnt/set");
        let job = submit(world, &[&wrong], WRITER)?;
        let failed = wait_for("the job to fail", LIMIT, async || {
            let now = float(world, &["show", "-j", job.as_str()])?;
            Ok((now["status"] == "FailToExecute").then_some(now))
        })
        .await?;
        let reason = failed["statusReason"].as_str().unwrap_or_default();
        ensure!(reason.starts_with("can't mount volume [accessKey=********,"), "{failed}");
        ensure!(!failed.to_string().contains("wrong-secret"), "{failed}");
        bucket.is_mounted(0).await?;
        if Path::new("/sbin/mount.nfs").exists() {
            return Ok(());
        }
        let job = submit(world, &["nfs://198.18.0.1/export:/mnt/set"], "true")?;
        let reason = becomes(world, &job, "NoAvailableHost").await?["statusReason"].clone();
        let expected =
            "no host can mount NFS exports: that takes the package `nfs-common` and a kernel with an NFS client";
        ensure!(reason == expected, "{reason}");
        Ok(())
    });
    outcome.unwrap();
}
