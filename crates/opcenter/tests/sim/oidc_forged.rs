//! Sign-in at an OpenID provider that is wrong, hostile or down: nobody gets in, and the page says
//! what is the matter.

use mooring_api::view::AuditQuery;
use mooring_opcenter::OidcConfig;
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::lab::{Lab, Plan, seconds};
use crate::provider::{Begun, CLIENT, Forger, Key, SECRET, begin, come_back, unsigned};
use crate::visit::{Answer, Visit};

async fn lab(oidc: OidcConfig) -> Lab {
    Lab::with(Vec::new(), Plan { oidc: Some(oidc), ..Plan::default() }).await
}

/// Checks that a sign-in ends on a page that says so, without a session.
async fn refused(browser: &Visit, answer: &Answer, text: &str) {
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "expected `{text}`: {}", answer.text);
    assert!(answer.text.contains(text), "expected `{text}`: {}", answer.text);
    assert!(answer.text.contains("Sign in with Harbour"), "a way on: {}", answer.text);
    assert!(!browser.cookie.contains("mooring-"), "{}", browser.cookie);
}

/// Signs in with the claims of a right token after a change, signed with the provider's key.
async fn sign_in(lab: &Lab, forger: &Forger, change: impl FnOnce(&mut Value)) -> (Visit, Answer) {
    let mut browser = Visit::stranger(&lab.admin);
    let begun = begin(&mut browser, "/login/oidc").await;
    let mut claims = forger.claims(&begun, "ada", &lab.clock);
    change(&mut claims);
    forger.hand_out(forger.key.sign(&claims));
    let answer = come_back(&mut browser, &begun).await;
    (browser, answer)
}

#[tokio::test]
async fn right_token_signs_in_and_a_changed_one_does_not() {
    let forger = Forger::start().await;
    let lab = lab(forger.config()).await;
    let (browser, answer) = sign_in(&lab, &forger, |_| {}).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    assert_eq!(browser.get("/secrets").await.status, StatusCode::OK);
    let now = mooring_types::Clock::now(&lab.clock).as_second();
    let elsewhere = "https://elsewhere.example";
    let wrong: Vec<(Value, &str)> = vec![
        (json!({"iss": elsewhere}), "it comes from another provider"),
        (json!({"iss": null}), "it comes from another provider"),
        (json!({"aud": "another"}), "it was made for another application"),
        (json!({"aud": ["another"]}), "it was made for another application"),
        (json!({"aud": null}), "it was made for another application"),
        // For several applications, and asked for by another one.
        (json!({"aud": [CLIENT, "another"]}), "it was made for another application"),
        (json!({"aud": [CLIENT, "another"], "azp": "another"}), "it was made for another application"),
        (json!({"azp": "another"}), "it was made for another application"),
        (json!({"nonce": "another"}), "it belongs to another sign-in"),
        (json!({"nonce": null}), "it belongs to another sign-in"),
        (json!({"exp": now - 61}), "the clocks of Harbour and of OpCenter differ"),
        (json!({"exp": null}), "it is no ID token"),
        (json!({"iat": now + 61}), "the clocks of Harbour and of OpCenter differ"),
        (json!({"iat": now - 601}), "the clocks of Harbour and of OpCenter differ"),
        (json!({"iat": null}), "it is no ID token"),
        (json!({"nbf": now + 61}), "the clocks of Harbour and of OpCenter differ"),
        (json!({"sub": null}), "it does not say who signs in"),
        (json!({"sub": ""}), "it does not say who signs in"),
        (json!({"sub": "x".repeat(256)}), "it does not say who signs in"),
    ];
    for (change, text) in wrong {
        let (browser, answer) = sign_in(&lab, &forger, |claims| {
            for (key, value) in change.as_object().unwrap() {
                match value {
                    Value::Null => drop(claims.as_object_mut().unwrap().remove(key)),
                    value => claims[key] = value.clone(),
                }
            }
        })
        .await;
        refused(&browser, &answer, text).await;
        // One right sign-in forgives the failures of the address.
        assert_eq!(sign_in(&lab, &forger, |_| {}).await.1.status, StatusCode::OK);
    }
    for right in
        [json!({"aud": [CLIENT]}), json!({"aud": [CLIENT, "another"], "azp": CLIENT}), json!({"exp": now - 59})]
    {
        let (_, answer) = sign_in(&lab, &forger, |claims| {
            right.as_object().unwrap().iter().for_each(|(key, value)| claims[key] = value.clone());
        })
        .await;
        assert_eq!(answer.status, StatusCode::OK, "{right}: {}", answer.text);
    }
    assert_eq!(lab.admin.user_list().await.unwrap().len(), 2);
}

