//! Images that no job needs leave their host; those of jobs that run, move or are suspended are
//! there whenever they are needed.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mooring_api::{Client, Submission};
use mooring_testkit::job::{ended, executing};
use mooring_testkit::oci::{self, Layout};
use mooring_testkit::tour::move_once;
use mooring_testkit::wait::wait_for;
use mooring_testkit::world::{Plan, World};
use mooring_types::JobId;
use mooring_types::job::JobStatus;
use mooring_types::migration::Outcome;
use nix::sys::signal::Signal;
use serde_json::json;

const LIMIT: Duration = Duration::from_secs(60);
/// Reads its image again and again, each time with a program of it.
const READS: &str = "while :; do /bin/cat /etc/which; /bin/sleep 0.1; done";

/// A layout of two layers: one that all have, and one that says which it is. Gives back where hosts
/// unpack the second one.
fn image(files: &Path, which: &str) -> Result<String> {
    let (base, top) = (files.join("base"), files.join(format!("top-{which}")));
    if !base.exists() {
        oci::install(&base, &["/bin/sh", "/bin/cat", "/bin/sleep", "/bin/mv"])?;
        if base.join("usr/bin").is_dir() && !base.join("bin").exists() {
            symlink("usr/bin", base.join("bin"))?;
        }
        for directory in ["proc", "dev", "sys", "etc"] {
            fs::create_dir_all(base.join(directory))?;
        }
    }
    fs::create_dir_all(top.join("etc"))?;
    fs::write(top.join("etc/which"), format!("{which}\n"))?;
    let mut layout = Layout::new(files.join(which))?;
    layout.layer(&base)?;
    let own = layout.layer(&top)?;
    layout.finish(&json!({ "Cmd": ["/bin/cat", "/etc/which"] }))?;
    let name = own.file_name().and_then(|name| name.to_str()).context("a digest")?;
    Ok(format!("layers/{name}"))
}

async fn submit(client: &Client, image: &str, command: &[&str]) -> Result<JobId> {
    let command = command.iter().map(|&word| word.to_owned()).collect();
    let request =
        Submission { image: Some(image.parse()?), host: Some("host-1".parse()?), command, ..Submission::default() };
    Ok(client.job_submit(&request).await?.id)
}

async fn passes(client: &Client, image: &str) -> Result<()> {
    let job = submit(client, image, &[]).await?;
    let view = ended(client, &job, LIMIT).await?;
    ensure!(view.status == JobStatus::Completed && client.job_log(&job, 0).await?.text == "passing\n", "{view:?}");
    Ok(())
}

async fn leaves(part: &Path) -> Result<()> {
    wait_for(&format!("{} to be removed", part.display()), LIMIT, async || Ok((!part.exists()).then_some(()))).await
}

/// Waits until the job has read its image some more times, and found nothing else in it.
async fn reads_on(client: &Client, job: &JobId) -> Result<()> {
    let lines = async || {
        let text = client.job_log(job, 0).await?.text;
        ensure!(text.lines().all(|line| line == "staying"), "{text}");
        Ok(text.lines().count())
    };
    let before = lines().await?;
    wait_for("more lines", LIMIT, async || Ok((lines().await? > before + 5).then_some(()))).await
}

#[test]
fn what_no_job_needs_is_removed_and_what_one_needs_is_not() {
    let mut plan = Plan::new(env!("CARGO_BIN_EXE_float"));
    plan.arguments = ["--image-max-age", "2s"].map(str::to_owned).to_vec();
    let world = World::start(plan).unwrap();
    let files = world.files();
    let (staying, passing) = (image(&files, "staying").unwrap(), image(&files, "passing").unwrap());
    let archive = files.join("passing.tar");
    let mut tar = Command::new("tar");
    tar.arg("-C").arg(files.join("passing")).arg("-cf").arg(&archive).arg(".");
    assert!(tar.status().unwrap().success());
    let outcome = world.run_inside(async || {
        let client = world.client().await?;
        let on = |host: &str, part: &str| -> PathBuf {
            world.directory().join("hosts").join(host).join("images").join(part)
        };
        let job =
            submit(&client, &format!("oci:{}", files.join("staying").display()), &["/bin/sh", "-c", READS]).await?;
        executing(&client, &job, LIMIT).await?;
        let passing_archive = format!("oci-archive:{}", archive.display());
        passes(&client, &passing_archive).await?;
        leaves(&on("host-1", &passing)).await?;
        wait_for("the archive to be removed", LIMIT, async || {
            Ok((fs::read_dir(on("host-1", "archives"))?.count() == 0).then_some(()))
        })
        .await?;
        ensure!(on("host-1", &staying).exists(), "a job runs on it");
        reads_on(&client, &job).await?;

        // An agent that was killed knows what its jobs need, and what was removed is had again.
        let agent = world.daemons(&["server", "agent", "host-1"]).pop().context("the agent of host-1")?;
        agent.signal(Signal::SIGKILL)?;
        passes(&client, &passing_archive).await?;
        leaves(&on("host-1", &passing)).await?;
        ensure!(on("host-1", &staying).exists(), "a job runs on it");

        let moved = move_once(&client, &job).await?;
        ensure!(moved.outcome == Outcome::Succeeded && moved.to == "host-2", "{moved:?}");
        leaves(&on("host-1", &staying)).await?;
        ensure!(on("host-2", &staying).exists(), "a job runs on it");
        reads_on(&client, &job).await?;

        client.job_suspend(&job).await?;
        leaves(&on("host-2", &staying)).await?;
        ensure!(client.job_get(&job).await?.status == JobStatus::Suspended, "it is not suspended");
        client.job_resume(&job).await?;
        executing(&client, &job, LIMIT).await?;
        reads_on(&client, &job).await
    });
    outcome.unwrap();
}
