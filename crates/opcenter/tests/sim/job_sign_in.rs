//! Sessions for one job, which a page of the job gets through OpCenter's own window.

use mooring_api::ErrorCode::{PermissionDenied, Unauthenticated};
use mooring_api::view::{AuditQuery, ConnectRequest, GatewayCreateRequest, JobSessionRequest, SessionView};
use mooring_api::{Client, ClientError, Submission};
use mooring_types::{GatewayId, JobId};
use reqwest::header::{CONTENT_SECURITY_POLICY, X_FRAME_OPTIONS};
use reqwest::{Method, StatusCode};
use sha2::{Digest, Sha256};

use crate::lab::{Lab, refused, seconds};
use crate::visit::{Answer, Visit};

const PATH: &str = "/sign-in-for-job";
const VERIFIER: &str = "a random text";

/// A page of a job, as OpCenter's window hears of it.
#[derive(Debug, Clone)]
struct Asking {
    gateway: GatewayId,
    job: JobId,
    connection: String,
    origin: String,
    challenge: String,
}

impl Asking {
    /// Connects a job whose port 8080 is published to a gateway, as the admin.
    async fn connect(lab: &Lab, job: &JobId) -> Self {
        let request = GatewayCreateRequest { name: "of-pages".into(), ..GatewayCreateRequest::default() };
        let gateway = lab.admin.gateway_create(&request).await.unwrap().id;
        let connect = ConnectRequest::new(job.clone());
        let connected = lab.admin.gateway_connect(&gateway.clone().into(), &connect).await.unwrap();
        let origin = connected[0].access_url.trim_end_matches('/').to_owned();
        let mut rows = lab.store().await.begin().await.unwrap().connection_list_of_job(job).await.unwrap();
        rows.retain(|row| origin.ends_with(&format!(":{}", row.gateway_port)));
        let challenge = hex::encode(Sha256::digest(VERIFIER));
        Self { gateway, job: job.clone(), connection: rows[0].id.to_string(), origin, challenge }
    }

    fn form(&self) -> [(&str, &str); 3] {
        [("connection", &self.connection), ("origin", &self.origin), ("challenge", &self.challenge)]
    }

    fn at(&self, origin: &str) -> Self {
        Self { origin: origin.to_owned(), ..self.clone() }
    }

    /// The address of OpCenter's window, opened by its own document.
    fn path(&self) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.extend_pairs(self.form()).append_pair("state", "<state>").append_pair("arrived", "1");
        format!("{PATH}?{}", query.finish())
    }

    async fn allowed_by(&self, visit: &Visit) -> Answer {
        visit.post(PATH, &self.form()).await
    }

    /// Allows it as a user. Returns the code.
    async fn code_of(&self, visit: &Visit) -> String {
        let answer = self.allowed_by(visit).await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
        let content: serde_json::Value = serde_json::from_str(&answer.text).unwrap();
        content["code"].as_str().unwrap().to_owned()
    }

    fn request(&self, code: &str) -> JobSessionRequest {
        JobSessionRequest { code: code.to_owned(), verifier: VERIFIER.to_owned(), origin: self.origin.clone() }
    }
}

/// Gives a page of a job a session, as a user does in a browser. Returns it with the visit. The
/// gateway is destroyed after that.
pub(crate) async fn session_of_job(lab: &Lab, user: &str, password: &str, job: &JobId) -> (SessionView, Visit) {
    let asking = Asking::connect(lab, job).await;
    let visit = Visit::begin(&lab.admin, user, password).await;
    let code = asking.code_of(&visit).await;
    let session = begin(lab, job, &asking.request(&code)).await.unwrap();
    lab.admin.gateway_destroy(&asking.gateway.into()).await.unwrap();
    (session, visit)
}

async fn begin(lab: &Lab, job: &JobId, request: &JobSessionRequest) -> Result<SessionView, ClientError> {
    Client::new(lab.admin.address()).unwrap().job_session_begin(job, request).await
}

fn client(lab: &Lab, session: &SessionView) -> Client {
    Client::new(lab.admin.address()).unwrap().with_token(&session.token)
}

async fn job_of(lab: &mut Lab, user: &Client) -> JobId {
    let publish = vec!["8080".parse().unwrap()];
    let image = Some("docker.io/library/alpine:3".parse().unwrap());
    let name = Some("work".parse().unwrap());
    let job = user.job_submit(&Submission { image, name, publish, ..Submission::default() }).await.unwrap().id;
    lab.settle().await;
    job
}

