//! Submit Job and Job Templates, as a browser uses them.

use mooring_api::Submission;
use mooring_api::view::TemplateCreateRequest;
use mooring_sim::Step;
use mooring_types::job::JobStatus;
use reqwest::StatusCode;

use crate::lab::Lab;
use crate::visit::{Answer, Visit};

async fn admin(lab: &Lab) -> Visit {
    lab.user("ada").await;
    let request = mooring_api::view::UserUpdateRequest { role: "admin".into(), ..Default::default() };
    lab.admin.user_update("ada", &request).await.unwrap();
    Visit::begin(&lab.admin, "ada", "password of ada").await
}

async fn user(lab: &Lab, name: &str) -> Visit {
    lab.user(name).await;
    Visit::begin(&lab.admin, name, &format!("password of {name}")).await
}

fn submission(values: serde_json::Value) -> Submission {
    serde_json::from_value(values).unwrap()
}

/// Returns the id of the job to whose page an answer leads.
fn job_of(answer: &Answer) -> String {
    let (_, rest) = answer.events.split_once("/jobs/").unwrap_or_else(|| panic!("{answer:?}"));
    rest.split('"').next().unwrap().to_owned()
}

#[tokio::test]
async fn preview_is_the_command_line_and_keeps_what_is_typed() {
    let lab = Lab::start().await;
    let ada = user(&lab, "ada").await;
    let form = [("image", "dir:/"), ("cpu", "2"), ("cpuMax", "4"), ("publish", "8080:80"), ("publish", "22")];
    let answer = ada.post("/submit/preview", &form).await;
    let expected = submission(serde_json::json!({"image": "dir:/", "cpu": "2:4", "publish": ["8080:80", "22"]}));
    assert_eq!(answer.status, StatusCode::OK);
    assert!(answer.text.contains(&format!("<pre>float submit {}</pre>", expected.arguments())), "{}", answer.text);
    let wrong = ada.post("/submit/preview", &[("image", "dir:/"), ("cpu", "4"), ("cpuMax", "2"), ("env", "A")]).await;
    assert!(wrong.text.contains("<pre>float submit -i dir:/</pre>"), "{}", wrong.text);
    assert!(wrong.text.contains("invalid number of cores <code>4:2</code>"), "{}", wrong.text);
    assert!(wrong.text.contains("<code>A</code> is no environment variable"), "{}", wrong.text);
    assert!(!wrong.text.contains("<input"), "an answer replaces no field: {}", wrong.text);
    assert!(lab.admin.job_list().await.unwrap().is_empty());
}

#[tokio::test]
async fn form_submits_its_job_or_says_what_is_wrong() {
    let mut lab = Lab::start().await;
    lab.create_gateway("lab").await;
    let ada = admin(&lab).await;
    let page = ada.get("/submit").await.text;
    assert!(page.contains("value=\"lab\"") && page.contains("value=\"host-2\"") && page.contains("value=\"jupyter\""));
    let nothing = ada.post("/submit", &[("name", "web")]).await;
    assert!(nothing.status == StatusCode::UNPROCESSABLE_ENTITY && nothing.text.contains("no image"), "{nothing:?}");
    let wrong = ada.post("/submit", &[("image", "dir:/"), ("timeLimit", "soon")]).await;
    assert!(wrong.status == StatusCode::UNPROCESSABLE_ENTITY, "{wrong:?}");
    assert!(wrong.text.contains("invalid duration <code>soon</code>"), "{wrong:?}");
    let unknown = ada.post("/submit", &[("image", "dir:/"), ("gateway", "gone")]).await;
    assert!(unknown.text.contains("no gateway <code>gone</code>"), "{unknown:?}");
    let form = [
        ("image", "dir:/"),
        ("name", "web"),
        ("run", "command"),
        ("command", "sh -c 'echo $MODE'"),
        ("script", ""),
        ("env", "MODE=<b>test</b>"),
        ("env", ""),
        ("publish", "8080:80"),
        ("gateway", "lab"),
        ("host", "host-2"),
    ];
    let done = ada.post("/submit", &form).await;
    assert!(done.events.contains("Job web is submitted"), "{done:?}");
    let job = job_of(&done).parse().unwrap();
    lab.settle().await;
    let view = lab.expect(&job, JobStatus::Executing).await;
    assert_eq!((view.user.as_str(), view.host_name.as_str(), view.access_urls.len()), ("ada", "host-2", 1));
    assert!(view.input_args.ends_with("-- sh -c 'echo $MODE'"), "{}", view.input_args);
}

