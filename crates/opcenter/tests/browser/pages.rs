//! Every page, in both themes and on a phone. Nothing fails, violates its policy, is wider than the
//! screen or shifts; no text is taken for markup. axe-core finds no serious fault.

use mooring_api::Client;
use mooring_api::view::SessionRequest;
use mooring_opcenter::{Access, web_routes};
use mooring_testkit::appearance::{Screen, Theme};
use mooring_testkit::browser::Browser;

use crate::site::{SOON, Site};

/// The largest shift of a layout that nobody sees.
pub(crate) const SHIFT_MAX: f64 = 0.01;

/// Returns the paths of the tabs of the job's page.
async fn tabs(site: &Site, browser: &Browser) -> Vec<String> {
    site.open(browser, &format!("/jobs/{}", site.jobs[0])).await;
    let links = "return [...document.querySelectorAll('nav.tabs a')].map(link => link.getAttribute('href'));";
    browser.run(links, &[]).await.unwrap()
}

/// Returns the paths of all pages, with an id of the scenery for each parameter.
pub(crate) async fn paths(site: &Site, browser: &Browser) -> Vec<String> {
    let mut paths = Vec::new();
    for route in web_routes() {
        if route.method != "GET" || route.access != Access::Session {
            continue;
        }
        let Some(path) = filled(site, route.path) else { continue };
        // Parts of pages and downloads are no documents.
        let script = "const answer = await fetch(given[0], {headers: {Accept: 'text/html'}});
            if (!answer.ok || !(answer.headers.get('content-type') ?? '').startsWith('text/html')) return false;
            return (await answer.text()).trimStart().toLowerCase().startsWith('<!doctype html>') && !answer.redirected;";
        if browser.run::<bool>(script, &[path.clone().into()]).await.unwrap() {
            paths.push(path);
        }
    }
    paths
}

/// Fills the parameters of a path.
fn filled(site: &Site, path: &str) -> Option<String> {
    if !path.contains('{') {
        return Some(path.to_owned());
    }
    let id = match path.split('/').nth(1)? {
        "jobs" => site.jobs.first()?.as_str(),
        "gateways" => site.gateways.first()?.as_str(),
        "hosts" => "rhine",
        "users" => "grace",
        "groups" => "genomics",
        "security-groups" => "campus",
        "templates" => "jupyter",
        "secrets" => "s3.key",
        _ => return None,
    };
    let fill = |part| if str::starts_with(part, '{') { id } else { part };
    Some(path.split('/').map(fill).collect::<Vec<_>>().join("/"))
}

/// Returns what is wrong with a page in one theme and on one screen. The name of its picture begins
/// with `prefix`.
pub(crate) async fn look(
    site: &Site,
    browser: &Browser,
    path: &str,
    prefix: &str,
    theme: Theme,
    screen: Screen,
) -> Vec<String> {
    browser.set_theme(theme).await.unwrap();
    browser.set_screen(screen).await.unwrap();
    site.open(browser, path).await;
    browser.element("main#page", SOON).await.unwrap();
    let (path_alone, _) = path.split_once("?code").or_else(|| path.split_once("?connection")).unwrap_or((path, ""));
    let name = path_alone.trim_matches('/').replace(&['/', '?', '=', '&'][..], "-");
    let name = site.jobs.iter().fold(name, |name, job| name.replace(job.as_str(), "job"));
    let name = site.gateways.iter().fold(name, |name, gateway| name.replace(gateway.as_str(), "gateway"));
    let name = if name.is_empty() { "home".to_owned() } else { name };
    browser.picture(&format!("{prefix}{name}-{theme:?}-{screen:?}").to_lowercase()).await.unwrap();
    let mut wrong = browser.faults().await.unwrap();
    if let Err(error) = browser.check_width().await {
        wrong.push(format!("{error:#}"));
    }
    for violation in browser.violations().await.unwrap() {
        wrong.push(format!("{violation:?}"));
    }
    let shifts = browser.layout_shifts().await.unwrap();
    if shifts.iter().map(|(far, _)| far).sum::<f64>() > SHIFT_MAX {
        wrong.push(format!("the layout shifts: {shifts:?}"));
    }
    let markup: usize = browser.count("[onclick], #page b[onclick]").await.unwrap();
    if markup > 0 {
        wrong.push("a text was taken for markup".into());
    }
    wrong.into_iter().map(|what| format!("{path} ({theme:?}, {screen:?}): {what}")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_page_is_sound_in_both_themes_and_on_a_phone() {
    let site = Site::furnished().await;
    let browser = site.visit("/secrets").await;
    let paths = paths(&site, &browser).await;
    assert!(paths.iter().any(|path| path == "/secrets"), "{paths:?}");
    let mut wrong = Vec::new();
    for path in &paths {
        for (theme, screen) in
            [(Theme::Light, Screen::Desktop), (Theme::Dark, Screen::Desktop), (Theme::Light, Screen::Phone)]
        {
            wrong.extend(look(&site, &browser, path, "", theme, screen).await);
        }
    }
    for path in tabs(&site, &browser).await {
        wrong.extend(look(&site, &browser, &path, "", Theme::Light, Screen::Desktop).await);
        wrong.extend(look(&site, &browser, &path, "", Theme::Dark, Screen::Phone).await);
    }
    assert!(wrong.is_empty(), "{} faults of {} pages:\n{}", wrong.len(), paths.len(), wrong.join("\n"));
    browser.quit().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn login_is_sound() {
    let site = Site::empty().await;
    let browser = Browser::start_alone().await.unwrap();
    browser.note_faults().await.unwrap();
    let mut wrong = Vec::new();
    for theme in [Theme::Light, Theme::Dark] {
        wrong.extend(look(&site, &browser, "/login", "", theme, Screen::Phone).await);
        wrong.extend(look(&site, &browser, "/login", "", theme, Screen::Desktop).await);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    browser.quit().await;
}

/// The pages that a program and a page of a job have a user open.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_that_ask_for_a_session_are_sound() {
    let site = Site::small().await;
    let browser = site.visit("/secrets").await;
    let program = Client::new(site.admin.address()).unwrap();
    let asked = program.session_request(&SessionRequest { machine: "rhine".into() }).await.unwrap();
    let (connection, origin) = site.connection().await;
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.extend_pairs([("connection", &*connection), ("origin", &*origin), ("challenge", &"0".repeat(64))]);
    query.extend_pairs([("state", "<state>"), ("arrived", "1")]);
    let for_job = format!("/sign-in-for-job?{}", query.finish());
    let mut wrong = Vec::new();
    for (path, name, words) in [
        (&*asked.path, "confirm-", &*asked.code),
        (&*for_job, "job-", &*origin),
        (
            "/sign-in-for-job?connection=c-1&origin=x&challenge=y&state=z&arrived=1",
            "refused-",
            "this address is not complete",
        ),
    ] {
        for (theme, screen) in [(Theme::Light, Screen::Desktop), (Theme::Dark, Screen::Phone)] {
            wrong.extend(look(&site, &browser, path, name, theme, screen).await);
            let text: String = browser.run("return document.body.innerText;", &[]).await.unwrap();
            assert!(text.contains(words), "{path}: {text}");
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    browser.quit().await;
}
