//! Attacks of a job's page on the window in which users allow a page a session, in a real browser.
//! The gateway has another address than OpCenter, as another site.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mooring_api::view::JobView;
use mooring_testkit::browser::Browser;
use mooring_testkit::pages::{Page, Pages};
use mooring_testkit::wait::wait_for;
use mooring_testkit::widget::{Widget, answer_window};
use mooring_testkit::world::{Plan, World};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(60);

/// A page that records every message, and knows what the widget knows.
const HOSTILE: Page = Page {
    path: "/",
    policy: None,
    html: "<!doctype html><html><head><title>hostile</title></head><body><script>
        window.got = [];
        addEventListener('message', ({origin, data}) => got.push({origin, ...data}));
        </script></body></html>",
};

/// Frames OpCenter's page.
const FRAME: &str = "
    const frame = document.createElement('iframe');
    frame.id = 'caught';
    frame.src = given[0];
    const loaded = new Promise(resolve => { frame.onload = resolve; });
    document.body.append(frame);
    await loaded;";
/// Opens OpCenter's page by a click, as a user can be made to click anywhere.
const BAIT: &str = "
    const bait = document.createElement('button');
    bait.id = 'bait';
    bait.textContent = 'You have won';
    bait.onclick = () => { window.caught = open(given[0]); };
    document.querySelector('#bait')?.remove();
    document.body.prepend(bait);";
/// Reads the window that the page has opened.
const READS: &str = "
    try { return String(caught.document.body.innerText); } catch (error) { return error.name; }";
/// Presses the button of OpCenter's page from outside.
const PRESSES: &str = "
    try { caught.document.querySelector('[data-allow]').click(); return 'pressed'; } catch (error) { return error.name; }";

/// Returns the address of OpCenter's page for a page of a job, as anybody can ask a gateway.
async fn window_address(job: &JobView, origin: &str) -> Result<String> {
    let http = reqwest::Client::builder().no_proxy().build()?;
    let answer = http.get(format!("{}.mooring/api/sign-in", job.access_urls[0])).send().await?.error_for_status()?;
    let content: Value = serde_json::from_slice(&answer.bytes().await?)?;
    let url = content["url"].as_str().context("no address")?;
    ensure!(!url.contains(job.id.as_str()), "a stranger learns the job's id: {url}");
    Ok(format!("{url}&origin={origin}"))
}

fn origin(job: &JobView) -> &str {
    job.access_urls[0].trim_end_matches('/')
}

/// Clicks on the bait, as the user. The browser blocks windows that nobody asked for.
async fn bait(browser: &Browser, address: &str) -> Result<()> {
    browser.run::<()>(BAIT, &[json!(address)]).await?;
    browser.click("#bait", LIMIT).await
}

async fn messages_with_a_code(browser: &Browser) -> Result<usize> {
    browser.run("return got.filter(({code}) => code !== undefined).length", &[]).await
}

/// The page can't be framed, read or pressed from outside.
async fn window_is_out_of_reach(browser: &Browser, own: &JobView) -> Result<()> {
    let address = window_address(own, origin(own)).await?;
    browser.run::<()>(FRAME, &[json!(address)]).await?;
    let inside = browser.in_frame("#caught", async || browser.count("[data-job-sign-in], form").await).await?;
    ensure!(inside == 0, "OpCenter's page is in a frame");
    bait(browser, &address).await?;
    let shown = async |browser: &Browser| browser.element("[data-allow]:enabled", LIMIT).await.map(drop);
    browser.in_opened_window(shown).await?;
    for script in [READS, PRESSES] {
        let outcome: String = browser.run(script, &[]).await?;
        ensure!(outcome == "SecurityError", "{outcome}");
    }
    browser.in_opened_window(async |browser| browser.close_window().await).await?;
    ensure!(messages_with_a_code(browser).await? == 0, "a code without the user's word");
    Ok(())
}

/// A page of one job is not answered for another job, by any origin that it names.
async fn another_jobs_session_is_not_given(browser: &Browser, own: &JobView, other: &JobView) -> Result<()> {
    bait(browser, &window_address(other, origin(own)).await?).await?;
    let refused = async |browser: &Browser| {
        browser.until("the refusal", "return document.body.innerText.includes('is not at')", LIMIT).await?;
        ensure!(browser.count("[data-allow]").await? == 0, "the user is asked all the same");
        browser.close_window().await
    };
    browser.in_opened_window(refused).await?;
    // The user is made to allow what the other job's page seems to ask.
    bait(browser, &window_address(other, origin(other)).await?).await?;
    let allow = async |browser: &Browser| answer_window(browser, "", "", "[data-allow]").await;
    browser.in_opened_window(allow).await?;
    wait_for("the window to close", LIMIT, async || Ok((browser.windows().await? == 1).then_some(()))).await?;
    ensure!(messages_with_a_code(browser).await? == 0, "the code came to another origin");
    Ok(())
}

/// The page gets what the user allows it, for its own job.
async fn own_session_comes_to_the_page(browser: &Browser, own: &JobView) -> Result<()> {
    let widget = Widget::find(browser, "hostile Executing").await?;
    widget.click().await?;
    widget.sign_in("", "").await?;
    widget.in_panel(async |panel| panel.shows("#facts", own.id.as_str()).await).await?;
    ensure!(messages_with_a_code(browser).await? == 1, "the page does not hear the code that is sent to it");
    Ok(())
}

fn register(world: &World, name: &str, pages: &Pages) -> Result<JobView> {
    let line = format!("job register -n {name} --endpoint {} --gateway lab -F json", pages.address());
    let ran = world.float(&line.split(' ').collect::<Vec<_>>())?;
    ensure!(ran.code == Some(0), "{line}: {}", ran.stderr);
    Ok(serde_json::from_str(&ran.stdout)?)
}

#[test]
fn page_of_a_job_gets_no_session_that_nobody_gave_it() {
    let plan = Plan::new(env!("CARGO_BIN_EXE_float")).with_endpoints_here();
    let public = ["--public-address", "127.0.0.2"].map(str::to_owned);
    let plan = Plan { arguments: plan.arguments.iter().cloned().chain(public).collect(), ..plan };
    let world = World::start(plan).unwrap();
    let outcome = world.run_inside(async || {
        let created = world.float(&["gateway", "create", "-n", "lab"])?;
        ensure!(created.code == Some(0), "{}", created.stderr);
        let pages = Pages::start(&[HOSTILE]).await?;
        let (own, other) = (register(&world, "hostile", &pages)?, register(&world, "other", &pages)?);
        let browser = Browser::start(&world).await?;
        let attack = async |browser: &Browser| {
            // The user is signed in to OpCenter, so that nothing but the question is in the way.
            browser.open(&format!("{}/login", world.url())).await?;
            browser.type_into("[name=username]", "admin", LIMIT).await?;
            browser.type_into("[name=password]", &world.password()?, LIMIT).await?;
            browser.click("form .primary", LIMIT).await?;
            browser.element("#menu", LIMIT).await?;
            browser.open(&own.access_urls[0]).await?;
            Widget::find(browser, "hostile Executing").await?;
            window_is_out_of_reach(browser, &own).await.context("window")?;
            another_jobs_session_is_not_given(browser, &own, &other).await.context("another job")?;
            own_session_comes_to_the_page(browser, &own).await.context("own job")
        };
        browser.watched(attack).await?;
        browser.quit().await;
        Ok(())
    });
    outcome.unwrap();
}
