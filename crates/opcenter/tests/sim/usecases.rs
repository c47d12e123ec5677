//! Requests of users: success, permission and bad input of each use-case.

use mooring_api::ErrorCode::{
    AlreadyExists, InvalidArgument, NotFound, PermissionDenied, ResourceExhausted, WrongStatus,
};
use mooring_api::Submission;
use mooring_api::submission::Environment;
use mooring_api::view::{
    ConnectRequest, ExternalRegisterRequest, ExternalUpdateRequest, GatewayCreateRequest, GatewayModifyRequest,
    GroupAddRequest, GroupUpdateRequest, JobModifyRequest, LoginRequest, SecretSetRequest, SecurityGroupCreateRequest,
    SecurityGroupModifyRequest, TemplateCreateRequest, UserAddRequest, UserUpdateRequest,
};
use mooring_api::{Client, ErrorCode};
use mooring_types::job::JobStatus;

use crate::lab::{Lab, refused};

fn named(name: &str) -> GatewayCreateRequest {
    GatewayCreateRequest { name: name.to_owned(), ..GatewayCreateRequest::default() }
}

fn group(name: &str, rules: &[&str]) -> SecurityGroupCreateRequest {
    let rules = rules.iter().map(|rule| (*rule).to_owned()).collect();
    SecurityGroupCreateRequest { name: name.to_owned(), description: String::new(), rules }
}

fn publishing(ports: &[&str]) -> Submission {
    let publish = ports.iter().map(|port| port.parse().unwrap()).collect();
    Submission { publish, ..Submission::default() }
}

/// A job of an image of a registry, which everybody may run.
fn pulled() -> Submission {
    Submission { image: Some("alpine:3".parse().unwrap()), ..Submission::default() }
}

// Jobs

#[tokio::test]
async fn submissions_are_checked() {
    let lab = Lab::start().await;
    let base = || Submission {
        name: Some("work".parse().unwrap()),
        image: Some("dir:/".parse().unwrap()),
        ..Submission::default()
    };
    for (request, code) in [
        (Submission { image: None, ..base() }, InvalidArgument),
        (Submission { image: Some("external".parse().unwrap()), ..base() }, InvalidArgument),
        (Submission { cpu: Some(0), ..base() }, InvalidArgument),
        (Submission { mem_gb: Some(0.0), ..base() }, InvalidArgument),
        (Submission { working_dir: Some("tmp".into()), ..base() }, InvalidArgument),
        (Submission { env: Environment::from([("K", "{secret:none}")]), ..base() }, NotFound),
        (Submission { publish: vec!["80".parse().unwrap(), "80:81".parse().unwrap()], ..base() }, InvalidArgument),
        (Submission { target_ports: vec!["80".parse().unwrap()], ..base() }, InvalidArgument),
        (Submission { gateway: Some("none".parse().unwrap()), ..base() }, NotFound),
        (Submission { security_groups: vec!["none".parse().unwrap()], ..base() }, NotFound),
        (Submission { host: Some("nowhere".parse().unwrap()), ..base() }, NotFound),
        (Submission { template: Some("none".parse().unwrap()), ..base() }, NotFound),
    ] {
        refused(lab.admin.job_submit(&request).await, code, "");
    }
    assert!(lab.admin.job_list().await.unwrap().is_empty());
}

#[tokio::test]
async fn host_images_take_an_admin() {
    let lab = Lab::start().await;
    let alice = lab.user("alice").await;
    for image in ["dir:/", "oci:/srv/images", "oci-archive:/srv/image.tar"] {
        let bare = Submission { image: Some(image.parse().unwrap()), ..Submission::default() };
        let request = Submission { command: vec!["true".to_owned()], ..bare.clone() };
        refused(alice.job_submit(&request).await, PermissionDenied, image);
        // Only a directory has no command of its own.
        match lab.admin.job_submit(&bare).await {
            Ok(_) => assert_ne!(image, "dir:/"),
            refusal => refused(refusal, InvalidArgument, "no command"),
        }
        lab.admin.job_submit(&request).await.unwrap();
    }
}

