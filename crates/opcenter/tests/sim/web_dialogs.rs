//! Dialogues: choices that follow while they are open, and what a deletion says before it happens.

use mooring_api::Submission;
use mooring_api::submission::Environment;
use mooring_api::view::{GatewayCreateRequest, GroupAddRequest, SecretSetRequest, TemplateCreateRequest};
use mooring_sim::Step;
use mooring_types::JobId;
use mooring_types::job::JobStatus;

use crate::lab::Lab;
use crate::visit::Visit;

async fn admin(lab: &Lab) -> Visit {
    Visit::begin(&lab.admin, "admin", &lab.admin_password()).await
}

fn publishing(name: &str) -> Submission {
    Submission {
        name: Some(name.parse().unwrap()),
        image: Some("alpine:3".parse().unwrap()),
        publish: vec!["8888".parse().unwrap()],
        ..Submission::default()
    }
}

/// Submits a job of the admin that publishes a port, and lets it execute.
async fn job_named(lab: &mut Lab, name: &str) -> JobId {
    lab.job_on("host-1", publishing(name)).await
}

#[tokio::test]
async fn open_dialogue_shows_what_comes_meanwhile() {
    let mut lab = Lab::start().await;
    let gateway = lab.create_gateway("lab").await;
    let visitor = admin(&lab).await;
    let path = format!("/gateways/{gateway}/connect");
    let mut empty = visitor.live(&path).await;
    empty.until("No job to connect").await;
    let first = job_named(&mut lab, "first").await;
    empty.until(first.as_str()).await;
    // The chosen job stays the chosen one.
    let mut chosen = visitor.live(&format!("{path}?job={first}")).await;
    chosen.until(&format!("<option value=\"{first}\" selected>")).await;
    let second = job_named(&mut lab, "second").await;
    let html = chosen.until(&format!("<option value=\"{second}\">")).await;
    assert!(html.contains(&format!("<option value=\"{first}\" selected>")), "{html}");
    assert!(html.contains(&format!("data-live=\"{path}?job={first}\"")), "{html}");

    let mut of_job = visitor.live(&format!("/jobs/{first}/connect")).await;
    of_job.until("lab (").await;
    let mut of_submission = visitor.live("/submit").await;
    of_submission.until("value=\"lab\"").await;
    let request = GatewayCreateRequest { name: "other".into(), port_range: "20000:20001".into(), ..Default::default() };
    lab.admin.gateway_create(&request).await.unwrap();
    lab.settle().await;
    of_job.until("other (").await;
    of_submission.until("value=\"other\"").await;
    let mut creation = visitor.live("/gateways/new").await;
    creation.until("<strong>default</strong>").await;
    visitor.post("/security-groups", &[("name", "campus")]).await;
    creation.until("<strong>campus</strong>").await;
}

#[tokio::test]
async fn dialogue_of_another_user_is_followed_by_nobody() {
    let mut lab = Lab::start().await;
    let job = job_named(&mut lab, "first").await;
    lab.user("eve").await;
    let eve = Visit::begin(&lab.admin, "eve", "password of eve").await;
    let mut changes = eve.live(&format!("/jobs/{job}/connect")).await;
    let told = changes.until("event: ended").await;
    assert!(!told.contains("event: page"), "{told}");
    let stranger = Visit::stranger(&lab.admin);
    let answer = stranger.request(reqwest::Method::GET, "/gateways/new").header("Accept", "text/event-stream");
    assert!(answer.send().await.unwrap().status().is_client_error());
}

