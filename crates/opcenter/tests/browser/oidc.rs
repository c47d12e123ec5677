//! Sign-in at a real OpenID provider, in a real browser. The provider is another site than
//! OpCenter, so the browser keeps to its rules about cookies.

use mooring_testkit::browser::Browser;
use mooring_testkit::oidc::{CLIENT_ID, Claims, Provider};
use serde_json::json;

use crate::site::{SOON, Site, click, type_into, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn person_signs_in_at_the_provider_and_comes_back() {
    let mut provider = Provider::start(Claims::AtUserinfo).await.unwrap();
    let site = Site::with_provider(mooring_opcenter::OidcConfig {
        issuer: provider.issuer().to_owned(),
        client_id: CLIENT_ID.into(),
        client_secret_file: provider.secret_file(),
        name: "Harbour".into(),
        name_claim: "preferred_username".into(),
        group_claim: "groups".into(),
        admin_group: None,
        ca: None,
    })
    .await;
    provider.redirect_to(&format!("{}/login/oidc/callback", site.origin)).await.unwrap();
    provider.person("7f3a", json!({"preferred_username": "ada"})).await.unwrap();

    let browser = Browser::start_alone().await.unwrap();
    site.open(&browser, "/secrets").await;
    click(&browser, "a[href^='/login/oidc']").await;
    // Turned back, and then let in.
    click(&browser, "button[value=deny]").await;
    until(&browser, "the refusal", "return document.body.innerText.includes('Harbour did not let you in');").await;
    click(&browser, "a[href^='/login/oidc']").await;
    type_into(&browser, "[name=login]", "7f3a").await;
    click(&browser, "button[value=in]").await;
    until(&browser, "the page that was asked for", "return location.pathname === '/secrets';").await;
    until(&browser, "the name", "return document.body.innerText.includes('ada');").await;
    let address: String = browser.run("return location.href;", &[]).await.unwrap();
    assert_eq!(address, format!("{}/secrets", site.origin));

    // A form stays open while its session ends, and the person signs in again in another window.
    click(&browser, "[hx-get='/secrets/new']").await;
    type_into(&browser, "#dialog [name=name]", "token").await;
    type_into(&browser, "#dialog [name=value]", "sesame").await;
    site.end_sessions(&browser).await;
    browser.run::<()>("document.querySelector('#dialog form').requestSubmit();", &[]).await.unwrap();
    click(&browser, "#again a[href='/login/oidc']").await;
    let overview = "return location.pathname === '/' && document.querySelector('#menu') !== null;";
    // The provider knows the person by its own session.
    let signed_in = browser.in_opened_window(async |opened| {
        let seen = opened.until("the overview", overview, SOON).await;
        opened.close_window().await.and(seen)
    });
    signed_in.await.unwrap();
    // A browser without a window gives none of its pages the focus.
    browser.run::<()>("window.dispatchEvent(new Event('focus'));", &[]).await.unwrap();
    until(&browser, "the login to close", "return !document.querySelector('#again').open;").await;
    click(&browser, "#dialog form button:not([type=button])").await;
    until(&browser, "the secret", "return document.querySelector('#page').innerText.includes('token');").await;
    browser.quit().await;
}
