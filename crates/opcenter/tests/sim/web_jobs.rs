//! The pages of jobs, the palette and the overview.

use mooring_api::Submission;
use mooring_types::JobId;
use mooring_types::job::JobStatus;
use reqwest::StatusCode;

use crate::lab::{Lab, seconds};
use crate::visit::Visit;

/// Submits a job as the admin and lets it execute.
async fn job(lab: &mut Lab, host: &str, name: &str) -> JobId {
    let job = lab.job_on(host, Submission { name: Some(name.parse().unwrap()), ..Submission::default() }).await;
    lab.advance(seconds(1)).await;
    job
}

async fn admin(lab: &Lab) -> Visit {
    Visit::begin(&lab.admin, "admin", &lab.admin_password()).await
}

async fn visitor(lab: &Lab, name: &str) -> Visit {
    lab.user(name).await;
    Visit::begin(&lab.admin, name, &format!("password of {name}")).await
}

#[tokio::test]
async fn list_is_chosen_by_its_address() {
    let mut lab = Lab::start().await;
    let (first, second) = (job(&mut lab, "host-1", "first").await, job(&mut lab, "host-2", "second").await);
    lab.cancel(&first).await;
    let admin = admin(&lab).await;
    let all = admin.get("/jobs").await.text;
    assert!(all.find(second.as_str()).unwrap() < all.find(first.as_str()).unwrap(), "newest first: {all}");
    let failed = admin.get("/jobs?category=failed").await.text;
    assert!(failed.contains(first.as_str()) && !failed.contains(second.as_str()), "{failed}");
    let filtered = admin.get("/jobs?filter=name%3Dsecond%20and%20host~HOST").await.text;
    assert!(filtered.contains(second.as_str()) && !filtered.contains(first.as_str()), "{filtered}");
    assert!(filtered.contains("float list -F table -f"), "{filtered}");
    let wrong = admin.get("/jobs?filter=stat%3DExecuting").await;
    assert_eq!(wrong.status, StatusCode::OK);
    assert!(wrong.text.contains("did you mean `status`?"), "{}", wrong.text);
    let suggested = admin.get("/jobs/filter?text=host%3D").await.text;
    assert!(suggested.contains("data-text=\"host-1\"") && suggested.contains("data-from=\"5\""), "{suggested}");
    // Of others not even the names are told.
    let ada = visitor(&lab, "ada").await;
    let theirs = ada.get("/jobs/filter?text=name%3D").await.text;
    assert!(!theirs.contains("second"), "{theirs}");
    assert!(ada.get("/jobs").await.text.contains("No jobs"));
}

#[tokio::test]
async fn list_follows_its_jobs() {
    let mut lab = Lab::start().await;
    let admin = admin(&lab).await;
    let mut changes = admin.live("/jobs?category=running").await;
    changes.until("No job matches").await;
    let job = job(&mut lab, "host-1", "work").await;
    changes.until(job.as_str()).await;
    lab.suspend(&job).await;
    changes.until("Suspended").await;
}

#[tokio::test]
async fn several_jobs_are_asked_about_and_told_of() {
    let mut lab = Lab::start().await;
    let (one, two) = (job(&mut lab, "host-1", "one").await, job(&mut lab, "host-2", "two").await);
    lab.suspend(&two).await;
    let admin = admin(&lab).await;
    let asked = admin.get(&format!("/jobs/several?action=suspend&job={one}&job={two}")).await.text;
    assert!(asked.contains("Suspend 1 job<") && asked.contains("Left as it is"), "{asked}");
    let jobs = [("action", "cancel"), ("job", one.as_str()), ("job", two.as_str()), ("job", "uqaj8l6a407u88v0106ol")];
    let told = admin.post("/jobs/several", &jobs).await;
    assert_eq!(told.text.matches("is being cancelled").count(), 2, "{}", told.text);
    assert!(told.text.contains("no job uqaj8l6a407u88v0106ol"), "{}", told.text);
    lab.settle().await;
    lab.expect(&one, JobStatus::Cancelled).await;
    lab.expect(&two, JobStatus::Cancelled).await;
    let again = admin.post("/jobs/several", &[("action", "cancel"), ("job", one.as_str())]).await;
    assert!(again.events.contains("mooring:refused"), "{again:?}");
    let ada = visitor(&lab, "ada").await;
    let hidden = ada.get(&format!("/jobs/several?action=cancel&job={one}")).await;
    assert_eq!(hidden.status, StatusCode::NOT_FOUND);
    let nothing = ada.post("/jobs/several", &[("action", "cancel")]).await;
    assert!(nothing.events.contains("no job is selected"), "{nothing:?}");
}

#[tokio::test]
async fn palette_finds_what_the_visitor_may_see() {
    let mut lab = Lab::start().await;
    let job = job(&mut lab, "host-1", "notebook").await;
    lab.create_gateway("lab").await;
    let (admin, ada) = (admin(&lab).await, visitor(&lab, "ada").await);
    let found = admin.get("/palette/results?text=note").await.text;
    assert!(found.contains(&format!("/jobs/{job}")), "{found}");
    assert!(!ada.get("/palette/results?text=note").await.text.contains("/jobs/"));
    assert!(ada.get("/palette/results?text=LAB").await.text.contains("/gateways/"));
    assert!(admin.get("/palette/results?text=audit").await.text.contains("/audit"));
    assert!(!ada.get("/palette").await.text.contains("/audit"));
    assert!(ada.get("/palette/results?text=nothing-like-this").await.text.contains("Nothing is found"));
}

#[tokio::test]
async fn overview_leads_a_first_visitor_and_ticks_live() {
    let mut lab = Lab::start().await;
    let admin = admin(&lab).await;
    let mut changes = admin.live("/").await;
    let first = changes.until("</svg>").await;
    assert!(first.contains("From nothing to an open session"), "{first}");
    let gateway = lab.create_gateway("lab").await;
    changes.until("Connect at ").await;
    let publish = vec!["8888".parse().unwrap()];
    let submission = Submission { publish, gateway: Some(gateway.into()), ..Submission::default() };
    let job = lab.job_on("host-1", submission).await;
    changes.until("Open <bdi>work</bdi>").await;
    lab.migrate(&job, "host-2").await;
    lab.settle().await;
    changes.until("Recent migrations").await;
}
