//! JupyterLab in a real browser while its job migrates and a cell counts.

use anyhow::{Result, ensure};
use mooring_api::Client;
use mooring_testkit::browser::Browser;
use mooring_testkit::lab_page::LabPage;
use mooring_testkit::notebook::Notebook;
use mooring_testkit::tour::move_once;
use mooring_testkit::world::{Plan, World};
use mooring_types::migration::Outcome;

const NUMBERS: usize = 150;

async fn count_through_a_move(browser: &Browser, client: &Client, notebook: &Notebook) -> Result<()> {
    let page = LabPage::open(browser, &notebook.access_url, NUMBERS).await?;
    page.count().await?;
    page.shown(20).await?;
    let migration = move_once(client, &notebook.job).await?;
    ensure!(migration.outcome == Outcome::Succeeded, "{migration:?}");
    ensure!(page.numbers().await?.len() < NUMBERS, "the cell had ended before the move did");
    let remembered = page.counted().await?;
    ensure!(remembered.dialogs.is_empty(), "{remembered:?}");
    ensure!(remembered.states == ["Idle", "Busy"], "{remembered:?}");
    Ok(())
}

#[test]
fn page_shows_all_output_during_migrations() {
    let world = World::start(Plan::new(env!("CARGO_BIN_EXE_float"))).unwrap();
    let outcome = world.run_inside(async || {
        let client = world.client().await?;
        let notebook = Notebook::launch(&client, "browser").await?;
        let browser = Browser::start(&world).await?;
        browser.watched(async |browser| count_through_a_move(browser, &client, &notebook).await).await?;
        browser.quit().await;
        Ok(())
    });
    outcome.unwrap();
}
