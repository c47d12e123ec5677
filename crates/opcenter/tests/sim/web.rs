//! The web interface's own rules: sessions, forged requests, headers, live pages.

use reqwest::{Method, StatusCode};

use crate::lab::Lab;
use crate::visit::Visit;

async fn visitor(lab: &Lab, name: &str) -> Visit {
    lab.user(name).await;
    Visit::begin(&lab.admin, name, &format!("password of {name}")).await
}

#[tokio::test]
async fn strangers_are_led_to_the_login_and_back() {
    let lab = Lab::start().await;
    let stranger = Visit::stranger(&lab.admin);
    let answer = stranger.get("/secrets?x=1").await;
    assert_eq!((answer.status, answer.location.as_str()), (StatusCode::SEE_OTHER, "/login?next=%2Fsecrets%3Fx%3D1"));
    let login = stranger.get(&answer.location).await;
    assert!(login.text.contains("value=\"/secrets?x=1\""), "{}", login.text);
    let wrong = stranger.post("/login", &[("username", "admin"), ("password", "no")]).await;
    assert_eq!(wrong.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(wrong.text.contains("wrong user name or password"), "{}", wrong.text);
}

#[tokio::test]
async fn no_route_serves_strangers_but_the_listed_ones() {
    let lab = Lab::start().await;
    let stranger = Visit::stranger(&lab.admin);
    let routes = mooring_opcenter::web_routes();
    assert!(routes.len() > 5);
    for route in routes.iter().filter(|route| route.access == mooring_opcenter::Access::Session) {
        let answer = stranger.request(route.method.clone(), route.path).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::SEE_OTHER, "{route:?}");
        assert!(answer.headers()["location"].to_str().unwrap().starts_with("/login"), "{route:?}");
    }
}

#[tokio::test]
async fn changes_take_the_csrf_token_of_the_session() {
    let lab = Lab::start().await;
    let (ada, eve) = (visitor(&lab, "ada").await, visitor(&lab, "eve").await);
    for route in mooring_opcenter::web_routes() {
        if route.method != Method::POST || route.access != mooring_opcenter::Access::Session {
            continue;
        }
        for token in ["", &eve.csrf] {
            let request = ada.request(Method::POST, route.path).header("X-CSRF-Token", token);
            assert_eq!(request.send().await.unwrap().status(), StatusCode::FORBIDDEN, "{route:?}");
        }
        let request = ada.request(Method::POST, route.path).header("X-CSRF-Token", &ada.csrf);
        // A job's page on another port of the same host.
        let foreign = request.header("Sec-Fetch-Site", "same-site").send().await.unwrap();
        assert_eq!(foreign.status(), StatusCode::FORBIDDEN, "{route:?}");
    }
}

#[tokio::test]
async fn answers_carry_the_policy_of_the_page() {
    let lab = Lab::start().await;
    for path in ["/login", "/secrets", "/nowhere"] {
        let answer = Visit::stranger(&lab.admin).request(Method::GET, path);
        let answer = answer.header("Accept", "text/html").send().await.unwrap();
        let header = |name: &str| answer.headers().get(name).map(|value| value.to_str().unwrap()).unwrap_or_default();
        let policy = header("content-security-policy");
        assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{path}: {policy}");
        assert!(policy.contains("frame-ancestors 'none'"), "{path}: {policy}");
        assert_eq!(header("x-frame-options"), "DENY", "{path}");
        assert_eq!(header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(header("cache-control"), "no-store", "{path}");
    }
}

#[tokio::test]
async fn page_follows_changes_and_the_end_of_the_session() {
    let lab = Lab::start().await;
    let ada = visitor(&lab, "ada").await;
    let mut changes = ada.live("/secrets").await;
    changes.until("No secrets").await;
    let done = ada.post("/secrets", &[("name", "token"), ("value", "sesame")]).await;
    assert!(done.status == StatusCode::NO_CONTENT && done.events.contains("Secret token is set"), "{done:?}");
    let html = changes.until("<code>token</code>").await;
    assert!(!html.contains("sesame"), "{html}");
    let wrong = ada.post("/secrets", &[("name", "a b"), ("value", "sesame")]).await;
    assert_eq!(wrong.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(wrong.text.contains("value=\"a b\"") && wrong.text.contains("aria-invalid"), "{}", wrong.text);
    let out = ada.post("/logout", &[]).await;
    assert!(out.events.contains("signed out"), "{out:?}");
    lab.clock.advance(std::time::Duration::from_secs(31));
    changes.until("event: ended").await;
    assert_eq!(ada.get("/secrets").await.status, StatusCode::SEE_OTHER);
    let again = ada.post("/secrets", &[("name", "token"), ("value", "sesame")]).await;
    assert!(again.status == StatusCode::UNAUTHORIZED && again.events.contains("mooring:again"), "{again:?}");
}
