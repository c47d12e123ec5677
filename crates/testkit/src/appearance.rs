//! The look of a page in the browser: colours, screens, pictures. And what is wrong with it:
//! errors, violations of its policy, faults that axe-core finds.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::json;

use crate::browser::Browser;

/// The colours that the visitor's system asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Theme {
    Light,
    Dark,
}

/// A size of the page in CSS pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Screen {
    /// 1280 × 900.
    Desktop,
    /// 390 × 844, touched.
    Phone,
}

/// Notes errors as they happen, before any script of the page runs.
const NOTE_FAULTS: &str = r#"
window.testFaults = [];
const note = text => window.testFaults.push(text);
addEventListener('error', event => note(event.message ?? `not loaded: ${event.target.src ?? event.target.href}`), true);
addEventListener('unhandledrejection', event => note(`rejected: ${event.reason}`));
document.addEventListener('securitypolicyviolation', event => {
    note(`policy: ${event.violatedDirective} ${event.blockedURI} ${event.sourceFile}:${event.lineNumber}`);
});
const error = console.error;
console.error = (...words) => { note(`console: ${words.join(' ')}`); error(...words); };
window.testShifts = [];
new PerformanceObserver(list => {
    const what = source => `${source.node?.nodeName}.${source.node?.className}`;
    for (const entry of list.getEntries()) {
        if (!entry.hadRecentInput) window.testShifts.push([entry.value, entry.sources.map(what).join(' ')]);
    }
}).observe({type: 'layout-shift', buffered: true});
"#;

/// A rule of accessibility that a page breaks.
#[derive(Debug, Deserialize)]
pub struct Violation {
    pub id: String,
    pub impact: String,
    pub help: String,
    /// The elements, as selectors.
    pub places: Vec<String>,
}

impl Browser {
    /// Notes what goes wrong in all pages from the next one on, for [`Browser::faults`].
    pub async fn note_faults(&self) -> Result<()> {
        self.preload(NOTE_FAULTS).await
    }

    /// Returns what went wrong in the page since it was opened: errors, failed loads, violations of
    /// its policy.
    pub async fn faults(&self) -> Result<Vec<String>> {
        self.run("return window.testFaults;", &[]).await
    }

    /// Returns the shifts of the page's layout since it was opened, without input: how far, and the
    /// elements.
    pub async fn layout_shifts(&self) -> Result<Vec<(f64, String)>> {
        self.run("return window.testShifts;", &[]).await
    }

    /// Asks pages for colours.
    pub async fn set_theme(&self, theme: Theme) -> Result<()> {
        let value = match theme {
            Theme::Light => "light",
            Theme::Dark => "dark",
        };
        let features = json!({ "features": [{ "name": "prefers-color-scheme", "value": value }] });
        self.command("Emulation.setEmulatedMedia", features).await
    }

    /// Sets the size of the page.
    pub async fn set_screen(&self, screen: Screen) -> Result<()> {
        let (width, height, mobile) = match screen {
            Screen::Desktop => (1280, 900, false),
            Screen::Phone => (390, 844, true),
        };
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile });
        self.command("Emulation.setDeviceMetricsOverride", size).await
    }

    /// Makes the network slow: each answer takes that much longer, and none comes from the cache.
    pub async fn set_latency(&self, milliseconds: u32) -> Result<()> {
        let conditions = json!({
            "offline": false, "latency": milliseconds, "downloadThroughput": -1, "uploadThroughput": -1,
        });
        self.command("Network.enable", json!({})).await?;
        self.command("Network.setCacheDisabled", json!({ "cacheDisabled": true })).await?;
        self.command("Network.emulateNetworkConditions", conditions).await
    }

    /// Checks that the page is not wider than its screen.
    pub async fn check_width(&self) -> Result<()> {
        let script = "const page = document.documentElement;
            const wide = [...document.querySelectorAll('body *')].filter(element =>
                element.getBoundingClientRect().right > page.clientWidth + 1 && !element.closest('[inert], dialog:not([open])'));
            return {over: page.scrollWidth - page.clientWidth, wide: wide.slice(0, 5).map(element => element.outerHTML.slice(0, 120))};";
        #[derive(Debug, Deserialize)]
        struct Width {
            over: i64,
            wide: Vec<String>,
        }
        let width: Width = self.run(script, &[]).await?;
        ensure!(width.over <= 0, "the page is {} pixels too wide: {:#?}", width.over, width.wide);
        Ok(())
    }

    /// Returns the serious and critical faults that axe-core finds on the page.
    pub async fn violations(&self) -> Result<Vec<Violation>> {
        let axe = workspace().join("web/node_modules/axe-core/axe.min.js");
        let axe = fs::read_to_string(&axe).with_context(|| format!("read {}: scripts/setup lint", axe.display()))?;
        let script = format!(
            "if (!window.axe) {{ {axe} }}
            const found = await axe.run(document, {{resultTypes: ['violations']}});
            return found.violations.filter(rule => ['serious', 'critical'].includes(rule.impact)).map(rule => ({{
                id: rule.id, impact: rule.impact, help: rule.help,
                places: rule.nodes.slice(0, 5).map(node => `${{node.target.join(' ')}}: ${{node.failureSummary}}`),
            }}));"
        );
        self.run(&script, &[]).await
    }

    /// Writes a picture of the page to `target/screenshots`.
    pub async fn picture(&self, name: &str) -> Result<PathBuf> {
        let directory = workspace().join("target/screenshots");
        fs::create_dir_all(&directory)?;
        let file = directory.join(name).with_extension("png");
        fs::write(&file, self.driver()?.screenshot_as_png().await?)?;
        Ok(file)
    }

    async fn command(&self, method: &str, parameters: serde_json::Value) -> Result<()> {
        let sent = self.driver()?.cdp().send_raw(method, parameters).await;
        sent.map(drop).with_context(|| format!("send {method} to the browser"))
    }
}

fn workspace() -> PathBuf {
    let up = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2);
    up.map(Path::to_owned).unwrap_or_default()
}
