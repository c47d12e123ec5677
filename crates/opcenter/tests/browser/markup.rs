//! Markup that is typed into every field that a visitor can fill stays text, and so does what a job
//! writes.
//!
//! Forms are found by opening every route, so a new form is covered as soon as it is there. A field
//! that refuses markup gets other texts until its form is accepted. A field that takes markup keeps
//! it, and every page that a link leads to shows it then.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use mooring_api::view::{ApiTokenRequest, GatewayCertificateRequest, JoinTokenRequest};
use mooring_opcenter::{Access, web_routes};
use mooring_testkit::appearance::Screen;
use mooring_testkit::browser::Browser;
use serde::Deserialize;
use serde_json::json;

use crate::site::{SOON, Site, click, until};

/// Text that would do something if it were taken for markup, with two more scripts.
const MARKUP: &str =
    "\"'><img class=\"taken\" src=\"x\" onerror=\"window.taken = 1\"><b class=\"taken\">&amp; שלום 🚢</b>";
/// The texts that a field gets in turns after it has refused markup.
const OTHERS: [&str; 6] = ["", "another-name", "10700:10710", "tcp:*:10.0.0.0/8", "10.0.0.0/8", "dir:/"];
/// The actions of pages that a job's page or a terminal opens, and on which nothing is typed.
const OPENED_ELSEWHERE: [&str; 3] = ["/sign-in-for-job", "/login/confirm", "/login/confirm/refuse"];
/// True as soon as the output of a job of the scenery is shown as it was written.
const OUTPUT: &str =
    "return document.querySelector('[data-lines]')?.innerText.includes('<b onclick=\"boom()\">bold</b>');";
/// The most pages of one shape that are visited.
const PAGES_MAX: usize = 2;

/// True if a text was taken for markup.
const TAKEN: &str = "return document.querySelectorAll('.taken, #page [onclick]').length > 0 || 'taken' in window;";

/// Defines what a text field is, and how to wait for the answer to a request of the page.
const TOOLS: &str = "
    const texts = form => [...form.elements].filter(field =>
        field.name && (field.tagName === 'TEXTAREA' || ['text', 'search', 'password'].includes(field.type)));
    const pause = time => new Promise(done => setTimeout(done, time));
    const answered = act => new Promise(done => {
        document.addEventListener('htmx:finally:request', () => setTimeout(done, 30), {once: true});
        setTimeout(done, 5000);
        act();
    });
";
/// Opens a dialogue.
const OPEN: &str = "
    const dialog = document.getElementById('dialog');
    dialog.close();
    dialog.innerHTML = '';
    htmx.ajax('GET', given[0], {target: '#dialog', swap: 'innerHTML'});
    for (let tries = 0; tries < 200 && !dialog.querySelector('form'); tries += 1) await pause(25);
    await pause(30);
";
/// Returns the forms with text fields: for each one the number of further buttons that send it.
const FORMS: &str = "
    return [...document.querySelectorAll(`${given[0]} form`)].map(form =>
        texts(form).length === 0 ? -1 : form.querySelectorAll('button[hx-post]').length);
";
/// Fills a form and sends it. Returns where it leads, or its fields afterwards; nothing without it.
const SEND: &str = "
    const [root, index, button, values, markup] = given;
    const form = document.querySelectorAll(`${root} form`)[index];
    if (!form) return null;
    window.sending = true;
    const sent = texts(form).map(field => {
        const text = values[field.name] ?? markup;
        field.value = text;
        return field.value;
    });
    const eager = [form, ...form.querySelectorAll('*')].find(part => part.getAttribute('hx-trigger')?.includes('input'));
    if (eager) await answered(() => texts(form)[0].dispatchEvent(new Event('input', {bubbles: true})));
    if (!form.hasAttribute('hx-post')) {
        const query = new URLSearchParams(new FormData(form));
        return {leads: form.hasAttribute('action') ? `${form.getAttribute('action')}?${query}` : null, fields: []};
    }
    const path = location.pathname;
    const send = () => button < 0 ? form.requestSubmit() : form.querySelectorAll('button[hx-post]')[button].click();
    await answered(send);
    const after = location.pathname === path ? document.querySelectorAll(`${root} form`)[index] : null;
    if (!after || !after.isConnected || !document.getElementById('dialog').open && root === '#dialog') {
        // Where it leads to another page, that ends the script.
        await pause(300);
        return {leads: null, fields: []};
    }
    return {leads: null, fields: texts(after).map((field, place) => ({
        name: field.name, value: field.value, sent: sent[place] ?? '', hides: field.type === 'password',
        wrong: field.matches('[aria-invalid=true]') || field.closest('.field')?.querySelector('.error') != null,
    }))};
