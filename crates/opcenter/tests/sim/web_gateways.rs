//! Gateways, Gateway Details and Security Groups, as a visitor uses them.

use mooring_api::Submission;
use mooring_api::view::{ConnectRequest, GatewayModifyRequest, SecurityGroupCreateRequest};
use mooring_sim::Machine;
use mooring_types::{GatewayId, JobId};
use reqwest::StatusCode;

use crate::lab::{Lab, Plan};
use crate::visit::{Answer, Visit};

async fn visitor(lab: &Lab, name: &str) -> Visit {
    lab.user(name).await;
    Visit::begin(&lab.admin, name, &format!("password of {name}")).await
}

async fn admin(lab: &Lab) -> Visit {
    Visit::begin(&lab.admin, "admin", &lab.admin_password()).await
}

/// Submits a job that publishes two ports.
async fn publishing_job(lab: &mut Lab) -> JobId {
    let publish = ["8888:80", "6006"].map(|port| port.parse().unwrap()).into();
    lab.job_on("host-1", Submission { publish, ..Submission::default() }).await
}

/// Returns the value of the first hidden or shown input of that name.
fn value_of(html: &str, name: &str) -> String {
    let (_, rest) = html.split_once(&format!("name=\"{name}\" value=\"")).unwrap_or_else(|| panic!("{name}: {html}"));
    let value = rest.split('"').next().unwrap();
    value.replace("&#34;", "\"").replace("&#38;", "&")
}

fn done(answer: &Answer, text: &str) {
    assert!(answer.status == StatusCode::NO_CONTENT && answer.events.contains(text), "{text}: {answer:?}");
}

fn invalid(answer: &Answer, text: &str) {
    assert!(answer.status == StatusCode::UNPROCESSABLE_ENTITY && answer.text.contains(text), "{text}: {answer:?}");
}

async fn gateway_named(lab: &Lab, name: &str) -> mooring_api::view::GatewayView {
    lab.admin.gateway_get(&name.parse().unwrap()).await.unwrap()
}

#[tokio::test]
async fn gateway_is_created_with_two_groups() {
    let mut lab = Lab::start().await;
    let ada = visitor(&lab, "ada").await;
    let dialog = ada.get("/gateways/new").await.text;
    assert!(dialog.contains("<strong>default</strong>") && dialog.contains(" checked>"), "{dialog}");
    let default = value_of(&dialog, "groups");
    // One is made before, one together with the gateway.
    let made = ada
        .post(
            "/gateways/new/group",
            &[("name", "half typed"), ("group_name", "campus"), ("group_rules", "tcp:10000-10500:172.31.0.0/16")],
        )
        .await;
    assert!(made.status == StatusCode::OK && made.text.contains("value=\"half typed\""), "{made:?}");
    assert!(made.text.contains("<strong>campus</strong>") && made.text.contains("checked"), "{}", made.text);
    let campus =
        lab.admin.security_group_list().await.unwrap().into_iter().find(|group| group.name == "campus").unwrap();
    let form = [
        ("name", "lab"),
        ("port_range", "20000:20009"),
        ("cpu", "2"),
        ("mem", "0.5"),
        ("groups", campus.id.as_str()),
        ("group_name", "guests"),
        ("group_rules", "tcp:*:10.0.0.0/8\r\n"),
        ("no_public_ip", "true"),
    ];
    let created = ada.post("/gateways", &form).await;
    done(&created, "Gateway lab is created");
    lab.settle().await;
    let gateway = gateway_named(&lab, "lab").await;
    assert!(created.events.contains(&format!("/gateways/{}", gateway.id)), "{created:?}");
    assert_eq!(gateway.security_groups, ["campus", "guests"]);
    assert_eq!((gateway.cpu, gateway.port_range.as_str(), gateway.no_public_ip), (2, "20000:20009", true));
    assert_eq!((gateway.user.as_str(), gateway.ports_used), ("ada", 0));
    let list = ada.get("/gateways").await.text;
    assert!(list.contains(gateway.id.as_str()) && list.contains("0 of 10") && list.contains(">guests<"), "{list}");
    let page = ada.get(&format!("/gateways/{}", gateway.id)).await.text;
    assert!(page.contains("<h1>Gateway Details - lab</h1>") && !default.is_empty(), "{page}");
}

