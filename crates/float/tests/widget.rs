//! The widget in a real browser. A JupyterLab is migrated, suspended, resumed and cancelled from
//! its panel. The pages of an external job have the widget as well.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mooring_api::view::{JobView, MigrateRequest};
use mooring_api::{Client, ClientError, ErrorCode};
use mooring_testkit::browser::{Browser, Key};
use mooring_testkit::job::{ended, executing};
use mooring_testkit::lab_page::LabPage;
use mooring_testkit::notebook::Notebook;
use mooring_testkit::pages::{Page, Pages};
use mooring_testkit::wait::wait_for;
use mooring_testkit::widget::{Panel, Widget, answer_window};
use mooring_testkit::world::{Plan, World};
use mooring_types::JobId;
use mooring_types::job::JobStatus;
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(60);
const NUMBERS: usize = 100;
/// Longer than it takes a waiting page to look whether its job answers.
const WAITING_PAGE_LOOKS: Duration = Duration::from_secs(3);

const UNTIL: &str = "This screen does not respond until the job executes again.";

const STRICT: Page = Page {
    path: "/strict",
    policy: Some("default-src 'none'; script-src 'nonce-x'; require-trusted-types-for 'script'"),
    html: "<!doctype html><html><head><script nonce=x>document.title = 'ran'</script></head><body>strict</body></html>",
};
const BARE: Page = Page { path: "/bare", policy: None, html: "<!doctype html><p>bare" };
const FRAMING: Page = Page {
    path: "/framing",
    policy: None,
    html: "<!doctype html><html><head><title>framing</title></head><body><iframe src='/bare'></iframe></body></html>",
};
/// A server at which nobody listens.
const NOWHERE: &str = "http://127.0.0.1:9/x/";
/// Pages whose addresses lead there.
const BASED: [Page; 4] = [
    Page {
        path: "/based",
        policy: None,
        html: "<!doctype html><html><head><base href='http://127.0.0.1:9/x/'><title>a</title></head><body>based",
    },
    Page { path: "/based/bare", policy: None, html: "<base href='http://127.0.0.1:9/x/'><title>a</title><p>based" },
    Page {
        path: "/based/before",
        policy: None,
        html: "<base href='http://127.0.0.1:9/x/'><!doctype html><html><head><title>a</title></head><body>based",
    },
    Page {
        path: "/based/late",
        policy: None,
        html: "<!doctype html><html><head><title>a</title></head><body>based<script>
            const base = document.createElement('base');
            base.href = 'http://127.0.0.1:9/x/';
            document.head.append(base);
        </script>",
    },
];

/// The number of widgets in a loaded frame.
const WIDGETS_IN_FRAME: &str = "
    const inner = document.querySelector('iframe').contentDocument;
    if (inner.readyState !== 'complete' || !inner.body.textContent.includes('bare')) return null;
    return inner.querySelectorAll('mooring-widget').length;";

/// The session that the page has stored.
const SESSION_OF_PAGE: &str = "
    const key = Object.keys(sessionStorage).find(key => key.startsWith('mooring.session.'));
    return JSON.parse(sessionStorage.getItem(key));";
/// Signs out of OpCenter on a page of it.
const LOG_OUT: &str = "
    const csrf = document.querySelector('meta[name=csrf-token]').content;
    return (await fetch('/logout', {method: 'POST', headers: {'X-CSRF-Token': csrf, 'HX-Request': 'true'}})).status;";
/// Presses the button of the panel when the browser has forgotten the user's last click.
const CLICK_LATE: &str = "
    await new Promise(resolve => setTimeout(resolve, 6000));
    document.querySelector('#enter').click();";

fn float(world: &World, line: &str) -> Result<JobView> {
    let ran = world.float(&format!("{line} -F json").split(' ').collect::<Vec<_>>())?;
    ensure!(ran.code == Some(0), "{line}: {}", ran.stderr);
    Ok(serde_json::from_str(&ran.stdout)?)
}

async fn becomes(client: &Client, job: &JobId, wanted: JobStatus) -> Result<()> {
    wait_for(&format!("job {job} to be {wanted}"), LIMIT, async || {
        Ok((client.job_get(job).await?.status == wanted).then_some(()))
    })
    .await
}

fn ensure_near(seen: (i64, i64), wanted: (i64, i64)) -> Result<()> {
    let is_near = (seen.0 - wanted.0).abs() <= 1 && (seen.1 - wanted.1).abs() <= 1;
    ensure!(is_near, "at {seen:?} and not at {wanted:?}");
    Ok(())
}

