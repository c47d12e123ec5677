//! A real browser without a window: Chromium or Firefox, driven through its driver, inside the
//! network namespace of a world or beside the test.
//!
//! ```text
//!   the test, in World::run_inside ──HTTP──► chromedriver ──► Chromium ──► the gateway
//! ```
//!
//! Its profile is new and lies with the world's files, or in a directory of its own. It loads
//! nothing unasked; in a world it reaches nothing outside of the namespace. Both processes end when
//! the browser is dropped; what is left of them, and their files, with the world or the directory.
//! What differs between the two programs is in [`program`].

mod program;

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use mooring_linux::netns;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tempfile::TempDir;
use thirtyfour::TypingData;
use thirtyfour::error::{WebDriverError, WebDriverResult};
use thirtyfour::prelude::{By, ElementQueryable, WebDriver, WebElement};

pub use program::Program;
pub use thirtyfour::Key;

use crate::wait::wait_for;
use crate::world::World;

/// Time limit until the driver listens.
const STARTS_WITHIN: Duration = Duration::from_secs(30);
/// Time limit of one request to the browser.
const ANSWERS_WITHIN: Duration = Duration::from_secs(60);
/// The pause between two looks for an element.
const INTERVAL: Duration = Duration::from_millis(100);

/// A browser with one page.
#[derive(Debug)]
pub struct Browser {
    program: Program,
    process: Child,
    directory: PathBuf,
    /// Absent only in `drop`.
    driver: Option<WebDriver>,
    /// The directory, where it is not the world's.
    _own: Option<TempDir>,
}

impl Browser {
    /// Starts Chromium in a world, for use inside its namespace.
    pub async fn start(world: &World) -> Result<Self> {
        Self::start_program(Program::Chromium, world).await
    }