#[tokio::test]
async fn wrong_input_stands_beside_its_field_and_stays() {
    let mut lab = Lab::with(vec![Machine::named("host-1")], Plan::default()).await;
    lab.create_gateway("lab").await;
    let ada = visitor(&lab, "ada").await;
    let form =
        [("name", "<b>x</b>"), ("cpu", "many"), ("mem", "0.01"), ("port_range", "80:90"), ("group_rules", "tcp:x")];
    let answer = ada.post("/gateways", &form).await;
    for text in [
        "invalid name `&#60;b&#62;x",
        "value=\"&#60;b&#62;x&#60;/b&#62;\"",
        "invalid number of cores `many`",
        "at least 0.1",
        "gateway ports lie within 1000 and 65535",
        ">tcp:x</textarea>",
    ] {
        invalid(&answer, text);
    }
    // The use-case's own refusals.
    let taken = ada.post("/gateways", &[("name", "lab"), ("port_range", "30000:30001")]).await;
    invalid(&taken, "a gateway is named `lab` already");
    let overlapping = ada.post("/gateways", &[("name", "other")]).await;
    invalid(&overlapping, "overlaps 10000:10500");
    let field = overlapping.text.split_once("name=\"port_range\"").unwrap().1;
    assert!(field.split("</div>").next().unwrap().contains("overlaps"), "{}", overlapping.text);
    assert!(lab.admin.gateway_list().await.unwrap().iter().all(|gateway| gateway.name != "other"));
    // A group whose name is taken keeps the gateway from being created.
    let group =
        ada.post("/gateways", &[("name", "four"), ("group_name", "default"), ("port_range", "40000:40001")]).await;
    invalid(&group, "a security group is named `default` already");
}

#[tokio::test]
async fn stale_form_is_told_what_changed() {
    let mut lab = Lab::start().await;
    let id = lab.create_gateway("lab").await;
    let admin = admin(&lab).await;
    let path = format!("/gateways/{id}/modify");
    let dialog = admin.get(&path).await.text;
    let (began, group) = (value_of(&dialog, "began"), value_of(&dialog, "groups"));
    let other = GatewayModifyRequest { port_range: "10000:10999".into(), ..GatewayModifyRequest::default() };
    lab.admin.gateway_modify(&id.clone().into(), &other).await.unwrap();
    let mut form = vec![
        ("began", began.as_str()),
        ("name", "mine"),
        ("port_range", "10000:10500"),
        ("cpu", "1"),
        ("mem", "1"),
        ("groups", group.as_str()),
    ];
    let stale = admin.post(&path, &form).await;
    invalid(&stale, "the port range is 10000:10999; it was 10000:10500");
    assert!(stale.text.contains("value=\"mine\"") && stale.text.contains("value=\"10000:10999\""), "{}", stale.text);
    assert_eq!(gateway_named(&lab, "lab").await.port_range, "10000:10999");
    let began = value_of(&stale.text, "began");
    form[0] = ("began", &began);
    form[2] = ("port_range", "10000:10999");
    done(&admin.post(&path, &form).await, "modified");
    let gateway = gateway_named(&lab, "mine").await;
    assert_eq!((gateway.port_range.as_str(), gateway.security_groups.len()), ("10000:10999", 1));
    form.retain(|(key, _)| *key != "groups");
    let now = value_of(&admin.get(&path).await.text, "began");
    form[0] = ("began", &now);
    form[2] = ("port_range", "10001:10002");
    done(&admin.post(&path, &form).await, "modified");
    assert!(gateway_named(&lab, "mine").await.security_groups.is_empty());
    done(&admin.post(&format!("/gateways/{id}/restart"), &[]).await, "restarts");
}

