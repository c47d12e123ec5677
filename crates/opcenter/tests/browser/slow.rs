//! Pages over a slow network: nothing shifts while they arrive, and an action is done once.

use std::time::{Duration, Instant};

use mooring_testkit::appearance::{Screen, Theme};

use crate::pages::{SHIFT_MAX, paths};
use crate::site::{SOON, Site, click, type_into, until};

/// The time that each answer takes longer.
const LATENCY_MS: u32 = 400;
/// The longest time until a page can be used: its document, its files, and as much again for a busy
/// machine.
const USABLE_MAX: Duration = Duration::from_millis(4 * LATENCY_MS as u64);

/// Returns the kinds of all messages: over the page, and in the dialogue.
const TOLD: &str = "return [...document.querySelectorAll('#toasts > *, #dialog .refusal, #dialog .error')].map(told => told.className);";
/// Notes that the page's stream has replaced the page.
const CHANGED: &str = "document.addEventListener('mooring:page', () => { window.testChanged = true; });";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_are_usable_and_hold_still() {
    let site = Site::furnished().await;
    let browser = site.visit("/secrets").await;
    let paths = paths(&site, &browser).await;
    browser.preload(CHANGED).await.unwrap();
    browser.set_theme(Theme::Light).await.unwrap();
    browser.set_latency(LATENCY_MS).await.unwrap();
    let (mut wrong, mut times) = (Vec::new(), Vec::new());
    for (number, path) in paths.iter().enumerate() {
        browser.set_screen(if number % 2 == 0 { Screen::Desktop } else { Screen::Phone }).await.unwrap();
        let began = Instant::now();
        site.open(&browser, path).await;
        browser.element("main#page", SOON).await.unwrap();
        times.push(began.elapsed());
        // The first event of the page's stream has come, and changes nothing.
        until(&browser, "the stream", "return window.testChanged === true;").await;
        let shifts = browser.layout_shifts().await.unwrap();
        if shifts.iter().map(|(far, _)| far).sum::<f64>() > SHIFT_MAX {
            wrong.push(format!("{path} shifts: {shifts:?}"));
        }
        wrong.extend(browser.faults().await.unwrap().into_iter().map(|fault| format!("{path}: {fault}")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    times.sort();
    assert!(times[times.len() / 2] < USABLE_MAX, "{times:?}");
    browser.quit().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn button_that_is_pressed_twice_acts_once() {
    let site = Site::empty().await;
    let browser = site.visit("/security-groups").await;
    browser.set_latency(LATENCY_MS).await.unwrap();
    click(&browser, "[hx-get='/security-groups/new']").await;
    type_into(&browser, "#dialog [name=name]", "twice").await;
    let press = "const button = document.querySelector('#dialog footer .primary');
        button.click();
        button.click();
        return document.querySelector('.htmx-request') !== null;";
    assert!(browser.run::<bool>(press, &[]).await.unwrap(), "the page shows that it waits");
    until(&browser, "the group", "return document.querySelector('#group-twice') !== null;").await;
    until(&browser, "a message", "return document.querySelector('#toasts').childElementCount > 0;").await;
    let told: Vec<String> = browser.run(TOLD, &[]).await.unwrap();
    assert_eq!(told, ["toast good"], "a second group of the same name is refused");
    assert_eq!(browser.faults().await.unwrap(), Vec::<String>::new());
    browser.quit().await;
}