/// At the top right, moved by pointer and by keys, and where it was left after a reload.
async fn is_moved(browser: &Browser, notebook: &Notebook) -> Result<()> {
    browser.open(&notebook.access_url).await?;
    // A browser's first visit may still remove what an earlier job has left.
    browser.element("#jp-main-dock-panel", LIMIT).await?;
    let widget = Widget::find(browser, "lab Executing").await?;
    let width: i64 = browser.run("return innerWidth", &[]).await?;
    let (right, top) = widget.place().await?;
    ensure!(width - right < 30 && top < 20, "it is at {right}, {top} of {width}");
    widget.drag(-300, 200).await?;
    ensure_near(widget.place().await?, (right - 300, top + 200))?;
    for key in [Key::Left, Key::Down, Key::Down] {
        widget.press(key).await?;
    }
    let left_at = widget.place().await?;
    ensure_near(left_at, (right - 316, top + 232))?;
    browser.open(&notebook.access_url).await?;
    let widget = Widget::find(browser, "lab Executing").await?;
    ensure_near(widget.place().await?, left_at)
}

/// The alert while it floats; the kernel's socket stays.
async fn alerts_through_a_move(browser: &Browser, client: &Client, notebook: &Notebook) -> Result<()> {
    let page = LabPage::open(browser, &notebook.access_url, NUMBERS).await?;
    let widget = Widget::find(browser, "lab Executing").await?;
    widget.remember().await?;
    page.count().await?;
    page.shown(10).await?;
    client.job_migrate(&notebook.job, &MigrateRequest::default()).await?;
    let moving = format!("lab is migrating to another host. {UNTIL} What you type is kept.");
    widget.alert_is(&moving).await?;
    widget.alert_is("").await?;
    widget.says("lab Executing").await?;
    let remembered = page.counted().await?;
    ensure!(remembered.dialogs.is_empty() && remembered.states == ["Idle", "Busy"], "{remembered:?}");
    let said = widget.said().await?;
    ensure!(said.alerts == [moving] && said.notices == ["lab is executing again."], "{said:?}");
    Ok(())
}

/// Nobody types a password here; what does not come back from OpCenter's window is told.
async fn is_not_signed_in(browser: &Browser, world: &World, notebook: &Notebook) -> Result<()> {
    browser.open(&notebook.access_url).await?;
    let widget = Widget::find(browser, "lab Executing").await?;
    widget.click().await?;
    let told = async |what: &str| widget.in_panel(async |panel| panel.shows("#result", what).await).await;
    widget.in_panel(async |panel| panel.shows("#login", "to see and manage job lab").await).await?;
    let fields = widget.in_panel(async |_| browser.count("#login input, [type=password]").await).await?;
    ensure!(fields == 0, "{fields} fields");

    widget.begin_sign_in().await?;
    told("Go on in OpCenter").await?;
    browser.in_opened_window(async |browser| browser.close_window().await).await?;
    told("OpCenter’s window was closed. You are not signed in.").await?;
    widget.begin_sign_in().await?;
    let password = world.password()?;
    let refuse = async |browser: &Browser| answer_window(browser, "admin", &password, "[data-refuse]").await;
    browser.in_opened_window(refuse).await?;
    told("You did not allow it").await?;

    // A click that is too long ago opens no window; the link does.
    widget.in_panel(async |_| browser.run::<()>(CLICK_LATE, &[]).await).await?;
    told("The browser has blocked OpCenter’s window.").await?;
    ensure!(browser.windows().await? == 1, "a window was opened");
    widget.follow_link().await?;
    let allow = async |browser: &Browser| answer_window(browser, "admin", &password, "[data-allow]").await;
    browser.in_opened_window(allow).await?;
    widget
        .in_panel(async |panel| {
            panel.shows("#user", "admin").await?;
            panel.click("#logout").await?;
            panel.shows("#login", "Sign in").await
        })
        .await?;
    widget.click().await
}