#[tokio::test]
async fn job_is_connected_and_disconnected() {
    let mut lab = Lab::start().await;
    let id = lab.create_gateway("lab").await;
    let job = publishing_job(&mut lab).await;
    let idle = lab.job().await;
    let admin = admin(&lab).await;
    let path = format!("/gateways/{id}/connect");
    let dialog = admin.get(&path).await.text;
    assert!(
        dialog.contains("the job listens on 80") && dialog.contains("1 of your jobs publishes no port"),
        "{dialog}"
    );
    assert!(dialog.contains(job.as_str()) && !dialog.contains(idle.as_str()), "{dialog}");
    let mut page = admin.live(&format!("/gateways/{id}")).await;
    page.until("No jobs are connected").await;

    let form = [("job", job.as_str()), ("ports", "8888"), ("protocol", "http"), ("hold_limit", "0")];
    invalid(&admin.post(&path, &form).await, "at least 1");
    invalid(&admin.post(&path, &[("job", job.as_str()), ("protocol", "auto")]).await, "choose at least one port");
    let form =
        [("job", job.as_str()), ("ports", "8888"), ("protocol", "http"), ("widget", "true"), ("hold_limit", "60")];
    done(&admin.post(&path, &form).await, "is connected");
    lab.settle().await;
    page.until(":10000").await;
    let connection = gateway_named(&lab, "lab").await.connections.remove(0);
    assert_eq!((connection.hold_limits.hold_seconds, connection.protocol.name()), (60, "http"));
    invalid(&admin.post(&path, &form).await, "is connected to gateway `lab` already, at port 10000");
    assert!(admin.get(&format!("{path}?job={job}")).await.text.contains("connected at port 10000"));

    lab.gateway(&id).connect_client(&job, "203.0.113.7:5000", "2026-03-01T09:00:00Z".parse().unwrap()).unwrap();
    lab.cluster.report().await.unwrap();
    page.until("203.0.113.7:5000").await;
    let asked = admin.get(&format!("/gateways/{id}/disconnect?job={job}&port=8888")).await.text;
    assert!(asked.contains("1 client is cut") && asked.contains("keeps running"), "{asked}");
    let form = [("job", job.as_str()), ("port", "8888")];
    done(&admin.post(&format!("/gateways/{id}/disconnect"), &form).await, "disconnected");
    page.until("No jobs are connected").await;
    let again = admin.post(&format!("/gateways/{id}/disconnect"), &form).await;
    assert!(again.status == StatusCode::NOT_FOUND && again.events.contains("is not connected"), "{again:?}");
    let asked = admin.get(&format!("/gateways/{id}/disconnect?job={job}&port=8888")).await;
    assert!(asked.status == StatusCode::NOT_FOUND && asked.text.contains("not connected"), "{asked:?}");
}

#[tokio::test]
async fn job_that_ends_under_its_dialogue_is_told() {
    let mut lab = Lab::start().await;
    let id = lab.create_gateway("lab").await;
    let job = publishing_job(&mut lab).await;
    let admin = admin(&lab).await;
    let path = format!("/gateways/{id}/connect");
    assert!(admin.get(&path).await.text.contains(job.as_str()));
    lab.cancel(&job).await;
    let form = [("job", job.as_str()), ("ports", "8888"), ("protocol", "auto")];
    invalid(&admin.post(&path, &form).await, "a job that is Cancelled can&#39;t be connected");
    assert!(admin.get(&path).await.text.contains("No job to connect"));
}

#[tokio::test]
async fn destroy_takes_the_name_and_open_pages_are_told() {
    let mut lab = Lab::start().await;
    let id = lab.create_gateway("lab").await;
    let job = publishing_job(&mut lab).await;
    lab.admin.gateway_connect(&id.clone().into(), &ConnectRequest::new(job.clone())).await.unwrap();
    lab.settle().await;
    let admin = admin(&lab).await;
    let mut page = admin.live(&format!("/gateways/{id}")).await;
    page.until("Gateway Details - lab").await;
    let path = format!("/gateways/{id}/destroy");
    let asked = admin.get(&path).await.text;
    assert!(asked.contains("These jobs lose their address") && asked.contains(job.as_str()), "{asked}");
    invalid(&admin.post(&path, &[("confirm", "lap")]).await, "type `lab`");
    done(&admin.post(&path, &[("confirm", "lab")]).await, "Gateway lab is destroyed");
    let told = page.until("it was destroyed").await;
    assert!(told.contains("event: ended") && told.contains("no gateway"), "{told}");
    let gone = admin.get(&format!("/gateways/{id}")).await;
    assert!(gone.status == StatusCode::NOT_FOUND && gone.text.contains("keep running"), "{gone:?}");
    lab.expect(&job, mooring_types::job::JobStatus::Executing).await;
}

