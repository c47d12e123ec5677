//! A walk through the web interface on the real system. A visitor creates a gateway with two
//! security groups, starts JupyterLab from its template, runs a cell in it and migrates it. Then
//! the job changes its gateway, and both gateways are destroyed. Chromium and Firefox take the same
//! walk.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mooring_api::Client;
use mooring_testkit::browser::{Browser, Key, Program};
use mooring_testkit::lab_page::LabPage;
use mooring_testkit::world::{Plan, World};

/// Time limit of a step of the page.
const SOON: Duration = Duration::from_secs(30);
/// Time limit of a job that starts or moves.
const LATER: Duration = Duration::from_secs(120);
/// The numbers that the notebook's cell counts, ten a second.
const NUMBERS: usize = 20;
/// The button that does what an open dialogue is about.
const DOES: &str = "#dialog footer .primary";

/// A visitor who walks through the pages.
struct Walk<'a> {
    browser: &'a Browser,
    client: Client,
    origin: String,
}

impl Walk<'_> {
    async fn open(&self, path: &str) -> Result<()> {
        self.browser.open(&format!("{}{path}", self.origin)).await
    }

    async fn click(&self, selector: &str) -> Result<()> {
        self.browser.click(selector, SOON).await
    }

    async fn type_into(&self, selector: &str, text: &str) -> Result<()> {
        self.browser.type_into(selector, text, SOON).await
    }

    async fn sees(&self, text: &str, limit: Duration) -> Result<()> {
        let script = format!("return document.querySelector('#page')?.innerText.includes({text:?}) ?? false;");
        self.browser.until(&format!("`{text}` on the page"), &script, limit).await
    }

    async fn sign_in(&self, password: &str) -> Result<()> {
        self.open("/login?next=%2Fgateways").await?;
        self.type_into("[name=username]", "admin").await?;
        self.type_into("[name=password]", password).await?;
        self.click("form button:not([type=button])").await?;
        self.browser.element("nav#menu", SOON).await.map(drop)
    }

    /// Creates a gateway with these security groups besides `default`; they are made on the spot.
    async fn create_gateway(&self, name: &str, ports: &str, groups: &[&str]) -> Result<()> {
        self.open("/gateways").await?;
        self.click("[hx-get='/gateways/new']").await?;
        self.type_into("#dialog [name=name]", name).await?;
        self.type_into("#dialog [name=port_range]", ports).await?;
        for group in groups {
            self.click("#new-group summary").await?;
            self.type_into("#dialog [name=group_name]", group).await?;
            self.type_into("#dialog [name=group_rules]", "tcp:*:10.0.0.0/8").await?;
            self.click("[hx-post='/gateways/new/group']").await?;
            let chosen = format!(
                "return [...document.querySelectorAll('#dialog [name=groups]:checked')]
                    .some(box => box.closest('label').innerText.includes({group:?}));"
            );
            self.browser.until("the new group, chosen", &chosen, SOON).await?;
        }
        // A group that is chosen replaces the default one.
        let choose = "for (const box of document.querySelectorAll('#dialog [name=groups]')) {
            if (box.closest('label').innerText.startsWith('default') && !box.checked) box.click();
        }";
        self.browser.run::<()>(choose, &[]).await?;
        self.click(DOES).await?;
        self.sees(&format!("Gateway Details - {name}"), SOON).await?;
        self.sees("running", LATER).await
    }

    /// Connects the job that is offered first to the gateway whose details are open.
    async fn connect(&self) -> Result<String> {
        self.click("[hx-get$='/connect']").await?;
        self.browser.element("#dialog [name=ports]", SOON).await?;
        let choose = "const box = document.querySelector('#dialog [name=ports]'); if (!box.checked) box.click();";
        self.browser.run::<()>(choose, &[]).await?;
        self.click(DOES).await?;
        let opener = self.browser.element("td.access a", LATER).await?;
        opener.attr("href").await?.context("the Access URL")
    }

    /// Copies two texts of the gateway's page and pastes them into the palette. The second one is
    /// copied without the browser's clipboard, as over plain HTTP from another machine.
    async fn copy(&self) -> Result<()> {
        let no_clipboard = "Object.defineProperty(navigator, 'clipboard', {value: undefined});";
        for (before, button) in [("", "td.access [data-copy]"), (no_clipboard, "dl.facts [data-copy]")] {
            let text = format!("{before} return document.querySelector({button:?}).dataset.copy;");
            let text: String = self.browser.run(&text, &[]).await?;
            self.click(button).await?;
            self.browser.press(Key::Control, 'k').await?;
            self.click("#palette input").await?;
            self.browser.press(Key::Control, 'v').await?;
            let pasted = format!("return document.querySelector('#palette input')?.value === {text:?};");
            self.browser.until("the text, pasted", &pasted, SOON).await?;
            self.browser.enter(Key::Escape).await?;
            self.browser.until("no palette", "return !document.querySelector('#palette').open;", SOON).await?;
        }
        Ok(())
    }

    /// Chooses each theme, and looks at what the page's colours become.
    async fn choose_themes(&self) -> Result<()> {
        let colour = "return [document.documentElement.dataset.theme, getComputedStyle(document.body).color];";
        let mut seen = BTreeMap::new();
        for _ in 0..3 {
            let (theme, colour): (String, String) = self.browser.run(colour, &[]).await?;
            seen.insert(theme, colour);
            self.click("header [data-theme-next]").await?;
        }
        ensure!(seen.len() == 3 && seen["light"] != seen["dark"], "{seen:?}");
        Ok(())
    }

    /// Downloads what the job has written, and its measurements.
    async fn download(&self, job: &str) -> Result<()> {
        self.open(&format!("{job}?tab=output&file=stderr.autosave")).await?;
        self.browser
            .until("the output", "return document.querySelector('[data-lines]').innerText !== '';", SOON)
            .await?;
        self.click("[data-output] a[download]").await?;
        let output = self.browser.downloaded("stderr.autosave", SOON).await?;
        ensure!(String::from_utf8_lossy(&output).contains("Jupyter Server"), "{output:?}");
        self.open(&format!("{job}?tab=metrics")).await?;
        self.click("a[href*='metrics.csv']").await?;
        let name = format!("metrics-{}.csv", job.trim_start_matches("/jobs/"));
        let metrics = self.browser.downloaded(&name, SOON).await?;
        ensure!(metrics.starts_with(b"time,"), "{}", String::from_utf8_lossy(&metrics));
        Ok(())
    }

    async fn disconnect(&self) -> Result<()> {
        self.click("[hx-get*='/disconnect']").await?;
        self.click(DOES).await?;
        self.sees("No jobs are connected", SOON).await
    }

    async fn destroy_gateway(&self, name: &str) -> Result<()> {
        self.click("[hx-get$='/destroy']").await?;
        self.type_into("#dialog [name=confirm]", "another").await?;
        self.click(DOES).await?;
        self.browser.element("#dialog [aria-invalid=true]", SOON).await?;
        self.type_into("#dialog [name=confirm]", name).await?;
        self.click(DOES).await?;
        self.browser.until("the list", "return location.pathname === '/gateways';", SOON).await
    }

    async fn start_notebook(&self) -> Result<String> {
        self.open("/templates").await?;
        self.click("[hx-get$='/start'][hx-get*='jupyter']").await?;
        self.type_into("#dialog [name=name]", "notebook").await?;
        let choose = "document.querySelector('#dialog [name=gateway]').value = ':none';";
        self.browser.run::<()>(choose, &[]).await?;
        self.click(DOES).await?;
        self.sees("Job Details - notebook", SOON).await?;
        self.sees("Executing", LATER).await?;
        self.browser.run("return location.pathname;", &[]).await
    }

    /// Migrates the job and looks at the timeline that remains.
    async fn migrate(&self, job: &str) -> Result<()> {
        self.open(&format!("{job}?tab=migrations")).await?;
        self.click("#do-migrate").await?;
        self.click(DOES).await?;
        self.browser.element("article.migration svg.timeline", LATER).await?;
        self.sees("succeeded", LATER).await
    }

    async fn walk(&self, password: &str) -> Result<()> {
        self.sign_in(password).await?;
        self.choose_themes().await?;
        self.create_gateway("lab", "11000:11050", &["campus"]).await?;
        let lab: String = self.browser.run("return location.pathname;", &[]).await?;
        let job = self.start_notebook().await?;
        self.open(&lab).await?;
        let access_url = self.connect().await?;
        self.copy().await?;

        let page = LabPage::open(self.browser, &access_url, NUMBERS).await?;
        page.count().await?;
        page.shown(NUMBERS).await?;

        self.migrate(&job).await?;
        self.download(&job).await?;
        self.open(&lab).await?;
        self.disconnect().await?;
        self.create_gateway("second", "12000:12050", &[]).await?;
        self.connect().await?;
        self.destroy_gateway("second").await?;
        self.open(&lab).await?;
        self.destroy_gateway("lab").await?;
        let left = self.client.gateway_list().await?;
        ensure!(!left.iter().any(|gateway| ["lab", "second"].contains(&gateway.name.as_str())), "{left:?}");
        let faults = self.browser.faults().await?;
        ensure!(faults.is_empty(), "{faults:?}");
        Ok(())
    }
}

fn plan() -> Plan {
    Plan::new(env!("CARGO_BIN_EXE_float"))
}

fn walk(world: &World, program: Program) -> Result<()> {
    world.run_inside(async || {
        let (client, origin) = (world.client().await?, world.url().to_owned());
        let browser = Browser::start_program(program, world).await?;
        browser.note_faults().await?;
        let password = world.password()?;
        browser.watched(async |browser| Walk { browser, client, origin }.walk(&password).await).await?;
        browser.quit().await;
        Ok(())
    })
}

#[test]
fn walk_from_a_gateway_to_a_job_and_back_in_chromium() {
    let world = World::start(plan()).unwrap();
    walk(&world, Program::Chromium).unwrap();
}

#[test]
fn walk_from_a_gateway_to_a_job_and_back_in_firefox() {
    let world = World::start(plan()).unwrap();
    walk(&world, Program::Firefox).unwrap();
}