    /// Starts a browser in a world, for use inside its namespace.
    pub async fn start_program(program: Program, world: &World) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("browser-").tempdir_in(world.files())?.keep();
        let mut command = program.command();
        netns::enter_command(&mut command, &world.namespace())?;
        Self::run_driver(program, command, directory, None).await
    }

    /// Starts Chromium beside the test, for servers of this process.
    pub async fn start_alone() -> Result<Self> {
        let own = tempfile::Builder::new().prefix("browser-").tempdir()?;
        let program = Program::Chromium;
        Self::run_driver(program, program.command(), own.path().to_owned(), Some(own)).await
    }

    async fn run_driver(
        program: Program,
        mut command: Command,
        directory: PathBuf,
        own: Option<TempDir>,
    ) -> Result<Self> {
        let name = program.driver();
        let log = directory.join(name).with_extension("log");
        let output = File::create(&log)?;
        command.env("HOME", &directory).env("TMPDIR", &directory).process_group(0);
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let process = command.spawn().with_context(|| format!("run `{name}`: scripts/setup test installs it"))?;
        let mut browser = Self { program, process, directory, driver: None, _own: own };
        let port = browser.port(&log).await?;
        let downloads = browser.downloads();
        fs::create_dir(&downloads)?;
        let capabilities = program.capabilities(&browser.directory, &downloads)?;
        let driver = WebDriver::builder(format!("http://127.0.0.1:{port}"), capabilities);
        let driver = driver.request_timeout(ANSWERS_WITHIN).connect().await;
        browser.driver = Some(driver.with_context(|| format!("start {program:?}"))?);
        Ok(browser)
    }

    /// The directory of files that were downloaded.
    fn downloads(&self) -> PathBuf {
        self.directory.join("downloads")
    }

    /// Waits for a file that was downloaded whole; returns its content.
    pub async fn downloaded(&self, name: &str, limit: Duration) -> Result<Vec<u8>> {
        let file = self.downloads().join(name);
        wait_for(&format!("the download `{name}`"), limit, async || {
            // Until it is whole, a file has another name or is empty.
            Ok(fs::read(&file).ok().filter(|content| !content.is_empty()))
        })
        .await
    }

    /// Runs a script in each page before the page's own, from the next page on.
    pub async fn preload(&self, script: &str) -> Result<()> {
        self.program.preload(self.driver()?, script).await
    }

    /// Opens a page and waits until it is loaded.
    pub async fn open(&self, url: &str) -> Result<()> {
        self.driver()?.goto(url).await.with_context(|| format!("open {url}"))
    }

    /// Loads the page again, as F5 does.
    pub async fn reload(&self) -> Result<()> {
        self.driver()?.refresh().await.context("load the page again")
    }

    /// Goes back to the page before.
    pub async fn back(&self) -> Result<()> {
        self.driver()?.back().await.context("go back")
    }

    /// Goes forward to the page after.
    pub async fn forward(&self) -> Result<()> {
        self.driver()?.forward().await.context("go forward")
    }

    /// Runs a script in the page as the body of an asynchronous function; gives back what it
    /// returns.
    pub async fn run<T: DeserializeOwned>(&self, script: &str, arguments: &[Value]) -> Result<T> {
        // The driver's own function is the last argument, and is called with the outcome.
        let wrapped = format!(
            "const done = arguments[arguments.length - 1];\n\
             (async (...given) => {{ {script} }})(...arguments)\n\
             .then(value => done({{value: value === undefined ? null : value}}), error => done({{error: String(error)}}));"
        );
        let outcome = self.driver()?.execute_async(wrapped, arguments).await.context("run a script in the page")?;
        match &outcome.json()["error"] {
            Value::String(error) => bail!("the page's script failed: {error}"),
            _ => Ok(serde_json::from_value(outcome.json()["value"].clone())?),
        }
    }

    /// Waits for an element that is there and shown.
    pub async fn element(&self, selector: &str, limit: Duration) -> Result<WebElement> {
        let began = Instant::now();
        loop {
            let query = self.driver()?.query(By::Css(selector)).wait(limit, INTERVAL).and_displayed();
            match query.first().await {
                Err(error) if is_stale(&error) && began.elapsed() < limit => {}
                found => return found.with_context(|| format!("`{selector}` on the page")),
            }
        }
    }

    /// Waits for an element and uses it, again where the page was drawn again in between.
    pub async fn with_element<T>(
        &self,
        selector: &str,
        limit: Duration,
        work: impl AsyncFn(WebElement) -> WebDriverResult<T>,
    ) -> Result<T> {
        let began = Instant::now();
        loop {
            match work(self.element(selector, limit).await?).await {
                Err(error) if is_in_the_way(&error) && began.elapsed() < limit => {
                    tokio::time::sleep(INTERVAL).await;
                }
                done => return done.with_context(|| format!("`{selector}` on the page")),
            }
        }
    }

    /// Clicks an element.
    pub async fn click(&self, selector: &str, limit: Duration) -> Result<()> {
        self.with_element(selector, limit, async |element| element.click().await).await
    }

    /// Types a text into a field, in place of what is in it.
    pub async fn type_into(&self, selector: &str, text: &str, limit: Duration) -> Result<()> {
        let typing = async |field: WebElement| {
            field.clear().await?;
            field.send_keys(text).await
        };
        self.with_element(selector, limit, typing).await
    }

    /// Waits until a script without `await` returns true in the page, also while another page
    /// opens. The error has the page's text.
    pub async fn until(&self, what: &str, script: &str, limit: Duration) -> Result<()> {
        let driver = self.driver()?;
        let is_true = async || {
            // A document that is being left runs no script.
            let outcome = driver.execute(script, Vec::new()).await;
            Ok(outcome.is_ok_and(|outcome| outcome.json().as_bool() == Some(true)).then_some(()))
        };
        let looked = wait_for(what, limit, is_true).await;
        match looked {
            Ok(()) => Ok(()),
            Err(error) => {
                let text: String = self.run("return document.body.innerText;", &[]).await?;
                Err(error.context(format!("the page shows:\n{text}")))
            }
        }
    }

    /// Returns the number of elements at this moment.
    pub async fn count(&self, selector: &str) -> Result<usize> {
        Ok(self.driver()?.find_all(By::Css(selector)).await?.len())
    }

    /// Presses a key while another one is held down, wherever the page's focus is.
    pub async fn press(&self, held: Key, key: impl Into<char> + Clone) -> Result<()> {
        Ok(self
            .driver()?
            .action_chain()
            .key_down(held.clone())
            .key_down(key.clone())
            .key_up(key)
            .key_up(held)
            .perform()
            .await?)
    }

    /// Presses one key after the other, wherever the page's focus is: a text, or a single [`Key`].
    pub async fn enter(&self, keys: impl Into<TypingData>) -> Result<()> {
        Ok(self.driver()?.action_chain().send_keys(keys).perform().await?)
    }

    /// Does something in the window that the page has opened. Then the browser shows the page
    /// again.
    pub async fn in_opened_window<T>(&self, work: impl AsyncFnOnce(&Self) -> Result<T>) -> Result<T> {
        let driver = self.driver()?;
        let page = driver.window().await?;
        let opened = wait_for("a window that the page opens", STARTS_WITHIN, async || {
            Ok(driver.windows().await?.into_iter().find(|window| *window != page))
        })
        .await?;
        driver.switch_to_window(opened).await?;
        let outcome = work(self).await;
        driver.switch_to_window(page).await?;
        outcome
    }

    /// Does something in a frame of the page.
    pub async fn in_frame<T>(&self, selector: &str, work: impl AsyncFnOnce() -> Result<T>) -> Result<T> {
        self.element(selector, STARTS_WITHIN).await?.enter_frame().await?;
        let outcome = work().await;
        self.driver()?.enter_default_frame().await?;
        outcome
    }

    /// Closes the window that the browser shows.
    pub async fn close_window(&self) -> Result<()> {
        Ok(self.driver()?.close_window().await?)
    }

    /// Returns the number of open windows.
    pub async fn windows(&self) -> Result<usize> {
        Ok(self.driver()?.windows().await?.len())
    }

    /// Writes a PNG of the page into the browser's directory.
    pub async fn screenshot(&self, name: &str) -> Result<PathBuf> {
        let file = self.directory.join(name).with_extension("png");
        fs::write(&file, self.driver()?.screenshot_as_png().await?)?;
        Ok(file)
    }

    /// Does something with the browser; where that fails, the error names a picture of the page.
    pub async fn watched<T>(&self, work: impl AsyncFnOnce(&Self) -> Result<T>) -> Result<T> {
        match work(self).await {
            Ok(done) => Ok(done),
            Err(error) => Err(match self.screenshot("failure").await {
                Ok(file) => error.context(format!("the page is shown in {}", file.display())),
                Err(_) => error,
            }),
        }
    }

    /// Closes the browser. One that does not close, as on a busy machine, is killed.
    pub async fn quit(mut self) {
        if let Some(driver) = self.driver.take() {
            // What is left of the browser ends when it is dropped.
            let _ = driver.quit().await;
        }
    }

    pub(crate) fn driver(&self) -> Result<&WebDriver> {
        self.driver.as_ref().context("the browser was closed before")
    }

    async fn port(&mut self, log: &Path) -> Result<u16> {
        let name = self.program.driver();
        wait_for(&format!("{name} to listen"), STARTS_WITHIN, async || {
            let said = fs::read_to_string(log)?;
            if let Some(status) = self.process.try_wait()? {
                bail!("{name} ended with {status}: {said}");
            }
            Ok(self.program.port(&said).map(str::parse).transpose()?)
        })
        .await
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // A session that was not closed would be closed over the network from here, and wait for
        // it.
        if let Some(driver) = self.driver.take() {
            let _ = driver.leak();
        }
        // The driver and the browser are one process group.
        if let Ok(group) = i32::try_from(self.process.id()) {
            let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
        }
        let _ = self.process.wait();
    }
}

/// Says whether an element was found and then replaced or covered: the page changes.
fn is_in_the_way(error: &WebDriverError) -> bool {
    is_stale(error) || format!("{error:?}").contains("click intercepted")
}

/// Says whether an element was found and then replaced: the page was drawn again.
fn is_stale(error: &WebDriverError) -> bool {
    format!("{error:?}").to_lowercase().contains("stale")
}