#[tokio::test]
async fn what_is_not_allowed_is_neither_offered_nor_done() {
    let mut lab = Lab::start().await;
    let id: GatewayId = lab.create_gateway("lab").await;
    let job = publishing_job(&mut lab).await;
    lab.admin.gateway_connect(&id.clone().into(), &ConnectRequest::new(job.clone())).await.unwrap();
    lab.settle().await;
    let eve = visitor(&lab, "eve").await;
    let page = eve.get(&format!("/gateways/{id}")).await.text;
    assert!(page.contains("/connect\"") && page.contains("2 ports lead to jobs of other users"), "{page}");
    assert!(!page.contains("/destroy") && !page.contains("/modify") && !page.contains(job.as_str()), "{page}");
    for (path, form) in [
        ("destroy", vec![("confirm", "lab")]),
        ("restart", Vec::new()),
        ("disconnect", vec![("job", job.as_str()), ("port", "8888")]),
    ] {
        let answer = eve.post(&format!("/gateways/{id}/{path}"), &form).await;
        let told = format!("{}{}", answer.text, answer.events);
        let is_refused = told.contains("belongs to admin") || answer.status == StatusCode::NOT_FOUND;
        assert!(is_refused && answer.status.is_client_error(), "{path}: {answer:?}");
    }
    assert_eq!(eve.get(&format!("/gateways/{id}/modify")).await.status, StatusCode::FORBIDDEN);
    assert_eq!(eve.get(&format!("/gateways/{id}/destroy")).await.status, StatusCode::FORBIDDEN);
    assert_eq!(gateway_named(&lab, "lab").await.ports_used, 2);
    // A user who connects a job to a gateway takes no right away from its owner.
    done(&eve.post("/gateways", &[("name", "eves"), ("port_range", "20000:20009")]).await, "created");
    lab.settle().await;
    let eves = gateway_named(&lab, "eves").await.id;
    lab.admin.gateway_connect(&eves.clone().into(), &ConnectRequest::new(job)).await.unwrap();
    let page = eve.get(&format!("/gateways/{eves}")).await.text;
    assert!(page.contains("/destroy\"") && page.contains("/modify\""), "{page}");
    done(&eve.post(&format!("/gateways/{eves}/destroy"), &[("confirm", "eves")]).await, "destroyed");
}