#[tokio::test]
async fn submitted_job_shows_how_far_it_is_and_its_address() {
    let mut lab = Lab::start().await;
    lab.create_gateway("lab").await;
    let ada = admin(&lab).await;
    lab.hold(Step::Start);
    let form = [
        ("image", "dir:/"),
        ("name", "web"),
        ("run", "command"),
        ("command", "true"),
        ("publish", "80"),
        ("gateway", "lab"),
        ("host", "host-1"),
    ];
    let job = job_of(&ada.post("/submit", &form).await);
    let mut page = ada.live(&format!("/jobs/{job}")).await;
    page.until("Your job is starting").await;
    // The Access URL is there as soon as the gateway listens, before the job.
    lab.settle().await;
    let url = &lab.view(&job.parse().unwrap()).await.access_urls[0];
    let first = ada.get(&format!("/jobs/{job}")).await.text;
    assert!(first.contains(&format!("href=\"{url}\"")) && first.contains(&format!("data-copy=\"{url}\"")), "{first}");
    page.until("<li class=\"done\"><span>Submitted").await;
    lab.release(Step::Start).await;
    lab.expect(&job.parse().unwrap(), JobStatus::Executing).await;
    let now = ada.get(&format!("/jobs/{job}")).await.text;
    assert!(!now.contains("id=\"starting\"") && now.contains(&format!("href=\"{url}\"")), "{now}");
    // A job that can't be started says why, and what to do.
    lab.fail(Step::Start, "no such image");
    let job = job_of(&ada.post("/submit", &form).await);
    let mut page = ada.live(&format!("/jobs/{job}")).await;
    page.until("Your job is starting").await;
    lab.settle().await;
    page.until("Your job did not start").await;
    let failed = ada.get(&format!("/jobs/{job}")).await.text;
    assert!(failed.contains("no such image") && failed.contains(&format!("/submit?from={job}")), "{failed}");
}

#[tokio::test]
async fn form_begins_with_an_earlier_job_without_its_secrets() {
    let mut lab = Lab::start().await;
    lab.create_gateway("lab").await;
    let ada = admin(&lab).await;
    let (bob, eve) = (user(&lab, "bob").await, user(&lab, "eve").await);
    let secrets = [("name", "token"), ("value", "hidden")];
    ada.post("/secrets", &secrets).await;
    let form = [
        ("image", "dir:/"),
        ("name", "web"),
        ("run", "command"),
        ("command", "true"),
        ("env", "API_KEY=open sesame"),
        ("env", "TOKEN={secret:token}"),
        ("env", "MODE=test"),
        ("publish", "80"),
        ("gateway", "lab"),
    ];
    let job = job_of(&ada.post("/submit", &form).await);
    let page = ada.get(&format!("/submit?from={job}")).await.text;
    assert!(!page.contains("sesame"), "{page}");
    for text in [
        "value=\"API_KEY=********\"",
        "value=\"TOKEN={secret:token}\"",
        "value=\"MODE=test\"",
        "value=\"80:80\"",
        "<option value=\"lab\" selected>",
        "type the value of API_KEY again",
    ] {
        assert!(page.contains(text), "{text}: {page}");
    }
    // The mask is no value.
    let masked = ada.post("/submit", &[("image", "dir:/"), ("env", "API_KEY=********")]).await;
    assert!(masked.status == StatusCode::UNPROCESSABLE_ENTITY, "{masked:?}");
    for stranger in [bob, eve] {
        assert_eq!(stranger.get(&format!("/submit?from={job}")).await.status, StatusCode::NOT_FOUND);
    }
}

#[tokio::test]
async fn templates_start_with_one_click() {
    let mut lab = Lab::start().await;
    let ada = admin(&lab).await;
    let cards = ada.get("/templates").await.text;
    assert!(cards.contains("/templates/jupyter/start") && cards.contains("/submit?template=jupyter"), "{cards}");
    assert!(!cards.contains("/templates/jupyter/delete"), "{cards}");
    let dialog = ada.get("/templates/jupyter/start").await.text;
    assert!(dialog.contains("value=\"jupyter\"") && dialog.contains("name=\"gateway\""), "{dialog}");
    let names = async || lab.admin.gateway_list().await.unwrap().into_iter().map(|gateway| gateway.name);
    let is_new = async || names().await.any(|name| name == "gateway");
    // What a template needs is said, and the gateway for nothing goes again.
    let refused = ada.post("/templates/ssh/start", &[("name", "door"), ("gateway", ":new")]).await;
    assert!(refused.text.contains("needs the variable AUTHORIZED_KEY"), "{refused:?}");
    assert!(refused.text.contains("value=\"door\""), "{refused:?}");
    assert!(!is_new().await);
    let started = ada.post("/templates/jupyter/start", &[("name", "mine"), ("gateway", ":new")]).await;
    assert!(is_new().await);
    let job = job_of(&started).parse().unwrap();
    lab.settle().await;
    let view = lab.expect(&job, JobStatus::Executing).await;
    assert!(view.name == "mine" && view.access_urls[0].contains("/lab?token="), "{view:?}");
    // The gateway that runs is the default now.
    let dialog = ada.get("/templates/jupyter/start").await.text;
    assert!(dialog.contains("<option value=\"gateway\">") && !dialog.contains("value=\":new\""), "{dialog}");
    let wrong = ada.post("/templates/jupyter/start", &[("name", "a b"), ("gateway", ":none")]).await;
    assert!(wrong.status == StatusCode::UNPROCESSABLE_ENTITY && wrong.text.contains("aria-invalid"), "{wrong:?}");
}

