//! Job Details: what it shows, its actions, and its downloads.

use futures_util::StreamExt;
use mooring_api::view::{GatewayCreateRequest, GroupAddRequest};
use mooring_api::{Client, ErrorCode, Submission};
use mooring_sim::Step;
use mooring_types::JobId;
use mooring_types::job::{JobStatus, OutputFile};
use reqwest::{Method, StatusCode};

use crate::lab::{Lab, refused, seconds};
use crate::visit::Visit;

async fn visitor(lab: &Lab, name: &str) -> (Client, Visit) {
    let client = lab.user(name).await;
    (client, Visit::begin(&lab.admin, name, &format!("password of {name}")).await)
}

/// Submits a job of a user on `host-1`, connected to a gateway, and lets it execute.
async fn job_of(lab: &mut Lab, client: &Client) -> JobId {
    let gateway = lab.create_gateway("lab").await;
    let request = Submission {
        name: Some("notebook".parse().unwrap()),
        image: Some("alpine:3".parse().unwrap()),
        host: Some("host-1".parse().unwrap()),
        publish: vec!["8888".parse().unwrap()],
        gateway: Some(gateway.into()),
        custom_tags: mooring_api::submission::Tags([("project".to_owned(), "a".to_owned())].into()),
        ..Submission::default()
    };
    let job = client.job_submit(&request).await.unwrap().id;
    lab.settle().await;
    lab.expect(&job, JobStatus::Executing).await;
    job
}

