//! Choices of open forms: what comes into being meanwhile appears, and what was chosen stays.

use mooring_api::view::{
    GatewayCreateRequest, GroupAddRequest, GroupUpdateRequest, LoginRequest, SecurityGroupCreateRequest,
    UserAddRequest, UserUpdateRequest,
};
use mooring_api::{Client, Submission};
use mooring_testkit::browser::Browser;

use crate::site::{SOON, Site, click, type_into, until};

const PASSWORD: &str = "correct horse battery";
/// The button that does what an open dialogue is about.
const DOES: &str = "#dialog footer .primary";

fn publishing(name: &str) -> Submission {
    Submission {
        name: Some(name.parse().unwrap()),
        image: Some("dir:/".parse().unwrap()),
        command: vec!["/bin/true".into()],
        publish: vec!["8888".parse().unwrap()],
        ..Submission::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn open_dialogue_follows_and_keeps_what_was_chosen() {
    let site = Site::furnished().await;
    let browser = site.visit("/gateways").await;
    click(&browser, "[hx-get='/gateways/new']").await;
    type_into(&browser, "#dialog [name=name]", "half").await;
    click(&browser, "#dialog [name=groups]:checked").await;
    let request = SecurityGroupCreateRequest { name: "meanwhile".into(), ..SecurityGroupCreateRequest::default() };
    site.admin.security_group_create(&request).await.unwrap();
    let appeared = "return document.querySelector('#dialog').innerText.includes('meanwhile');";
    until(&browser, "the new security group", appeared).await;
    let kept = "return document.querySelector('#dialog [name=name]').value === 'half'
        && document.querySelectorAll('#dialog [name=groups]:checked').length === 0;";
    until(&browser, "what was typed and chosen", kept).await;

    // A job that is submitted meanwhile, in the pop-up that connects one.
    let chosen = site.admin.job_submit(&publishing("chosen")).await.unwrap().id;
    site.open(&browser, &format!("/gateways/{}", site.gateways[0])).await;
    click(&browser, "[hx-get$='/connect']").await;
    let offered = format!("return document.querySelector('#dialog option[value=\"{chosen}\"]') !== null;");
    until(&browser, "the dialogue", &offered).await;
    let choose = format!(
        "const list = document.querySelector('#f-job');
         list.value = '{chosen}';
         list.dispatchEvent(new Event('change', {{bubbles: true}}));"
    );
    browser.run::<()>(&choose, &[]).await.unwrap();
    let ports = format!("return document.querySelector('#ports-{chosen}') !== null;");
    until(&browser, "the ports of the chosen job", &ports).await;
    click(&browser, "#limits summary").await;
    type_into(&browser, "#dialog [name=hold_limit]", "60").await;
    let late = site.admin.job_submit(&publishing("late")).await.unwrap().id;
    let offered = format!("return document.querySelector('#dialog option[value=\"{late}\"]') !== null;");
    until(&browser, "the job that came meanwhile", &offered).await;
    let kept = format!(
        "return document.querySelector('#f-job').value === '{chosen}'
            && document.querySelector('#dialog [name=hold_limit]').value === '60'
            && document.querySelector('#dialog [name=ports]').checked;"
    );
    until(&browser, "what was chosen", &kept).await;
    assert_eq!(browser.faults().await.unwrap(), Vec::<String>::new());
    browser.quit().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn submit_job_offers_a_gateway_that_comes_and_keeps_one_that_goes() {
    let site = Site::furnished().await;
    let first = GatewayCreateRequest {
        name: "going".into(),
        port_range: "50000:50009".into(),
        ..GatewayCreateRequest::default()
    };
    let going = site.admin.gateway_create(&first).await.unwrap().id;
    let browser = site.visit("/submit").await;
    let offered = "return document.querySelector('#f-gateway option[value=going]') !== null;";
    until(&browser, "the gateway", offered).await;
    let choose = "const list = document.querySelector('#f-gateway');
        list.value = 'going';
        list.dispatchEvent(new Event('change', {bubbles: true}));";
    browser.run::<()>(choose, &[]).await.unwrap();
    let coming = GatewayCreateRequest {
        name: "coming".into(),
        port_range: "51000:51009".into(),
        ..GatewayCreateRequest::default()
    };
    site.admin.gateway_create(&coming).await.unwrap();
    let offered = "return document.querySelector('#f-gateway option[value=coming]') !== null
        && document.querySelector('#f-gateway').value === 'going';";
    until(&browser, "the new gateway, and the chosen one", offered).await;
    site.admin.gateway_destroy(&going.into()).await.unwrap();
    let told = "const list = document.querySelector('#f-gateway');
        return list.value === 'going' && list.selectedOptions[0].label.includes('gone');";
    until(&browser, "the chosen gateway to be told as gone", told).await;
    assert_eq!(browser.faults().await.unwrap(), Vec::<String>::new());
    browser.quit().await;
}

async fn add_user(site: &Site, name: &str) {
    let request = UserAddRequest { name: name.into(), password: PASSWORD.into(), ..UserAddRequest::default() };
    site.admin.user_add(&request).await.unwrap();
}

async fn add_group(site: &Site, name: &str) {
    site.admin.group_add(&GroupAddRequest { name: name.into(), ..GroupAddRequest::default() }).await.unwrap();
}

/// Waits until the dialogue offers a name.
async fn offered(browser: &Browser, key: &str, name: &str) {
    let script = format!("return document.querySelector('#dialog [name={key}][value={name}]') !== null;");
    until(browser, name, &script).await;
}

async fn closed(browser: &Browser) {
    until(browser, "the dialogue to close", "return !document.querySelector('#dialog').open;").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dialogues_of_users_and_groups_follow_and_undo_nothing() {
    let site = Site::empty().await;
    add_user(&site, "ada").await;
    add_group(&site, "physics").await;
    let browser = site.visit("/users").await;

    // A user's groups: another group comes, and somebody else adds the user to one.
    click(&browser, "[hx-get='/users/ada/update']").await;
    offered(&browser, "groups", "physics").await;
    add_group(&site, "law").await;
    offered(&browser, "groups", "law").await;
    click(&browser, "#dialog [name=groups][value=law]").await;
    let joins = UserUpdateRequest { add_groups: vec!["physics".into()], ..UserUpdateRequest::default() };
    site.admin.user_update("ada", &joins).await.unwrap();
    let behind = "return [...document.querySelectorAll('#page .tag')].some(tag => tag.innerText === 'physics');";
    until(&browser, "the page behind the dialogue", behind).await;
    click(&browser, DOES).await;
    closed(&browser).await;
    assert_eq!(site.admin.user_get("ada").await.unwrap().groups, ["law", "physics"]);

    // A group's members: another user comes, and somebody else describes the group.
    click(&browser, "[hx-get='/groups/law/update']").await;
    offered(&browser, "users", "ada").await;
    add_user(&site, "grace").await;
    offered(&browser, "users", "grace").await;
    click(&browser, "#dialog [name=users][value=grace]").await;
    let describes = GroupUpdateRequest { description: Some("Students".into()), ..GroupUpdateRequest::default() };
    site.admin.group_update("law", &describes).await.unwrap();
    click(&browser, DOES).await;
    closed(&browser).await;
    let law = site.admin.group_get("law").await.unwrap();
    assert_eq!((law.description.as_str(), law.users), ("Students", vec!["ada".to_owned(), "grace".to_owned()]));

    // New ones: the choices of both dialogues, from nothing.
    click(&browser, "[hx-get='/users/new']").await;
    type_into(&browser, "#dialog [name=name]", "half").await;
    add_group(&site, "botany").await;
    offered(&browser, "groups", "botany").await;
    let kept: String = browser.run("return document.querySelector('#dialog [name=name]').value;", &[]).await.unwrap();
    assert_eq!(kept, "half");
    site.open(&browser, "/users").await;

    // What goes with a user: a job that is submitted meanwhile, and has to be cancelled.
    click(&browser, "[hx-get='/users/ada/delete']").await;
    browser.element(DOES, SOON).await.unwrap();
    let anybody = Client::new(&site.origin).unwrap();
    let credentials = LoginRequest { username: "ada".into(), password: PASSWORD.into() };
    let ada = anybody.clone().with_token(anybody.login(&credentials).await.unwrap().token);
    let training = Submission { image: Some("alpine:3".parse().unwrap()), ..publishing("training") };
    ada.job_submit(&training).await.unwrap();
    let told = "return document.querySelector('#dialog').innerText.includes('training')
        && document.querySelector('#dialog [name=cancelJobs]') !== null;";
    until(&browser, "the job in the dialogue", told).await;
    assert_eq!(browser.faults().await.unwrap(), Vec::<String>::new());
    browser.quit().await;
}