/// An OpCenter with a job of Alice's, who is signed in.
async fn world() -> (Lab, Client, Asking, Visit) {
    let mut lab = Lab::start().await;
    let alice = lab.user("alice").await;
    let job = job_of(&mut lab, &alice).await;
    let asking = Asking::connect(&lab, &job).await;
    let visit = Visit::begin(&lab.admin, "alice", "password of alice").await;
    (lab, alice, asking, visit)
}

#[tokio::test]
async fn page_gets_a_session_for_its_job_alone() {
    let (mut lab, alice, asking, visit) = world().await;
    let page = visit.get(&asking.path()).await;
    assert_eq!(page.status, StatusCode::OK);
    for text in ["Allow Job Details on this page?", &asking.origin, "work", asking.job.as_str(), "alice"] {
        assert!(page.text.contains(text), "no `{text}` in {}", page.text);
    }
    assert!(!page.text.contains("<state>"), "{}", page.text);
    let other = job_of(&mut lab, &alice).await;

    let code = asking.code_of(&visit).await;
    let session = begin(&lab, &asking.job, &asking.request(&code)).await.unwrap();
    assert_eq!(session.username, "alice");
    let of_job = client(&lab, &session);
    assert_eq!(of_job.job_get(&asking.job).await.unwrap().id, asking.job);
    refused(of_job.job_get(&other).await, PermissionDenied, "alone");
    refused(of_job.session_list().await, PermissionDenied, "alone");

    let listed = alice.session_list().await.unwrap();
    let found = listed.iter().find(|session| session.job.as_ref() == Some(&asking.job)).unwrap();
    assert_eq!((found.user.as_str(), found.address.as_str()), ("alice", "127.0.0.1"));
    let query = AuditQuery { action: Some("session".into()), ..AuditQuery::default() };
    let audit = lab.admin.audit_list(&query).await.unwrap();
    for action in ["session.allowForJob", "session.beginForJob"] {
        let entry = audit.entries.iter().find(|entry| entry.action == action);
        let entry = entry.unwrap_or_else(|| panic!("no {action} in {audit:?}"));
        assert_eq!((entry.user.as_str(), entry.detail.contains(asking.job.as_str())), ("alice", true), "{entry:?}");
    }
    let text = format!("{audit:?}");
    assert!(!text.contains(&code) && !text.contains(VERIFIER) && !text.contains(&session.token), "{text}");
}

#[tokio::test]
async fn code_is_good_once_for_a_minute_and_for_the_page_that_asked() {
    let (mut lab, alice, asking, visit) = world().await;
    let other = job_of(&mut lab, &alice).await;
    let good = asking.request(&asking.code_of(&visit).await);
    begin(&lab, &asking.job, &good).await.unwrap();
    refused(begin(&lab, &asking.job, &good).await, Unauthenticated, "has been used");

    let late = asking.request(&asking.code_of(&visit).await);
    lab.clock.advance(seconds(61));
    refused(begin(&lab, &asking.job, &late).await, Unauthenticated, "too old");

    let right = asking.request(&asking.code_of(&visit).await);
    let wrong = JobSessionRequest { verifier: "a guess".into(), ..right.clone() };
    refused(begin(&lab, &asking.job, &wrong).await, Unauthenticated, "another page");
    // The guess has used the code up.
    refused(begin(&lab, &asking.job, &right).await, Unauthenticated, "has been used");

    let elsewhere = asking.at("http://198.51.100.9:10000").request(&asking.code_of(&visit).await);
    refused(begin(&lab, &asking.job, &elsewhere).await, Unauthenticated, "another page");
    let of_other = asking.request(&asking.code_of(&visit).await);
    refused(begin(&lab, &other, &of_other).await, Unauthenticated, "another page");
    refused(begin(&lab, &asking.job, &asking.request("")).await, Unauthenticated, "");
}

