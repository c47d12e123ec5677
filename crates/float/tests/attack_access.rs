//! A job behind a login: in a real browser, and from programs that have none.

use std::time::Duration;

use anyhow::{Result, ensure};
use mooring_api::view::{ConnectionView, JobView};
use mooring_testkit::browser::Browser;
use mooring_testkit::pages::{Page, Pages};
use mooring_testkit::wait::wait_for;
use mooring_testkit::world::{Plan, World};

const LIMIT: Duration = Duration::from_secs(60);

const SECRET: Page =
    Page { path: "/", policy: None, html: "<!doctype html><html><head><title>secret page</title></head></html>" };
const LOG_OUT: &str = "
    const csrf = document.querySelector('meta[name=csrf-token]').content;
    return (await fetch('/logout', {method: 'POST', headers: {'X-CSRF-Token': csrf, 'HX-Request': 'true'}})).status;";

fn json<T: serde::de::DeserializeOwned>(world: &World, line: &str) -> Result<T> {
    let ran = world.float(&line.split(' ').collect::<Vec<_>>())?;
    ensure!(ran.code == Some(0), "{line}: {}", ran.stderr);
    Ok(serde_json::from_str(&ran.stdout)?)
}

async fn title_is(browser: &Browser, title: &str) -> Result<()> {
    browser.until(title, &format!("return document.title === '{title}'"), LIMIT).await
}

/// Returns the status and the body that a program gets.
async fn fetched(url: &str) -> Result<(u16, String)> {
    let http = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build()?;
    let answer = http.get(url).send().await?;
    Ok((answer.status().as_u16(), answer.text().await?))
}

#[test]
fn job_behind_a_login_is_closed_to_those_without() {
    let plan = Plan::new(env!("CARGO_BIN_EXE_float")).with_endpoints_here();
    let public = ["--public-address", "127.0.0.2"].map(str::to_owned);
    let world =
        World::start(Plan { arguments: plan.arguments.iter().cloned().chain(public).collect(), ..plan }).unwrap();
    let outcome = world.run_inside(async || {
        let _: serde_json::Value = json(&world, "gateway create -n lab -F json")?;
        let pages = Pages::start(&[SECRET]).await?;
        let job: JobView = json(&world, &format!("job register -n app --endpoint {} -F json", pages.address()))?;
        let connect = |access: &str| format!("gateway connect -g lab -j {} --access {access} -F json", job.id);
        let connections: Vec<ConnectionView> = json(&world, &connect("private"))?;
        let url = connections[0].access_url.clone();
        wait_for("the port", LIMIT, async || Ok(fetched(&url).await.ok())).await?;
        let (status, body) = fetched(&url).await?;
        ensure!(status == 401 && !body.contains("secret page"), "{status}: {body}");

        let browser = Browser::start(&world).await?;
        let walk = async |browser: &Browser| {
            browser.open(&url).await?;
            browser.type_into("[name=username]", "admin", LIMIT).await?;
            browser.type_into("[name=password]", &world.password()?, LIMIT).await?;
            browser.click("form .primary", LIMIT).await?;
            title_is(browser, "secret page").await?;
            ensure!(browser.run::<String>("return location.href", &[]).await? == url, "another address");
            ensure!(browser.run::<String>("return document.cookie", &[]).await?.is_empty(), "scripts see the cookie");
            // Without the cookie, and signed in: straight back.
            browser.open(&format!("{}/account", world.url())).await?;
            browser.open(&url).await?;
            title_is(browser, "secret page").await?;
            browser.open(&format!("{}/account", world.url())).await?;
            ensure!(browser.run::<u16>(LOG_OUT, &[]).await? == 204, "not signed out");
            wait_for("the end of the visit", LIMIT, async || {
                browser.open(&url).await?;
                Ok((browser.count("[name=password]").await? == 1).then_some(()))
            })
            .await
        };
        browser.watched(walk).await?;
        browser.quit().await;
        Ok(())
    });
    outcome.unwrap();
}