#[tokio::test]
async fn jobs_of_others_are_invisible() {
    let mut lab = Lab::start().await;
    let job = lab.job().await;
    let alice = lab.user("alice").await;
    refused(alice.job_get(&job).await, NotFound, job.as_str());
    refused(alice.job_cancel(&job).await, NotFound, job.as_str());
    refused(alice.job_suspend(&job).await, NotFound, job.as_str());
    assert!(alice.job_list().await.unwrap().is_empty());
}

#[tokio::test]
async fn group_members_see_jobs_and_change_none() {
    let lab = Lab::start().await;
    let (alice, bob) = (lab.user("alice").await, lab.user("bob").await);
    let users = vec!["alice".to_owned(), "bob".to_owned()];
    let request = GroupAddRequest { name: "lab".into(), users, ..GroupAddRequest::default() };
    lab.admin.group_add(&request).await.unwrap();
    let job = alice.job_submit(&pulled()).await.unwrap().id;
    assert_eq!(bob.job_get(&job).await.unwrap().user, "alice");
    refused(bob.job_cancel(&job).await, PermissionDenied, "alice");
    alice.job_cancel(&job).await.unwrap();
}

#[tokio::test]
async fn rerun_submits_the_same_again() {
    let mut lab = Lab::start().await;
    let request = Submission { cpu: Some(2), env: Environment::from([("K", "V")]), ..Submission::default() };
    let job = lab.job_on("host-1", request).await;
    lab.cancel(&job).await;
    let again = lab.admin.job_rerun(&job).await.unwrap();
    assert!(again.id != job && again.cpu == 2 && again.env["K"] == "V");
    let once = lab.submit(Submission { disable_rerun: true, ..Submission::default() }).await;
    refused(lab.admin.job_rerun(&once).await, PermissionDenied, "");
}

#[tokio::test]
async fn modify_changes_a_job() {
    let mut lab = Lab::start().await;
    let job = lab.job().await;
    let tags = [("team".to_owned(), "blue".to_owned())].into();
    let request = JobModifyRequest {
        name: Some("better".parse().unwrap()),
        add_custom_tags: tags,
        ..JobModifyRequest::default()
    };
    let view = lab.admin.job_modify(&job, &request).await.unwrap();
    assert_eq!((view.name.as_str(), view.custom_tags["team"].as_str()), ("better", "blue"));
    refused(lab.admin.job_modify(&job, &JobModifyRequest::default()).await, InvalidArgument, "");
    lab.cancel(&job).await;
    // A job that has ended is what a cancel wants.
    assert_eq!(lab.admin.job_cancel(&job).await.unwrap().status, JobStatus::Cancelled);
}

// Gateways

#[tokio::test]
async fn gateway_is_created_modified_and_destroyed() {
    let mut lab = Lab::start().await;
    let id = lab.create_gateway("lab").await;
    assert_eq!(lab.gateway(&id).slice().unwrap().name.as_str(), "lab");
    let request = GatewayModifyRequest { port_range: "12000:12010".into(), ..GatewayModifyRequest::default() };
    lab.admin.gateway_modify(&"lab".parse().unwrap(), &request).await.unwrap();
    lab.settle().await;
    assert_eq!(lab.gateway(&id).slice().unwrap().port_range.to_string(), "12000:12010");
    lab.admin.gateway_destroy(&"lab".parse().unwrap()).await.unwrap();
    refused(lab.admin.gateway_get(&id.clone().into()).await, NotFound, id.as_str());
}

