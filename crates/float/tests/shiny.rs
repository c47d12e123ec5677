//! A Shiny app in a real browser while its job migrates. The server's state of the page is lost
//! with the page's WebSocket: Shiny has no way back to a session.

use anyhow::{Result, ensure};
use mooring_api::Client;
use mooring_testkit::browser::Browser;
use mooring_testkit::session::Session;
use mooring_testkit::shiny::{self, CounterPage};
use mooring_testkit::tour::move_once;
use mooring_testkit::world::{Plan, World};
use mooring_types::migration::Outcome;

async fn count_through_a_move(browser: &Browser, client: &Client, session: &Session) -> Result<()> {
    let page = CounterPage::open(browser, &session.access_url).await?;
    let begun = page.session().await?;
    for count in 1..=3 {
        page.click().await?;
        page.shows(count).await?;
    }
    let migration = move_once(client, &session.job).await?;
    ensure!(migration.outcome == Outcome::Succeeded, "{migration:?}");
    page.click().await?;
    page.shows(4).await?;
    ensure!(page.session().await? == begun, "the page has another session");
    ensure!(!page.was_disconnected().await?, "the page said that it was disconnected");
    Ok(())
}

#[test]
fn a_shiny_session_counts_on_after_its_job_moved() {
    let world = World::start(Plan::new(env!("CARGO_BIN_EXE_float"))).unwrap();
    let outcome = world.run_inside(async || {
        let client = world.client().await?;
        let session = Session::launch(&client, shiny::job("shiny")?).await?;
        let browser = Browser::start(&world).await?;
        browser.watched(async |browser| count_through_a_move(browser, &client, &session).await).await?;
        browser.quit().await;
        Ok(())
    });
    outcome.unwrap();
}
