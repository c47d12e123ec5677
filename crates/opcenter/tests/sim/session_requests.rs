//! Sessions that a user confirms in a browser, as `float login --sso` asks for them.

use mooring_api::ErrorCode::{PermissionDenied, ResourceExhausted, Unauthenticated};
use mooring_api::view::{AuditQuery, SessionRequest, SessionRequestView};
use mooring_api::{Client, ClientError};
use reqwest::{Method, StatusCode};

use crate::lab::{Lab, refused, seconds};
use crate::visit::Visit;

fn stranger(lab: &Lab) -> Client {
    Client::new(lab.admin.address()).unwrap()
}

async fn ask(lab: &Lab) -> Result<SessionRequestView, ClientError> {
    stranger(lab).session_request(&SessionRequest { machine: "rhine <b>\n".into() }).await
}

async fn visitor(lab: &Lab, name: &str) -> Visit {
    lab.user(name).await;
    Visit::begin(&lab.admin, name, &format!("password of {name}")).await
}

#[tokio::test]
async fn confirmed_request_is_a_session() {
    let lab = Lab::start().await;
    let ada = visitor(&lab, "ada").await;
    let asked = ask(&lab).await.unwrap();
    let program = stranger(&lab).with_token(&asked.secret);
    assert!(program.session_request_state().await.unwrap().session.is_none());
    refused(program.session_get().await, Unauthenticated, "");
    let login = Visit::stranger(&lab.admin).get(&asked.path).await;
    assert_eq!(login.status, StatusCode::SEE_OTHER);
    assert!(login.location.starts_with("/login?next=%2Flogin%2Fconfirm"), "{}", login.location);
    let page = ada.get(&asked.path).await.text;
    assert!(
        page.contains(&asked.code) && page.contains("127.0.0.1") && page.contains("<strong>ada</strong>"),
        "{page}"
    );
    assert!(page.contains("rhine") && !page.contains("rhine <b>"), "{page}");

    let answer = ada.post("/login/confirm", &[("code", &asked.code)]).await;
    assert_eq!(answer.status, StatusCode::NO_CONTENT, "{}", answer.text);
    let session = program.session_request_state().await.unwrap().session.unwrap();
    assert_eq!((session.username.as_str(), session.token.as_str()), ("ada", asked.secret.as_str()));
    assert_eq!(program.session_get().await.unwrap().username, "ada");
    // It ends when the session of the one who has confirmed it would.
    let open = program.session_list().await.unwrap();
    let own = open.iter().find(|session| session.present).unwrap();
    assert!(own.client.starts_with("float/") && own.address == "127.0.0.1", "{own:?}");
    assert!(open.iter().any(|other| other.id != own.id && other.expires_at == own.expires_at), "{open:?}");
    // Once.
    let again = ada.post("/login/confirm", &[("code", &asked.code)]).await;
    assert_eq!(again.status, StatusCode::NOT_FOUND);
    assert_eq!(ada.get(&asked.path).await.status, StatusCode::NOT_FOUND);

    let entry = |action: &str| AuditQuery { action: Some(action.into()), ..AuditQuery::default() };
    let confirmed = lab.admin.audit_list(&entry("session.confirm")).await.unwrap().entries;
    assert_eq!((confirmed[1].user.as_str(), confirmed[1].object.as_str()), ("ada", own.id.as_str()), "{confirmed:?}");
    assert!(confirmed[1].detail.contains("rhine"), "{confirmed:?}");
    assert_eq!(lab.admin.audit_list(&entry("session.request")).await.unwrap().entries.len(), 1);
}

#[tokio::test]
async fn request_takes_a_session_and_its_csrf_token() {
    let lab = Lab::start().await;
    let ada = visitor(&lab, "ada").await;
    let asked = ask(&lab).await.unwrap();
    let program = stranger(&lab).with_token(&asked.secret);
    let form = [("code", asked.code.as_str())];
    let nobody = Visit::stranger(&lab.admin).post("/login/confirm", &form).await;
    assert_eq!(nobody.status, StatusCode::UNAUTHORIZED);
    // A page of another server can have the browser send the form, but not the token.
    let forged = ada.request(Method::POST, "/login/confirm").form(&form).send().await.unwrap();
    assert_eq!(forged.status(), StatusCode::FORBIDDEN);
    let foreign = ada.request(Method::POST, "/login/confirm").header("X-CSRF-Token", &ada.csrf);
    let foreign = foreign.header("Sec-Fetch-Site", "same-site").form(&form).send().await.unwrap();
    assert_eq!(foreign.status(), StatusCode::FORBIDDEN);
    assert_eq!(ada.post("/login/confirm", &[("code", "BCDF-GHJK")]).await.status, StatusCode::NOT_FOUND);
    assert!(program.session_request_state().await.unwrap().session.is_none());

    assert_eq!(ada.post("/login/confirm/refuse", &form).await.status, StatusCode::NO_CONTENT);
    refused(program.session_request_state().await, PermissionDenied, "refused in the browser");
    assert_eq!(ada.post("/login/confirm", &form).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn request_is_over_after_five_minutes() {
    let lab = Lab::start().await;
    let ada = visitor(&lab, "ada").await;
    let asked = ask(&lab).await.unwrap();
    lab.clock.advance(seconds(300));
    let program = stranger(&lab).with_token(&asked.secret);
    refused(program.session_request_state().await, Unauthenticated, "nobody has confirmed the login in time");
    assert_eq!(ada.post("/login/confirm", &[("code", &asked.code)]).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn requests_of_an_address_are_bounded() {
    let lab = Lab::start().await;
    for _ in 0..10 {
        ask(&lab).await.unwrap();
    }
    refused(ask(&lab).await, ResourceExhausted, "too many logins wait");
    lab.clock.advance(seconds(300));
    ask(&lab).await.unwrap();
}
