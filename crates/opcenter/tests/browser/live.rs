//! Pages follow OpCenter: changes show at once, a lost connection is told, and made up for.

use std::time::{Duration, Instant};

use mooring_api::view::SecretSetRequest;

use crate::site::{Site, until};

/// The longest time between a change and its picture.
const CHANGE_MAX: Duration = Duration::from_millis(200);
const CHANGES: usize = 9;

/// Waits in the page for a text; returns when it was seen, in milliseconds since 1970.
const SEEN: &str = "return await new Promise(done => {
    const look = () => {
        if (document.querySelector('#page').innerText.includes(given[0])) { observer.disconnect(); done(Date.now()); }
    };
    const observer = new MutationObserver(look);
    observer.observe(document.querySelector('#page'), {subtree: true, childList: true, characterData: true});
    look();
});";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn change_is_on_the_screen_at_once() {
    let site = Site::empty().await;
    let browser = site.visit("/secrets").await;
    let mut delays = Vec::new();
    for number in 0..CHANGES {
        let name = format!("secret-{number}");
        let (request, words) = (SecretSetRequest { value: "x".into() }, [name.clone().into()]);
        let seen = async { browser.run::<f64>(SEEN, &words).await.unwrap() };
        let set = async {
            // The page is waiting by then.
            tokio::time::sleep(Duration::from_millis(300)).await;
            let began = Instant::now();
            site.admin.secret_set(&name, &request).await.unwrap();
            began
        };
        let (_, began) = tokio::join!(seen, set);
        delays.push(began.elapsed());
    }
    delays.sort();
    // A busy machine delays some; the median tells how the page is made.
    assert!(delays[CHANGES / 2] < CHANGE_MAX, "{delays:?}");
    browser.quit().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn page_tells_that_opcenter_is_away_and_catches_up() {
    let mut site = Site::empty().await;
    let browser = site.visit("/secrets").await;
    let hidden = "return document.querySelector('[data-connection]').hidden;";
    until(&browser, "no note", hidden).await;
    let told = async || until(&browser, "the note", &hidden.replace("return ", "return !")).await;
    site.restart(told).await;
    site.admin.secret_set("after", &SecretSetRequest { value: "x".into() }).await.unwrap();
    until(&browser, "the note to go", hidden).await;
    until(&browser, "the change", "return document.querySelector('#page').innerText.includes('after');").await;
    browser.quit().await;
}