/// Suspend, resume and migrate, once somebody has signed in.
async fn does_what_the_panel_is_told(
    browser: &Browser,
    world: &World,
    client: &Client,
    notebook: &Notebook,
) -> Result<()> {
    let widget = Widget::find(browser, "lab Executing").await?;
    widget.click().await?;
    widget.sign_in("admin", &world.password()?).await?;
    widget
        .in_panel(async |panel| {
            panel.shows("#facts", notebook.job.as_str()).await?;
            panel.shows("#facts", "host-").await?;
            panel.shows("#facts", "paused for").await?;
            panel.is_disabled("[data-action=resume]").await?;
            panel.click("[data-action=suspend]").await
        })
        .await?;
    ensure!(!widget.panel_is_readable().await?, "the page can read the panel");
    becomes(client, &notebook.job, JobStatus::Suspended).await?;
    widget.says("lab Suspended").await?;
    widget.alert_is(&format!("lab is suspended. {UNTIL} Resume it from the panel.")).await?;
    resumes_from_the_waiting_page(browser, notebook).await?;
    let widget = Widget::find(browser, "lab Executing").await?;
    widget.alert_is("").await?;
    widget.click().await?;
    let before = executing(client, &notebook.job, LIMIT).await?;
    widget
        .in_panel(async |panel| {
            panel.click("[data-action=migrate]").await?;
            panel.fill("#memory", "3").await?;
            panel.click("#migrate .primary").await
        })
        .await?;
    let after = wait_for("the job to be moved", LIMIT, async || {
        let job = client.job_get(&notebook.job).await?;
        Ok((job.status == JobStatus::Executing && job.host_name != before.host_name).then_some(job))
    })
    .await?;
    ensure!((after.mem_gb - 3.0).abs() < 0.01, "{after:?}");
    // The details follow.
    widget.in_panel(async |panel| panel.shows("#facts", "3 GB").await).await
}

/// A client of a suspended job gets the gateway's own page with the widget, which stays as long as
/// the panel is open.
async fn resumes_from_the_waiting_page(browser: &Browser, notebook: &Notebook) -> Result<()> {
    browser.open(&notebook.access_url).await?;
    browser.element("[data-mooring-waiting]", LIMIT).await?;
    let widget = Widget::find(browser, "lab Suspended").await?;
    widget.click().await?;
    widget
        .in_panel(async |panel| {
            panel.shows("#user", "admin").await?;
            panel.is_disabled("[data-action=suspend]").await?;
            panel.click("[data-action=cancel]").await?;
            // What is waited for is that nothing happens for so long.
            tokio::time::sleep(WAITING_PAGE_LOOKS).await;
            panel.shows("#cancel", "End this job?").await?;
            panel.click("[data-action=resume]").await
        })
        .await?;
    browser.element("#jp-main-dock-panel", LIMIT).await.map(drop)
}

/// A session that OpCenter's own has allowed ends with it, wherever its token is.
async fn ends_with_opcenters_session(browser: &Browser, world: &World, notebook: &Notebook) -> Result<()> {
    browser.open(&notebook.access_url).await?;
    Widget::find(browser, "lab Executing").await?;
    let session: Value = browser.run(SESSION_OF_PAGE, &[]).await?;
    let client = Client::new(world.url())?.with_token(session["token"].as_str().context("the page has no session")?);
    client.job_get(&notebook.job).await?;
    browser.open(&format!("{}/account", world.url())).await?;
    let status: u16 = browser.run(LOG_OUT, &[]).await?;
    ensure!(status == 204, "{status}");
    let replayed = client.job_get(&notebook.job).await;
    ensure!(replayed.is_err_and(|error| error.code() == Some(ErrorCode::Unauthenticated)), "the token is still good");
    browser.open(&notebook.access_url).await?;
    let widget = Widget::find(browser, "lab Executing").await?;
    widget.click().await?;
    widget.in_panel(async |panel| panel.shows("#error", "your session has ended").await).await?;
    widget.sign_in("admin", &world.password()?).await?;
    widget.in_panel(async |panel| panel.shows("#user", "admin").await).await
}

/// A reload keeps the login; what the page has of it is good for this job alone.
async fn keeps_its_session_to_itself(
    browser: &Browser,
    world: &World,
    notebook: &Notebook,
    other: &JobView,
) -> Result<()> {
    browser.open(&notebook.access_url).await?;
    let widget = Widget::find(browser, "lab Executing").await?;
    widget.click().await?;
    widget.in_panel(async |panel| panel.shows("#user", "admin").await).await?;
    let session: Value = browser.run(SESSION_OF_PAGE, &[]).await?;
    let token = session["token"].as_str().context("the page has no session")?;
    let client = Client::new(world.url())?.with_token(token);
    client.job_get(&notebook.job).await?;
    let refused = |outcome: Result<(), ClientError>| match outcome {
        Err(ClientError::Refused(body)) if body.error_code() == ErrorCode::PermissionDenied => Ok(()),
        outcome => Err(anyhow::anyhow!("not refused: {outcome:?}")),
    };
    refused(client.job_get(&other.id).await.map(drop))?;
    refused(client.job_cancel(&other.id).await.map(drop))?;
    refused(client.job_suspend(&other.id).await.map(drop))?;
    refused(client.gateway_list().await.map(drop))?;
    let at_other = format!("{}.mooring/api/job", other.access_urls[0]);
    let http = reqwest::Client::builder().no_proxy().build()?;
    let status = http.get(at_other).bearer_auth(token).send().await?.status();
    ensure!(status == reqwest::StatusCode::FORBIDDEN, "{status}");
    Ok(())
}

