//! JupyterLab in a browser, used as a person does: a notebook whose cell counts.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;

use crate::browser::{Browser, Key};
use crate::wait::wait_for;

/// Time limit of one step of the page.
const LIMIT: Duration = Duration::from_secs(90);
/// The number of attempts to type something, since a page may lose keys.
const TRIES: usize = 5;
const TAKEN_WITHIN: Duration = Duration::from_secs(5);

/// Makes a notebook with one cell in JupyterLab's own page.
const MAKE_NOTEBOOK: &str = "
    const [token, source] = given;
    const cells = [{cell_type: 'code', id: 'count', source, metadata: {}, outputs: [], execution_count: null}];
    const kernelspec = {name: 'python3', display_name: 'Python 3', language: 'python'};
    const content = {cells, metadata: {kernelspec}, nbformat: 4, nbformat_minor: 5};
    const body = JSON.stringify({type: 'notebook', format: 'json', content});
    const answer = await fetch('/api/contents/count.ipynb', {method: 'PUT', body, headers: {Authorization: `token ${token}`}});
    return answer.status;";

/// The kernel's state in the status bar, like `Idle`, `Busy` or `Disconnected`.
const STATE: &str = "
    const state = () => [...document.querySelectorAll('.jp-StatusBar-Item')].map(item => item.textContent)
        .find(text => text.includes('(ipykernel) | '))?.split(' | ')[1];";

/// True when the server counts the kernel as idle and this page as connected.
const KERNEL_IS_CONNECTED: &str = "
    const answer = await fetch('/api/sessions', {headers: {Authorization: `token ${given[0]}`}});
    const [session] = await answer.json();
    return session?.kernel.execution_state === 'idle' && session.kernel.connections > 0;";

/// Makes the page record each dialog and each state of the kernel.
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

/// The output of each cell that has some.
const OUTPUTS: &str =
    "return [...document.querySelectorAll('.jp-OutputArea')].map(area => area.textContent).filter(text => text)";

/// A notebook in JupyterLab's page, with a cell that counts.
#[derive(Debug)]
pub struct LabPage<'a> {
    browser: &'a Browser,
    numbers: usize,
}

/// The dialogs, states and numbers of a page since [`LabPage::count`].
#[derive(Debug, serde::Deserialize)]
pub struct Remembered {
    /// The text of every dialog.
    pub dialogs: Vec<String>,
    /// Every state of the kernel, like `Idle`, `Busy` or `Disconnected`, in the order of their
    /// first appearance.
    pub states: Vec<String>,
}

impl<'a> LabPage<'a> {
    /// Opens JupyterLab by its Access URL, with a notebook whose kernel is ready. Its cell prints
    /// `count` numbers, ten a second.
    pub async fn open(browser: &'a Browser, access_url: &str, numbers: usize) -> Result<Self> {
        browser.open(access_url).await?;
        browser.element("#jp-main-dock-panel", LIMIT).await?;
        let (base, token) = access_url.split_once("/lab?token=").context("the Access URL has no token")?;
        let source =
            format!("import time\nfor number in range({numbers}):\n    print(number, flush=True)\n    time.sleep(0.1)");
        let status: u16 = browser.run(MAKE_NOTEBOOK, &[json!(token), json!(source)]).await?;
        ensure!(status == 201, "the notebook was not made: {status}");
        browser.open(&format!("{base}/lab/tree/count.ipynb")).await?;
        let connected = async || Ok(browser.run::<bool>(KERNEL_IS_CONNECTED, &[json!(token)]).await?.then_some(()));
        wait_for("the notebook's kernel", LIMIT, connected).await?;
        // The status bar is about the document that was last clicked; none is at the start.
        browser.click(".jp-NotebookPanel .jp-Cell .cm-content", LIMIT).await?;
        let page = Self { browser, numbers };
        page.idle().await?;
        Ok(page)
    }

    /// Runs the cell, and has the page remember what it shows from here on.
    pub async fn count(&self) -> Result<()> {
        self.browser.run::<()>(&format!("{STATE} {REMEMBER}"), &[]).await?;
        self.browser.element(".jp-Cell .cm-content", LIMIT).await?.click().await?;
        self.browser.press(Key::Shift, Key::Enter).await
    }

