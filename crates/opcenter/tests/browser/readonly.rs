//! A store that became read-only: pages are still shown, and each attempt to change something says
//! what is wrong.

use std::time::Duration;

use mooring_api::view::SecretSetRequest;
use mooring_testkit::browser::Browser;

use crate::disk::Disk;
use crate::site::{SOON, Site, click, type_into, until};

/// The cause. The first request that fails may see a disk that fails.
const CAUSE: [&str; 2] = ["OpCenter's database can't be used: its ", "read-only"];
/// The help for an admin.
const HELP: &str = "an admin has to mend the disk of OpCenter's state directory and restart OpCenter";

/// The delay of a preview after the last key.
const PREVIEW_DELAY: Duration = Duration::from_millis(200);

/// Waits until an element has the texts.
async fn told(browser: &Browser, selector: &str) {
    let script = format!(
        "const text = [...document.querySelectorAll({selector:?})].map(place => place.innerText).join(' ');
         return {:?}.every(part => text.includes(part));",
        [CAUSE[0], CAUSE[1], HELP]
    );
    until(browser, &format!("the message in `{selector}`"), &script).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn store_that_became_read_only_is_told() {
    let disk = Disk::mount();
    let site = Site::below(&disk.path()).await;
    site.admin.secret_set("kept", &SecretSetRequest { value: "x".into() }).await.unwrap();
    let browser = site.visit("/secrets").await;
    click(&browser, "[hx-get='/secrets/new']").await;
    type_into(&browser, "#dialog [name=name]", "token").await;
    type_into(&browser, "#dialog [name=value]", "sesame").await;
    disk.fail();

    // A form that was open: what was typed is still there.
    click(&browser, "#dialog footer .primary").await;
    told(&browser, "#dialog .refusal").await;
    let typed: String = browser.run("return document.querySelector('#dialog [name=name]').value;", &[]).await.unwrap();
    assert_eq!(typed, "token");

    // What there is to see is shown.
    for path in ["/", "/jobs", "/submit", "/templates", "/gateways", "/hosts", "/users", "/audit", "/settings"] {
        site.open(&browser, path).await;
        browser.element("main#page h1", SOON).await.unwrap();
    }
    site.open(&browser, "/secrets").await;
    until(&browser, "the secret", "return document.querySelector('#page').innerText.includes('kept');").await;

    // A question that is answered with yes, a pop-up, and the form of a job.
    click(&browser, "[hx-get='/secrets/kept/remove']").await;
    click(&browser, "#dialog footer .primary").await;
    told(&browser, "#toasts, #dialog .refusal").await;
    site.open(&browser, "/security-groups").await;
    click(&browser, "[hx-get='/security-groups/new']").await;
    type_into(&browser, "#dialog [name=name]", "campus").await;
    click(&browser, "#dialog footer .primary").await;
    told(&browser, "#dialog .refusal").await;
    site.open(&browser, "/submit").await;
    type_into(&browser, "[name=image]", "alpine:3").await;
    type_into(&browser, "[name=command]", "true").await;
    click(&browser, ".act button.primary").await;
    told(&browser, "#preview, #toasts").await;
    // The preview of what was typed last does not take the answer's place.
    tokio::time::sleep(PREVIEW_DELAY * 3).await;
    told(&browser, "#preview").await;
    assert_eq!(browser.faults().await.unwrap(), Vec::<String>::new());
    browser.quit().await;

    // Nobody signs in, and the login says why.
    let browser = Browser::start_alone().await.unwrap();
    site.open(&browser, "/login").await;
    site.sign_in(&browser, "body").await;
    told(&browser, "body").await;
    browser.quit().await;
}