#[tokio::test]
async fn gateway_has_proxies_and_an_external_url() {
    let mut lab = Lab::start().await;
    let id = lab.create_gateway("lab").await;
    let modify = |proxies: &[&str], url: &str| GatewayModifyRequest {
        trusted_proxies: Some(proxies.iter().map(|range| range.parse().unwrap()).collect()),
        external_url: Some(url.to_owned()),
        ..GatewayModifyRequest::default()
    };
    let lab_name = || "lab".parse().unwrap();
    let job = lab.job_on("host-1", publishing(&["8080"])).await;
    lab.admin.gateway_connect(&lab_name(), &ConnectRequest::new(job.clone())).await.unwrap();
    let request = modify(&["10.0.0.7/32", "fd00::/8"], "https://lab.example:9443/");
    let view = lab.admin.gateway_modify(&lab_name(), &request).await.unwrap();
    assert_eq!((view.trusted_proxies.len(), view.external_url.as_str()), (2, "https://lab.example:9443"));
    assert_eq!(view.connections[0].access_url, "https://lab.example:9443/");
    lab.settle().await;
    let slice = lab.gateway(&id).slice().unwrap().clone();
    let told = slice.connections[0].external_url.as_ref().map(ToString::to_string);
    assert_eq!((slice.trusted_proxies.len(), told.as_deref()), (2, Some("https://lab.example:9443")));
    assert!(slice.host_names.iter().any(|name| name.to_string() == "lab.example"));
    // Only admins give a gateway a name that is not declared.
    let alice = lab.user("alice").await;
    let own = GatewayCreateRequest { port_range: "12000:12010".into(), ..named("own") };
    alice.gateway_create(&own).await.unwrap();
    let own_name = || "own".parse().unwrap();
    let foreign = modify(&["10.0.0.7/32"], "https://evil.example");
    refused(alice.gateway_modify(&own_name(), &foreign).await, PermissionDenied, "evil.example");
    let address = alice.gateway_get(&own_name()).await.unwrap().address;
    alice.gateway_modify(&own_name(), &modify(&["10.0.0.7/32"], &format!("https://{address}:{{port}}"))).await.unwrap();
    refused(lab.admin.gateway_modify(&lab_name(), &modify(&[], "lab.example")).await, InvalidArgument, "lab.example");
    let view = lab.admin.gateway_modify(&lab_name(), &modify(&[], "")).await.unwrap();
    assert!(view.trusted_proxies.is_empty() && view.external_url.is_empty());
    assert!(!view.connections[0].access_url.contains("lab.example"));
}

#[tokio::test]
async fn gateway_restart_counts_up() {
    let mut lab = Lab::start().await;
    let id = lab.create_gateway("lab").await;
    let restarts = |lab: &mut Lab| {
        let slice = lab.host("gateways").slice().unwrap();
        slice.gateways.iter().find(|placement| placement.gateway == id).unwrap().restart
    };
    let before = restarts(&mut lab);
    lab.admin.gateway_restart(&"lab".parse().unwrap()).await.unwrap();
    lab.settle().await;
    assert_eq!(restarts(&mut lab), before + 1);
}

#[tokio::test]
async fn bad_gateways_are_refused() {
    let mut lab = Lab::start().await;
    lab.create_gateway("lab").await;
    let range = |text: &str| GatewayCreateRequest { port_range: text.to_owned(), ..named("other") };
    refused(lab.admin.gateway_create(&named("lab")).await, AlreadyExists, "lab");
    refused(lab.admin.gateway_create(&named("no name")).await, InvalidArgument, "no name");
    refused(lab.admin.gateway_create(&range("9:1")).await, InvalidArgument, "9:1");
    refused(lab.admin.gateway_create(&range("10400:10600")).await, InvalidArgument, "lab");
    let large = GatewayCreateRequest { cpu: Some(64), ..range("12000:12001") };
    refused(lab.admin.gateway_create(&large).await, ResourceExhausted, "");
    refused(
        lab.admin.gateway_modify(&"lab".parse().unwrap(), &GatewayModifyRequest::default()).await,
        InvalidArgument,
        "",
    );
    refused(lab.admin.gateway_restart(&"none".parse().unwrap()).await, NotFound, "none");
}

#[tokio::test]
async fn gateways_belong_to_their_creator() {
    let mut lab = Lab::start().await;
    lab.create_gateway("lab").await;
    let alice = lab.user("alice").await;
    let request = GatewayModifyRequest { name: "mine".into(), ..GatewayModifyRequest::default() };
    refused(alice.gateway_modify(&"lab".parse().unwrap(), &request).await, PermissionDenied, "lab");
    refused(alice.gateway_destroy(&"lab".parse().unwrap()).await, PermissionDenied, "lab");
    refused(alice.gateway_restart(&"lab".parse().unwrap()).await, PermissionDenied, "lab");
    assert_eq!(alice.gateway_get(&"lab".parse().unwrap()).await.unwrap().name, "lab");
}

// Connections