";

/// The answer to a form that was sent.
#[derive(Debug, Deserialize)]
struct Answer {
    leads: Option<String>,
    fields: Vec<Field>,
}

/// A field of a form that came back.
#[derive(Debug, Deserialize)]
struct Field {
    name: String,
    value: String,
    sent: String,
    hides: bool,
    wrong: bool,
}

/// A route's answer with something to fill or to press.
#[derive(Debug)]
struct Place {
    path: String,
    is_page: bool,
}

/// The ids of the scenery that fill the parameter of a path.
fn ids(site: &Site, path: &str) -> Vec<String> {
    let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    match path.split('/').nth(1).unwrap_or_default() {
        "jobs" => site.jobs.iter().take(12).map(ToString::to_string).collect(),
        "gateways" => site.gateways.iter().map(ToString::to_string).collect(),
        "hosts" => texts(&["rhine", "neckar"]),
        "users" => texts(&["grace"]),
        "groups" => texts(&["genomics"]),
        "security-groups" => texts(&["campus"]),
        "templates" => texts(&["jupyter", "private::assembly"]),
        "secrets" => texts(&["s3.key"]),
        _ => Vec::new(),
    }
}

/// Returns whether a path is one of a route.
fn is_of(route: &str, path: &str) -> bool {
    let path = path.split('?').next().unwrap_or_default();
    let (route, path): (Vec<_>, Vec<_>) = (route.split('/').collect(), path.split('/').collect());
    route.len() == path.len() && route.iter().zip(&path).all(|(part, word)| part.starts_with('{') || part == word)
}

/// Opens every route, and what pages and dialogues lead to. Returns those with forms, and the paths
/// that the forms and buttons of all of them send to.
async fn places(site: &Site, browser: &Browser) -> (Vec<Place>, BTreeSet<String>) {
    #[derive(Deserialize)]
    struct Seen {
        is_page: bool,
        has_form: bool,
        sends: Vec<String>,
        leads: Vec<String>,
    }
    let script = "const headers = {Accept: 'text/html', 'HX-Request': 'true'};
        const answer = await fetch(given[0], {headers});
        if (!answer.ok || !(answer.headers.get('content-type') ?? '').startsWith('text/html')) return null;
        const text = await answer.text();
        const part = new DOMParser().parseFromString(text, 'text/html');
        const all = name => [...part.querySelectorAll(`[${name}^='/']`)].map(found => found.getAttribute(name));
        return {
            is_page: text.trimStart().toLowerCase().startsWith('<!doctype html>'),
            has_form: part.querySelector('form input, form textarea') !== null,
            sends: all('hx-post'),
            leads: [...all('hx-get'), ...all('href').filter(path => path.includes('tab='))],
        };";
    let (mut waiting, mut places, mut sends) = (VecDeque::new(), BTreeMap::new(), BTreeSet::new());
    for route in web_routes().iter().filter(|route| route.method == "GET" && route.access == Access::Session) {
        let ids = if route.path.contains('{') { ids(site, route.path) } else { vec![String::new()] };
        for id in ids {
            let fill = |part| if str::starts_with(part, '{') { id.as_str() } else { part };
            waiting.push_back(route.path.split('/').map(fill).collect::<Vec<_>>().join("/"));
        }
    }
    let mut known: BTreeSet<String> = waiting.iter().cloned().collect();
    let mut opened = BTreeMap::<String, usize>::new();
    while let Some(path) = waiting.pop_front() {
        let Some(seen) = browser.run::<Option<Seen>>(script, &[path.clone().into()]).await.unwrap() else { continue };
        sends.extend(seen.sends);
        for path in seen.leads {
            let times = opened.entry(shape(&path)).or_default();
            if *times < PAGES_MAX && known.insert(path.clone()) {
                *times += 1;
                waiting.push_back(path);
            }
        }
        if seen.has_form {
            places.entry(shape(&path)).or_insert(Place { path, is_page: seen.is_page });
        }
    }
    (places.into_values().collect(), sends)
}

