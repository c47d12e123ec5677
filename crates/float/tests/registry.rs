//! Images of a real registry: pulled once, verified, shared between jobs, there while the registry
//! is away, and the same on every host.

use std::fs;
use std::os::unix::fs::{chown, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mooring_api::view::JobView;
use mooring_api::{Client, Submission};
use mooring_testkit::job::{ended, executing};
use mooring_testkit::oci::{self, Layout};
use mooring_testkit::registry::{Access, Narrows, Registry};
use mooring_testkit::tour::move_once;
use mooring_testkit::wait::wait_for;
use mooring_testkit::world::{Plan, World};
use mooring_types::JobId;
use mooring_types::job::JobStatus;
use mooring_types::migration::Outcome;
use nix::sys::signal::Signal;
use serde_json::json;

const FLOAT: &str = env!("CARGO_BIN_EXE_float");
const LIMIT: Duration = Duration::from_secs(60);
/// Time limit of a cancel during a pull, which would take longer.
const CANCEL_LIMIT: Duration = Duration::from_secs(10);
/// The bytes of a layer's incompressible part.
const BALLAST: usize = 6 << 20;
/// Slow enough to watch.
const NARROW: u64 = 3 << 20;

/// A way to make images with one layer in common.
struct Images<'a> {
    files: &'a Path,
}

impl Images<'_> {
    /// The layer that all have: a few programs, and as much as takes time.
    fn base(&self) -> Result<PathBuf> {
        let base = self.files.join("base");
        oci::install(&base, &["/bin/sh", "/bin/cat", "/bin/sleep", "/bin/mv", "/usr/bin/id"])?;
        if base.join("usr/bin").is_dir() && !base.join("bin").exists() {
            symlink("usr/bin", base.join("bin"))?;
        }
        for directory in ["proc", "dev", "sys", "etc", "srv"] {
            fs::create_dir_all(base.join(directory))?;
        }
        fs::write(base.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\nsailor:x:1234:1234::/srv:/bin/sh\n")?;
        chown(base.join("srv"), Some(1234), Some(1234))?;
        fs::write(base.join("ballast"), (0..BALLAST).map(|_| rand::random::<u8>()).collect::<Vec<u8>>())?;
        Ok(base)
    }

    /// A layout with that layer and one of its own that says which it is. Gives back the digest and
    /// the path of the own layer's blob.
    fn make(&self, which: &str) -> Result<(PathBuf, String, PathBuf)> {
        let (layout, top) = (self.files.join(format!("layout-{which}")), self.files.join(format!("top-{which}")));
        fs::create_dir_all(top.join("etc"))?;
        fs::write(top.join("etc/which"), format!("{which}\n"))?;
        let mut image = Layout::new(&layout)?;
        image.gzip_layer(&self.files.join("base"))?;
        let own = image.layer(&top)?;
        let digest = image.finish(
            &json!({ "User": "sailor", "Cmd": ["/bin/sh", "-c", "cat /etc/which; id -u; echo $HOME; exit 5"] }),
        )?;
        Ok((layout, digest, own))
    }
}

async fn submit(client: &Client, image: &str, host: &str, command: &[&str]) -> Result<JobId> {
    let command: Vec<String> = command.iter().map(|&word| word.to_owned()).collect();
    // What is to be moved runs as root: CRIU reads the limits of others' processes with
    // CAP_SYS_RESOURCE alone, which not every root has.
    let with_root = !command.is_empty();
    let request = Submission {
        image: Some(image.parse()?),
        host: (!host.is_empty()).then(|| host.parse()).transpose()?,
        command,
        with_root,
        ..Submission::default()
    };
    Ok(client.job_submit(&request).await?.id)
}

/// Runs the image as it is and looks at what it says.
async fn runs(client: &Client, image: &str, host: &str, which: &str) -> Result<JobView> {
    let job = submit(client, image, host, &[]).await?;
    let view = ended(client, &job, LIMIT).await?;
    ensure!(view.rc == "5" && view.status == JobStatus::FailToComplete, "{view:?}");
    let log = client.job_log(&job, 0).await?.text;
    ensure!(log == format!("{which}\n1234\n/srv\n"), "{log}");
    Ok(view)
}

async fn is_refused(client: &Client, image: &str, host: &str, why: &[&str]) -> Result<()> {
    let job = submit(client, image, host, &[]).await?;
    let view = ended(client, &job, LIMIT).await?;
    ensure!(view.status == JobStatus::FailToExecute, "{view:?}");
    for part in why {
        ensure!(view.status_reason.contains(part), "{image}: {}", view.status_reason);
    }
    Ok(())
}

