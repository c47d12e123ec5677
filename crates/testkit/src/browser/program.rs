//! The differences between the browsers that tests drive: drivers, options, and the way to a script
//! that runs before each page's own.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use thirtyfour::prelude::WebDriver;
use thirtyfour::{BrowserCapabilitiesHelper, Capabilities, CapabilitiesHelper, ChromiumLikeCapabilities};
use thirtyfour::{DesiredCapabilities, error::WebDriverResult};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;

/// Time limit of one command beside the driver's protocol.
const ANSWERS_WITHIN: Duration = Duration::from_secs(30);
/// No window, no background traffic, nothing shared with another browser. Root can't have the
/// sandbox.
const CHROMIUM_ARGUMENTS: [&str; 11] = [
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
const FIREFOX_ARGUMENTS: [&str; 3] = ["-headless", "--width=1280", "--height=1000"];

/// A browser's program, as Debian has it, with its driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    Chromium,
    Firefox,
}

impl Program {
    /// The name of its driver.
    pub(super) fn driver(self) -> &'static str {
        match self {
            Self::Chromium => "chromedriver",
            Self::Firefox => "geckodriver",
        }
    }

    /// Returns the command that starts its driver at a free port.
    pub(super) fn command(self) -> Command {
        match self {
            Self::Chromium => {
                let mut command = Command::new(self.driver());
                command.arg("--port=0");
                command
            }
            Self::Firefox => {
                let mut command = Command::new(geckodriver());
                command.args(["--port=0", "--websocket-port=0"]).env("MOZ_CRASHREPORTER_DISABLE", "1");
                command
            }
        }
    }

    /// Returns the port that its driver names in its output, once it listens.
    pub(super) fn port(self, output: &str) -> Option<&str> {
        let before = match self {
            Self::Chromium => "was started successfully on port ",
            Self::Firefox => "Listening on 127.0.0.1:",
        };
        let (_, rest) = output.split_once(before)?;
        let end = rest.find(|letter: char| !letter.is_ascii_digit())?;
        Some(&rest[..end])
    }

    /// Returns what its driver is asked for. Its profile and its downloads lie in a directory.
    pub(super) fn capabilities(self, directory: &Path, downloads: &Path) -> WebDriverResult<Capabilities> {
        match self {
            Self::Chromium => {
                let mut chromium = DesiredCapabilities::chrome();
                chromium.set_binary("/usr/bin/chromium")?;
                for argument in CHROMIUM_ARGUMENTS {
                    chromium.add_arg(argument)?;
                }
                chromium.add_arg(&format!("--user-data-dir={}", directory.join("profile").display()))?;
                chromium.add_experimental_option("prefs", json!({ "download.default_directory": downloads }))?;
                // Windows that nobody asked for are blocked, as they are for people.
                chromium.add_experimental_option("excludeSwitches", json!(["disable-popup-blocking"]))?;
                Ok(chromium.into())
            }
            Self::Firefox => {
                let mut firefox = DesiredCapabilities::firefox();
                firefox.set_firefox_binary("/usr/bin/firefox-esr")?;
                for argument in FIREFOX_ARGUMENTS {
                    firefox.add_arg(argument)?;
                }
                let preferences = json!({
                    "browser.download.dir": downloads,
                    "browser.download.folderList": 2,
                    "network.proxy.type": 0,
                });
                firefox.set_browser_option("prefs", preferences)?;
                // The way to a script that runs before each page's own.
                firefox.set("webSocketUrl", true)?;
                Ok(firefox.into())
            }
        }
    }

    /// Makes a browser run a script in each page before the page's own, from the next page on.
    pub(super) async fn preload(self, driver: &WebDriver, script: &str) -> Result<()> {
        match self {
            Self::Chromium => {
                let source = json!({ "source": script });
                let sent = driver.cdp().send_raw("Page.addScriptToEvaluateOnNewDocument", source).await;
                sent.map(drop).context("preload a script in Chromium")
            }
            Self::Firefox => {
                let function = json!({ "functionDeclaration": format!("() => {{ {script} }}") });
                let sent = send_bidi(driver, "script.addPreloadScript", function).await;
                sent.context("preload a script in Firefox")
            }
        }
    }
}

/// The driver that was found, or that `scripts/setup test` installs.
fn geckodriver() -> PathBuf {
    let prefix = std::env::var_os("MOORING_PREFIX").filter(|prefix| !prefix.is_empty());
    let installed = prefix.map_or_else(|| PathBuf::from("/opt/mooring"), PathBuf::from).join("tools/bin/geckodriver");
    if installed.exists() { installed } else { "geckodriver".into() }
}

/// Sends a command of WebDriver BiDi. What it does lasts as long as the browser's session.
async fn send_bidi(driver: &WebDriver, method: &str, params: Value) -> Result<()> {
    let url = driver.handle().capabilities().get("webSocketUrl").and_then(Value::as_str);
    let url = url.context("the browser has no WebSocket for commands")?;
    let exchange = async {
        let (mut socket, _) = tokio_tungstenite::connect_async(url).await?;
        let command = json!({ "id": 1, "method": method, "params": params });
        socket.send(Message::text(command.to_string())).await?;
        while let Some(message) = socket.next().await {
            let Message::Text(text) = message? else { continue };
            let answer: Value = serde_json::from_str(&text)?;
            match answer["type"].as_str() {
                Some("success") => return Ok(()),
                Some("error") => bail!("{}", answer["message"]),
                // An event.
                _ => {}
            }
        }
        bail!("the browser closed the WebSocket")
    };
    timeout(ANSWERS_WITHIN, exchange).await.with_context(|| format!("no answer to {method}"))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_is_what_the_driver_says() {
        let chromium = "Starting ChromeDriver\nChromeDriver was started successfully on port 40123.\n";
        assert_eq!(Program::Chromium.port(chromium), Some("40123"));
        let firefox = "1732892312\tgeckodriver\tINFO\tListening on 127.0.0.1:40124\n";
        assert_eq!(Program::Firefox.port(firefox), Some("40124"));
        assert_eq!(Program::Firefox.port("Listening on 127.0.0.1:40"), None, "half a line");
    }
}
