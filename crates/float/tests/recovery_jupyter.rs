//! A JupyterLab whose host is lost, in a real browser: the page reconnects to the kernel of the
//! last snapshot.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mooring_api::view::{JobView, MigrationView};
use mooring_api::{Client, Submission};
use mooring_testkit::browser::Browser;
use mooring_testkit::lab_page::LabPage;
use mooring_testkit::session::Session;
use mooring_testkit::wait::wait_for;
use mooring_testkit::world::{Plan, World};
use mooring_types::job::JobStatus;
use mooring_types::migration::{MigrationKind, Outcome};

const WITHIN: Duration = Duration::from_secs(90);
const NUMBERS: usize = 20;
/// The interval between two snapshots.
const INTERVAL: Duration = Duration::from_secs(10);

/// Makes the page record the end of each WebSocket over which it sends something.
const REMEMBER_CLOSES: &str = "
    window.closes = [];
    const [send, followed] = [WebSocket.prototype.send, new WeakSet()];
    WebSocket.prototype.send = function (...given) {
        if (!followed.has(this)) {
            followed.add(this);
            this.addEventListener('close', event => window.closes.push({url: this.url, code: event.code}));
        }
        return send.apply(this, given);
    };";

/// The end of a WebSocket of the page.
#[derive(Debug, serde::Deserialize)]
struct Close {
    url: String,
    code: u16,
}

/// Returns the snapshots of a job.
fn snapshots(job: &JobView) -> impl Iterator<Item = &MigrationView> {
    job.migrations.iter().filter(|made| made.kind == MigrationKind::Snapshot)
}

async fn work_through_a_loss(world: &World, browser: &Browser, client: &Client, session: &Session) -> Result<()> {
    let page = LabPage::open(browser, &session.access_url, NUMBERS).await?;
    browser.run::<()>(REMEMBER_CLOSES, &[]).await?;
    page.count().await?;
    page.counted().await?;
    let said = page.run_next("kept = number + 1; print('kept', kept)").await?;
    ensure!(said.lines().any(|line| line == format!("kept {NUMBERS}")), "the page shows `{said}`");

    // A capsule of the time after the cell; its interval brings it. One of them has only what has
    // changed since an earlier one: the next one may not, as a JupyterLab that starts changes much.
    let begun = snapshots(&client.job_get(&session.job).await?).count().max(1);
    let before = wait_for("a capsule", WITHIN, async || {
        let job = client.job_get(&session.job).await?;
        let first = snapshots(&job).next().map_or(0, |first| first.bytes_moved);
        let taken = snapshots(&job).skip(begun).filter(|snapshot| snapshot.outcome == Outcome::Succeeded).last();
        // A complete one has more than the first, since the kernel was started after that.
        let is_small = taken.is_some_and(|snapshot| snapshot.bytes_moved < first);
        Ok((is_small && job.status == JobStatus::Executing).then_some(job))
    })
    .await?;
    let closes: Vec<Close> = browser.run("return window.closes", &[]).await?;
    ensure!(closes.is_empty(), "ended by a capsule: {closes:?}");

    world.cut_off(&before.host_name)?;
    let after = wait_for("the job on another host", WITHIN, async || {
        let job = client.job_get(&session.job).await?;
        Ok((job.status == JobStatus::Executing && job.host_name != before.host_name).then_some(job))
    })
    .await?;
    ensure!(
        after.migrations.iter().any(|made| made.kind == MigrationKind::Recover && made.outcome == Outcome::Succeeded),
        "{after:?}"
    );

    // The page is not loaded again, and nobody touches it before it has noticed. The kernel has
    // what it had; JupyterLab calls it `Unknown` until it runs something.
    page.has_shown("Connecting").await?;
    page.connected().await?;
    let said = page.run_next("print('still', kept)").await.context("a cell after the recovery")?;
    ensure!(said.trim() == format!("still {NUMBERS}"), "the page shows `{said}`");
    page.idle().await?;
    let closes: Vec<Close> = browser.run("return window.closes", &[]).await?;
    let kernels = closes.iter().filter(|close| close.url.contains("/channels"));
    let codes: Vec<u16> = kernels.map(|close| close.code).collect();
    ensure!(codes == [1012], "{closes:?}");
    let remembered = page.remembered().await?;
    ensure!(remembered.dialogs.is_empty(), "{remembered:?}");
    let given_up = ["Dead", "Disconnected", "Terminating", "Restarting", "Autorestarting"];
    ensure!(!remembered.states.iter().any(|state| given_up.contains(&state.as_str())), "{remembered:?}");
    // It came out of a capsule: the next one is not taken while its clients come back.
    let made = client.job_get(&session.job).await?.migrations;
    let recovery = made.iter().position(|made| made.kind == MigrationKind::Recover).context("the recovery")?;
    let early = |next: &&MigrationView| next.start_time < made[recovery].start_time + INTERVAL;
    ensure!(!made[recovery + 1..].iter().any(|next| early(&next)), "{made:?}");
    Ok(())
}

#[test]
fn page_reconnects_to_its_recovered_kernel() {
    let world = World::start(Plan::new(env!("CARGO_BIN_EXE_float"))).unwrap();
    let outcome = world.run_inside(async || {
        let client = world.client().await?;
        let job = Submission {
            name: Some("lost".parse()?),
            template: Some("jupyter".parse()?),
            snapshot_interval: Some(INTERVAL),
            ..Submission::default()
        };
        let session = Session::launch(&client, job).await?;
        let browser = Browser::start(&world).await?;
        browser.watched(async |browser| work_through_a_loss(&world, browser, &client, &session).await).await?;
        browser.quit().await;
        Ok(())
    });
    outcome.unwrap();
}