#[tokio::test]
async fn ports_are_connected_and_disconnected() {
    let mut lab = Lab::start().await;
    let id = lab.create_gateway("lab").await;
    let job = lab.job_on("host-1", publishing(&["8080", "9090:90"])).await;
    let request = ConnectRequest::new(job.clone());
    let made = lab.admin.gateway_connect(&"lab".parse().unwrap(), &request).await.unwrap();
    assert_eq!(made.iter().map(|connection| connection.target_port).collect::<Vec<_>>(), [8080, 9090]);
    lab.settle().await;
    assert_eq!(lab.gateway(&id).connections(&job).count(), 2);
    lab.admin.gateway_disconnect(&"lab".parse().unwrap(), &job, Some(8080)).await.unwrap();
    lab.settle().await;
    assert_eq!(lab.gateway(&id).connections(&job).count(), 1);
    refused(lab.admin.gateway_disconnect(&"lab".parse().unwrap(), &job, Some(8080)).await, NotFound, "8080");
}

#[tokio::test]
async fn bad_connections_are_refused() {
    let mut lab = Lab::start().await;
    lab.create_gateway("lab").await;
    let job = lab.job_on("host-1", publishing(&["8080"])).await;
    let silent = lab.job().await;
    let admin = lab.admin.clone();
    let connect = async |job: &str, target_ports: &[u16]| {
        let request =
            ConnectRequest { target_ports: target_ports.to_vec(), ..ConnectRequest::new(job.parse().unwrap()) };
        admin.gateway_connect(&"lab".parse().unwrap(), &request).await
    };
    refused(connect(silent.as_str(), &[]).await, InvalidArgument, "");
    refused(connect(job.as_str(), &[1]).await, InvalidArgument, "1");
    refused(connect(job.as_str(), &[8080, 8080]).await, InvalidArgument, "");
    connect(job.as_str(), &[8080]).await.unwrap();
    refused(connect(job.as_str(), &[8080]).await, AlreadyExists, "8080");
    lab.cancel(&job).await;
    refused(connect(job.as_str(), &[8080]).await, WrongStatus, "Cancelled");
}

#[tokio::test]
async fn gateway_without_free_ports_is_exhausted() {
    let mut lab = Lab::start().await;
    let small = GatewayCreateRequest { port_range: "12000:12000".into(), ..named("small") };
    lab.admin.gateway_create(&small).await.unwrap();
    let job = lab.job_on("host-1", publishing(&["1000", "1001"])).await;
    let request = ConnectRequest::new(job.clone());
    refused(lab.admin.gateway_connect(&"small".parse().unwrap(), &request).await, ResourceExhausted, "small");
}

#[tokio::test]
async fn ended_job_leaves_a_farewell_for_ten_minutes() {
    let mut lab = Lab::start().await;
    let id = lab.create_gateway("lab").await;
    let request = Submission { gateway: Some("lab".parse().unwrap()), ..publishing(&["8080"]) };
    let job = lab.job_on("host-1", request).await;
    lab.cancel(&job).await;
    assert_eq!(lab.gateway(&id).slice().unwrap().farewells.len(), 1);
    assert_eq!(lab.gateway(&id).connections(&job).count(), 0);
    lab.advance(crate::lab::seconds(605)).await;
    assert!(lab.gateway(&id).slice().unwrap().farewells.is_empty());
}

// Security groups

#[tokio::test]
async fn security_group_rules_reach_gateways() {
    let mut lab = Lab::start().await;
    lab.admin.security_group_create(&group("web", &["tcp:10000-10500:10.0.0.0/8"])).await.unwrap();
    let request = GatewayCreateRequest { security_groups: vec!["web".parse().unwrap()], ..named("lab") };
    let id = lab.admin.gateway_create(&request).await.unwrap().id;
    lab.settle().await;
    assert_eq!(lab.gateway(&id).slice().unwrap().rules.len(), 1);
    let request = SecurityGroupModifyRequest { add_rules: vec!["tcp:1-2:0.0.0.0/0".into()], ..Default::default() };
    lab.admin.security_group_modify(&"web".parse().unwrap(), &request).await.unwrap();
    lab.settle().await;
    assert_eq!(lab.gateway(&id).slice().unwrap().rules.len(), 2);
    refused(lab.admin.security_group_delete(&"web".parse().unwrap()).await, WrongStatus, "lab");
    lab.admin.gateway_destroy(&"lab".parse().unwrap()).await.unwrap();
    lab.admin.security_group_delete(&"web".parse().unwrap()).await.unwrap();
}