#[tokio::test]
async fn token_has_to_be_signed_by_the_provider() {
    let forger = Forger::start().await;
    let lab = lab(forger.config()).await;
    let forged = async |token: &dyn Fn(&Value) -> String, text: &str| {
        let mut browser = Visit::stranger(&lab.admin);
        let begun = begin(&mut browser, "/login/oidc").await;
        forger.hand_out(token(&forger.claims(&begun, "ada", &lab.clock)));
        let answer = come_back(&mut browser, &begun).await;
        refused(&browser, &answer, text).await;
        lab.clock.advance(seconds(61));
    };
    // Another key under the same name.
    let impostor = Key::new("first");
    forged(&|claims| impostor.sign(claims), "its signature is wrong").await;
    let unknown = Key::new("second");
    forged(&|claims| unknown.sign(claims), "it is signed with an unknown key").await;
    // Who knows the client's secret must not make tokens.
    let with_secret = |claims: &Value| {
        let header = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::HS256);
        let key = jsonwebtoken::EncodingKey::from_secret(SECRET.as_bytes()).unwrap();
        jsonwebtoken::encode(&header, claims, &key).unwrap()
    };
    forged(&with_secret, "it is not signed, or in a way that is not accepted").await;
    for algorithm in ["none", "None", "HS256"] {
        let header = json!({"alg": algorithm, "typ": "JWT"});
        forged(&|claims| unsigned(&header, claims), "it is not signed, or in a way that is not accepted").await;
    }
    forged(&|claims| unsigned(&json!({"alg": "ES256", "kid": "first"}), claims), "its signature is wrong").await;
    // Claims that were changed after they were signed.
    let changed = |claims: &Value| {
        let (signed, other) = (forger.key.sign(claims), unsigned(&json!({}), &json!({"sub": "eve"})));
        let parts: Vec<&str> = signed.split('.').collect();
        format!("{}.{}.{}", parts[0], other.split('.').nth(1).unwrap(), parts[2])
    };
    forged(&changed, "its signature is wrong").await;
    forged(&|_| "no.token".into(), "it is no ID token").await;
    forged(&|_| String::new(), "it is no ID token").await;
    assert_eq!(lab.admin.user_list().await.unwrap().len(), 1);
}

#[tokio::test]
async fn new_keys_are_asked_for_once_and_old_ones_end() {
    let forger = Forger::start().await;
    let lab = lab(forger.config()).await;
    assert_eq!(sign_in(&lab, &forger, |_| {}).await.1.status, StatusCode::OK);
    assert_eq!(forger.asked_for_keys(), 1);
    let signed = async |key: &Key| {
        let mut browser = Visit::stranger(&lab.admin);
        let begun = begin(&mut browser, "/login/oidc").await;
        forger.hand_out(key.sign(&forger.claims(&begun, "ada", &lab.clock)));
        come_back(&mut browser, &begun).await.status
    };
    let second = Key::new("second");
    // Too soon: strangers can't have OpCenter ask all the time.
    forger.publish(&[&second]);
    assert_eq!(signed(&second).await, StatusCode::UNAUTHORIZED);
    assert_eq!(forger.asked_for_keys(), 1);
    lab.clock.advance(seconds(11));
    assert_eq!(signed(&second).await, StatusCode::OK);
    assert_eq!(forger.asked_for_keys(), 2);
    assert_eq!(signed(&second).await, StatusCode::OK);
    // The first key was taken back.
    lab.clock.advance(seconds(11));
    assert_eq!(signed(&forger.key).await, StatusCode::UNAUTHORIZED);
    assert_eq!(forger.asked_for_keys(), 3);
    // Keys are kept for an hour.
    lab.clock.advance(seconds(3600));
    assert_eq!(signed(&second).await, StatusCode::OK);
    assert_eq!(forger.asked_for_keys(), 4);
}

#[tokio::test]
async fn callback_takes_the_browser_that_began() {
    let forger = Forger::start().await;
    let lab = lab(forger.config()).await;
    let mut ada = Visit::stranger(&lab.admin);
    let begun = begin(&mut ada, "/login/oidc").await;
    forger.hand_out(forger.key.sign(&forger.claims(&begun, "ada", &lab.clock)));
    let stale = "this sign-in was begun in another browser, or is over";
    // Somebody else is sent the address, with and without a sign-in of its own under way.
    let mut eve = Visit::stranger(&lab.admin);
    let answer = come_back(&mut eve, &begun).await;
    refused(&eve, &answer, stale).await;
    begin(&mut eve, "/login/oidc").await;
    let answer = come_back(&mut eve, &begun).await;
    refused(&eve, &answer, stale).await;
    // Another state, or none.
    for state in ["", "another"] {
        let mut browser = Visit::stranger(&lab.admin);
        begin(&mut browser, "/login/oidc").await;
        let other = Begun { state: state.into(), nonce: String::new(), location: String::new() };
        let answer = come_back(&mut browser, &other).await;
        refused(&browser, &answer, stale).await;
        lab.clock.advance(seconds(61));
    }
    // A cookie that nobody has sealed.
    let mut forged = Visit::stranger(&lab.admin);
    forged.cookie = "mooring-sign-in=AAAA".into();
    let answer = come_back(&mut forged, &begun).await;
    refused(&forged, &answer, stale).await;
    lab.clock.advance(seconds(61));
    // The code was used before, as the provider says.
    forger.refuse_tokens("invalid_grant");
    let mut browser = Visit::stranger(&lab.admin);
    let again = begin(&mut browser, "/login/oidc").await;
    let answer = come_back(&mut browser, &again).await;
    refused(&browser, &answer, stale).await;
    forger.refuse_tokens("");
    // The one who began it, but too late.
    lab.clock.advance(seconds(600));
    let answer = come_back(&mut ada, &begun).await;
    refused(&ada, &answer, stale).await;
    assert_eq!(lab.admin.user_list().await.unwrap().len(), 1);
}