#[tokio::test]
async fn security_group_is_edited_in_place() {
    let mut lab = Lab::start().await;
    let ada = visitor(&lab, "ada").await;
    let eve = visitor(&lab, "eve").await;
    let wrong = ada.post("/security-groups", &[("name", "campus"), ("rules", "tcp:1:2:3\nudp:5:::/0")]).await;
    invalid(&wrong, "`2:3` is no address");
    invalid(&wrong, "value=\"campus\"");
    done(&ada.post("/security-groups", &[("name", "campus"), ("description", "<i>us")]).await, "campus is created");
    invalid(&ada.post("/security-groups", &[("name", "campus")]).await, "is named `campus` already");
    let group =
        lab.admin.security_group_list().await.unwrap().into_iter().find(|group| group.name == "campus").unwrap();
    let mut page = ada.live("/security-groups").await;
    let html = page.until("&#60;i&#62;us").await;
    assert!(html.contains("No rule: nobody may connect"), "{html}");
    let rules = format!("/security-groups/{}/rules", group.id);
    invalid(&ada.post(&rules, &[("ports", "9-1"), ("source", "10.0.0.0/8")]).await, "value=\"9-1\"");
    let added = ada.post(&rules, &[("ports", "10000-10500"), ("source", "172.31.0.0/16")]).await;
    assert!(added.status == StatusCode::OK && !added.text.contains("172.31.0.0/16\" aria-invalid"), "{added:?}");
    page.until("172.31.0.0/16").await;
    invalid(
        &ada.post(&rules, &[("ports", "10000-10500"), ("source", "172.31.0.0/16")]).await,
        "has rule `tcp:10000-10500:172.31.0.0/16` already",
    );
    // A rule is replaced in one step, at its place.
    let second = [("ports", "22"), ("source", "10.0.0.1")];
    assert_eq!(ada.post(&rules, &second).await.status, StatusCode::OK);
    let old = ("rule", "tcp:10000-10500:172.31.0.0/16");
    let editor = ada.get(&format!("{rules}/edit?rule={}", old.1)).await.text;
    assert!(editor.contains("hx-morph-skip") && editor.contains("value=\"10000-10500\""), "{editor}");
    let replace = format!("{rules}/replace");
    let wrong = ada.post(&replace, &[old, ("ports", "80"), ("source", "nowhere")]).await;
    invalid(&wrong, "`nowhere` is no address");
    invalid(&wrong, "value=\"nowhere\"");
    invalid(
        &ada.post(&replace, &[old, ("ports", "22"), ("source", "10.0.0.1")]).await,
        "has rule `tcp:22:10.0.0.1/32`",
    );
    let same = ada.post(&replace, &[old, ("ports", "10000-10500"), ("source", "172.31.0.0/16")]).await;
    assert!(same.status == StatusCode::OK, "{same:?}");
    let replaced = ada.post(&replace, &[old, ("ports", "all"), ("source", "172.31.0.0/16")]).await;
    assert!(replaced.status == StatusCode::OK && !replaced.text.contains("hx-morph-skip"), "{replaced:?}");
    page.until("<code>all</code>").await;
    let now = lab.admin.security_group_list().await.unwrap().into_iter().find(|one| one.name == "campus").unwrap();
    assert_eq!(now.rules, ["tcp:*:172.31.0.0/16", "tcp:22:10.0.0.1/32"]);
    // Somebody else has replaced it meanwhile.
    invalid(&ada.post(&replace, &[old, ("ports", "80"), ("source", "10.0.0.0/8")]).await, "has no rule `tcp:10000");
    assert_eq!(ada.get(&format!("{rules}/row?rule={}", old.1)).await.text, "");
    let all = ("rule", "tcp:*:172.31.0.0/16");
    let back = ada.post(&replace, &[all, ("ports", "10000-10500"), ("source", "172.31.0.0/16")]).await;
    assert_eq!(back.status, StatusCode::OK);
    let foreign = eve.post(&replace, &[old, ("ports", "1"), ("source", "::/0")]).await;
    invalid(&foreign, "belongs to ada");
    assert_eq!(eve.get(&format!("{rules}/edit?rule={}", old.1)).await.status, StatusCode::FORBIDDEN);
    // Another user sees it, and is offered nothing.
    let seen = eve.get("/security-groups").await.text;
    assert!(seen.contains("172.31.0.0/16") && !seen.contains("/rules") && !seen.contains("/delete"), "{seen}");
    let foreign = eve.post(&rules, &[("ports", "1"), ("source", "::/0")]).await;
    invalid(&foreign, "belongs to ada");

    done(&ada.post("/gateways", &[("name", "lab"), ("groups", group.id.as_str())]).await, "created");
    lab.settle().await;
    let html = page.until("gateway lab").await;
    assert!(html.contains("is in use by gateway lab"), "{html}");
    let delete = format!("/security-groups/{}/delete", group.id);
    assert!(ada.get(&delete).await.text.contains("can't be deleted before"));
    let refused = ada.post(&delete, &[]).await;
    assert!(refused.status == StatusCode::CONFLICT && refused.events.contains("in use by gateway lab"), "{refused:?}");
    let rule = [("rule", "tcp:10000-10500:172.31.0.0/16")];
    assert!(ada.get(&format!("{rules}/remove?rule={}", rule[0].1)).await.text.contains("new ones are refused"));
    done(&ada.post(&format!("{rules}/remove"), &rule).await, "is removed");
    lab.admin.gateway_destroy(&"lab".parse().unwrap()).await.unwrap();
    done(&ada.post(&delete, &[]).await, "campus is deleted");
    let gone = ada.post(&rules, &[("ports", "1"), ("source", "::/0")]).await;
    invalid(&gone, "no security group");
    let request = SecurityGroupCreateRequest { name: "x".repeat(63), ..SecurityGroupCreateRequest::default() };
    lab.admin.security_group_create(&request).await.unwrap();
    page.until(&"x".repeat(63)).await;
}