#[tokio::test]
async fn page_follows_a_migration_to_its_end() {
    let mut lab = Lab::start().await;
    let (client, ada) = visitor(&lab, "ada").await;
    let job = job_of(&mut lab, &client).await;
    let mut changes = ada.live(&format!("/jobs/{job}?tab=migrations")).await;
    let page = changes.until("No migrations").await;
    let url = &lab.view(&job).await.access_urls[0];
    assert!(page.contains("Job Details - <bdi>notebook</bdi>") && page.contains(&format!("href=\"{url}\"")), "{page}");
    let dialog = ada.get(&format!("/jobs/{job}/migrate")).await;
    assert!(dialog.text.contains("value=\"host-2\"") && !dialog.text.contains("value=\"host-1\""), "{}", dialog.text);

    lab.hold(Step::Freeze);
    let told = ada.post(&format!("/jobs/{job}/migrate"), &[("host", "host-2"), ("cpu", "2"), ("mem", "")]).await;
    assert!(told.status == StatusCode::NO_CONTENT && told.events.contains("Migrate request"), "{told:?}");
    lab.settle().await;
    let page = changes.until("aria-current=\"step\"").await;
    assert!(page.contains("under way"), "{page}");
    let busy = ada.get(&format!("/jobs/{job}")).await.text;
    assert!(busy.contains("wait until the present migration has ended"), "{busy}");
    lab.advance(seconds(1)).await;
    lab.release(Step::Freeze).await;
    let page = changes.until("clients waited 1.00 s").await;
    assert!(page.contains("host-1") && page.contains("host-2"), "{page}");
    assert_eq!(lab.expect_on(&job, "host-2").await.cpu, 2);

    let wrong = ada.post(&format!("/jobs/{job}/migrate"), &[("host", "host-2"), ("cpu", "many"), ("mem", "2")]).await;
    assert_eq!(wrong.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(wrong.text.contains("value=\"many\"") && wrong.text.contains("aria-invalid"), "{}", wrong.text);
    let large = ada.post(&format!("/jobs/{job}/migrate"), &[("host", "host-3"), ("cpu", "500"), ("mem", "")]).await;
    assert!(large.text.contains("lacks room") && large.text.contains("value=\"500\""), "{}", large.text);
}

#[tokio::test]
async fn actions_follow_the_status_and_disabled_ones_say_why() {
    let mut lab = Lab::start().await;
    let (client, ada) = visitor(&lab, "ada").await;
    let job = job_of(&mut lab, &client).await;
    let path = |rest: &str| format!("/jobs/{job}/{rest}");
    let page = ada.get(&format!("/jobs/{job}")).await.text;
    assert!(page.contains("title=\"a job that is Executing can&#39;t be resumed; it executes already\""), "{page}");

    assert!(ada.post(&path("snapshot"), &[]).await.events.contains("Snapshot request"));
    lab.settle().await;
    lab.expect_outcome(&job, "succeeded").await;
    assert!(ada.post(&path("suspend"), &[]).await.events.contains("Suspend request"));
    lab.settle().await;
    lab.expect(&job, JobStatus::Suspended).await;
    for refused in [ada.get(&path("migrate")).await, ada.post(&path("migrate"), &[("host", "")]).await] {
        assert!(refused.status == StatusCode::CONFLICT, "{refused:?}");
    }
    let told = ada.post(&path("snapshot"), &[]).await;
    assert!(told.events.contains("a job that is Suspended can't have a snapshot made"), "{told:?}");
    assert!(ada.post(&path("resume"), &[]).await.events.contains("Resume request"));
    lab.settle().await;
    lab.expect(&job, JobStatus::Executing).await;

    // The job ends while two dialogues are open.
    let (cancel, modify) = (ada.get(&path("cancel")).await, ada.get(&path("modify")).await);
    assert!(cancel.text.contains("in memory") && modify.text.contains("project:a"), "{cancel:?} {modify:?}");
    assert!(ada.post(&path("cancel"), &[]).await.events.contains("Cancel request"));
    lab.settle().await;
    lab.expect(&job, JobStatus::Cancelled).await;
    let told = ada.post(&path("cancel"), &[]).await;
    assert!(told.events.contains("a job that is Cancelled can't be cancelled"), "{told:?}");
    let told = ada.post(&path("modify"), &[("name", "other"), ("before.name", "notebook")]).await;
    assert!(told.text.contains("a job that is Cancelled can&#39;t be modified"), "{told:?}");
    assert!(told.text.contains("value=\"other\""), "{told:?}");

    let again = ada.post(&path("rerun"), &[]).await;
    assert!(again.status == StatusCode::NO_CONTENT && again.events.contains("/jobs/"), "{again:?}");
    assert_eq!(client.job_list().await.unwrap().len(), 2);
}

#[tokio::test]
async fn modify_changes_what_was_changed_and_nothing_else() {
    let mut lab = Lab::start().await;
    let (client, ada) = visitor(&lab, "ada").await;
    let job = job_of(&mut lab, &client).await;
    let before = [("before.name", "notebook"), ("before.tags", "project:a"), ("before.timeLimit", "")];
    let form = |changes: &[(&'static str, &'static str)]| [before.as_slice(), changes].concat();
    // Somebody else has set a limit since the dialogue was opened.
    let limit = mooring_api::view::JobModifyRequest { time_limit: Some(seconds(60)), ..Default::default() };
    client.job_modify(&job, &limit).await.unwrap();
    let path = format!("/jobs/{job}/modify");
    let wrong = ada.post(&path, &form(&[("name", "a b"), ("tags", "project:a"), ("timeLimit", "")])).await;
    assert!(wrong.status == StatusCode::UNPROCESSABLE_ENTITY && wrong.text.contains("value=\"a b\""), "{wrong:?}");
    let done = ada.post(&path, &form(&[("name", "lab-1"), ("tags", "kind:exam"), ("timeLimit", "")])).await;
    assert!(done.events.contains("The job is modified"), "{done:?}");
    let view = lab.view(&job).await;
    assert_eq!((view.name.as_str(), view.time_limit.as_str()), ("lab-1", "1m0s"));
    assert_eq!(view.custom_tags, [("kind".to_owned(), "exam".to_owned())].into());
}

#[tokio::test]
async fn connections_are_made_and_ended_on_the_page() {
    let mut lab = Lab::start().await;
    let (client, ada) = visitor(&lab, "ada").await;
    let job = job_of(&mut lab, &client).await;
    let request = GatewayCreateRequest {
        name: "other".into(),
        port_range: "11000:11010".into(),
        ..GatewayCreateRequest::default()
    };
    let other = lab.admin.gateway_create(&request).await.unwrap().id;
    lab.settle().await;
    let path = |rest: &str| format!("/jobs/{job}/{rest}");
    let dialog = ada.get(&path("connect")).await.text;
    assert!(dialog.contains("other (") && dialog.contains("value=\"8888\" checked"), "{dialog}");
    let taken = ada.post(&path("connect"), &[("gateway", "lab"), ("port", "8888")]).await;
    assert!(taken.status == StatusCode::UNPROCESSABLE_ENTITY && taken.text.contains("is connected"), "{taken:?}");
    let done = ada.post(&path("connect"), &[("gateway", other.as_str()), ("port", "8888")]).await;
    assert!(done.events.contains("The job is connected"), "{done:?}");
    lab.settle().await;
    let tab = ada.get(&format!("/jobs/{job}?tab=connections")).await.text;
    assert!(tab.contains("2 connections"), "{tab}");
    let asked = ada.get(&path(&format!("disconnect?gateway={other}&port=8888"))).await.text;
    assert!(asked.contains("No client is connected"), "{asked}");
    let gone = ada.post(&path("disconnect"), &[("gateway", other.as_str()), ("port", "8888")]).await;
    assert!(gone.events.contains("is disconnected"), "{gone:?}");
    assert_eq!(lab.view(&job).await.access_urls.len(), 1);
}

#[tokio::test]
async fn mates_see_and_strangers_do_not() {
    let mut lab = Lab::start().await;
    let (client, _ada) = visitor(&lab, "ada").await;
    let (mate_client, mate) = visitor(&lab, "mate").await;
    let (_, eve) = visitor(&lab, "eve").await;
    let users = vec!["ada".to_owned(), "mate".to_owned()];
    let group = GroupAddRequest { name: "lab".into(), users, ..GroupAddRequest::default() };
    lab.admin.group_add(&group).await.unwrap();
    let job = job_of(&mut lab, &client).await;

    let page = mate.get(&format!("/jobs/{job}?tab=settings")).await.text;
    assert!(page.contains("Job Details - <bdi>notebook</bdi>") && page.contains("tab=migrations"), "{page}");
    for hidden in ["tab=output", "tab=attachments", "do-cancel", "do-migrate", "float submit -"] {
        assert!(!page.contains(hidden), "{hidden}: {page}");
    }
    let output = mate.get(&format!("/jobs/{job}?tab=output")).await.text;
    assert!(!output.contains("data-output") && output.contains("tab=connections\" aria-current"), "{output}");
    refused(mate_client.job_file(&job, None).await, ErrorCode::PermissionDenied, "belongs to ada");

    assert_eq!(eve.get(&format!("/jobs/{job}")).await.status, StatusCode::NOT_FOUND);
    for action in ["migrate", "suspend", "resume", "snapshot", "modify", "rerun", "cancel", "connect", "disconnect"] {
        let form = [("host", ""), ("name", "x"), ("gateway", "lab"), ("port", "8888")];
        let of_mate = mate.post(&format!("/jobs/{job}/{action}"), &form).await;
        assert_eq!(of_mate.status, StatusCode::FORBIDDEN, "{action}: {of_mate:?}");
        let of_eve = eve.post(&format!("/jobs/{job}/{action}"), &form).await;
        assert_eq!(of_eve.status, StatusCode::NOT_FOUND, "{action}: {of_eve:?}");
    }
    lab.expect_on(&job, "host-1").await;
}

#[tokio::test]
async fn files_are_downloads_and_never_pages() {
    let mut lab = Lab::start().await;
    let (client, ada) = visitor(&lab, "ada").await;
    let (_, eve) = visitor(&lab, "eve").await;
    let job = job_of(&mut lab, &client).await;
    let markup = b"<script>alert('x')</script>\n";
    let large: Vec<u8> = (0..600_000_u32).map(|index| (index % 251) as u8).collect();
    let result = OutputFile::Result("figure.html".into());
    lab.host("host-1").write_file(&job, &OutputFile::Stdout, 0, markup).await.unwrap();
    lab.host("host-1").write_file(&job, &OutputFile::Stderr, 0, b"oh").await.unwrap();
    lab.host("host-1").write_file(&job, &result, 0, &large).await.unwrap();

    let page = ada.get(&format!("/jobs/{job}?tab=output&file=results/figure.html")).await.text;
    assert!(page.contains("data-file=\"results/figure.html\"") && !page.contains("alert"), "{page}");
    let tab = ada.get(&format!("/jobs/{job}?tab=attachments")).await.text;
    assert!(tab.contains("results/figure.html") && tab.contains("600 kB"), "{tab}");

    let path = format!("/api/v1/jobs/{job}/files");
    let answer = ada.request(Method::GET, &format!("{path}?name=results/figure.html")).send().await.unwrap();
    let header = |name: &str| answer.headers()[name].to_str().unwrap().to_owned();
    assert_eq!(header("content-disposition"), "attachment; filename=\"figure.html\"");
    assert_eq!(header("content-type"), "application/octet-stream");
    assert_eq!(header("x-content-type-options"), "nosniff");
    assert_eq!(header("content-length"), "600000");
    assert_eq!(answer.bytes().await.unwrap(), large);
    let both = ada.request(Method::GET, &path).send().await.unwrap().text().await.unwrap();
    assert_eq!(both, "<script>alert('x')</script>\noh");

    for name in ["results/other", "results/../../opcenter.db", "order", "/etc/passwd"] {
        let answer = ada.request(Method::GET, &format!("{path}?name={name}")).send().await.unwrap();
        assert!(answer.status().is_client_error(), "{name}: {answer:?}");
    }
    assert_eq!(eve.request(Method::GET, &path).send().await.unwrap().status(), StatusCode::NOT_FOUND);
    let stranger = Visit::stranger(&lab.admin).request(Method::GET, &path).send().await.unwrap();
    assert_eq!(stranger.status(), StatusCode::UNAUTHORIZED);

    let mut download = client.job_file(&job, Some(&result)).await.unwrap();
    let mut whole = Vec::new();
    while let Some(piece) = download.piece().await.unwrap() {
        whole.extend_from_slice(&piece);
    }
    assert_eq!(whole, large);
}

#[tokio::test]
async fn output_is_pushed_as_it_is_written() {
    let mut lab = Lab::start().await;
    let (client, ada) = visitor(&lab, "ada").await;
    let (eve_client, eve) = visitor(&lab, "eve").await;
    let job = job_of(&mut lab, &client).await;
    let tab = ada.get(&format!("/jobs/{job}")).await.text;
    assert!(tab.contains(&format!("data-output=\"/api/v1/jobs/{job}/log/watch\"")), "{tab}");
    lab.host("host-1").write_file(&job, &OutputFile::Stdout, 0, b"one\n").await.unwrap();
    let mut both = ada.live(&format!("/api/v1/jobs/{job}/log/watch?offset=0")).await;
    both.until("one\\n").await;
    let mut watch = client.job_log_watch(&job, Some(&OutputFile::Stderr), 0).await.unwrap();
    // A character that comes in two halves is shown once it is whole.
    let [first, rest] = ["a\u{e9}".as_bytes()[..2].to_vec(), "a\u{e9}".as_bytes()[2..].to_vec()];
    lab.host("host-1").write_file(&job, &OutputFile::Stderr, 0, &first).await.unwrap();
    let piece = watch.next().await.unwrap().unwrap();
    assert_eq!((piece.text.as_str(), piece.next, piece.ended), ("a", 1, false));
    lab.host("host-1").write_file(&job, &OutputFile::Stderr, 2, &rest).await.unwrap();
    let piece = watch.next().await.unwrap().unwrap();
    assert_eq!((piece.text.as_str(), piece.offset, piece.next), ("\u{e9}", 1, 3));
    both.until("\u{e9}").await;
    // It begins where one left off, and ends with the job.
    let mut later = client.job_log_watch(&job, None, 4).await.unwrap();
    assert_eq!(later.next().await.unwrap().unwrap().text, "a\u{e9}");
    lab.cancel(&job).await;
    assert!(watch.next().await.unwrap().unwrap().ended && watch.next().await.is_none());
    both.until("\"ended\":true").await;
    let unknown = ada.request(Method::GET, &format!("/api/v1/jobs/{job}/log/watch?file=x")).send().await.unwrap();
    assert_eq!(unknown.status(), StatusCode::BAD_REQUEST);
    refused(eve_client.job_log_watch(&job, None, 0).await, ErrorCode::NotFound, "no job");
    let foreign = eve.request(Method::GET, &format!("/api/v1/jobs/{job}/log/watch")).send().await.unwrap();
    assert_eq!(foreign.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn measurements_come_as_a_table() {
    let mut lab = Lab::start().await;
    let (client, ada) = visitor(&lab, "ada").await;
    let (_, eve) = visitor(&lab, "eve").await;
    let job = job_of(&mut lab, &client).await;
    let usage = mooring_types::usage::Usage { cpu_used: 0.5, cpu: 1.0, seconds: 5.0, ..Default::default() };
    let time = mooring_types::Clock::now(&lab.clock);
    lab.host("host-1").measure(&job, time, usage);
    lab.advance(seconds(8)).await;
    let answer = ada.request(Method::GET, &format!("/jobs/{job}/metrics.csv?last=1h")).send().await.unwrap();
    assert!(answer.headers()["content-disposition"].to_str().unwrap().starts_with("attachment"), "{answer:?}");
    let text = answer.text().await.unwrap();
    assert!(text.starts_with("time,status,") && text.contains(",Executing,0.5,1,"), "{text}");
    assert_eq!(ada.get(&format!("/jobs/{job}/metrics.csv?last=soon")).await.status, StatusCode::BAD_REQUEST);
    assert_eq!(eve.get(&format!("/jobs/{job}/metrics.csv")).await.status, StatusCode::NOT_FOUND);
    assert!(ada.get(&format!("/jobs/{job}?tab=metrics")).await.text.contains("data-chart"));
}

#[tokio::test]
async fn every_tab_of_every_status_can_be_opened() {
    let mut lab = Lab::start().await;
    let (client, ada) = visitor(&lab, "ada").await;
    let job = job_of(&mut lab, &client).await;
    for _ in 0..3 {
        for tab in [
            "output",
            "connections",
            "migrations",
            "events",
            "instances",
            "volumes",
            "settings",
            "attachments",
            "metrics",
            "x",
        ] {
            let answer = ada.get(&format!("/jobs/{job}?tab={tab}&find=x&group=y&last=z")).await;
            assert_eq!(answer.status, StatusCode::OK, "{tab}: {}", answer.text);
            assert_eq!(answer.text.matches("aria-current=\"page\"").count(), 2, "{tab}: {}", answer.text);
        }
        match lab.view(&job).await.status {
            JobStatus::Executing => lab.suspend(&job).await,
            status if !status.is_final() => lab.cancel(&job).await,
            _ => {}
        }
    }
    lab.expect(&job, JobStatus::Cancelled).await;
    assert_eq!(ada.get("/jobs/uqaj8l6a407u88v0106ol").await.status, StatusCode::NOT_FOUND);
}
