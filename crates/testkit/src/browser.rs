//! A real browser without a window: Chromium, driven through its driver, inside a world's network
//! namespace.
//!
//! ```text
//!   the test, in World::run_inside ──HTTP──► chromedriver ──► Chromium ──► the gateway
//! ```
//!
//! Its profile is new and lies with the world's files. It loads nothing unasked and reaches nothing
//! outside of the namespace. Both processes end when the browser is dropped; what is left of them,
//! and their files, with the world.

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
use thirtyfour::error::{WebDriverError, WebDriverResult};
use thirtyfour::prelude::{By, ElementQueryable, WebDriver, WebElement};
use thirtyfour::{ChromiumLikeCapabilities, DesiredCapabilities, TypingData};

pub use thirtyfour::Key;

use crate::wait::wait_for;
use crate::world::World;

/// Time limit until the driver listens.
const STARTS_WITHIN: Duration = Duration::from_secs(30);
/// Time limit of one request to the browser.
const ANSWERS_WITHIN: Duration = Duration::from_secs(60);
/// The pause between two looks for an element.
const INTERVAL: Duration = Duration::from_millis(100);
/// The text before the port in the driver's output.
const LISTENS: &str = "was started successfully on port ";
/// No window, no background traffic, nothing shared with another browser. Root can't have the
/// sandbox.
const ARGUMENTS: [&str; 11] = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--no-proxy-server",
    "--window-size=1280,1000",
];

/// A browser with one page.
#[derive(Debug)]
pub struct Browser {
    process: Child,
    directory: PathBuf,
    /// Absent only in `drop`.
    driver: Option<WebDriver>,
}

impl Browser {
    /// Starts a browser in a world, for use inside its namespace.
    pub async fn start(world: &World) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("browser-").tempdir_in(world.files())?.keep();
        let log = directory.join("chromedriver.log");
        let output = File::create(&log)?;
        let mut command = Command::new("chromedriver");
        command.arg("--port=0").env("HOME", &directory).env("TMPDIR", &directory).process_group(0);
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        netns::enter_command(&mut command, &world.namespace())?;
        let process = command.spawn().context("run `chromedriver`: scripts/setup test installs it")?;
        let mut browser = Self { process, directory, driver: None };
        let port = browser.port(&log).await?;
        let mut chromium = DesiredCapabilities::chrome();
        chromium.set_binary("/usr/bin/chromium")?;
        for argument in ARGUMENTS {
            chromium.add_arg(argument)?;
        }
        chromium.add_arg(&format!("--user-data-dir={}", browser.directory.join("profile").display()))?;
        let driver = WebDriver::builder(format!("http://127.0.0.1:{port}"), chromium).request_timeout(ANSWERS_WITHIN);
        browser.driver = Some(driver.connect().await.context("start Chromium")?);
        Ok(browser)
    }

    /// Opens a page and waits until it is loaded.
    pub async fn open(&self, url: &str) -> Result<()> {
        self.driver()?.goto(url).await.with_context(|| format!("open {url}"))
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
                Err(error) if is_stale(&error) && began.elapsed() < limit => {}
                done => return done.with_context(|| format!("`{selector}` on the page")),
            }
        }
    }

    /// Returns the number of elements at this moment.
    pub async fn count(&self, selector: &str) -> Result<usize> {
        Ok(self.driver()?.find_all(By::Css(selector)).await?.len())
    }

    /// Presses a key while another one is held down, wherever the page's focus is.
    pub async fn press(&self, held: Key, key: Key) -> Result<()> {
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

    /// Closes the browser.
    pub async fn quit(mut self) -> Result<()> {
        let driver = self.driver.take().context("the browser was closed before")?;
        driver.quit().await.context("close the browser")
    }

    pub(crate) fn driver(&self) -> Result<&WebDriver> {
        self.driver.as_ref().context("the browser was closed before")
    }

    async fn port(&mut self, log: &Path) -> Result<u16> {
        wait_for("chromedriver to listen", STARTS_WITHIN, async || {
            if let Some(status) = self.process.try_wait()? {
                bail!("chromedriver ended with {status}: {}", fs::read_to_string(log)?);
            }
            let said = fs::read_to_string(log)?;
            let port = said.split_once(LISTENS).and_then(|(_, rest)| rest.split_once('.')).map(|(port, _)| port);
            Ok(port.map(str::parse).transpose()?)
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

/// Says whether an element was found and then replaced: the page was drawn again.
fn is_stale(error: &WebDriverError) -> bool {
    format!("{error:?}").to_lowercase().contains("stale")
}