#[test]
fn image_is_pulled_once_and_shared() {
    let world = plan().unwrap();
    let images = Images { files: &world.files() };
    images.base().unwrap();
    let (a, digest_a, _) = images.make("a").unwrap();
    let (b, _, _) = images.make("b").unwrap();
    let (c, _, own_c) = images.make("c").unwrap();
    let mut registry = Registry::start(&world, 5000, Access::Open).unwrap();
    let outcome = world.run_inside(async || {
        registry.answers().await?;
        let (client, address) = (world.client().await?, registry.address());
        registry.push(&a, "team/app:1").await?;
        registry.push(&b, "team/app:2").await?;
        registry.push(&c, "team/other").await?;
        let narrows = Narrows::open(&registry, NARROW).await?;

        // Two jobs that want it at once pull it once, and their users see it come.
        let named = format!("docker://{}/team/app:1", narrows.address());
        let (one, two) = (submit(&client, &named, "host-1", &[]).await?, submit(&client, &named, "host-1", &[]).await?);
        is_told(&client, &one, &format!("pulling {}/team/app:1: ", narrows.address())).await?;
        for job in [&one, &two] {
            let view = ended(&client, job, LIMIT).await?;
            ensure!(view.rc == "5" && view.image_digest == digest_a, "{view:?}");
            ensure!(!view.status_reason.contains("pulling"), "{view:?}");
        }
        let passed = narrows.passed();
        ensure!((BALLAST as u64..BALLAST as u64 * 3 / 2).contains(&passed), "{passed} bytes for two jobs");

        // What another image has in common with it is here.
        runs(&client, &format!("{}/team/app:2", narrows.address()), "host-1", "b").await?;
        let passed = narrows.passed();
        ensure!((1..BALLAST as u64 / 2).contains(&passed), "{passed} bytes for the second image");

        // Damage is not taken for the image, and leaves nothing behind that is.
        let (name, blob) = (format!("{address}/team/other"), registry.blob(&format!("sha256:{}", file_name(&own_c)?)));
        let whole = fs::read(&blob)?;
        let mut damaged = whole.clone();
        damaged[1000] ^= 1;
        fs::write(&blob, damaged)?;
        is_refused(&client, &name, "host-1", &["does not have its digest", "push the image again"]).await?;
        fs::write(&blob, whole)?;
        runs(&client, &name, "host-1", "c").await?;

        is_refused(&client, &format!("{address}/team/app:9"), "host-1", &["has no `team/app` with the tag `9`"])
            .await?;
        is_refused(&client, &format!("{address}/nobody/nothing"), "host-1", &["has no `nobody/nothing`"]).await?;
        is_refused(&client, "127.0.0.1:5999/x", "host-1", &["can't be reached", "--insecure-registry 127.0.0.1:5999"])
            .await
    });
    outcome.unwrap();
    registry.stop().unwrap();
    let outcome = world.run_inside(async || {
        let (client, named) = (world.client().await?, format!("{}/team/app", registry.address()));
        // By a name that was looked up before, and by the digest: neither needs the registry where
        // all of it is.
        runs(&client, &format!("{}/team/other", registry.address()), "host-1", "c").await?;
        runs(&client, &format!("{named}@{digest_a}"), "host-1", "a").await?;
        is_refused(&client, &format!("{named}@{digest_a}"), "host-2", &["can't be reached"]).await
    });
    outcome.unwrap();
}

