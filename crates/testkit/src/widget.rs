//! The widget on a page of a job, used as a person does: looked at, dragged, and its panel filled
//! in.
//!
//! Its shadow tree is open, and the names of the classes and ids in it are what it is found by.
//! What it says is remembered from [`Widget::remember`] on, however short it is shown.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use thirtyfour::prelude::{By, WebElement};

use crate::browser::{Browser, Key};
use crate::wait::wait_for;

/// Time limit of one step of the widget.
const LIMIT: Duration = Duration::from_secs(60);

const TREE: &str = "const tree = document.querySelector('mooring-widget')?.shadowRoot;";

const TEXT: &str = "return tree?.querySelector(given[0])?.innerText ?? ''";

const REMEMBER: &str = "
    window.said = {alerts: [], notices: []};
    const look = () => {
        for (const [list, role] of [[window.said.alerts, 'alert'], [window.said.notices, 'status']]) {
            const text = tree.querySelector(`[role=${role}]`).textContent;
            if (text && list.at(-1) !== text) list.push(text);
        }
    };
    look();
    new MutationObserver(look).observe(tree, {childList: true, subtree: true, characterData: true});";

/// Tells whether the page's own scripts find the panel, and whether they can read it.
const READS_PANEL: &str = "
    const frame = tree.querySelector('iframe');
    let inside = frame.contentDocument;
    try { inside ??= frame.contentWindow.document; } catch { /* As it should be. */ }
    return inside !== null;";

/// The widget of the page that the browser shows.
#[derive(Debug)]
pub struct Widget<'a> {
    browser: &'a Browser,
}

/// The texts of a widget.
#[derive(Debug, PartialEq, Eq, serde::Deserialize)]
pub struct Said {
    /// Its alerts, in their order.
    pub alerts: Vec<String>,
    /// That it was well again.
    pub notices: Vec<String>,
}

/// The open panel of a widget. The browser is in its frame.
#[derive(Debug)]
pub struct Panel<'a> {
    browser: &'a Browser,
}

impl<'a> Widget<'a> {
    /// Waits until the widget of the page says what its job is called and does, like
    /// `lab Executing`.
    pub async fn find(browser: &'a Browser, says: &str) -> Result<Self> {
        let widget = Self { browser };
        widget.says(says).await?;
        Ok(widget)
    }

    /// Waits until it says what its job is called and does.
    pub async fn says(&self, text: &str) -> Result<()> {
        self.text_is(".main", text).await
    }

    /// Waits until the alert is this; none when empty.
    pub async fn alert_is(&self, text: &str) -> Result<()> {
        self.text_is("[role=alert]", text).await
    }

    /// Makes the page record the widget's texts.
    pub async fn remember(&self) -> Result<()> {
        self.browser.run(&format!("{TREE} {REMEMBER}"), &[]).await
    }

    /// Returns the texts since then.
    pub async fn said(&self) -> Result<Said> {
        self.browser.run("return window.said", &[]).await
    }

    /// Returns the upper right corner, in pixels from the window's left and upper edges.
    pub async fn place(&self) -> Result<(i64, i64)> {
        let corner = "const at = tree.querySelector('.pill').getBoundingClientRect();
            return [Math.round(at.right), Math.round(at.top)]";
        self.browser.run(&format!("{TREE} {corner}"), &[]).await
    }

    /// Drags it with the pointer.
    pub async fn drag(&self, right: i64, down: i64) -> Result<()> {
        let pill = self.find_in(".main").await?;
        let driver = self.browser.driver()?;
        let chain = driver.action_chain().move_to_element_center(&pill).click_and_hold();
        Ok(chain
            .move_by_offset(right / 2, down / 2)
            .move_by_offset(right - right / 2, down - down / 2)
            .release()
            .perform()
            .await?)
    }

    /// Presses a key in it.
    pub async fn press(&self, key: Key) -> Result<()> {
        Ok(self.find_in(".main").await?.send_keys(key).await?)
    }

    /// Clicks on it: the panel opens, or closes.
    pub async fn click(&self) -> Result<()> {
        Ok(self.find_in(".main").await?.click().await?)
    }

