//! A Shiny app in a browser: a button, and how often it was clicked.
//!
//! The count lives in the server's session of the page, that is with its WebSocket, and nowhere
//! else: another session begins at 0. What the page says of a lost connection is remembered from
//! [`CounterPage::open`] on.

use std::time::Duration;

use anyhow::Result;
use mooring_api::Submission;

use crate::browser::Browser;
use crate::wait::wait_for;

/// The port that the app listens at.
const PORT: u16 = 3838;
/// Time limit of one step of the page.
const LIMIT: Duration = Duration::from_secs(60);

/// The app. The number beside the count is made up by the session at its begin.
const APP: &str = "
    library(shiny)
    page <- fluidPage(actionButton('more', 'more'), textOutput('count'), textOutput('session'))
    serve <- function(input, output, session) {
        count <- reactiveVal(0)
        observeEvent(input$more, count(count() + 1))
        output$count <- renderText(count())
        token <- session$token
        output$session <- renderText(token)
    }
    runApp(shinyApp(page, serve), host = '0.0.0.0', port = 3838)";

/// Makes the page record whether it told of a lost connection.
const REMEMBER: &str = "
    window.disconnected = false;
    const look = () => {
        if (document.querySelector('#shiny-disconnected-overlay, #shiny-reconnect-dialog-wrapper')) window.disconnected = true;
    };
    new MutationObserver(look).observe(document.body, {childList: true, subtree: true});
    $(document).on('shiny:disconnected', () => { window.disconnected = true; });";

/// A request for a job that serves the app.
pub fn job(name: &str) -> Result<Submission> {
    Ok(Submission {
        name: Some(name.parse()?),
        image: Some("dir:/".parse()?),
        command: ["Rscript", "-e", APP].map(str::to_owned).into(),
        publish: vec![PORT.to_string().parse()?],
        ..Submission::default()
    })
}

/// The app in a browser.
#[derive(Debug)]
pub struct CounterPage<'a> {
    browser: &'a Browser,
}

impl<'a> CounterPage<'a> {
    /// Opens the app and waits until its session counts 0.
    pub async fn open(browser: &'a Browser, url: &str) -> Result<Self> {
        browser.open(url).await?;
        let page = Self { browser };
        page.shows(0).await?;
        browser.run::<()>(REMEMBER, &[]).await?;
        Ok(page)
    }

    /// Clicks the button.
    pub async fn click(&self) -> Result<()> {
        Ok(self.browser.element("#more", LIMIT).await?.click().await?)
    }

    /// Waits until the page shows this count.
    pub async fn shows(&self, count: u32) -> Result<()> {
        wait_for(&format!("a count of {count}"), LIMIT, async || {
            Ok((self.text("#count").await? == count.to_string()).then_some(()))
        })
        .await
    }

    /// Returns the name of the page's session, which no other session has.
    pub async fn session(&self) -> Result<String> {
        self.text("#session").await
    }

    /// Returns whether the page ever told of a lost connection.
    pub async fn was_disconnected(&self) -> Result<bool> {
        self.browser.run("return window.disconnected", &[]).await
    }

    async fn text(&self, selector: &str) -> Result<String> {
        let text = "return document.querySelector(given[0])?.textContent ?? ''";
        self.browser.run(text, &[selector.into()]).await
    }
}
