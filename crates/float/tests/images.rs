//! Root file systems from OCI images, as a layout and as an archive.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
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
use serde_json::json;

const LIMIT: Duration = Duration::from_secs(60);

/// Two layers, of which the second hides a file of the first, and a configuration.
fn image(files: &Path) -> Result<()> {
    let (base, top) = (files.join("base"), files.join("top"));
    oci::install(&base, &["/bin/sh", "/bin/cat", "/bin/ls", "/bin/sleep", "/bin/mv"])?;
    // Where /bin is a link, programs are found by either name.
    if base.join("usr/bin").is_dir() && !base.join("bin").exists() {
        symlink("usr/bin", base.join("bin"))?;
    }
    for directory in ["proc", "dev", "sys", "srv", "etc"] {
        fs::create_dir_all(base.join(directory))?;
    }
    fs::create_dir_all(top.join("etc"))?;
    fs::write(base.join("etc/greeting"), "from the image\n")?;
    fs::write(base.join("etc/hidden"), "not to be seen\n")?;
    fs::write(top.join("etc/.wh.hidden"), "")?;
    fs::write(top.join("etc/added"), "")?;
    let mut layout = Layout::new(files.join("layout"))?;
    layout.layer(&base)?;
    layout.layer(&top)?;
    let script = "/bin/cat /etc/greeting; /bin/ls /etc; echo $WHOSE; pwd; exit 5";
    layout.finish(&json!({
        "Cmd": ["/bin/sh", "-c", script], "Env": ["WHOSE=the image's"], "WorkingDir": "/srv",
    }))?;
    let mut tar = Command::new("tar");
    tar.arg("-C").arg(files.join("layout")).arg("-cf").arg(files.join("image.tar")).arg(".");
    ensure!(tar.status()?.success(), "tar");
    // A layer that no host has unpacked yet.
    fs::write(top.join("etc/more"), "")?;
    let mut broken = Layout::new(files.join("broken"))?;
    let blob = broken.layer(&top)?;
    broken.finish(&json!({ "Cmd": ["/bin/sh"] }))?;
    fs::write(blob, "something else")?;
    Ok(())
}

#[test]
fn an_image_is_unpacked_run_moved_and_refused_when_broken() {
    let world = World::start(Plan::new(env!("CARGO_BIN_EXE_float"))).unwrap();
    let files = world.files();
    image(&files).unwrap();
    let outcome = world.run_inside(async || {
        let client = world.client().await?;
        for image in [format!("oci:{}/layout", files.display()), format!("oci-archive:{}/image.tar", files.display())] {
            runs_as_configured(&client, &image).await.with_context(|| image.clone())?;
        }
        moves(&client, &format!("oci:{}/layout", files.display())).await?;
        is_refused(&client, &format!("oci:{}/broken", files.display()), "does not have its digest").await?;
        is_refused(&client, &format!("oci:{}/base", files.display()), "is not on this host").await
    });
    outcome.unwrap();
}

async fn submit(client: &Client, image: &str, command: &[&str], host: &str) -> Result<JobId> {
    let request = Submission {
        image: Some(image.parse()?),
        command: command.iter().map(|&word| word.to_owned()).collect(),
        host: (!host.is_empty()).then(|| host.parse()).transpose()?,
        ..Submission::default()
    };
    Ok(client.job_submit(&request).await?.id)
}

async fn runs_as_configured(client: &Client, image: &str) -> Result<()> {
    let job = submit(client, image, &[], "").await?;
    let ended = ended(client, &job, LIMIT).await?;
    ensure!(ended.rc == "5" && ended.status == JobStatus::FailToComplete, "{ended:?}");
    let log = client.job_log(&job, 0).await?.text;
    let lines: Vec<&str> = log.lines().collect();
    ensure!(lines.first() == Some(&"from the image"), "{log}");
    ensure!(lines.contains(&"added") && !lines.contains(&"hidden"), "{log}");
    ensure!(lines.ends_with(&["the image's", "/srv"]), "{log}");
    Ok(())
}

async fn is_refused(client: &Client, image: &str, why: &str) -> Result<()> {
    let job = submit(client, image, &[], "").await?;
    let ended = ended(client, &job, LIMIT).await?;
    ensure!(ended.status == JobStatus::FailToExecute && ended.status_reason.contains(why), "{ended:?}");
    Ok(())
}

async fn moves(client: &Client, image: &str) -> Result<()> {
    let script = "i=0; while :; do i=$((i+1)); echo $i; /bin/sleep 0.1; done";
    let job = submit(client, image, &["/bin/sh", "-c", script], "").await?;
    executing(client, &job, LIMIT).await?;
    for _ in 0..2 {
        let migration = move_once(client, &job).await?;
        ensure!(migration.outcome == Outcome::Succeeded, "{migration:?}");
    }
    let log = wait_for("a longer log", LIMIT, async || {
        let text = client.job_log(&job, 0).await?.text;
        Ok((text.lines().count() > 20).then_some(text))
    });
    for (index, line) in log.await?.lines().enumerate() {
        ensure!(line.trim() == (index + 1).to_string(), "line {index} is {line}");
    }
    client.job_cancel(&job).await?;
    Ok(())
}