async fn run<T: serde::de::DeserializeOwned>(browser: &Browser, script: &str, given: &[serde_json::Value]) -> T {
    browser.run(&format!("{TOOLS} {script}"), given).await.unwrap()
}

/// Opens a place; returns where its forms are.
async fn open(site: &Site, browser: &Browser, place: &Place) -> &'static str {
    if place.is_page {
        site.open(browser, &place.path).await;
        return "#page";
    }
    let at: String = browser.run("return location.pathname;", &[]).await.unwrap();
    if at != "/secrets" {
        site.open(browser, "/secrets").await;
    }
    run::<()>(browser, OPEN, &[place.path.clone().into()]).await;
    "#dialog"
}

/// Fills a form with markup and sends it, until it is accepted or has refused all texts. Returns
/// what was wrong.
async fn fill(site: &Site, browser: &Browser, place: &Place, form: usize, button: i64) -> Vec<String> {
    let root = open(site, browser, place).await;
    let (mut values, mut wrong) = (BTreeMap::new(), Vec::new());
    for other in OTHERS {
        let given = [root.into(), form.into(), button.into(), json!(values), MARKUP.into()];
        // What was sent before may have taken the form's reason away.
        let sent = browser.run::<Option<Answer>>(&format!("{TOOLS} {SEND}"), &given).await;
        let Some(answer) = (match sent {
            Ok(answer) => answer,
            // An accepted form may lead to another page, which ends the script.
            Err(_) if !browser.run::<bool>("return 'sending' in window;", &[]).await.unwrap() => None,
            Err(error) => panic!("{}: {error:#}", place.path),
        }) else {
            break;
        };
        if let Some(path) = &answer.leads {
            site.open(browser, path).await;
            browser.element("#page", SOON).await.unwrap();
        }
        if browser.run::<bool>(TAKEN, &[]).await.unwrap() {
            wrong.push(format!("{}: markup in {values:?} and the others was taken for markup", place.path));
        }
        let refused: Vec<&Field> = answer.fields.iter().filter(|field| field.wrong).collect();
        // A field that was used, as for a new group, is empty again.
        let is_lost =
            |field: &&Field| !field.hides && field.value != field.sent && (field.wrong || !field.value.is_empty());
        let lost = answer.fields.iter().find(is_lost).filter(|_| !refused.is_empty());
        if let Some(lost) = lost {
            wrong.push(format!("{}: typed {:?} into {}, has {:?}", place.path, lost.sent, lost.name, lost.value));
        }
        // A wrong password slows the next one down.
        if refused.is_empty() || refused.iter().any(|field| field.hides && field.name == "current") {
            break;
        }
        values.extend(refused.into_iter().map(|field| (field.name.clone(), other)));
    }
    wrong
}

/// Returns a page's kind: pages of one kind show the same of different objects.
fn shape(path: &str) -> String {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let routes = web_routes();
    let route = routes.iter().find(|route| route.method == "GET" && is_of(route.path, path));
    let tab = query.split('&').find(|pair| pair.starts_with("tab="));
    let keys = query.split('&').filter_map(|pair| pair.split('=').next());
    format!("{} {tab:?} {:?}", route.map_or(path, |route| route.path), keys.collect::<BTreeSet<_>>())
}

