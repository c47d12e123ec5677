//! A JupyterLab that is suspended for longer than its client waits for a silent connection. It is
//! not restored from a damaged capsule, and goes on after the repair.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mooring_testkit::counting::Counting;
use mooring_testkit::job::executing;
use mooring_testkit::jupyter::Jupyter;
use mooring_testkit::notebook::Notebook;
use mooring_testkit::wait::wait_for;
use mooring_testkit::world::{Plan, World};
use mooring_types::job::JobStatus;
use mooring_types::migration::{MigrationKind, Outcome};

const WITHIN: Duration = Duration::from_secs(60);
/// Jupyter gives a WebSocket up after 30 to 90 s without a pong, on a clock that is frozen with the
/// job.
const SUSPENDED: Duration = Duration::from_secs(60);

#[test]
fn a_client_stays_connected_over_a_suspend_of_a_minute() {
    let world = World::start(Plan::new(env!("CARGO_BIN_EXE_float"))).unwrap();
    let outcome = world.run_inside(async || {
        let client = world.client().await?;
        let notebook = Notebook::launch(&client, "asleep").await?;
        let jupyter = Jupyter::connect(&notebook.access_url).await?;
        let counting = Counting::start(&jupyter, Duration::from_millis(100)).await?;
        counting.caught_up(WITHIN).await?;
        client.job_suspend(&notebook.job).await?;
        wait_for("the job to be suspended", WITHIN, async || {
            let job = client.job_get(&notebook.job).await?;
            Ok((job.status == JobStatus::Suspended).then_some(()))
        })
        .await?;
        // What is waited for is that nothing happens for so long.
        tokio::time::sleep(SUSPENDED).await;

        // Memory that was damaged is found when the restore has begun; nothing of the job runs, and
        // it waits for a better day.
        let damage = Damage::to_memory(&world)?;
        client.job_resume(&notebook.job).await?;
        let refused = wait_for("the resume to fail", WITHIN, async || {
            let job = client.job_get(&notebook.job).await?;
            let failed = job
                .migrations
                .last()
                .is_some_and(|last| last.kind == MigrationKind::Resume && last.outcome != Outcome::Running);
            Ok((failed && job.status == JobStatus::Suspended).then_some(job))
        })
        .await?;
        ensure!(format!("{:?}", refused.migrations.last()).contains("was changed"), "{refused:?}");
        wait_for("nothing of it to run", WITHIN, async || {
            Ok(client.host_list().await?.iter().all(|host| host.jobs == 0).then_some(()))
        })
        .await?;
        damage.undo()?;

        client.job_resume(&notebook.job).await?;
        executing(&client, &notebook.job, WITHIN).await?;
        counting.caught_up(WITHIN).await?;
        let total = counting.finish().await?;
        ensure!(total.is_clean() && total.websocket_closed.is_none(), "{total:?}");
        Ok(())
    });
    outcome.unwrap();
}

/// A byte of a job's memory in the world's one capsule that is another one.
struct Damage {
    stream: PathBuf,
    at: u64,
}

impl Damage {
    fn to_memory(world: &World) -> Result<Self> {
        let capsule = fs::read_dir(world.directory().join("capsules"))?.next().context("no capsule")??.path();
        let manifest: serde_json::Value = serde_json::from_slice(&fs::read(capsule.join("manifest.json"))?)?;
        let manifest = &manifest["manifest"];
        let number = |value: &serde_json::Value| value.as_u64().context("no number");
        let (start, end) =
            (number(&manifest["deferred"]["from"]["end"])?, number(&manifest["deferred"]["to"]["start"])?);
        ensure!(start < end, "no piece of it is of memory alone: {manifest}");
        let attempt = manifest["attempt"].as_str().context("no attempt")?;
        let damage = Self { stream: capsule.join(format!("{attempt}.stream")), at: (start + end) / 2 };
        damage.flip()?;
        Ok(damage)
    }

    fn undo(self) -> Result<()> {
        self.flip()
    }

    fn flip(&self) -> Result<()> {
        let file = File::options().read(true).write(true).open(&self.stream)?;
        let mut byte = [0];
        file.read_exact_at(&mut byte, self.at)?;
        Ok(file.write_all_at(&[!byte[0]], self.at)?)
    }
}