/// A job that somebody else runs: pages with a strict policy, without a head, in a frame.
async fn is_on_other_pages(browser: &Browser, world: &World, job: &JobView) -> Result<()> {
    let base = job.access_urls[0].trim_end_matches('/');
    for page in [BARE, FRAMING] {
        browser.open(&format!("{base}{}", page.path)).await?;
        Widget::find(browser, "pages Executing").await?;
        ensure!(browser.count("mooring-widget").await? == 1, "{page:?}");
    }
    let in_frame: usize = wait_for("the frame", LIMIT, async || browser.run(WIDGETS_IN_FRAME, &[]).await).await?;
    ensure!(in_frame == 0, "{in_frame} in the frame");
    for page in BASED {
        browser.open(&format!("{base}{}", page.path)).await?;
        let widget = Widget::find(browser, "pages Executing").await?;
        let leads_to: String = browser.run("return document.baseURI", &[]).await?;
        ensure!(leads_to == NOWHERE, "{page:?} leads to {leads_to}");
        widget.click().await?;
        widget.in_panel(async |panel| panel.shows("#login", "job pages").await).await.context(page.path)?;
    }
    browser.open(&format!("{base}{}", STRICT.path)).await?;
    let widget = Widget::find(browser, "pages Executing").await?;
    ensure!(browser.run::<String>("return document.title", &[]).await? == "ran", "the page's own script did not run");
    float(world, &format!("job update -j {} --status Floating", job.id))?;
    widget.says("pages Floating").await?;
    widget.alert_is(&format!("pages is migrating to another host. {UNTIL}")).await?;
    float(world, &format!("job update -j {} --status Executing", job.id))?;
    widget.alert_is("").await?;
    widget.says("pages Executing").await?;
    widget.click().await?;
    widget.in_panel(async |panel| panel.shows("#login", "job pages").await).await
}

/// Cancel asks again, and ends the job then.
async fn cancels(browser: &Browser, client: &Client, notebook: &Notebook) -> Result<()> {
    browser.open(&notebook.access_url).await?;
    let widget = Widget::find(browser, "lab Executing").await?;
    widget.click().await?;
    let asks = async |panel: &Panel<'_>| {
        panel.click("[data-action=cancel]").await?;
        panel.shows("#cancel", "End this job?").await
    };
    widget
        .in_panel(async |panel| {
            asks(&panel).await?;
            panel.click("#cancel [data-back]").await?;
            panel.shows("#status", "Executing").await?;
            asks(&panel).await?;
            panel.click("#cancel .primary").await
        })
        .await?;
    let job = ended(client, &notebook.job, LIMIT).await?;
    ensure!(job.status == JobStatus::Cancelled, "{job:?}");
    widget.says("lab Cancelled").await?;
    widget.alert_is("lab was cancelled. This screen does not respond any more.").await
}

async fn use_it(browser: &Browser, world: &World, client: &Client, notebook: &Notebook, other: &JobView) -> Result<()> {
    is_moved(browser, notebook).await.context("place")?;
    alerts_through_a_move(browser, client, notebook).await.context("alert")?;
    is_not_signed_in(browser, world, notebook).await.context("sign-in")?;
    does_what_the_panel_is_told(browser, world, client, notebook).await.context("panel")?;
    keeps_its_session_to_itself(browser, world, notebook, other).await.context("session")?;
    ends_with_opcenters_session(browser, world, notebook).await.context("logout")?;
    is_on_other_pages(browser, world, other).await.context("other pages")?;
    cancels(browser, client, notebook).await.context("cancel")
}

#[test]
fn widget_shows_and_controls_its_job() {
    let world = World::start(Plan::new(env!("CARGO_BIN_EXE_float")).with_endpoints_here()).unwrap();
    let outcome = world.run_inside(async || {
        let client = world.client().await?;
        let pages = Pages::start(&[&[STRICT, BARE, FRAMING][..], &BASED].concat()).await?;
        let notebook = Notebook::launch(&client, "lab").await?;
        let other = format!("job register -n pages --endpoint {} --gateway {}", pages.address(), notebook.gateway);
        let other = float(&world, &other)?;
        let browser = Browser::start(&world).await?;
        browser.watched(async |browser| use_it(browser, &world, &client, &notebook, &other).await).await?;
        browser.quit().await;
        Ok(())
    });
    outcome.unwrap();
}
