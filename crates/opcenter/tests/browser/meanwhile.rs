//! Changes that others make while a form is open: it says what happened, and keeps what was typed.

use mooring_testkit::browser::Browser;

use crate::site::{SOON, Site, click, type_into, until};

/// The button that does what an open dialogue is about.
const DOES: &str = "#dialog footer .primary";

/// Waits until the dialogue or a message over the page has a text.
async fn told(browser: &Browser, text: &str) {
    let script = format!(
        "return [...document.querySelectorAll('#dialog[open], #toasts')].some(place => place.innerText.includes({text:?}));"
    );
    until(browser, &format!("`{text}` in the dialogue or above it"), &script).await;
}

/// Waits until the page behind the dialogue has a text.
async fn shown(browser: &Browser, text: &str) {
    let script = format!("return document.querySelector('#page').innerText.includes({text:?});");
    until(browser, &format!("`{text}` on the page"), &script).await;
}

/// Returns what stands in a field of the dialogue.
async fn value(browser: &Browser, name: &str) -> String {
    let script = format!("return document.querySelector('#dialog [name={name}]').value;");
    browser.run(&script, &[]).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn job_that_ends_while_its_dialogue_is_open_is_told() {
    let mut site = Site::small().await;
    let jobs = site.executing();
    let browser = site.visit("/jobs").await;
    let forms = [("migrate", "mem", "2"), ("modify", "timeLimit", "2h"), ("cancel", "", "")];
    for (job, (action, field, text)) in jobs.iter().zip(forms) {
        site.open(&browser, &format!("/jobs/{job}")).await;
        click(&browser, &format!("#do-{action}")).await;
        browser.element(DOES, SOON).await.unwrap();
        if !field.is_empty() {
            type_into(&browser, &format!("#dialog [name={field}]"), text).await;
        }
        site.end(job).await;
        // The page behind the dialogue knows at once, and the dialogue stays as it is.
        shown(&browser, "Completed").await;
        if !field.is_empty() {
            assert_eq!(value(&browser, field).await, text, "{action}");
        }
        click(&browser, DOES).await;
        told(&browser, "Completed").await;
        if !field.is_empty() {
            assert_eq!(value(&browser, field).await, text, "{action}");
        }
        let refusal = browser.run::<String>("return document.querySelector('#do-cancel').title;", &[]).await.unwrap();
        assert!(refusal.contains("Completed"), "{action}: the button says `{refusal}`");
    }
    assert_eq!(browser.faults().await.unwrap(), Vec::<String>::new());
    browser.quit().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_people_change_one_gateway() {
    let site = Site::small().await;
    let path = format!("/gateways/{}", site.gateways[0]);
    let (ada, grace) = (site.visit(&path).await, site.visit(&path).await);
    click(&ada, "[hx-get$='/modify']").await;
    type_into(&ada, "#dialog [name=name]", "assembly").await;

    click(&grace, "[hx-get$='/modify']").await;
    type_into(&grace, "#dialog [name=port_range]", "10000:10100").await;
    click(&grace, DOES).await;
    shown(&grace, "10000:10100").await;

    shown(&ada, "10000:10100").await;
    click(&ada, DOES).await;
    told(&ada, "Somebody changed the gateway meanwhile").await;
    assert_eq!(value(&ada, "name").await, "assembly");
    assert_eq!(value(&ada, "port_range").await, "10000:10100");
    click(&ada, DOES).await;
    for person in [&ada, &grace] {
        shown(person, "Gateway Details - assembly").await;
        shown(person, "10000:10100").await;
    }

    click(&ada, "[hx-get$='/modify']").await;
    type_into(&ada, "#dialog [name=name]", "again").await;
    click(&grace, "[hx-get$='/destroy']").await;
    type_into(&grace, "#dialog [name=confirm]", "assembly").await;
    click(&grace, DOES).await;
    until(&grace, "the list", "return location.pathname === '/gateways';").await;
    until(&ada, "a word about the end", "return document.querySelector('#gone') !== null;").await;
    assert_eq!(value(&ada, "name").await, "again");
    click(&ada, DOES).await;
    told(&ada, "no gateway").await;
    assert_eq!(value(&ada, "name").await, "again");
    for person in [ada, grace] {
        assert_eq!(person.faults().await.unwrap(), Vec::<String>::new());
        person.quit().await;
    }
}
