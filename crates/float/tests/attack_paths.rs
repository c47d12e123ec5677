//! Attacks by paths of the host: volumes and images that lead to what a job must not see.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use mooring_api::{Client, Submission};
use mooring_testkit::job::{ended, executing};
use mooring_testkit::oci;
use mooring_testkit::tour::move_once;
use mooring_testkit::wait::wait_for;
use mooring_testkit::world::{Plan, World};
use mooring_types::JobId;
use mooring_types::job::JobStatus;

const LIMIT: Duration = Duration::from_secs(60);
/// The interval at which an attacker looks for the moment.
const LOOK: Duration = Duration::from_millis(1);

/// Writes to its volume and prints what it finds there.
const WRITER: &str = "while :; do echo x >>/m/written; cat /m/secret 2>/dev/null; echo looked; sleep 0.1; done";

async fn submit(client: &Client, image: &str, volumes: &[String], script: &str) -> Result<JobId> {
    let request = Submission {
        image: Some(image.parse()?),
        data_volumes: volumes.iter().map(|volume| volume.parse()).collect::<Result<_, _>>()?,
        command: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
        ..Submission::default()
    };
    Ok(client.job_submit(&request).await?.id)
}

/// Waits until the job has printed `text`, and gives back all that it has printed.
async fn prints(client: &Client, job: &JobId, text: &str) -> Result<String> {
    wait_for(&format!("{job} to print {text}"), LIMIT, async || {
        let status = client.job_get(job).await?;
        ensure!(!status.status.is_final() || status.status == JobStatus::Completed, "{}", status.status_reason);
        let log = client.job_log(job, 0).await?.text;
        Ok(log.contains(text).then_some(log))
    })
    .await
}

/// A directory that a user may mount, one beside it with a secret, and the exchange of the first
/// for a link to the second. A job that may write to the allowed directory could do the same.
#[derive(Clone)]
struct Exchange {
    hosts: PathBuf,
    given: PathBuf,
    outside: PathBuf,
}

impl Exchange {
    fn new(world: &World) -> Result<Self> {
        let (given, outside) = (world.files().join("allowed/given"), world.files().join("outside"));
        fs::create_dir_all(&given)?;
        fs::create_dir(&outside)?;
        fs::write(outside.join("secret"), "secret\n")?;
        Ok(Self { hosts: world.directory().join("hosts"), given, outside })
    }

    /// The volumes of the attack. The host makes a file system for the first one, after it has
    /// checked the second one.
    fn volumes(&self) -> [String; 2] {
        ["[size=1]:/pad".to_owned(), format!("{}:/m", self.given.display())]
    }

    /// Exchanges the directory once a host makes the file system for this generation of the job.
    fn at_the_moment(&self, job: &JobId, generation: u32) -> Result<()> {
        let files = fs::read_dir(&self.hosts)?.flatten().map(|host| {
            let jobs = host.path().join("jobs").join(job.as_str());
            jobs.join(format!("g{generation}/volumes/0.ext4"))
        });
        let files: Vec<PathBuf> = files.collect();
        let began = Instant::now();
        while !files.iter().any(|file| file.exists()) {
            ensure!(began.elapsed() < LIMIT, "no volume was made");
            thread::sleep(LOOK);
        }
        fs::rename(&self.given, self.given.with_file_name(format!("away-{generation}")))?;
        Ok(symlink(&self.outside, &self.given)?)
    }

    fn put_back(&self) -> Result<()> {
        fs::remove_file(&self.given)?;
        Ok(fs::create_dir(&self.given)?)
    }

    fn has_failed(&self, log: &str) -> Result<()> {
        ensure!(!log.contains("secret"), "the job reads outside of its directory:\n{log}");
        ensure!(!self.outside.join("written").exists(), "the job writes outside of its directory");
        Ok(())
    }
}