#[tokio::test]
async fn templates_are_made_shown_and_deleted_by_their_owner() {
    let lab = Lab::start().await;
    let ada = admin(&lab).await;
    let bob = user(&lab, "bob").await;
    let form =
        [("image", "docker.io/library/debian:13"), ("name", "train"), ("env", "KEY=sesame"), ("command", "true")];
    let dialog = bob.post("/submit/template", &form).await;
    let (_, rest) = dialog.text.split_once("name=\"submission\" value=\"").unwrap();
    let json = rest.split('"').next().unwrap().replace("&#34;", "\"");
    assert!(!dialog.text.contains("value=\"public\""), "{dialog:?}");
    let nameless = bob.post("/templates", &[("name", "a b"), ("submission", &json)]).await;
    assert!(nameless.status == StatusCode::UNPROCESSABLE_ENTITY, "{nameless:?}");
    assert!(nameless.text.contains("invalid template `a b`") && nameless.text.contains("sesame"), "{nameless:?}");
    let mut changes = bob.live("/templates").await;
    changes.until("/templates/jupyter/start").await;
    let saved =
        bob.post("/templates", &[("name", "train"), ("description", "<b>mine</b>"), ("submission", &json)]).await;
    assert!(saved.events.contains("Template private::train:1 is created"), "{saved:?}");
    changes.until("&#60;b&#62;mine").await;
    let path = "/templates/private%3A%3Atrain%3A1";
    let file = bob.get(&format!("{path}/file")).await.text;
    assert!(file.contains("docker.io/library/debian:13") && !file.contains("sesame"), "{file}");
    let yaml = bob.get(&format!("{path}/job.yaml")).await.text;
    assert!(yaml.starts_with("image: docker.io/library/debian:13\n"), "{yaml}");
    let customized = bob.get("/submit?template=private::train:1").await.text;
    assert!(customized.contains("value=\"private::train:1\" selected"), "{customized}");
    assert!(customized.contains("Template private::train:1 gives") && !customized.contains("sesame"), "{customized}");
    // Another user, even an admin, has no such template.
    for way in ["start", "file", "job.yaml"] {
        assert_eq!(ada.get(&format!("{path}/{way}")).await.status, StatusCode::NOT_FOUND, "{way}");
    }
    let unknown = ada.post("/submit/preview", &[("template", "private::train:1")]).await;
    assert!(unknown.text.contains("no template <code>private::train:1</code>"), "{unknown:?}");
    assert_eq!(ada.post(&format!("{path}/delete"), &[]).await.status, StatusCode::NOT_FOUND);
    // A public one is an admin's.
    let public = TemplateCreateRequest {
        name: "lab:1".into(),
        job: Some(submission(serde_json::json!({"image": "dir:/"}))),
        ..TemplateCreateRequest::default()
    };
    lab.admin.template_create(&public).await.unwrap();
    assert!(!bob.get("/templates").await.text.contains("/templates/lab%3A1/delete"));
    assert!(ada.get("/templates").await.text.contains("/templates/lab%3A1/delete"));
    assert_eq!(bob.post("/templates/lab%3A1/delete", &[]).await.status, StatusCode::FORBIDDEN);
    let deleted = bob.post(&format!("{path}/delete"), &[]).await;
    assert!(deleted.events.contains("is deleted"), "{deleted:?}");
    changes.until("event: page").await;
    assert!(!bob.get("/templates").await.text.contains("train"));
}

#[tokio::test]
async fn template_is_made_of_a_job_that_one_may_change() {
    let mut lab = Lab::start().await;
    let job = lab.job().await;
    let (ada, bob) = (admin(&lab).await, user(&lab, "bob").await);
    let dialog = ada.get(&format!("/templates/new?job={job}")).await.text;
    assert!(
        dialog.contains(&format!("name=\"job\" value=\"{job}\"")) && dialog.contains("value=\"public\""),
        "{dialog}"
    );
    let saved = ada.post("/templates", &[("name", "work"), ("scope", "public"), ("job", job.as_str())]).await;
    assert!(saved.events.contains("Template work:1 is created"), "{saved:?}");
    let taken = ada.post("/templates", &[("name", "work:1"), ("scope", "public"), ("job", job.as_str())]).await;
    assert!(taken.text.contains("there is a template `work:1` already"), "{taken:?}");
    assert_eq!(bob.get(&format!("/templates/new?job={job}")).await.status, StatusCode::NOT_FOUND);
}
