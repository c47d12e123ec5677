//! VS Code in a browser, served by code-server, used as a person does: a terminal in which commands
//! run.
//!
//! The workbench has several WebSockets to its server (one for itself, one for the extensions, …).
//! What the page shows of their fate is remembered from [`CodePage::open`] on: dialogs and
//! notifications, and every WebSocket that is made after the first ones.

use std::time::Duration;

use anyhow::Result;
use mooring_api::Submission;

use crate::browser::{Browser, Key};
use crate::wait::wait_for;

/// The port that code-server listens at.
pub const PORT: u16 = 8989;
/// The directory in which `scripts/setup test` installs it, with a Node of its own.
const PROGRAMS: &str = "/opt/mooring/code-server/node_modules/.bin";
/// Time limit of one step of the page.
const LIMIT: Duration = Duration::from_secs(60);

/// The terminal is drawn with elements that can be read, and nothing but the terminal is opened or
/// asked for.
const SETTINGS: &str = r#"{
    "terminal.integrated.gpuAcceleration": "off",
    "terminal.integrated.shellIntegration.enabled": false,
    "workbench.startupEditor": "none",
    "security.workspace.trust.enabled": false,
    "chat.disableAIFeatures": true,
    "telemetry.telemetryLevel": "off"
}"#;

/// `$0` is the settings, `$@` the arguments; its files are below HOME.
const SERVE: &str = "mkdir -p \"$HOME/User\" && cd \"$HOME\" && printf %s \"$0\" >User/settings.json && exec code-server --config \"$HOME/config.yaml\" \
--user-data-dir \"$HOME\" --auth none --disable-telemetry --disable-update-check --ignore-last-opened \"$@\"";

/// The terminal's text, line by line.
const SCREEN: &str = "
    const rows = document.querySelectorAll('.terminal-wrapper.active .xterm-rows > div');
    return [...rows].map(row => row.textContent.replaceAll('\\u00a0', ' ').trimEnd()).filter(row => row);";

/// Makes the page record its connections and its messages about them.
const REMEMBER: &str = "
    window.remembered = {said: [], sockets: []};
    const look = () => {
        for (const box of document.querySelectorAll('.monaco-dialog-box, .notification-list-item-message')) {
            const text = box.textContent;
            if (!window.remembered.said.includes(text)) window.remembered.said.push(text);
        }
    };
    new MutationObserver(look).observe(document.body, {childList: true, subtree: true, characterData: true});
    window.WebSocket = class extends window.WebSocket {
        constructor(url, ...rest) {
            super(url, ...rest);
            window.remembered.sockets.push(String(url));
        }
    };";

/// A request for a job that serves VS Code.
pub fn job(name: &str) -> Result<Submission> {
    Ok(Submission {
        name: Some(name.parse()?),
        image: Some("dir:/".parse()?),
        command: command("/srv/code", PORT),
        mem_gb: Some(3.0),
        publish: vec![PORT.to_string().parse()?],
        ..Submission::default()
    })
}

/// The command that serves VS Code on every address, its files below `home`.
#[must_use]
pub fn command(home: &str, port: u16) -> Vec<String> {
    let path = format!("PATH={PROGRAMS}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    let address = format!("0.0.0.0:{port}");
    let words = [
        "env",
        &path,
        &format!("HOME={home}"),
        "SHELL=/bin/bash",
        "sh",
        "-c",
        SERVE,
        SETTINGS,
        "--bind-addr",
        &address,
    ];
    words.map(str::to_owned).into()
}

/// VS Code in a browser, with a terminal.
#[derive(Debug)]
pub struct CodePage<'a> {
    browser: &'a Browser,
}

/// The messages and connections of a page since [`CodePage::open`].
#[derive(Debug, serde::Deserialize)]
pub struct Remembered {
    /// The text of every dialog and notification.
    pub said: Vec<String>,
    /// The URL of every WebSocket that was made.
    pub sockets: Vec<String>,
}

impl Remembered {
    /// Returns whether the page told of a lost connection, a reconnect or a reload.
    #[must_use]
    pub fn speaks_of_connections(&self) -> bool {
        self.said.iter().map(|text| text.to_lowercase()).any(|text| text.contains("connect") || text.contains("reload"))
    }
}

impl<'a> CodePage<'a> {
    /// Opens the workbench, and a terminal in it.
    pub async fn open(browser: &'a Browser, url: &str) -> Result<Self> {
        browser.open(url).await?;
        browser.element(".monaco-workbench .statusbar", LIMIT).await?;
        let page = Self { browser };
        browser.enter(Key::F1).await?;
        let palette = browser.element(".quick-input-widget input", LIMIT).await?;
        palette.send_keys("Terminal: Create New Terminal").await?;
        browser.element(".quick-input-list .focused", LIMIT).await?;
        palette.send_keys(Key::Enter + "").await?;
        browser.element(".terminal-wrapper.active .xterm-rows", LIMIT).await?;
        wait_for("a prompt", LIMIT, async || {
            Ok(page.screen().await?.iter().any(|line| line.ends_with(['#', '$'])).then_some(()))
        })
        .await?;
        // The workbench may have the focus elsewhere by now.
        browser.element(".terminal-wrapper.active .xterm-screen", LIMIT).await?.click().await?;
        browser.run::<()>(REMEMBER, &[]).await?;
        Ok(page)
    }

    /// Types a line into the terminal.
    pub async fn enter(&self, line: &str) -> Result<()> {
        self.browser.enter(line).await?;
        self.browser.enter(Key::Enter).await
    }

    /// Waits until the terminal shows a line.
    pub async fn line(&self, wanted: &str) -> Result<()> {
        wait_for(&format!("`{wanted}` in the terminal"), LIMIT, async || {
            Ok(self.screen().await?.iter().any(|line| line == wanted).then_some(()))
        })
        .await
    }

    /// Returns the terminal's text, line by line.
    pub async fn screen(&self) -> Result<Vec<String>> {
        self.browser.run(SCREEN, &[]).await
    }

    /// Returns the messages and connections of the page until now.
    pub async fn remembered(&self) -> Result<Remembered> {
        self.browser.run("return window.remembered", &[]).await
    }
}