    /// Waits until `count` numbers are shown.
    pub async fn shown(&self, count: usize) -> Result<Vec<String>> {
        let wanted = format!("number {count}");
        let shown = wait_for(&wanted, LIMIT, async || {
            let numbers = self.numbers().await?;
            Ok((numbers.len() >= count).then_some(numbers))
        });
        match shown.await {
            Ok(numbers) => Ok(numbers),
            Err(error) => {
                let (numbers, states) = (self.numbers().await?, self.remembered().await?.states);
                Err(error.context(format!("the kernel was {states:?} and the page shows {numbers:?}")))
            }
        }
    }

    /// The numbers that are shown now.
    pub async fn numbers(&self) -> Result<Vec<String>> {
        let output: String = self.browser.run(OUTPUT, &[]).await?;
        Ok(output.lines().map(str::to_owned).collect())
    }

    /// Waits for the end of the cell: all numbers are shown, once and in order, and the kernel is
    /// idle.
    pub async fn counted(&self) -> Result<Remembered> {
        let all = self.shown(self.numbers).await?;
        let expected: Vec<String> = (0..self.numbers).map(|number| number.to_string()).collect();
        ensure!(all == expected, "the page shows {all:?}");
        self.idle().await?;
        self.remembered().await
    }

    /// Returns the dialogs, states and numbers since [`LabPage::count`].
    pub async fn remembered(&self) -> Result<Remembered> {
        self.browser.run("return window.remembered", &[]).await
    }

    /// Writes a further cell below the others, runs it, and gives back what it shows.
    pub async fn run_next(&self, code: &str) -> Result<String> {
        let before = self.outputs().await?.len();
        self.write(code).await?;
        self.run_active().await?;
        wait_for(&format!("the output of `{code}`"), LIMIT, async || {
            let mut outputs = self.outputs().await?;
            Ok(if outputs.len() > before { outputs.pop() } else { None })
        })
        .await
    }

    /// Runs the active cell. While a page is connecting to its kernel it takes no such wish, and
    /// shows nothing of it: then it is told again.
    async fn run_active(&self) -> Result<()> {
        let cells = "return document.querySelectorAll('.jp-Cell').length";
        let before: usize = self.browser.run(cells, &[]).await?;
        for _ in 0..TRIES {
            self.browser.press(Key::Shift, Key::Enter).await?;
            // Below the last one a new one is made.
            let run = wait_for("the next cell", TAKEN_WITHIN, async || {
                Ok((self.browser.run::<usize>(cells, &[]).await? > before).then_some(()))
            });
            if run.await.is_ok() {
                return Ok(());
            }
        }
        bail!("the page runs no cell")
    }

    /// Writes into the active cell: where a cell was run, that is the next one.
    async fn write(&self, code: &str) -> Result<()> {
        const ACTIVE: &str = ".jp-Cell.jp-mod-active .cm-content";
        for _ in 0..TRIES {
            self.browser.element(ACTIVE, LIMIT).await?.click().await?;
            self.browser.enter(code).await?;
            let text = format!("return document.querySelector('{ACTIVE}')?.innerText ?? ''");
            let written: String = self.browser.run(&text, &[]).await?;
            if written.trim() == code {
                return Ok(());
            }
            // A page that redraws its cells loses keys.
            self.browser
                .run::<bool>("return document.execCommand('selectAll') && document.execCommand('delete')", &[])
                .await?;
        }
        bail!("`{code}` can't be written into a cell")
    }

    async fn outputs(&self) -> Result<Vec<String>> {
        self.browser.run(OUTPUTS, &[]).await
    }

    /// Waits until the page has shown a state of the kernel since [`LabPage::count`].
    pub async fn has_shown(&self, state: &str) -> Result<()> {
        wait_for(&format!("the kernel's state `{state}`"), LIMIT, async || {
            Ok(self.remembered().await?.states.iter().any(|seen| seen == state).then_some(()))
        })
        .await
    }

    /// Waits until the page is connected to the kernel: what is run before is lost on its way.
    pub async fn connected(&self) -> Result<()> {
        wait_for("a connection to the kernel", LIMIT, async || {
            let state: Option<String> = self.browser.run(&format!("{STATE} return state() ?? null"), &[]).await?;
            Ok(state.is_some_and(|state| state != "Connecting").then_some(()))
        })
        .await
    }

    /// Waits until the page says that the kernel is idle.
    pub async fn idle(&self) -> Result<()> {
        let state = format!("{STATE} return state() ?? null");
        wait_for("an idle kernel", LIMIT, async || {
            let state: Option<String> = self.browser.run(&state, &[]).await?;
            Ok((state.as_deref() == Some("Idle")).then_some(()))
        })
        .await
    }
}