#[test]
fn a_moved_job_keeps_its_image_whatever_its_tag_means_by_then() {
    let world = plan().unwrap();
    let images = Images { files: &world.files() };
    images.base().unwrap();
    let (a, digest_a, _) = images.make("a").unwrap();
    let (b, digest_b, _) = images.make("b").unwrap();
    let registry = Registry::start(&world, 5000, Access::Open).unwrap();
    let outcome = world.run_inside(async || {
        registry.answers().await?;
        let (client, narrows) = (world.client().await?, Narrows::open(&registry, NARROW).await?);
        let named = format!("{}/team/app:1", narrows.address());
        registry.push(&a, "team/app:1").await?;
        let script = "i=0; while :; do i=$((i+1)); echo $i $(cat /etc/which); sleep 0.1; done";
        let job = submit(&client, &named, "host-1", &["/bin/sh", "-c", script]).await?;
        let view = executing(&client, &job, LIMIT).await?;
        ensure!(view.image_digest == digest_a && view.image == named, "{view:?}");
        registry.push(&b, "team/app:1").await?;
        // The other host has to pull it first, and the job's status says so.
        let (there, ()) = tokio::try_join!(move_once(&client, &job), is_told(&client, &job, "pulling "))?;
        let back = move_once(&client, &job).await?;
        ensure!(there.outcome == Outcome::Succeeded && back.outcome == Outcome::Succeeded, "{there:?}, {back:?}");
        let before = client.job_log(&job, 0).await?.text.lines().count();
        let log = wait_for("output after the moves", LIMIT, async || {
            let text = client.job_log(&job, 0).await?.text;
            Ok((text.lines().count() > before + 5).then_some(text))
        });
        for (index, line) in log.await?.lines().enumerate() {
            ensure!(line == format!("{} a", index + 1), "line {index} is {line}");
        }
        client.job_cancel(&job).await?;
        let view = runs(&client, &named, "host-1", "b").await?;
        ensure!(view.image_digest == digest_b, "{view:?}");
        Ok(())
    });
    outcome.unwrap();
}

#[test]
fn killed_pull_is_repeated_and_cancelled_pull_ends() {
    let world = plan().unwrap();
    let images = Images { files: &world.files() };
    images.base().unwrap();
    let (a, _, _) = images.make("a").unwrap();
    let registry = Registry::start(&world, 5000, Access::Open).unwrap();
    let outcome = world.run_inside(async || {
        registry.answers().await?;
        let client = world.client().await?;
        registry.push(&a, "team/app:1").await?;
        let narrows = Narrows::open(&registry, NARROW / 2).await?;
        let named = format!("{}/team/app:1", narrows.address());

        let job = submit(&client, &named, "host-1", &[]).await?;
        is_told(&client, &job, "pulling").await?;
        let asked = std::time::Instant::now();
        client.job_cancel(&job).await?;
        let view = ended(&client, &job, LIMIT).await?;
        ensure!(view.status == JobStatus::Cancelled && asked.elapsed() < CANCEL_LIMIT, "{view:?}");

        let job = submit(&client, &named, "host-1", &[]).await?;
        is_told(&client, &job, "pulling").await?;
        let agents = world.daemons(&["server", "agent", "host-1"]);
        agents.first().context("the agent of host-1")?.signal(Signal::SIGKILL)?;
        let view = ended(&client, &job, LIMIT).await?;
        ensure!(view.rc == "5" && client.job_log(&job, 0).await?.text.starts_with("a\n"), "{view:?}");
        let kept = world.directory().join("hosts/host-1/images");
        for place in ["layers", "blobs/sha256"] {
            for entry in fs::read_dir(kept.join(place))? {
                let name = entry?.file_name();
                ensure!(name.len() == 64, "{place} holds {}", name.display());
            }
        }
        Ok(())
    });
    outcome.unwrap();
}

#[test]
fn a_registry_that_wants_a_login_gets_the_one_of_the_file() {
    let files = tempfile::tempdir_in("/var/tmp").unwrap();
    let file = files.path().join("auth.json");
    let mut plan = insecure();
    plan.environment.push(("REGISTRY_AUTH_FILE".into(), file.clone()));
    let world = World::start(plan).unwrap();
    let images = Images { files: &world.files() };
    images.base().unwrap();
    let (a, _, _) = images.make("a").unwrap();
    let registry = Registry::start(&world, 5000, Access::Guarded).unwrap();
    let outcome = world.run_inside(async || {
        registry.answers().await?;
        let (client, named) = (world.client().await?, format!("{}/team/app:1", registry.address()));
        registry.push(&a, "team/app:1").await?;
        is_refused(&client, &named, "host-1", &["does not let this host pull it", "docker login"]).await?;
        fs::write(&file, registry.credentials().to_string())?;
        runs(&client, &named, "host-1", "a").await.map(drop)
    });
    outcome.unwrap();
}

fn insecure() -> Plan {
    Plan { arguments: vec!["--insecure-registry".into(), "198.18.0.1".into()], ..Plan::new(FLOAT) }
}

fn plan() -> Result<World> {
    World::start(insecure())
}

/// Waits until a job's status says so.
async fn is_told(client: &Client, job: &JobId, what: &str) -> Result<()> {
    wait_for(what, LIMIT, async || Ok(client.job_get(job).await?.status_reason.starts_with(what).then_some(()))).await
}

fn file_name(path: &Path) -> Result<&str> {
    path.file_name().and_then(|name| name.to_str()).context("a name")
}