#[tokio::test]
async fn bad_security_groups_are_refused() {
    let lab = Lab::start().await;
    lab.admin.security_group_create(&group("web", &["tcp:80:10.0.0.0/8"])).await.unwrap();
    refused(lab.admin.security_group_create(&group("web", &[])).await, AlreadyExists, "web");
    refused(lab.admin.security_group_create(&group("bad", &["tcp:everything"])).await, InvalidArgument, "everything");
    let nothing = SecurityGroupModifyRequest::default();
    refused(lab.admin.security_group_modify(&"web".parse().unwrap(), &nothing).await, InvalidArgument, "");
    let missing = SecurityGroupModifyRequest { remove_rules: vec!["tcp:81:10.0.0.0/8".into()], ..Default::default() };
    refused(lab.admin.security_group_modify(&"web".parse().unwrap(), &missing).await, NotFound, "81");
    refused(lab.admin.security_group_get(&"none".parse().unwrap()).await, NotFound, "none");
    refused(lab.admin.security_group_delete(&"default".parse().unwrap()).await, WrongStatus, "default");
}

#[tokio::test]
async fn security_groups_belong_to_their_creator() {
    let lab = Lab::start().await;
    lab.admin.security_group_create(&group("web", &[])).await.unwrap();
    let alice = lab.user("alice").await;
    let request = SecurityGroupModifyRequest { add_rules: vec!["tcp:1:0.0.0.0/0".into()], ..Default::default() };
    refused(alice.security_group_modify(&"web".parse().unwrap(), &request).await, PermissionDenied, "web");
    refused(alice.security_group_delete(&"web".parse().unwrap()).await, PermissionDenied, "web");
    alice.security_group_create(&group("mine", &[])).await.unwrap();
    alice.security_group_modify(&"mine".parse().unwrap(), &request).await.unwrap();
}

// Users and groups

#[tokio::test]
async fn users_are_managed_by_admins() {
    let lab = Lab::start().await;
    let alice = lab.user("alice").await;
    let request = |name: &str| UserAddRequest {
        name: name.to_owned(),
        password: "a long password".into(),
        ..UserAddRequest::default()
    };
    refused(alice.user_add(&request("bob")).await, PermissionDenied, "");
    refused(alice.user_delete("admin").await, PermissionDenied, "");
    refused(alice.user_get("admin").await, NotFound, "admin");
    assert_eq!(alice.user_list().await.unwrap().len(), 1);
    refused(lab.admin.user_add(&request("alice")).await, AlreadyExists, "alice");
    refused(lab.admin.user_add(&request("no name")).await, InvalidArgument, "no name");
    let short = UserAddRequest { password: "short".into(), ..request("bob") };
    refused(lab.admin.user_add(&short).await, InvalidArgument, "password");
    let role = UserAddRequest { role: "king".into(), ..request("bob") };
    refused(lab.admin.user_add(&role).await, InvalidArgument, "king");
}

#[tokio::test]
async fn new_password_ends_sessions() {
    let lab = Lab::start().await;
    let alice = lab.user("alice").await;
    let change = |current: &str| UserUpdateRequest {
        password: "another password".into(),
        current_password: current.to_owned(),
        ..UserUpdateRequest::default()
    };
    refused(alice.user_update("alice", &change("wrong")).await, PermissionDenied, "password");
    alice.user_update("alice", &change("password of alice")).await.unwrap();
    refused(alice.job_list().await, ErrorCode::Unauthenticated, "");
    let credentials = LoginRequest { username: "alice".into(), password: "another password".into() };
    Client::new(lab.admin.address()).unwrap().login(&credentials).await.unwrap();
}

#[tokio::test]
async fn last_admin_stays() {
    let lab = Lab::start().await;
    refused(lab.admin.user_delete("admin").await, WrongStatus, "admin");
    let request = UserUpdateRequest { role: "user".into(), ..UserUpdateRequest::default() };
    refused(lab.admin.user_update("admin", &request).await, WrongStatus, "admin");
}

