//! Forms: what is typed stays.

use crate::site::{Site, click, type_into, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn form_survives_the_end_of_its_session() {
    let site = Site::empty().await;
    let browser = site.visit("/secrets").await;
    click(&browser, "[hx-get='/secrets/new']").await;
    type_into(&browser, "#dialog [name=name]", "token").await;
    type_into(&browser, "#dialog [name=value]", "sesame").await;
    site.end_sessions(&browser).await;
    // The page may know already, and ask for the password above the form.
    browser.run::<()>("document.querySelector('#dialog form').requestSubmit();", &[]).await.unwrap();
    site.sign_in(&browser, "#again").await;
    until(&browser, "the login to close", "return !document.querySelector('#again').open;").await;
    let kept: String = browser.run("return document.querySelector('#dialog [name=value]').value;", &[]).await.unwrap();
    assert_eq!(kept, "sesame");
    click(&browser, "#dialog form button:not([type=button])").await;
    until(&browser, "the secret", "return document.querySelector('#page').innerText.includes('token');").await;
    assert_eq!(site.admin.secret_get("token").await.unwrap().value, "sesame");
    assert_eq!(browser.faults().await.unwrap(), Vec::<String>::new());
    browser.quit().await;
}
