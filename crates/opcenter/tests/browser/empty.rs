//! An OpCenter in whose store there is nothing: every page says so, and a first visitor is led from
//! a host to an open job.

use std::time::Duration;

use mooring_sim::{Cluster, Machine};
use mooring_testkit::appearance::{Screen, Theme};
use mooring_testkit::browser::Browser;

use crate::pages::{look, paths};
use crate::site::{Site, click, type_into, until};

/// The button that does what an open dialogue is about.
const DOES: &str = "#dialog footer .primary";

/// Addresses at which filters match nothing.
const FILTERED: [&str; 3] = ["/jobs?filter=user%3Dnobody", "/jobs?category=failed", "/audit?user=nobody"];
/// Pages that have something to show in an empty store: built-in templates, the first user, itself.
const FILLED: [&str; 8] =
    ["/", "/account", "/audit", "/security-groups", "/settings", "/submit", "/templates", "/users"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_page_of_an_empty_store_says_so() {
    let site = Site::empty().await;
    let browser = site.visit("/secrets").await;
    let paths = paths(&site, &browser).await;
    assert!(paths.iter().any(|path| path == "/gateways"), "{paths:?}");
    let mut wrong = Vec::new();
    for path in paths.iter().map(String::as_str).chain(FILTERED) {
        wrong.extend(look(&site, &browser, path, "empty-", Theme::Light, Screen::Desktop).await);
        wrong.extend(look(&site, &browser, path, "empty-", Theme::Dark, Screen::Phone).await);
        let bare = "return [...document.querySelectorAll('#page tbody')].some(body => body.rows.length === 0)
            || [...document.querySelectorAll('#page .list')].some(list => list.innerText.trim() === '');";
        if browser.run::<bool>(bare, &[]).await.unwrap() {
            wrong.push(format!("{path}: a list without a word"));
        }
        if !FILLED.contains(&path) && browser.count("#page .empty").await.unwrap() == 0 {
            wrong.push(format!("{path} does not say that it is empty"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    browser.quit().await;
}

/// Lets hosts and gateways act without an end.
async fn act(cluster: &mut Cluster) {
    loop {
        cluster.round().await.unwrap();
        // Between rounds OpCenter and the page have the processor.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Opens the overview by the menu, and waits for the step that it leads to next.
async fn next(browser: &Browser, step: &str) {
    click(browser, "nav#menu li a[href='/']").await;
    let script = format!("return document.querySelector('.way li.next')?.innerText.includes({step:?}) ?? false;");
    until(browser, &format!("the step `{step}`"), &script).await;
}

/// Waits for a page.
async fn arrived(browser: &Browser, path: &str) {
    until(browser, path, &format!("return location.pathname.startsWith({path:?});")).await;
}

/// Goes the way that the overview shows, from the first ready host to the open job.
async fn go(browser: &Browser) {
    next(browser, "A gateway").await;
    click(browser, ".way [hx-get='/gateways/new']").await;
    type_into(browser, "#dialog [name=name]", "lab").await;
    click(browser, DOES).await;
    arrived(browser, "/gateways/").await;

    next(browser, "A job from a template").await;
    click(browser, ".way a[href='/templates']").await;
    click(browser, "[hx-get$='/start'][hx-get*='jupyter']").await;
    type_into(browser, "#dialog [name=name]", "notebook").await;
    let alone = "document.querySelector('#dialog [name=gateway]').value = ':none';";
    browser.run::<()>(alone, &[]).await.unwrap();
    click(browser, DOES).await;
    arrived(browser, "/jobs/").await;

    next(browser, "Connect it").await;
    click(browser, ".way a[href^='/gateways/']").await;
    click(browser, "[hx-get$='/connect']").await;
    until(browser, "a port", "return document.querySelector('#dialog [name=ports]') !== null;").await;
    let choose = "const box = document.querySelector('#dialog [name=ports]'); if (!box.checked) box.click();";
    browser.run::<()>(choose, &[]).await.unwrap();
    click(browser, DOES).await;
    until(browser, "the Access URL", "return document.querySelector('td.access a') !== null;").await;

    click(browser, "nav#menu li a[href='/']").await;
    until(
        browser,
        "the end of the way",
        "return document.querySelector('#page .cards') && !document.querySelector('.way');",
    )
    .await;
    let open = r"return [...document.querySelectorAll('#page a[target=_blank]')].some(link => /Open\s+notebook/.test(link.innerText));";
    until(browser, "a link that opens the job", open).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn first_visitor_is_led_to_an_open_job() {
    let site = Site::empty().await;
    let browser = site.visit("/").await;
    next(&browser, "A host").await;
    let machines = ["rhine", "danube"].map(Machine::named).into();
    let mut cluster = Cluster::start(site.admin.clone(), site.opcenter(), &site.join_token(), machines).await.unwrap();
    cluster.remove_beacon().await.unwrap();
    tokio::select! {
        () = act(&mut cluster) => {}
        () = go(&browser) => {}
    }
    assert_eq!(browser.faults().await.unwrap(), Vec::<String>::new());
    browser.quit().await;
}