    /// Returns whether scripts of the page can read the open panel.
    pub async fn panel_is_readable(&self) -> Result<bool> {
        self.browser.run(&format!("{TREE} {READS_PANEL}"), &[]).await
    }

    /// Presses the panel's button to sign in.
    pub async fn begin_sign_in(&self) -> Result<()> {
        self.in_panel(async |panel| panel.click("#enter").await).await
    }

    /// Follows the link that is shown in place of a window that the browser has blocked.
    pub async fn follow_link(&self) -> Result<()> {
        Ok(self.find_in(".blocked a").await?.click().await?)
    }

    /// Signs in by OpCenter's own window: logs in there, if it asks for that, and allows what the
    /// page asks.
    pub async fn sign_in(&self, user: &str, password: &str) -> Result<()> {
        self.begin_sign_in().await?;
        self.browser
            .in_opened_window(async |browser| answer_window(browser, user, password, "[data-allow]").await)
            .await
    }

    /// Does something in the open panel.
    pub async fn in_panel<T>(&self, work: impl AsyncFnOnce(Panel<'a>) -> Result<T>) -> Result<T> {
        self.find_in("iframe").await?.enter_frame().await?;
        let outcome = work(Panel { browser: self.browser }).await;
        self.browser.driver()?.enter_default_frame().await?;
        outcome
    }

    async fn text_is(&self, selector: &str, wanted: &str) -> Result<()> {
        let what = format!("`{wanted}` in the widget");
        let mut last = String::new();
        let waited = wait_for(&what, LIMIT, async || {
            let text: String = self.browser.run(&format!("{TREE} {TEXT}"), &[json!(selector)]).await?;
            last = text.split_whitespace().collect::<Vec<&str>>().join(" ");
            Ok((last == wanted).then_some(()))
        })
        .await;
        waited.with_context(|| format!("the widget says `{last}`"))
    }

    async fn find_in(&self, selector: &str) -> Result<WebElement> {
        let host = self.browser.element("mooring-widget", LIMIT).await?;
        let tree = host.get_shadow_root().await?;
        tree.find(By::Css(selector)).await.with_context(|| format!("`{selector}` of the widget"))
    }
}

/// Logs in to OpCenter in the window that the browser shows, if that asks for it, and presses a
/// button of the question.
pub async fn answer_window(browser: &Browser, user: &str, password: &str, button: &str) -> Result<()> {
    browser.element("[name=password], [data-job-sign-in]", LIMIT).await?;
    if browser.count("[name=password]").await? > 0 {
        browser.type_into("[name=username]", user, LIMIT).await?;
        browser.type_into("[name=password]", password, LIMIT).await?;
        browser.click("form .primary", LIMIT).await?;
    }
    browser.click(&format!("{button}:enabled"), LIMIT).await
}

impl Panel<'_> {
    /// Writes something into a field.
    pub async fn fill(&self, selector: &str, text: &str) -> Result<()> {
        let field = self.browser.element(selector, LIMIT).await?;
        field.clear().await?;
        Ok(field.send_keys(text).await?)
    }

    /// Waits until a button can be pressed, and does.
    pub async fn click(&self, selector: &str) -> Result<()> {
        self.browser.with_element(&format!("{selector}:enabled"), LIMIT, async |element| element.click().await).await
    }

    /// Waits until a shown text contains this.
    pub async fn shows(&self, selector: &str, wanted: &str) -> Result<()> {
        wait_for(&format!("`{wanted}` in the panel's `{selector}`"), LIMIT, async || {
            let text = self.browser.with_element(selector, LIMIT, async |element| element.text().await).await?;
            Ok(text.contains(wanted).then_some(()))
        })
        .await
    }

    /// Makes sure that a button can't be pressed.
    pub async fn is_disabled(&self, selector: &str) -> Result<()> {
        let is_enabled = self.browser.with_element(selector, LIMIT, async |element| element.is_enabled().await).await?;
        ensure!(!is_enabled, "`{selector}` can be pressed");
        Ok(())
    }
}
