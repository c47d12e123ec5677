//! What a person sees: JupyterLab in a real browser, whose job is moved while a cell counts.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mooring_api::Client;
use mooring_testkit::browser::{Browser, Key};
use mooring_testkit::notebook::Notebook;
use mooring_testkit::tour::move_once;
use mooring_testkit::wait::wait_for;
use mooring_testkit::world::{Plan, World};
use serde_json::json;

const NUMBERS: usize = 150;
/// How long the page may take for one step.
const LIMIT: Duration = Duration::from_secs(90);

/// Makes a notebook with one cell in JupyterLab's own page.
const MAKE_NOTEBOOK: &str = "
    const [token, source] = given;
    const cells = [{cell_type: 'code', id: 'count', source, metadata: {}, outputs: [], execution_count: null}];
    const kernelspec = {name: 'python3', display_name: 'Python 3', language: 'python'};
    const content = {cells, metadata: {kernelspec}, nbformat: 4, nbformat_minor: 5};
    const body = JSON.stringify({type: 'notebook', format: 'json', content});
    const answer = await fetch('/api/contents/count.ipynb', {method: 'PUT', body, headers: {Authorization: `token ${token}`}});
    return answer.status;";

/// What the page's status bar says of the kernel, like `Idle`, `Busy` or `Disconnected`.
const STATE: &str = "
    const state = () => [...document.querySelectorAll('.jp-StatusBar-Item')].map(item => item.textContent)
        .find(text => text.includes('(ipykernel) | '))?.split(' | ')[1];";

/// Whether the notebook's kernel is idle and this page is connected to it, in the server's eyes.
const KERNEL_IS_CONNECTED: &str = "
    const answer = await fetch('/api/sessions', {headers: {Authorization: `token ${given[0]}`}});
    const [session] = await answer.json();
    return session?.kernel.execution_state === 'idle' && session.kernel.connections > 0;";

/// Has the page remember every dialog and every state of the kernel that it shows from here on.
const REMEMBER: &str = "
    window.remembered = {dialogs: [], states: []};
    const look = () => {
        for (const dialog of document.querySelectorAll('.jp-Dialog')) window.remembered.dialogs.push(dialog.textContent);
        const now = state() ?? 'none';
        if (!window.remembered.states.includes(now)) window.remembered.states.push(now);
    };
    look();
    new MutationObserver(look).observe(document.body, {childList: true, subtree: true, attributes: true, characterData: true});";

const OUTPUT: &str = "return document.querySelector('.jp-OutputArea-output')?.textContent ?? ''";

/// What a page has shown.
#[derive(Debug, serde::Deserialize)]
struct Remembered {
    dialogs: Vec<String>,
    states: Vec<String>,
}

async fn numbers(browser: &Browser) -> Result<Vec<String>> {
    let output: String = browser.run(OUTPUT, &[]).await?;
    Ok(output.lines().map(str::to_owned).collect())
}

async fn shown(browser: &Browser, count: usize) -> Result<Vec<String>> {
    wait_for(&format!("number {count}"), LIMIT, async || {
        let numbers = numbers(browser).await?;
        Ok((numbers.len() >= count).then_some(numbers))
    })
    .await
}

/// Opens JupyterLab as a person does, with a notebook whose kernel is ready.
async fn open_notebook(browser: &Browser, notebook: &Notebook) -> Result<()> {
    browser.open(&notebook.access_url).await?;
    browser.element("#jp-main-dock-panel", LIMIT).await?;
    let (base, token) = notebook.access_url.split_once("/lab?token=").context("the Access URL has no token")?;
    let source =
        format!("import time\nfor number in range({NUMBERS}):\n    print(number, flush=True)\n    time.sleep(0.1)");
    let status: u16 = browser.run(MAKE_NOTEBOOK, &[json!(token), json!(source)]).await?;
    ensure!(status == 201, "the notebook was not made: {status}");
    browser.open(&format!("{base}/lab/tree/count.ipynb")).await?;
    let connected = async || Ok(browser.run::<bool>(KERNEL_IS_CONNECTED, &[json!(token)]).await?.then_some(()));
    wait_for("the notebook's kernel", LIMIT, connected).await?;
    idle(browser).await
}

/// Waits until the page says that the kernel is idle.
async fn idle(browser: &Browser) -> Result<()> {
    let state = format!("{STATE} return state() ?? null");
    wait_for("an idle kernel", LIMIT, async || {
        let state: Option<String> = browser.run(&state, &[]).await?;
        Ok((state.as_deref() == Some("Idle")).then_some(()))
    })
    .await
}

async fn count_through_a_move(browser: &Browser, client: &Client, notebook: &Notebook) -> Result<()> {
    open_notebook(browser, notebook).await?;
    browser.run::<()>(&format!("{STATE} {REMEMBER}"), &[]).await?;
    browser.element(".jp-Cell .cm-content", LIMIT).await?.click().await?;
    browser.press(Key::Shift, Key::Enter).await?;
    shown(browser, 20).await?;
    let migration = move_once(client, &notebook.job).await?;
    ensure!(migration.outcome == "succeeded", "{migration:?}");
    let after_move = numbers(browser).await?.len();
    ensure!(after_move < NUMBERS, "the cell had ended before the move did");
    let all = shown(browser, NUMBERS).await?;
    let expected: Vec<String> = (0..NUMBERS).map(|number| number.to_string()).collect();
    ensure!(all == expected, "the page shows {all:?}");
    idle(browser).await?;
    let remembered: Remembered = browser.run("return window.remembered", &[]).await?;
    ensure!(remembered.dialogs.is_empty(), "{remembered:?}");
    ensure!(remembered.states == ["Idle", "Busy"], "{remembered:?}");
    Ok(())
}

#[test]
fn a_page_shows_every_number_that_a_cell_prints_while_its_job_moves() {
    let world = World::start(Plan::new(env!("CARGO_BIN_EXE_float"))).unwrap();
    let outcome = world.run_inside(async || {
        let client = world.client().await?;
        let notebook = Notebook::launch(&client, "browser").await?;
        let browser = Browser::start(&world).await?;
        browser.watched(async |browser| count_through_a_move(browser, &client, &notebook).await).await?;
        browser.quit().await
    });
    outcome.unwrap();
}