#[tokio::test]
async fn errors_of_the_provider_are_told_in_words() {
    let forger = Forger::start().await;
    let lab = lab(forger.config()).await;
    let come_with = async |query: &str| {
        let mut browser = Visit::stranger(&lab.admin);
        let begun = begin(&mut browser, "/login/oidc?next=%2Fjobs").await;
        let answer = browser.follow(&format!("/login/oidc/callback?state={}&{query}", begun.state)).await;
        (browser, answer)
    };
    for (query, text) in [
        ("error=access_denied&error_description=call%20555", "Harbour did not let you in"),
        ("error=login_required", "Harbour refused the sign-in: login_required"),
        ("error=%3Cb%3Ecall%20555", "Harbour refused the sign-in: an unknown error"),
        ("code=c&iss=https%3A%2F%2Felsewhere.example", "it comes from another provider"),
    ] {
        let (browser, answer) = come_with(query).await;
        refused(&browser, &answer, text).await;
        assert!(!answer.text.contains("555"), "{}", answer.text);
        // A second attempt leads to the page that was asked for.
        assert!(answer.text.contains("/login/oidc?next=%2Fjobs"), "{}", answer.text);
        lab.clock.advance(seconds(61));
    }
    // OpCenter's secret is wrong: an admin has to know.
    forger.refuse_tokens("invalid_client");
    let (browser, answer) = come_with("code=c").await;
    refused(&browser, &answer, "Harbour and OpCenter don&#39;t understand each other").await;
    forger.refuse_tokens("");
    // The userinfo endpoint speaks of somebody else.
    let mut browser = Visit::stranger(&lab.admin);
    let begun = begin(&mut browser, "/login/oidc").await;
    let mut claims = forger.claims(&begun, "ada", &lab.clock);
    claims.as_object_mut().unwrap().remove("groups");
    forger.hand_out(forger.key.sign(&claims));
    forger.tell(json!({"sub": "eve", "groups": ["captains"]}));
    let answer = come_back(&mut browser, &begun).await;
    refused(&browser, &answer, "it does not say who signs in, or names two people").await;

    let query = AuditQuery { action: Some("session.loginByProvider".into()), ..AuditQuery::default() };
    let entries = lab.admin.audit_list(&query).await.unwrap().entries;
    assert!(entries.len() >= 6 && entries.iter().all(|entry| !entry.reason.is_empty()), "{entries:?}");
    assert!(!format!("{entries:?}").contains("code=") && !format!("{entries:?}").contains(&begun.state));
}

#[tokio::test]
async fn provider_that_is_down_or_poses_as_another_is_not_used() {
    let forger = Forger::start().await;
    let lab = lab(forger.config()).await;
    forger.pose_as("https://elsewhere.example");
    let mut browser = Visit::stranger(&lab.admin);
    let answer = browser.follow("/login/oidc?next=%2Fjobs").await;
    refused(&browser, &answer, "Harbour and OpCenter don&#39;t understand each other").await;
    assert!(!answer.text.contains("elsewhere"), "{}", answer.text);
    lab.clock.advance(seconds(11));
    drop(forger);
    // What OpCenter asks for fails, however its connection ends.
    for _ in 0..100 {
        lab.clock.advance(seconds(11));
        let answer = browser.follow("/login/oidc?next=%2Fjobs").await;
        if answer.text.contains("Harbour can&#39;t be reached at present") {
            // Passwords go on.
            assert!(answer.text.contains("name=\"password\""), "{}", answer.text);
            Visit::begin(&lab.admin, "admin", &lab.admin_password()).await;
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("the provider is still reached");
}

#[tokio::test]
async fn failed_sign_ins_slow_their_address_down() {
    let forger = Forger::start().await;
    let lab = lab(forger.config()).await;
    let mut browser = Visit::stranger(&lab.admin);
    for _ in 0..5 {
        let answer = browser.follow("/login/oidc/callback?code=c&state=s").await;
        refused(&browser, &answer, "begun in another browser").await;
    }
    let answer = browser.follow("/login/oidc/callback?code=c&state=s").await;
    refused(&browser, &answer, "too many failed logins from your address").await;
    lab.clock.advance(seconds(2));
    assert_eq!(sign_in(&lab, &forger, |_| {}).await.1.status, StatusCode::OK);
}
