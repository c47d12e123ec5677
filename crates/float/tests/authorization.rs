//! Without a session every endpoint refuses: the described ones, those of agents and gateways, and
//! those of the web interface. Each is called without a token and with an unknown one.

use anyhow::{Context, ensure};
use mooring_api::paths;
use mooring_opcenter::{Access, web_routes};
use mooring_testkit::world::{Plan, World};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

/// The endpoints of hosts and gateways, which are not described.
const OF_DAEMONS: [(&str, &str); 5] = [
    ("get", paths::HOST_SLICES),
    ("post", paths::HOST_REPORT),
    ("put", paths::HOST_JOB_LOG),
    ("get", paths::GATEWAY_SLICES),
    ("post", paths::GATEWAY_REPORT),
];

#[test]
fn nothing_is_told_to_whoever_is_not_logged_in() {
    let world = World::start(Plan::new(env!("CARGO_BIN_EXE_float"))).unwrap();
    let outcome = world.run_inside(async || {
        // Somebody is, and a client has chosen the process's cryptography.
        let _admin = world.client().await?;
        let http = reqwest::Client::builder().no_proxy().build()?;
        let described: Value = http.get(format!("{}{}", world.url(), paths::OPENAPI)).send().await?.json().await?;
        let mut asked = Vec::new();
        for (path, operations) in described["paths"].as_object().context("paths")? {
            for (method, operation) in operations.as_object().context("operations")? {
                // An empty list says that anyone may.
                if operation["security"] != json!([]) {
                    asked.push((method.clone(), path.clone()));
                }
            }
        }
        ensure!(asked.len() > 15, "{asked:?}");
        asked.extend(OF_DAEMONS.map(|(method, path)| (method.to_owned(), path.to_owned())));
        for (method, path) in asked {
            let url =
                format!("{}{}", world.url(), paths::fill(&path, &["uqaj8l6a407u88v0106ol", "uqaj8l6a407u88v0106ol"]));
            for token in [None, Some("Bearer nobody-was-given-this")] {
                let mut request = http.request(Method::from_bytes(method.to_uppercase().as_bytes())?, &url);
                if let Some(token) = token {
                    request = request.header("Authorization", token);
                }
                let answer = request.json(&json!({})).send().await?;
                ensure!(answer.status() == StatusCode::UNAUTHORIZED, "{method} {path}: {}", answer.status());
            }
        }
        Ok(())
    });
    outcome.unwrap();
}

/// The routes of the web interface that serve visitors without a session.
const OPEN: [(&str, &str); 8] = [
    ("GET", "/login"),
    ("POST", "/login"),
    ("GET", "/login/again"),
    ("GET", "/login/link"),
    ("GET", "/login/oidc"),
    ("GET", "/login/oidc/callback"),
    // They lead strangers to the login themselves, and remember what was asked for.
    ("GET", "/sign-in-for-job"),
    ("GET", "/enter"),
];

#[test]
fn pages_lead_whoever_is_not_signed_in_to_the_login() {
    let world = World::start(Plan::new(env!("CARGO_BIN_EXE_float"))).unwrap();
    let outcome = world.run_inside(async || {
        let _admin = world.client().await?;
        let http = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build()?;
        let routes = web_routes();
        ensure!(routes.len() > 5, "{routes:?}");
        for route in &routes {
            if route.access == Access::Anyone {
                ensure!(OPEN.contains(&(route.method.as_str(), route.path)), "{route:?}");
                continue;
            }
            let url = format!(
                "{}{}",
                world.url(),
                paths::fill(route.path, &["uqaj8l6a407u88v0106ol", "uqaj8l6a407u88v0106ol"])
            );
            for cookie in ["", "mooring-session=nobody-was-given-this"] {
                let answer = http.request(route.method.clone(), &url).header("Cookie", cookie).send().await?;
                let to = answer.headers().get("location").and_then(|to| to.to_str().ok()).unwrap_or_default();
                ensure!(answer.status() == StatusCode::SEE_OTHER && to.starts_with("/login"), "{route:?}: {answer:?}");
                // A script is told, and asks for the password over the page.
                let request = http.request(route.method.clone(), &url).header("Cookie", cookie);
                let answer = request.header("HX-Request", "true").send().await?;
                ensure!(answer.status() == StatusCode::UNAUTHORIZED, "{route:?}: {answer:?}");
            }
        }
        Ok(())
    });
    outcome.unwrap();
}