#[tokio::test]
async fn only_origins_of_the_job_and_users_who_see_it() {
    let (lab, _, asking, visit) = world().await;
    let port = asking.origin.rsplit_once(':').unwrap().1.to_owned();
    let next = asking.origin.replace(&port, &(port.parse::<u16>().unwrap() + 1).to_string());
    for origin in [&next, "https://evil.example", &format!("https://evil.example:{port}"), "null", ""] {
        let foreign = asking.at(origin);
        let page = visit.get(&foreign.path()).await;
        assert_eq!(page.status, StatusCode::FORBIDDEN, "{origin}");
        assert!(page.text.contains("is not at") && page.text.contains(&asking.origin), "{}", page.text);
        assert_eq!(foreign.allowed_by(&visit).await.status, StatusCode::FORBIDDEN, "{origin}");
    }
    lab.user("bob").await;
    let bob = Visit::begin(&lab.admin, "bob", "password of bob").await;
    let page = bob.get(&asking.path()).await;
    assert_eq!(page.status, StatusCode::NOT_FOUND);
    assert!(!page.text.contains(asking.job.as_str()) && !page.text.contains("alice"), "{}", page.text);
    assert_eq!(asking.allowed_by(&bob).await.status, StatusCode::NOT_FOUND);
    let unknown = Asking { connection: asking.connection.replace("c-", "c-0"), ..asking.clone() };
    assert_ne!(unknown.allowed_by(&visit).await.status, StatusCode::OK);
    assert_eq!(visit.get(PATH).await.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn stranger_signs_in_first_and_comes_back() {
    let (lab, _, asking, visit) = world().await;
    let stranger = Visit::stranger(&lab.admin);
    // The browser does not send the cookie when another site has opened the window.
    let before = asking.path().replace("&arrived=1", "");
    let document = stranger.get(&before).await;
    assert_eq!(document.status, StatusCode::OK);
    assert!(document.text.contains("http-equiv=\"refresh\"") && document.text.contains("arrived=1"));
    let login = stranger.get(&asking.path()).await;
    assert_eq!(login.status, StatusCode::SEE_OTHER);
    assert!(login.location.starts_with("/login?next=%2Fsign-in-for-job%3F"), "{}", login.location);
    assert!(visit.get(&before).await.text.contains("Allow Job Details"));
    assert_eq!(asking.allowed_by(&stranger).await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn another_page_can_neither_frame_nor_answer_it() {
    let (_lab, _, asking, visit) = world().await;
    let page = visit.request(Method::GET, &asking.path()).send().await.unwrap();
    assert_eq!(page.headers()[X_FRAME_OPTIONS], "DENY");
    let policy = page.headers()[CONTENT_SECURITY_POLICY].to_str().unwrap();
    assert!(policy.contains("frame-ancestors 'none'") && policy.contains("default-src 'none'"), "{policy}");
    assert!(!policy.contains("unsafe"), "{policy}");
    let post = |csrf: &str| visit.request(Method::POST, PATH).header("X-CSRF-Token", csrf).form(&asking.form());
    assert_eq!(post("").send().await.unwrap().status(), StatusCode::FORBIDDEN);
    assert_eq!(post("guessed").send().await.unwrap().status(), StatusCode::FORBIDDEN);
    for site in ["same-site", "cross-site"] {
        let forged = post(&visit.csrf).header("Sec-Fetch-Site", site).send().await.unwrap();
        assert_eq!(forged.status(), StatusCode::FORBIDDEN, "{site}");
    }
    assert_eq!(post(&visit.csrf).send().await.unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn session_ends_with_the_one_that_has_allowed_it() {
    let (lab, alice, asking, visit) = world().await;
    let begun = async |visit: &Visit| {
        let code = asking.code_of(visit).await;
        client(&lab, &begin(&lab, &asking.job, &asking.request(&code)).await.unwrap())
    };
    let (of_job, second) = (begun(&visit).await, begun(&visit).await);
    let unused = asking.request(&asking.code_of(&visit).await);
    // Its own end is that of no other.
    second.logout().await.unwrap();
    refused(second.job_get(&asking.job).await, Unauthenticated, "");
    of_job.job_get(&asking.job).await.unwrap();
    assert_eq!(visit.post("/logout", &[]).await.status, StatusCode::NO_CONTENT);
    refused(of_job.job_get(&asking.job).await, Unauthenticated, "");
    refused(begin(&lab, &asking.job, &unused).await, Unauthenticated, "");
    // The session of the command line has allowed nothing.
    alice.job_get(&asking.job).await.unwrap();

    let visit = Visit::begin(&lab.admin, "alice", "password of alice").await;
    let of_job = begun(&visit).await;
    let listed = alice.session_list().await.unwrap();
    let parent = listed.iter().rfind(|session| session.job.is_none() && !session.present).unwrap();
    lab.admin.session_end(&parent.id).await.unwrap();
    refused(of_job.job_get(&asking.job).await, Unauthenticated, "");
    assert!(alice.session_list().await.unwrap().iter().all(|session| session.job.is_none()));
}

#[tokio::test]
async fn page_of_an_ended_job_is_still_of_it() {
    let (mut lab, _, asking, visit) = world().await;
    lab.cancel(&asking.job).await;
    let code = asking.code_of(&visit).await;
    let session = begin(&lab, &asking.job, &asking.request(&code)).await.unwrap();
    assert_eq!(client(&lab, &session).job_get(&asking.job).await.unwrap().id, asking.job);
    lab.advance(seconds(700)).await;
    // The port tells of the job no more.
    let visit = Visit::begin(&lab.admin, "alice", "password of alice").await;
    assert_eq!(asking.allowed_by(&visit).await.status, StatusCode::NOT_FOUND);
}
