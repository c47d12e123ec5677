//! Every route of the web interface with every kind of visitor: one table of the rights of all.
//! The letters are those of [`crate::authorization`].

use std::collections::BTreeSet;

use mooring_api::paths;
use mooring_api::view::AuditQuery;
use reqwest::{Method, StatusCode};

use crate::authorization::{On, World};
use crate::visit::Visit;

/// The visitors, in the order of the letters of a row.
const VISITORS: [&str; 6] = ["nobody", "viewer", "user", "mate", "owner", "admin"];

/// A row: method, path with its query, letters, object, form.
type Row = (&'static str, &'static str, &'static str, On, &'static str);

#[rustfmt::skip]
const TABLE: &[Row] = &[
    // N VUMOA: the first letters of VISITORS.
    ("GET",  "/login", "+ +++++", On::Nothing, ""),
    ("GET",  "/login/again", "+ +++++", On::Nothing, ""),
    ("GET",  "/login/link", "4 44444", On::Nothing, ""),
    ("POST", "/login", "+ +++++", On::Nothing, "username=x"),
    // A document of OpCenter's own sends strangers to the login. `job_sign_in` has the rights.
    ("GET",  "/sign-in-for-job", "+ +++++", On::Nothing, ""),
    ("POST", "/sign-in-for-job", "4 +++++", On::Nothing, "origin=x"),
    ("GET",  "/enter", "+ +++++", On::Nothing, ""),
    // No provider is set up.
    ("GET",  "/login/oidc", "- -----", On::Nothing, ""),
    ("GET",  "/login/oidc/callback", "- -----", On::Nothing, ""),
    // Nobody waits.
    ("GET",  "/login/confirm?code=BCDF-GHJK", "4 -----", On::Nothing, ""),
    ("POST", "/login/confirm", "4 -----", On::Nothing, "code=BCDF-GHJK"),
    ("POST", "/login/confirm/refuse", "4 -----", On::Nothing, "code=BCDF-GHJK"),
    ("GET",  "/", "4 +++++", On::Nothing, ""),
    ("GET",  "/account", "4 +++++", On::Nothing, ""),
    ("GET",  "/account/password", "4 +++++", On::Nothing, ""),
    ("GET",  "/tokens/new", "4 +++++", On::Nothing, ""),
    ("GET",  "/audit", "4 xxxx+", On::Nothing, ""),
    ("GET",  "/audit/export?format=csv", "4 xxxx+", On::Nothing, ""),
    ("GET",  "/settings", "4 xxxx+", On::Nothing, ""),
    ("GET",  "/palette", "4 +++++", On::Nothing, ""),
    ("GET",  "/palette/results?text=a", "4 +++++", On::Nothing, ""),
    ("GET",  "/login/state", "4 +++++", On::Nothing, ""),
    ("GET",  "/jobs", "4 +++++", On::Nothing, ""),
    ("GET",  "/jobs/filter?text=s", "4 +++++", On::Nothing, ""),
    ("GET",  "/submit", "4 +++++", On::Nothing, ""),
    ("GET",  "/templates", "4 +++++", On::Nothing, ""),
    ("GET",  "/secrets", "4 +++++", On::Nothing, ""),
    ("GET",  "/secrets/new", "4 +++++", On::Nothing, ""),
    ("GET",  "/gateways", "4 +++++", On::Nothing, ""),
    ("GET",  "/gateways/new", "4 +++++", On::Nothing, ""),
    ("GET",  "/security-groups", "4 +++++", On::Nothing, ""),
    ("GET",  "/security-groups/new", "4 +++++", On::Nothing, ""),
    ("GET",  "/hosts", "4 +++++", On::Nothing, ""),
    ("GET",  "/hosts/join", "4 xxxx+", On::Nothing, ""),
    ("GET",  "/users", "4 +++++", On::Nothing, ""),
    ("GET",  "/users/new", "4 xxxx+", On::Nothing, ""),
    ("GET",  "/groups/new", "4 xxxx+", On::Nothing, ""),
    // The form has a wrong password.
    ("POST", "/account/password", "4 xxxxx", On::Nothing, "current=no&password=long enough&again=long enough"),
    ("POST", "/tokens", "4 +++++", On::Nothing, "name=NEW"),
    ("POST", "/tokens/{id}/delete", "4 ---++", On::NewToken, ""),
    ("POST", "/sessions/{id}/end", "4 ---++", On::NewSession, ""),
    ("POST", "/users", "4 xxxx+", On::Nothing, "name=NEW&password=long enough&again=long enough"),
    ("GET",  "/users/{id}/update", "4 xxxx+", On::Owner, ""),
    ("GET",  "/users/{id}/password", "4 xxxx+", On::Owner, ""),
    ("GET",  "/users/{id}/delete", "4 xxxx+", On::Owner, ""),
    ("POST", "/users/{id}/update", "4 xxxx+", On::Owner, "role=user&groups=lab&jobs=50"),
    ("POST", "/users/{id}/password", "4 xxxx+", On::NewUser, "password=long enough&again=long enough"),
    ("POST", "/users/{id}/delete", "4 xxxx+", On::NewUser, ""),
    ("POST", "/groups", "4 xxxx+", On::Nothing, "name=NEW"),
    ("GET",  "/groups/{id}/update", "4 xxxx+", On::Group, ""),
    ("GET",  "/groups/{id}/delete", "4 xxxx+", On::Group, ""),
    ("POST", "/groups/{id}/update", "4 xxxx+", On::NewGroup, "description=x"),
    ("POST", "/groups/{id}/delete", "4 xxxx+", On::NewGroup, ""),
    ("POST", "/secrets", "4 x++++", On::Nothing, "name=NEW&value=x"),
    ("GET",  "/secrets/{id}/remove", "4 +++++", On::Secret, ""),
    ("POST", "/secrets/{id}/remove", "4 x++++", On::Secret, ""),
    ("GET",  "/templates/{id}/start", "4 ---+-", On::NewTemplate, ""),
    ("GET",  "/templates/{id}/delete", "4 +++++", On::NewTemplate, ""),
    ("GET",  "/templates/{id}/file", "4 ---+-", On::NewTemplate, ""),
    ("GET",  "/templates/{id}/job.yaml", "4 ---+-", On::NewTemplate, ""),
    ("GET",  "/templates/new?job=JOB", "4 x-x++", On::Nothing, ""),
    ("POST", "/templates", "4 x-x++", On::Nothing, "name=NEW&job=JOB"),
    ("POST", "/templates/{id}/start", "4 x--+-", On::NewTemplate, ""),
    ("POST", "/templates/{id}/delete", "4 x--+-", On::NewTemplate, ""),
    ("POST", "/submit/preview", "4 x++++", On::Nothing, "image=alpine:3"),
    ("POST", "/submit/template", "4 x++++", On::Nothing, "image=alpine:3&name=NEW"),
    ("POST", "/submit", "4 x++++", On::Nothing, "image=alpine:3"),
    ("GET",  "/security-groups/{id}/delete", "4 xxx++", On::NewSecurityGroup, ""),
    ("GET",  "/security-groups/{id}/rules/edit?rule=tcp:1-2:10.0.0.0/8", "4 xxx++", On::NewSecurityGroup, ""),
    ("GET",  "/security-groups/{id}/rules/remove?rule=tcp:1-2:10.0.0.0/8", "4 xxx++", On::NewSecurityGroup, ""),
    ("GET",  "/security-groups/{id}/rules/row?rule=tcp:1-2:10.0.0.0/8", "4 +++++", On::NewSecurityGroup, ""),
    ("POST", "/security-groups", "4 x++++", On::Nothing, "name=NEW"),
    ("POST", "/security-groups/{id}/rules", "4 xxx++", On::NewSecurityGroup, "ports=5&source=10.0.0.0/8"),
    ("POST", "/security-groups/{id}/rules/replace", "4 xxx++", On::NewSecurityGroup, "rule=tcp:1-2:10.0.0.0/8&ports=6&source=10.0.0.0/8"),
    ("POST", "/security-groups/{id}/rules/remove", "4 xxx++", On::NewSecurityGroup, "rule=tcp:1-2:10.0.0.0/8"),
    ("POST", "/security-groups/{id}/delete", "4 xxx++", On::NewSecurityGroup, ""),
    ("GET",  "/gateways/{id}", "4 +++++", On::Gateway, ""),
    ("GET",  "/gateways/{id}/connect", "4 +++++", On::Gateway, ""),
    ("GET",  "/gateways/{id}/modify", "4 xxx++", On::Gateway, ""),
    ("GET",  "/gateways/{id}/destroy", "4 xxx++", On::Gateway, ""),
    ("GET",  "/gateways/{id}/disconnect?job=JOB&port=8080", "4 +-+++", On::Connected, ""),
    ("POST", "/gateways/new/group", "4 x++++", On::Nothing, "group_name=NEW"),
    ("POST", "/gateways", "4 x++++", On::Nothing, "name=NEW&port_range=20000:20001"),
    ("POST", "/gateways/{id}/connect", "4 x-x++", On::Gateway, "job=JOB&ports=8080&protocol=auto"),
    ("POST", "/gateways/{id}/disconnect", "4 x-x++", On::Connected, "job=JOB&port=8080"),
    ("GET",  "/gateways/{id}/certificate", "4 xxx++", On::Gateway, ""),
    ("POST", "/gateways/{id}/certificate", "4 xxx++", On::Gateway, "certificate=a&key=b"),
    ("POST", "/gateways/{id}/certificate/remove?name=lab", "4 xxx--", On::Gateway, ""),
    ("POST", "/gateways/{id}/restart", "4 xxx++", On::Gateway, ""),
    ("POST", "/gateways/{id}/modify", "4 xxx++", On::Gateway, r#"began={"name":"own","resources":{"cpu":1,"memGb":1.0},"portRange":"20000:20009","exposure":"public","securityGroups":[]}&name=NEW&port_range=20000:20009"#),
    ("POST", "/gateways/{id}/destroy", "4 xxx++", On::NewGateway, "confirm=MADE"),
    ("GET",  "/hosts/{id}", "4 +++++", On::SimHost, ""),
    ("GET",  "/hosts/{id}/drain", "4 xxxx+", On::SimHost, ""),
    ("GET",  "/hosts/{id}/rejoin", "4 xxxx+", On::SimHost, ""),
    ("GET",  "/hosts/{id}/remove", "4 xxxx+", On::SimHost, ""),
    ("POST", "/hosts/join", "4 xxxx+", On::Nothing, "ttl=1h"),
    ("POST", "/hosts/join/{id}/revoke", "4 xxxx+", On::NewJoinToken, ""),
    ("POST", "/hosts/{id}/drain", "4 xxxx+", On::SimHost, ""),
    ("POST", "/hosts/{id}/undrain", "4 xxxx+", On::SimHost, ""),
    ("POST", "/hosts/{id}/rejoin", "4 xxxx+", On::SimHost, ""),
    ("GET",  "/jobs/{id}", "4 +-+++", On::Job, ""),
    ("GET",  "/jobs/{id}/migrate", "4 x-x++", On::Job, ""),
    ("GET",  "/jobs/{id}/modify", "4 x-x++", On::Job, ""),
    ("GET",  "/jobs/{id}/cancel", "4 x-x++", On::Job, ""),
    ("GET",  "/jobs/{id}/connect", "4 x-x++", On::Job, ""),
    ("GET",  "/jobs/{id}/metrics.csv", "4 +-+++", On::Job, ""),
    ("GET",  "/jobs/{id}/disconnect?gateway=GATEWAY&port=8080", "4 x-x++", On::ConnectedJob, ""),
    ("GET",  "/jobs/several?action=cancel&job=JOB", "4 +-+++", On::Nothing, ""),
    ("POST", "/jobs/{id}/modify", "4 x-x++", On::Job, "before.name=work&name=NEW"),
    ("POST", "/jobs/{id}/connect", "4 x-x++", On::Job, "gateway=GATEWAY&port=8080"),
    ("POST", "/jobs/{id}/disconnect", "4 x-x++", On::ConnectedJob, "gateway=GATEWAY&port=8080"),
    ("POST", "/jobs/{id}/snapshot", "4 x-x++", On::Job, ""),
    ("POST", "/jobs/{id}/suspend", "4 x-x++", On::Job, ""),
    ("POST", "/jobs/{id}/resume", "4 x-x++", On::Job, ""),
    ("POST", "/jobs/{id}/migrate", "4 x-x++", On::Job, ""),
    ("POST", "/jobs/{id}/rerun", "4 x-x++", On::Job, ""),
    ("POST", "/jobs/several", "4 x-x++", On::Nothing, "action=suspend&job=JOB"),
    ("POST", "/jobs/{id}/cancel", "4 x-x++", On::Job, ""),
    ("POST", "/hosts/{id}/remove", "4 xxxx+", On::SimHost, ""),
    ("POST", "/logout", "4 +++++", On::Nothing, ""),
];

async fn visitors(world: &World) -> Vec<Visit> {
    let mut visitors = vec![Visit::stranger(&world.lab.admin)];
    for name in ["vera", "user", "mate", "owner"] {
        visitors.push(Visit::begin(&world.lab.admin, name, &format!("password of {name}")).await);
    }
    visitors.push(Visit::begin(&world.lab.admin, "admin", &world.lab.admin_password()).await);
    visitors
}

/// Calls a route as every visitor, and returns the letters.
async fn letters(world: &mut World, visitors: &[Visit], (method, path, _, on, form): Row) -> String {
    let mut letters = String::new();
    for (place, visitor) in visitors.iter().enumerate() {
        let id = world.object(on).await;
        let filled = |text: &str| world.filled(text);
        let path = paths::fill(&filled(path), &[&id]);
        let status = if method == "GET" {
            let answer = visitor.get(&path).await;
            let is_login = answer.status == StatusCode::SEE_OTHER && answer.location.starts_with("/login");
            if is_login { StatusCode::UNAUTHORIZED } else { answer.status }
        } else {
            let form = filled(form);
            let fields: Vec<(&str, &str)> = form.split('&').filter_map(|pair| pair.split_once('=')).collect();
            status_of_change(world, visitor, &path, &fields).await
        };
        assert_ne!(status, StatusCode::INTERNAL_SERVER_ERROR, "{method} {path} by {}", VISITORS[place]);
        if place == 1 {
            letters.push(' ');
        }
        letters.push(world.noted(status, on, id));
    }
    letters
}

/// Submits a form, and returns the status of its outcome: the audit knows it where the form comes
/// back with the reason at a field.
async fn status_of_change(world: &World, visitor: &Visit, path: &str, form: &[(&str, &str)]) -> StatusCode {
    let answer = visitor.post(path, form).await;
    if answer.status != StatusCode::UNPROCESSABLE_ENTITY {
        return answer.status;
    }
    let query = AuditQuery { limit: Some(1), ..AuditQuery::default() };
    let entry = world.lab.admin.audit_list(&query).await.unwrap().entries.remove(0);
    match entry.reason.split(':').next() {
        Some("Permission denied") => StatusCode::FORBIDDEN,
        Some("Resource not found") => StatusCode::NOT_FOUND,
        _ => answer.status,
    }
}

#[tokio::test]
async fn every_route_answers_every_visitor_as_the_table_says() {
    let without_query = |path: &'static str| path.split('?').next().unwrap_or_default();
    let listed: BTreeSet<(Method, &str)> =
        TABLE.iter().map(|(method, path, ..)| (method.parse().unwrap(), without_query(path))).collect();
    assert_eq!(listed.len(), TABLE.len(), "a route has two rows");
    let all: BTreeSet<(Method, &str)> =
        mooring_opcenter::web_routes().into_iter().map(|route| (route.method, route.path)).collect();
    let lacking: Vec<_> = all.difference(&listed).collect();
    let unknown: Vec<_> = listed.difference(&all).collect();
    assert!(lacking.is_empty() && unknown.is_empty(), "without a row: {lacking:#?}; no route: {unknown:#?}");
    let mut world = World::build().await;
    let visitors = visitors(&world).await;
    let mut wrong = Vec::new();
    for row in TABLE {
        let letters = letters(&mut world, &visitors, *row).await;
        if letters != row.2 {
            wrong.push(format!("{:6} {:50} {} instead of {}", row.0, row.1, letters, row.2));
        }
    }
    assert!(wrong.is_empty(), "{VISITORS:?}\n{}", wrong.join("\n"));
}