#[tokio::test]
async fn user_with_jobs_is_deleted_only_with_them() {
    let mut lab = Lab::start().await;
    let alice = lab.user("alice").await;
    let job = alice.job_submit(&pulled()).await.unwrap().id;
    refused(lab.admin.user_delete("alice").await, WrongStatus, job.as_str());
    lab.admin.user_delete_with_jobs("alice").await.unwrap();
    lab.settle().await;
    lab.expect(&job, JobStatus::Cancelled).await;
    refused(alice.job_list().await, ErrorCode::Unauthenticated, "");
}

#[tokio::test]
async fn groups_are_managed_by_admins() {
    let lab = Lab::start().await;
    let alice = lab.user("alice").await;
    let request = |users: &[&str]| GroupAddRequest {
        name: "lab".into(),
        users: users.iter().map(|user| (*user).to_owned()).collect(),
        ..GroupAddRequest::default()
    };
    refused(alice.group_add(&request(&[])).await, PermissionDenied, "");
    refused(lab.admin.group_add(&request(&["nobody"])).await, NotFound, "nobody");
    lab.admin.group_add(&request(&["alice"])).await.unwrap();
    refused(lab.admin.group_add(&request(&[])).await, AlreadyExists, "lab");
    assert_eq!(alice.group_get("lab").await.unwrap().users, ["alice"]);
    let add = GroupUpdateRequest { add_users: vec!["alice".into()], ..GroupUpdateRequest::default() };
    refused(lab.admin.group_update("lab", &add).await, AlreadyExists, "alice");
    refused(lab.admin.group_update("lab", &GroupUpdateRequest::default()).await, InvalidArgument, "");
    let remove = GroupUpdateRequest { remove_users: vec!["alice".into()], ..GroupUpdateRequest::default() };
    lab.admin.group_update("lab", &remove).await.unwrap();
    refused(alice.group_get("lab").await, NotFound, "lab");
    lab.admin.group_delete("lab").await.unwrap();
    refused(lab.admin.group_delete("lab").await, NotFound, "lab");
}

// Secrets

#[tokio::test]
async fn secrets_reach_jobs_and_nobody_else() {
    let mut lab = Lab::start().await;
    lab.admin.secret_set("token", &SecretSetRequest { value: "sesame".into() }).await.unwrap();
    let request = Submission { env: Environment::from([("T", "{secret:token}")]), ..Submission::default() };
    let job = lab.job_on("host-1", request).await;
    let slice = lab.host("host-1").slice().unwrap();
    let directive = slice.jobs.iter().find(|directive| directive.job == job).unwrap();
    assert_eq!(directive.spec.env["T"], "sesame");
    assert!(!format!("{:?}", lab.view(&job).await).contains("sesame"));
    let alice = lab.user("alice").await;
    refused(alice.secret_get("token").await, NotFound, "token");
    assert!(alice.secret_list().await.unwrap().is_empty());
}

#[tokio::test]
async fn secrets_are_set_and_removed() {
    let lab = Lab::start().await;
    let set =
        async |name: &str, value: &str| lab.admin.secret_set(name, &SecretSetRequest { value: value.to_owned() }).await;
    set("token", "one").await.unwrap();
    set("token", "two").await.unwrap();
    assert_eq!(lab.admin.secret_get("token").await.unwrap().value, "two");
    refused(set("token", "").await, InvalidArgument, "");
    refused(set("token", "a\0b").await, InvalidArgument, "NUL");
    refused(set("no.name!", "value").await, InvalidArgument, "");
    lab.admin.secret_unset("token").await.unwrap();
    refused(lab.admin.secret_unset("token").await, NotFound, "token");
}

// Templates

fn template(name: &str) -> TemplateCreateRequest {
    let job = Submission { image: Some("alpine:3".parse().unwrap()), cpu: Some(2), ..Submission::default() };
    TemplateCreateRequest { name: name.to_owned(), job: Some(job), ..TemplateCreateRequest::default() }
}

#[tokio::test]
async fn template_fills_a_submission() {
    let lab = Lab::start().await;
    lab.admin.template_create(&template("base")).await.unwrap();
    let from =
        |template: &str| Submission { template: Some(template.to_string().parse().unwrap()), ..Submission::default() };
    let view = lab.admin.job_submit(&from("base")).await.unwrap();
    assert_eq!((view.image.contains("alpine"), view.cpu), (true, 2));
    let other = Submission { cpu: Some(1), ..from("base") };
    assert_eq!(lab.admin.job_submit(&other).await.unwrap().cpu, 1);
}