#[tokio::test]
async fn deletion_of_a_user_says_what_becomes_of_each() {
    let mut lab = Lab::start().await;
    let client = lab.user("ada").await;
    let job = client.job_submit(&publishing("training")).await.unwrap().id;
    let request = GatewayCreateRequest { name: "adas".into(), ..GatewayCreateRequest::default() };
    client.gateway_create(&request).await.unwrap();
    client.secret_set("wifi", &SecretSetRequest { value: "open sesame".into() }).await.unwrap();
    let group = GroupAddRequest { name: "physics".into(), users: vec!["ada".into()], ..GroupAddRequest::default() };
    lab.admin.group_add(&group).await.unwrap();
    lab.settle().await;
    let visitor = admin(&lab).await;
    let asked = visitor.get("/users/ada/delete").await.text;
    for part in [job.as_str(), "training", ">adas<", ">physics<", "1 secret, 0 private templates, 1 open session"] {
        assert!(asked.contains(part), "{part}: {asked}");
    }
    assert!(!asked.contains("wifi") && !asked.contains("sesame"), "{asked}");
    let refused = visitor.post("/users/ada/delete", &[]).await;
    assert!(refused.below("cancelJobs").contains("user ada has jobs that have not ended: training"), "{refused:?}");
    let done = visitor.post("/users/ada/delete", &[("cancelJobs", "true")]).await;
    assert!(done.events.contains("User ada is deleted"), "{done:?}");
    lab.settle().await;
    lab.expect(&job, JobStatus::Cancelled).await;
    // What stays is kept in the name, which nobody else gets.
    let form = [("name", "ada"), ("password", "long enough"), ("again", "long enough"), ("role", "user")];
    let again = visitor.post("/users", &form).await;
    assert!(again.below("name").contains("`ada` was a user who is deleted"), "{again:?}");
    // Groups name those who lose sight of each other.
    let asked = visitor.get("/groups/physics/delete").await.text;
    assert!(asked.contains("It has no members"), "{asked}");
    lab.user("bob").await;
    visitor.post("/groups/physics/update", &[("users", "bob")]).await;
    assert!(visitor.get("/groups/physics/delete").await.text.contains(">bob<"));
    assert_eq!(
        Visit::begin(&lab.admin, "bob", "password of bob").await.get("/users/bob/delete").await.status.as_u16(),
        403
    );
}

#[tokio::test]
async fn removal_of_a_secret_names_what_refers_to_it() {
    let mut lab = Lab::start().await;
    let client = lab.user("ada").await;
    client.secret_set("token", &SecretSetRequest { value: "open sesame".into() }).await.unwrap();
    client.secret_set("idle", &SecretSetRequest { value: "x".into() }).await.unwrap();
    let env = |name: &str| {
        let env = Environment([("TOKEN".to_owned(), "Bearer {secret:token}".to_owned())].into());
        Submission { env, host: Some("host-1".parse().unwrap()), ..publishing(name) }
    };
    let running = client.job_submit(&env("running")).await.unwrap().id;
    lab.settle().await;
    lab.hold(Step::Start);
    let waiting = client.job_submit(&env("waiting")).await.unwrap().id;
    lab.settle().await;
    let template = TemplateCreateRequest {
        name: "private::train".into(),
        job: Some(Submission { host: None, ..env("x") }),
        ..TemplateCreateRequest::default()
    };
    client.template_create(&template).await.unwrap();
    client.template_create(&template).await.unwrap();
    let ada = Visit::begin(&lab.admin, "ada", "password of ada").await;
    let asked = ada.get("/secrets/token/remove").await.text;
    let (started, later) = asked.split_once("have not started").unwrap_or_else(|| panic!("{asked}"));
    assert!(started.contains(running.as_str()) && !started.contains(waiting.as_str()), "{asked}");
    assert!(later.contains(waiting.as_str()) && later.contains("private::train:1"), "{asked}");
    assert!(ada.get("/secrets/idle/remove").await.text.contains("no template refers to it"));
    // Another user's secret of that name is another one.
    let visitor = admin(&lab).await;
    assert!(visitor.get("/secrets/token/remove").await.text.contains("no template refers to it"));
    let asked = ada.get("/templates/private%3A%3Atrain%3A2/delete").await.text;
    assert!(asked.contains("<code>private::train:1</code> then"), "{asked}");
    ada.post("/templates/private%3A%3Atrain%3A2/delete", &[]).await;
    let asked = ada.get("/templates/private%3A%3Atrain%3A1/delete").await.text;
    assert!(asked.contains("No template has this name then"), "{asked}");
}

#[tokio::test]
async fn drain_names_the_jobs_of_its_host() {
    let mut lab = Lab::start().await;
    let job = job_named(&mut lab, "training").await;
    let visitor = admin(&lab).await;
    let asked = visitor.get("/hosts/host-1/drain").await.text;
    assert!(asked.contains(job.as_str()) && asked.contains("1 job will migrate"), "{asked}");
    assert!(!visitor.get("/hosts/host-2/drain").await.text.contains(job.as_str()));
    assert!(visitor.get("/hosts/host-1/rejoin").await.text.contains("1 job and its gateways stay assigned"));
}
