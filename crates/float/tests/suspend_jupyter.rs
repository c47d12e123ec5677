//! A JupyterLab that is suspended for longer than its client's patience with a silent connection, and a kernel that goes on after it.

use std::time::Duration;

use anyhow::ensure;
use mooring_testkit::counting::Counting;
use mooring_testkit::jupyter::Jupyter;
use mooring_testkit::notebook::{Notebook, executing};
use mooring_testkit::wait::wait_for;
use mooring_testkit::world::{Plan, World};
use mooring_types::job::JobStatus;

const WITHIN: Duration = Duration::from_secs(60);
/// Jupyter gives a WebSocket up after 30 to 90 s without a pong, on a clock that stands still with it.
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
        client.job_resume(&notebook.job).await?;
        executing(&client, &notebook.job, WITHIN).await?;
        counting.caught_up(WITHIN).await?;
        let total = counting.finish().await?;
        ensure!(total.is_clean() && total.websocket_closed.is_none(), "{total:?}");
        Ok(())
    });
    outcome.unwrap();
}