#[tokio::test]
async fn public_templates_take_an_admin() {
    let lab = Lab::start().await;
    let alice = lab.user("alice").await;
    refused(alice.template_create(&template("base")).await, PermissionDenied, "");
    alice.template_create(&template("private::base")).await.unwrap();
    assert!(lab.admin.template_get("private::base").await.is_err());
    lab.admin.template_create(&template("shared:1")).await.unwrap();
    refused(alice.template_delete("shared:1").await, PermissionDenied, "");
    assert_eq!(alice.template_get("shared:1").await.unwrap().job.cpu, Some(2));
}

#[tokio::test]
async fn bad_templates_are_refused() {
    let lab = Lab::start().await;
    lab.admin.template_create(&template("base:1")).await.unwrap();
    refused(lab.admin.template_create(&template("base:1")).await, AlreadyExists, "base");
    refused(lab.admin.template_create(&template("no name")).await, InvalidArgument, "");
    let empty = TemplateCreateRequest { job: None, ..template("other") };
    refused(lab.admin.template_create(&empty).await, InvalidArgument, "");
    let path = TemplateCreateRequest { access_path: "lab".into(), ..template("other") };
    refused(lab.admin.template_create(&path).await, InvalidArgument, "lab");
    refused(lab.admin.template_get("none").await, NotFound, "none");
    refused(lab.admin.template_delete("none:1").await, NotFound, "none");
}

// External jobs

fn external(endpoints: &[&str]) -> ExternalRegisterRequest {
    let endpoints = endpoints.iter().map(|endpoint| (*endpoint).to_owned()).collect();
    ExternalRegisterRequest { endpoints, ..ExternalRegisterRequest::default() }
}

#[tokio::test]
async fn external_job_moves_with_its_endpoints() {
    let mut lab = Lab::start().await;
    let id = lab.create_gateway("lab").await;
    let request = ExternalRegisterRequest { gateway: Some("lab".parse().unwrap()), ..external(&["10.0.0.1:80"]) };
    let job = lab.admin.external_register(&request).await.unwrap().id;
    lab.settle().await;
    let before = lab.gateway(&id).connections(&job).next().unwrap().clone();
    let moved = ExternalUpdateRequest { endpoints: vec!["10.0.0.2:8080".into()], ..ExternalUpdateRequest::default() };
    lab.admin.external_update(&job, &moved).await.unwrap();
    lab.settle().await;
    let after = lab.gateway(&id).connections(&job).next().unwrap();
    assert_eq!((after.gateway_port, after.epoch), (before.gateway_port, before.epoch + 1));
    assert_ne!(after.target, before.target);
}

#[tokio::test]
async fn bad_external_jobs_are_refused() {
    let mut lab = Lab::start().await;
    let own = lab.job().await;
    refused(lab.admin.external_register(&external(&[])).await, InvalidArgument, "");
    refused(lab.admin.external_register(&external(&["nowhere"])).await, InvalidArgument, "nowhere");
    let wrong = ExternalRegisterRequest { status: "Unknown".into(), ..external(&["10.0.0.1:80"]) };
    refused(lab.admin.external_register(&wrong).await, InvalidArgument, "Unknown");
    let job = lab.admin.external_register(&external(&["10.0.0.1:80"])).await.unwrap().id;
    let update = |status: &str| ExternalUpdateRequest { status: status.to_owned(), ..ExternalUpdateRequest::default() };
    refused(lab.admin.external_update(&job, &update("")).await, InvalidArgument, "");
    refused(lab.admin.external_update(&own, &update("Executing")).await, WrongStatus, "");
    lab.admin.external_update(&job, &update("Completed")).await.unwrap();
    refused(lab.admin.external_update(&job, &update("Executing")).await, WrongStatus, "Completed");
    let alice = lab.user("alice").await;
    refused(alice.external_update(&job, &update("Executing")).await, NotFound, "");
}

#[tokio::test]
async fn external_job_can_not_be_migrated() {
    let lab = Lab::start().await;
    let job = lab.admin.external_register(&external(&["10.0.0.1:80"])).await.unwrap().id;
    refused(lab.admin.job_migrate(&job, &Default::default()).await, WrongStatus, "");
    refused(lab.admin.job_suspend(&job).await, WrongStatus, "");
}