/// S3: a volume's path is exchanged after it was checked, by a job that may write beside it.
#[test]
fn exchanged_directory_is_not_mounted() {
    let world = World::start(Plan::new(env!("CARGO_BIN_EXE_float"))).unwrap();
    let exchange = Exchange::new(&world).unwrap();
    let outcome = world.run_inside(async || {
        let client = world.client().await?;
        // At the start.
        let job = submit(&client, "dir:/", &exchange.volumes(), WRITER).await?;
        exchange.at_the_moment(&job, 1)?;
        let view = wait_for("the job to execute or fail", LIMIT, async || {
            let view = client.job_get(&job).await?;
            Ok((view.status == JobStatus::Executing || view.status.is_final()).then_some(view))
        })
        .await?;
        if view.status == JobStatus::Executing {
            exchange.has_failed(&prints(&client, &job, "looked").await?)?;
            client.job_cancel(&job).await?;
            ended(&client, &job, LIMIT).await?;
        }
        exchange.has_failed("")?;
        exchange.put_back()?;
        // At a migration.
        let job = submit(&client, "dir:/", &exchange.volumes(), WRITER).await?;
        executing(&client, &job, LIMIT).await?;
        prints(&client, &job, "looked").await?;
        let (attacker, attacked) = (exchange.clone(), job.clone());
        let attack = tokio::task::spawn_blocking(move || attacker.at_the_moment(&attacked, 2));
        let (moved, exchanged) = tokio::join!(move_once(&client, &job), attack);
        exchanged??;
        let moved = moved?;
        let before = client.job_log(&job, 0).await?.text.lines().count();
        let log = wait_for("more lines", LIMIT, async || {
            let log = client.job_log(&job, 0).await?.text;
            Ok((log.lines().count() > before + 3).then_some(log))
        })
        .await?;
        exchange.has_failed(&log).with_context(|| format!("{moved:?}"))
    });
    outcome.unwrap();
}

/// A directory with what a shell needs.
fn small_root(root: &Path) -> Result<()> {
    oci::install(root, &["/bin/sh", "/bin/cat", "/bin/ls", "/bin/sleep"])?;
    if root.join("usr/bin").is_dir() && !root.join("bin").exists() {
        symlink("usr/bin", root.join("bin"))?;
    }
    for directory in ["proc", "dev", "sys", "etc"] {
        fs::create_dir_all(root.join(directory))?;
    }
    Ok(())
}

/// S1: images that are, have or lead to what is hidden from jobs.
#[test]
fn no_image_shows_what_is_hidden() {
    let world = World::start(Plan::new(env!("CARGO_BIN_EXE_float"))).unwrap();
    let (state, files) = (world.directory(), world.files());
    let outcome = world.run_inside(async || {
        let client = world.client().await?;
        let neighbour = submit(&client, "dir:/", &[], "while :; do sleep 1; done").await?;
        executing(&client, &neighbour, LIMIT).await?;
        let roots = fs::read_dir(state.join("hosts"))?.flatten().map(|host| host.path().join("jobs"));
        let mut roots = roots.map(|jobs| jobs.join(neighbour.as_str()).join("g1/bundle/rootfs"));
        let root = roots.find(|root| root.exists()).context("the neighbour's root")?;
        let link = files.join("link");
        symlink(&root, &link)?;
        let seen = files.join("seen");
        fs::create_dir(&seen)?;
        nix::mount::mount(Some(&state), &seen, None::<&str>, nix::mount::MsFlags::MS_BIND, None::<&str>)?;
        let below = seen.join(root.strip_prefix(&state)?);
        for (image, why) in [
            (&root, "the agent keeps its own files there"),
            (&below, "the agent keeps its own files there"),
            (&link, "give that"),
        ] {
            let job = submit(&client, &format!("dir:{}", image.display()), &[], "echo inside").await?;
            let view = ended(&client, &job, LIMIT).await?;
            ensure!(
                view.status == JobStatus::FailToExecute && view.status_reason.contains(why),
                "{}: {view:?}",
                image.display()
            );
        }
        nix::mount::umount(&seen)?;
        // The directory above the hidden one, as an image that is not `/`.
        let above = state.parent().context("a directory above")?;
        small_root(above)?;
        let script = "while :; do ls -d /up && cat /up/opcenter/admin-password; echo looked; sleep 0.1; done";
        let job = submit(&client, &format!("dir:{}", above.display()), &[], script).await?;
        let log = prints(&client, &job, "looked").await?;
        ensure!(!log.contains("/up\n"), "{log}");
        let moved = move_once(&client, &job).await?;
        let before = client.job_log(&job, 0).await?.text.lines().count();
        let log = wait_for("more lines", LIMIT, async || {
            let log = client.job_log(&job, 0).await?.text;
            Ok((log.lines().count() > before + 6).then_some(log))
        });
        let log = log.await?;
        ensure!(!log.contains("/up\n"), "after {moved:?}: {log}");
        // A colon in the path is a character, and no second layer.
        let colon = PathBuf::from(format!("{}/a:{}/opcenter", files.display(), state.display()));
        small_root(&files.join("a"))?;
        small_root(&colon)?;
        fs::write(colon.join("etc/marker"), "the one layer\n")?;
        let job = submit(&client, &format!("dir:{}", colon.display()), &[], "cat /etc/marker; ls /").await?;
        let log = prints(&client, &job, "sys\n").await?;
        ensure!(log.contains("the one layer") && !log.contains("admin-password"), "{log}");
        Ok(())
    });
    outcome.unwrap();
}