/// Visits every page that a link leads to, on a phone; returns what is wrong with them.
async fn visit_all(site: &Site, browser: &Browser) -> Vec<String> {
    browser.set_screen(Screen::Phone).await.unwrap();
    let mut waiting: VecDeque<String> = VecDeque::from(["/".to_owned()]);
    // Those with the longest names.
    waiting.push_back(format!("/jobs/{}", site.jobs[3]));
    waiting.push_back(format!("/gateways/{}", site.gateways[2]));
    let (mut shapes, mut known, mut wrong) = (BTreeMap::<String, usize>::new(), BTreeSet::new(), Vec::new());
    while let Some(path) = waiting.pop_front() {
        let visited = shapes.entry(shape(&path)).or_default();
        if *visited == PAGES_MAX {
            continue;
        }
        *visited += 1;
        site.open(browser, &path).await;
        if browser.element("main#page", SOON).await.is_err() {
            wrong.push(format!("{path} is no page"));
            continue;
        }
        if browser.run::<bool>(TAKEN, &[]).await.unwrap() {
            wrong.push(format!("{path}: a text was taken for markup"));
        }
        wrong.extend(browser.faults().await.unwrap().into_iter().map(|fault| format!("{path}: {fault}")));
        if let Err(error) = browser.check_width().await {
            wrong.push(format!("{path}: {error:#}"));
        }
        let links = "return [...document.querySelectorAll('a[href^=\"/\"]:not([download])')].map(link => link.getAttribute('href').split('#')[0]);";
        for link in browser.run::<Vec<String>>(links, &[]).await.unwrap() {
            let is_file = link.starts_with("/assets/") || link.starts_with("/api/");
            if !is_file && known.insert(link.clone()) {
                waiting.push_back(link);
            }
        }
    }
    for tab in ["output", "connections", "migrations", "events", "instances", "volumes", "settings", "metrics"] {
        assert!(shapes.keys().any(|shape| shape.contains(&format!("tab={tab}"))), "{tab} is not among {shapes:#?}");
    }
    wrong
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn markup_in_every_field_stays_text_on_every_page() {
    let site = Site::furnished().await;
    let token = JoinTokenRequest { name: String::new(), ttl: String::new(), opcenter: site.origin.clone() };
    site.admin.join_token_create(&token).await.unwrap();
    let token = ApiTokenRequest { name: "nightly".into(), ..ApiTokenRequest::default() };
    site.admin.api_token_create(&token).await.unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["lab.example.org".to_owned()]).unwrap();
    let given = GatewayCertificateRequest { certificate: made.cert.pem(), key: made.signing_key.serialize_pem() };
    for gateway in &site.gateways {
        site.admin.gateway_certificate_set(&gateway.clone().into(), &given).await.unwrap();
    }
    let browser = site.visit("/secrets").await;
    let (places, sends) = places(&site, &browser).await;
    let routes = web_routes();
    let posts = routes.iter().filter(|route| route.method == "POST" && route.access == Access::Session);
    for route in posts.filter(|route| !OPENED_ELSEWHERE.contains(&route.path)) {
        assert!(sends.iter().any(|path| is_of(route.path, path)), "nothing on the pages sends to {}", route.path);
    }
    let (mut wrong, mut filled) = (Vec::new(), 0);
    for place in &places {
        let root = open(&site, &browser, place).await;
        let forms: Vec<i64> = run(&browser, FORMS, &[root.into()]).await;
        for (form, buttons) in forms.into_iter().enumerate() {
            for button in -1..buttons {
                wrong.extend(fill(&site, &browser, place, form, button).await);
            }
            filled += usize::from(buttons >= 0);
        }
    }
    assert!(filled > 20, "{filled} forms of {places:#?}");
    wrong.extend(visit_all(&site, &browser).await);
    site.open(&browser, &format!("/jobs/{}?tab=output", site.jobs[0])).await;
    until(&browser, "the output of a job, as it was written", OUTPUT).await;
    assert!(!browser.run::<bool>(TAKEN, &[]).await.unwrap());
    assert!(wrong.is_empty(), "{} faults:\n{}", wrong.len(), wrong.join("\n"));
    browser.quit().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn markup_at_the_login_stays_text() {
    let site = Site::empty().await;
    let browser = Browser::start_alone().await.unwrap();
    site.open(&browser, "/login?next=%2Fsecrets%3F%22%3E%3Cimg%20class%3Dtaken%3E").await;
    for name in ["username", "password"] {
        browser.type_into(&format!("[name={name}]"), "<b class=\"taken\">x</b>", SOON).await.unwrap();
    }
    click(&browser, "form button:not([type=button])").await;
    until(&browser, "the refusal", "return document.querySelector('.refusal') !== null;").await;
    assert!(!browser.run::<bool>(TAKEN, &[]).await.unwrap());
    let kept: String = browser.run("return document.querySelector('[name=username]').value;", &[]).await.unwrap();
    assert_eq!(kept, "<b class=\"taken\">x</b>");
    browser.quit().await;
}
