//! Every endpoint of the API with every kind of identity: one table of the rights of all.
//!
//! | letter | the answer |
//! |---|---|
//! | `+` | the identity is let in; the request may still be invalid, or too late |
//! | `x` | 403: it is known, and lacks the right |
//! | `-` | 404: it may not even know of the object |
//! | `4` | 401: it is nobody here |
//!
//! An endpoint without a row fails the test. The table is read as a whole: a letter that changes is
//! a change of rights.

use std::collections::BTreeSet;
use std::sync::Arc;

use mooring_api::view::{
    ApiTokenRequest, ConnectRequest, GatewayCreateRequest, GroupAddRequest, JoinTokenRequest, LoginRequest,
    SecretSetRequest, SecurityGroupCreateRequest, TemplateCreateRequest, UserUpdateRequest,
};
use mooring_api::{Client, Submission, paths};
use mooring_sim::Machine;
use mooring_tls::{Identity, Trust};
use mooring_types::{GatewayId, HostId, JobId};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::job_sign_in::session_of_job;
use crate::lab::Lab;

/// The identities, in the order of the letters of a row. `vera`, a viewer, and `mate` share a group
/// with `owner`. The job and the API tokens are the owner's. An endpoint of a host or a gateway is
/// about `agent` or `gateway`.
const IDENTITIES: [&str; 15] = [
    "nobody",
    "viewer",
    "user",
    "mate",
    "owner",
    "admin",
    "job session",
    "job",
    "token read",
    "token jobs",
    "token all",
    "agent",
    "other agent",
    "gateway",
    "other gateway",
];

/// The object that an endpoint is called for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum On {
    Nothing,
    /// The owner's job.
    Job,
    /// A gateway of the owner.
    Gateway,
    /// A gateway of the owner that may be destroyed.
    NewGateway,
    /// A security group of the owner that may be deleted.
    NewSecurityGroup,
    /// A secret of each user with the same name.
    Secret,
    /// A private template of the owner that may be deleted.
    NewTemplate,
    /// An open session of the owner.
    NewSession,
    /// An API token of the owner.
    NewToken,
    /// The owner as a user.
    Owner,
    /// A user who may be deleted.
    NewUser,
    /// The owner's group.
    Group,
    /// A group that may be deleted.
    NewGroup,
    /// The host of `agent`, which has no job.
    Host,
    /// Another host.
    SimHost,
    /// The owner's gateway, connected to the owner's job.
    Connected,
    /// The owner's job, connected to the owner's gateway.
    ConnectedJob,
    NewJoinToken,
    /// An external job of the owner.
    ExternalJob,
}

/// A row: method, path, letters, object, body.
type Row = (&'static str, &'static str, &'static str, On, &'static str);

#[rustfmt::skip]
const TABLE: &[Row] = &[
    // N VUMOA Jj rja HhGg: the first letters of IDENTITIES.
    ("GET",    paths::VERSION,             "+ +++++ ++ +++ ++++", On::Nothing, ""),
    ("GET",    paths::OPENAPI,             "+ +++++ ++ +++ ++++", On::Nothing, ""),
    ("GET",    paths::HEALTHZ,             "+ +++++ ++ +++ ++++", On::Nothing, ""),
    ("GET",    paths::READYZ,              "+ +++++ ++ +++ ++++", On::Nothing, ""),
    ("GET",    paths::METRICS,             "+ +++++ ++ +++ ++++", On::Nothing, ""),
    ("GET",    paths::PROGRAM,             "+ +++++ ++ +++ ++++", On::Nothing, ""),
    ("POST",   paths::LOGIN,               "+ +++++ ++ +++ ++++", On::Nothing, "{}"),
    ("GET",    paths::LOGIN,               "4 44444 44 444 4444", On::Nothing, ""),
    ("POST",   paths::LOGIN_REQUESTS,      "+ +++++ ++ +++ ++++", On::Nothing, "{}"),
    ("GET",    paths::LOGIN_REQUESTS,      "4 +++++ +4 444 4444", On::Nothing, ""),
    ("POST",   paths::JOB_SESSION,         "+ +++++ ++ +++ ++++", On::Job, "{}"),
    ("GET",    paths::STATUS,              "4 +++++ xx +++ 4444", On::Nothing, ""),
    ("GET",    paths::SETTINGS,            "4 xxxx+ xx xxx 4444", On::Nothing, ""),
    ("GET",    paths::KEYS,                "4 xxxx+ xx xxx 4444", On::Nothing, ""),
    ("POST",   paths::KEYS_ROTATE,         "4 xxxx+ xx xxx 4444", On::Nothing, ""),
    ("GET",    paths::AUDIT,               "4 xxxx+ xx xxx 4444", On::Nothing, ""),
    ("GET",    paths::AUDIT_EXPORT,        "4 xxxx+ xx xxx 4444", On::Nothing, ""),
    ("GET",    paths::SESSION,             "4 +++++ ++ +++ 4444", On::Nothing, ""),
    ("GET",    paths::SESSIONS,            "4 +++++ xx +++ 4444", On::Nothing, ""),
    ("DELETE", paths::SESSION_OF_ID,       "4 ---++ xx xxx 4444", On::NewSession, ""),
    ("POST",   paths::SESSION_LINK,        "4 +++++ xx xxx 4444", On::Nothing, "{}"),
    ("GET",    paths::API_TOKENS,          "4 +++++ xx +++ 4444", On::Nothing, ""),
    ("POST",   paths::API_TOKENS,          "4 +++++ xx xxx 4444", On::Nothing, r#"{"name":"NEW"}"#),
    ("DELETE", paths::API_TOKEN,           "4 ---++ xx xxx 4444", On::NewToken, ""),
    ("GET",    paths::USERS,               "4 +++++ xx +++ 4444", On::Nothing, ""),
    ("POST",   paths::USERS,               "4 xxxx+ xx xxx 4444", On::Nothing, r#"{"name":"NEW","password":"long enough"}"#),
    ("GET",    paths::USER,                "4 ---++ xx +++ 4444", On::Owner, ""),
    ("PATCH",  paths::USER,                "4 xxxx+ xx xxx 4444", On::Owner, r#"{"role":"user"}"#),
    ("DELETE", paths::USER,                "4 xxxx+ xx xxx 4444", On::NewUser, ""),
    ("GET",    paths::GROUPS,              "4 +++++ xx +++ 4444", On::Nothing, ""),
    ("POST",   paths::GROUPS,              "4 xxxx+ xx xxx 4444", On::Nothing, r#"{"name":"NEW"}"#),
    ("GET",    paths::GROUP,               "4 +-+++ xx +++ 4444", On::Group, ""),
    ("PATCH",  paths::GROUP,               "4 xxxx+ xx xxx 4444", On::Group, r#"{"description":"x"}"#),
    ("DELETE", paths::GROUP,               "4 xxxx+ xx xxx 4444", On::NewGroup, ""),
    ("GET",    paths::SECRETS,             "4 +++++ x+ +++ 4444", On::Nothing, ""),
    ("GET",    paths::SECRET,              "4 x++++ x+ xx+ 4444", On::Secret, ""),
    ("PUT",    paths::SECRET,              "4 x++++ xx xx+ 4444", On::Secret, r#"{"value":"y"}"#),
    ("DELETE", paths::SECRET,              "4 x++++ xx xx+ 4444", On::Secret, ""),
    ("GET",    paths::TEMPLATES,           "4 +++++ xx +++ 4444", On::Nothing, ""),
    ("POST",   paths::TEMPLATES,           "4 x++++ xx xx+ 4444", On::Nothing, r#"{"name":"private::NEW","job":{"image":"alpine:3"}}"#),
    ("GET",    paths::TEMPLATE,            "4 ---+- xx +++ 4444", On::NewTemplate, ""),
    ("DELETE", paths::TEMPLATE,            "4 x--+- xx xx+ 4444", On::NewTemplate, ""),
    ("GET",    paths::SECURITY_GROUPS,     "4 +++++ xx +++ 4444", On::Nothing, ""),
    ("POST",   paths::SECURITY_GROUPS,     "4 x++++ xx xx+ 4444", On::Nothing, r#"{"name":"NEW"}"#),
    ("GET",    paths::SECURITY_GROUP,      "4 +++++ xx +++ 4444", On::NewSecurityGroup, ""),
    ("PATCH",  paths::SECURITY_GROUP,      "4 xxx++ xx xx+ 4444", On::NewSecurityGroup, r#"{"addRules":["tcp:3-4:10.0.0.0/8"]}"#),
    ("DELETE", paths::SECURITY_GROUP,      "4 xxx++ xx xx+ 4444", On::NewSecurityGroup, ""),
    ("GET",    paths::GATEWAYS,            "4 +++++ xx +++ 4444", On::Nothing, ""),
    ("POST",   paths::GATEWAYS,            "4 x++++ xx xx+ 4444", On::Nothing, r#"{"name":"NEW","portRange":"20000:20001"}"#),
    ("GET",    paths::GATEWAY,             "4 +++++ xx +++ 4444", On::Gateway, ""),
    ("GET",    paths::GATEWAY_WATCH,       "4 +++++ xx +++ 4444", On::Gateway, ""),
    ("GET",    paths::GATEWAY_METRICS,     "4 +++++ xx +++ 4444", On::Gateway, ""),
    ("PATCH",  paths::GATEWAY,             "4 xxx++ xx xx+ 4444", On::Gateway, r#"{"name":"NEW"}"#),
    ("POST",   paths::GATEWAY_RESTART,     "4 xxx++ xx xx+ 4444", On::Gateway, ""),
    ("PUT",    paths::GATEWAY_CERTIFICATES, "4 xxx++ xx xx+ 4444", On::Gateway, r#"{"certificate":"","key":""}"#),
    ("DELETE", paths::GATEWAY_CERTIFICATES, "4 xxx-- xx xx- 4444", On::Gateway, ""),
    ("DELETE", paths::GATEWAY,             "4 xxx++ xx xx+ 4444", On::NewGateway, ""),
    ("POST",   paths::GATEWAY_CONNECTIONS, "4 x-x++ xx x++ 4444", On::Gateway, r#"{"jobId":"JOB","targetPorts":[8080]}"#),
    ("DELETE", paths::GATEWAY_CONNECTIONS, "4 x-x++ xx x++ 4444", On::Connected, ""),
    ("GET",    paths::JOBS,                "4 +++++ xx +++ 4444", On::Nothing, ""),
    ("POST",   paths::JOBS,                "4 x++++ xx x++ 4444", On::Nothing, r#"{"image":"alpine:3"}"#),
    ("GET",    paths::JOB_PAGE,            "4 +++++ xx +++ 4444", On::Nothing, ""),
    ("GET",    paths::JOB_PAGES,           "4 +++++ xx +++ 4444", On::Nothing, ""),
    ("GET",    paths::JOB,                 "4 +-+++ ++ +++ 4444", On::Job, ""),
    ("GET",    paths::JOB_WATCH,           "4 +-+++ ++ +++ 4444", On::Job, ""),
    ("GET",    paths::JOB_EVENTS,          "4 +-+++ x+ +++ 4444", On::Job, ""),
    ("GET",    paths::JOB_FINDINGS,        "4 +-+++ x+ +++ 4444", On::Job, ""),
    ("GET",    paths::JOB_METRICS,         "4 +-+++ x+ +++ 4444", On::Job, ""),
    ("GET",    paths::JOB_LOG,             "4 x-x++ x+ +++ 4444", On::Job, ""),
    ("GET",    paths::JOB_LOG_WATCH,       "4 x-x++ x+ +++ 4444", On::Job, ""),
    ("GET",    paths::JOB_LOGS,            "4 x-x++ x+ +++ 4444", On::Job, ""),
    ("GET",    paths::JOB_FILES,           "4 x-x++ x+ +++ 4444", On::Job, ""),
    ("PATCH",  paths::JOB,                 "4 x-x++ xx x++ 4444", On::Job, r#"{"name":"NEW"}"#),
    ("POST",   paths::JOB_SNAPSHOT,        "4 x-x++ x+ x++ 4444", On::Job, ""),
    ("POST",   paths::JOB_SUSPEND,         "4 x-x++ ++ x++ 4444", On::Job, ""),
    ("POST",   paths::JOB_RESUME,          "4 x-x++ ++ x++ 4444", On::Job, ""),
    ("POST",   paths::JOB_MIGRATE,         "4 x-x++ ++ x++ 4444", On::Job, "{}"),
    ("POST",   paths::JOB_RERUN,           "4 x-x++ xx x++ 4444", On::Job, ""),
    ("DELETE", paths::JOB,                 "4 x-x++ ++ x++ 4444", On::Job, ""),
    ("POST",   paths::EXTERNAL_JOBS,       "4 x++++ xx x++ 4444", On::Nothing, r#"{"name":"NEW","endpoints":["198.51.100.200:80"]}"#),
    ("PATCH",  paths::EXTERNAL_JOB,        "4 x-x++ xx x++ 4444", On::ExternalJob, r#"{"status":"Executing"}"#),
    ("GET",    paths::HOSTS,               "4 +++++ xx +++ 4444", On::Nothing, ""),
    ("GET",    paths::HOST_WATCH,          "4 +++++ xx +++ 4444", On::SimHost, ""),
    ("GET",    paths::HOST_FINDINGS,       "4 xxxx+ xx xxx 4444", On::SimHost, ""),
    ("POST",   paths::HOST_DRAIN,          "4 xxxx+ xx xxx 4444", On::SimHost, "{}"),
    ("DELETE", paths::HOST_DRAIN,          "4 xxxx+ xx xxx 4444", On::SimHost, ""),
    ("POST",   paths::HOST_REJOIN,         "4 xxxx+ xx xxx 4444", On::SimHost, ""),
    ("GET",    paths::JOIN_TOKENS,         "4 xxxx+ xx xxx 4444", On::Nothing, ""),
    ("POST",   paths::JOIN_TOKENS,         "4 xxxx+ xx xxx 4444", On::Nothing, r#"{"opcenter":"http://a:1"}"#),
    ("DELETE", paths::JOIN_TOKEN,          "4 xxxx+ xx xxx 4444", On::NewJoinToken, ""),
    ("POST",   paths::HOSTS,               "+ +++++ ++ +++ ++++", On::Nothing, "{}"),
    ("GET",    paths::HOST_SLICES,         "4 44444 44 444 +x44", On::Host, ""),
    ("POST",   paths::HOST_REPORT,         "4 44444 44 444 +x44", On::Host, "{}"),
    ("POST",   paths::HOST_CERTIFICATE,    "4 44444 44 444 +x44", On::Host, r#"{"certificateRequest":""}"#),
    ("POST",   paths::HOST_GATEWAY_CERTIFICATE, "4 44444 44 444 +x44", On::Host, r#"{"certificateRequest":""}"#),
    ("PUT",    paths::HOST_JOB_LOG,        "4 44444 44 444 xx44", On::Host, ""),
    ("GET",    paths::GATEWAY_SLICES,      "4 44444 44 444 44+x", On::Gateway, ""),
    ("POST",   paths::GATEWAY_VISITS,      "4 44444 44 444 44+x", On::Gateway, "{}"),
    ("POST",   paths::GATEWAY_REPORT,      "4 44444 44 444 44+x", On::Gateway, "{}"),
    ("POST",   paths::GATEWAY_PORT_CERTIFICATE, "4 44444 44 444 44+x", On::Gateway, r#"{"certificateRequest":""}"#),
    ("DELETE", paths::HOST,                "4 xxxx+ xx xxx 4444", On::SimHost, ""),
    ("POST",   paths::LOGOUT,              "4 +++++ +x xxx 4444", On::Nothing, ""),
];

/// A world with every identity and its objects.
pub(crate) struct World {
    pub(crate) lab: Lab,
    http: reqwest::Client,
    shown: Vec<Shown>,
    owner: Client,
    job: JobId,
    external: JobId,
    gateway: GatewayId,
    host: HostId,
    /// The object of the last call, if that left it as it was.
    left: Option<(On, String)>,
    /// The name of the last gateway that was made.
    gateway_name: String,
    made: usize,
}

/// The proof that an identity sends with its requests.
enum Shown {
    Nothing,
    Token(String),
    /// A client with the certificate of a host or gateway.
    Certificate(reqwest::Client),
}

/// Returns a client that shows a certificate.
fn certified(lab: &Lab, identity: Identity) -> Shown {
    let authority = lab.state_dir().join("ca.pem");
    let trust = Trust::read(authority.to_str().unwrap()).unwrap();
    let config = mooring_tls::client_config(&trust, Some(Arc::new(identity))).unwrap();
    let client = reqwest::Client::builder().no_proxy().tls_backend_preconfigured(config).build().unwrap();
    Shown::Certificate(client)
}

async fn token_of(lab: &Lab, name: &str) -> String {
    let credentials = LoginRequest { username: name.into(), password: format!("password of {name}") };
    Client::new(lab.admin.address()).unwrap().login(&credentials).await.unwrap().token
}

/// Returns the token that a host gives to a job.
fn token_of_job(lab: &mut Lab, job: &JobId) -> String {
    let mut of_host = |host| lab.host(host).directive(job).and_then(|given| given.spec.env.get("FLOAT_TOKEN").cloned());
    ["host-1", "host-2", "host-3"].into_iter().find_map(&mut of_host).unwrap()
}

impl World {
    pub(crate) async fn build() -> Self {
        let mut lab = Lab::start().await;
        for name in ["vera", "user", "mate", "owner"] {
            let user = lab.user(name).await;
            user.secret_set("key", &SecretSetRequest { value: "sesame".into() }).await.unwrap();
        }
        let role = UserUpdateRequest { role: "viewer".into(), ..UserUpdateRequest::default() };
        lab.admin.user_update("vera", &role).await.unwrap();
        lab.admin.secret_set("key", &SecretSetRequest { value: "sesame".into() }).await.unwrap();
        let users = ["vera", "mate", "owner"].map(str::to_owned).into();
        let group = GroupAddRequest { name: "lab".into(), users, ..GroupAddRequest::default() };
        lab.admin.group_add(&group).await.unwrap();

        let owner = lab.login("owner", "password of owner").await;
        let publish = vec!["8080".parse().unwrap()];
        let job = owner.job_submit(&Submission { publish, ..submission() }).await.unwrap().id;
        let external = serde_json::from_value(json!({"name": "outside", "endpoints": ["198.51.100.200:80"]})).unwrap();
        let external = owner.external_register(&external).await.unwrap().id;
        let gateways = [gateway(&owner, "own", 20_000).await, gateway(&owner, "other", 21_000).await];
        lab.settle().await;

        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let mut tokens = Vec::new();
        for name in ["vera", "user", "mate", "owner"] {
            tokens.push(token_of(&lab, name).await);
        }
        let credentials = LoginRequest { username: "admin".into(), password: lab.admin_password() };
        tokens.push(Client::new(lab.admin.address()).unwrap().login(&credentials).await.unwrap().token);
        tokens.push(session_of_job(&lab, "owner", "password of owner", &job).await.0.token);
        tokens.push(token_of_job(&mut lab, &job));
        for scope in ["read", "jobs", "all"] {
            let request = ApiTokenRequest { name: scope.into(), scope: scope.into(), ..ApiTokenRequest::default() };
            tokens.push(owner.api_token_create(&request).await.unwrap().token);
        }
        let mut shown: Vec<Shown> = [Shown::Nothing].into_iter().chain(tokens.into_iter().map(Shown::Token)).collect();
        let mut hosts = Vec::new();
        for number in [91, 92] {
            let machine = Machine::named(&format!("machine-{number}"));
            let identity = Identity::generate().unwrap();
            let request = machine.join_request(&lab.join_token(), &identity, number).unwrap();
            let joined = lab.admin.host_join(&request).await.unwrap();
            identity.set_certificate(&joined.certificate).unwrap();
            shown.push(certified(&lab, identity));
            hosts.push(joined.host);
        }
        for gateway in &gateways {
            let identity = Identity::generate().unwrap();
            lab.host("gateways").certify(gateway, &identity).await.unwrap();
            shown.push(certified(&lab, identity));
        }
        let (gateway, host) = (gateways[0].clone(), hosts[0].clone());
        Self { lab, http, shown, owner, job, external, gateway, host, left: None, gateway_name: String::new(), made: 0 }
    }

    /// Returns the id of the object that an endpoint is called for. What a call has taken away is
    /// made again.
    pub(crate) async fn object(&mut self, on: On) -> String {
        self.made += 1;
        if let Some((_, id)) = self.left.take().filter(|(left, _)| *left == on) {
            return id;
        }
        let name = format!("made-{}", self.made);
        let first = 22_000 + 10 * u16::try_from(self.made).unwrap();
        let (admin, owner) = (&self.lab.admin, &self.owner);
        match on {
            On::Nothing => String::new(),
            On::Job => self.job.to_string(),
            On::ExternalJob => self.external.to_string(),
            On::Gateway => self.gateway.to_string(),
            On::NewGateway => {
                let id = gateway(owner, &name, first).await.to_string();
                self.gateway_name = name;
                id
            }
            On::NewSecurityGroup => {
                let rules = vec!["tcp:1-2:10.0.0.0/8".to_owned()];
                let request = SecurityGroupCreateRequest { name, rules, ..SecurityGroupCreateRequest::default() };
                owner.security_group_create(&request).await.unwrap().id.to_string()
            }
            On::Secret => {
                owner.secret_set("key", &SecretSetRequest { value: "sesame".into() }).await.unwrap();
                "key".into()
            }
            On::NewTemplate => {
                let name = format!("private::{name}:1");
                let job = Some(submission());
                let request = TemplateCreateRequest { name: name.clone(), job, ..TemplateCreateRequest::default() };
                owner.template_create(&request).await.unwrap();
                name
            }
            On::NewSession => {
                let before = owner.session_list().await.unwrap();
                token_of(&self.lab, "owner").await;
                let mut after = owner.session_list().await.unwrap();
                after.retain(|session| before.iter().all(|known| known.id != session.id));
                after[0].id.to_string()
            }
            On::NewToken => {
                let request = ApiTokenRequest { name, ..ApiTokenRequest::default() };
                owner.api_token_create(&request).await.unwrap().api_token.id.to_string()
            }
            On::Owner => "owner".into(),
            On::NewUser => {
                self.lab.user(&name).await;
                name
            }
            On::Group => "lab".into(),
            On::NewGroup => {
                admin.group_add(&GroupAddRequest { name: name.clone(), ..GroupAddRequest::default() }).await.unwrap();
                name
            }
            On::Host => self.host.to_string(),
            On::SimHost => "host-3".into(),
            On::Connected | On::ConnectedJob => {
                let request = ConnectRequest::new(self.job.clone());
                // It may be connected already.
                let _ = owner.gateway_connect(&self.gateway.clone().into(), &request).await;
                if on == On::Connected { self.gateway.to_string() } else { self.job.to_string() }
            }
            On::NewJoinToken => {
                let opcenter = "http://a:1".into();
                let request = JoinTokenRequest { opcenter, ..JoinTokenRequest::default() };
                admin.join_token_create(&request).await.unwrap().join_token.id.to_string()
            }
        }
    }

    /// Calls an endpoint with every identity, and returns the letters.
    async fn letters(&mut self, (method, path, _, on, body): Row) -> String {
        let mut letters = String::new();
        for (place, identity) in IDENTITIES.iter().enumerate() {
            let id = self.object(on).await;
            let body = self.filled(body);
            let url = format!("{}{}", self.lab.admin.address(), paths::fill(path, &[&id, self.job.as_str()]));
            let url = if method == "DELETE" && path == paths::GATEWAY_CONNECTIONS {
                format!("{url}?job={}", self.job)
            } else if method == "DELETE" && path == paths::GATEWAY_CERTIFICATES {
                format!("{url}?name=lab.example.org")
            } else if path == paths::AUDIT_EXPORT {
                format!("{url}?format=csv")
            } else if path == paths::JOB_FILES {
                format!("{url}?name=stdout.autosave")
            } else if path == paths::HOST_JOB_LOG {
                format!("{url}?file=stdout.autosave&offset=0")
            } else {
                url
            };
            let method_of_call = method.parse::<Method>().unwrap();
            let mut request = match &self.shown[place] {
                Shown::Nothing => self.http.request(method_of_call, url),
                Shown::Token(token) => self.http.request(method_of_call, url).bearer_auth(token),
                Shown::Certificate(client) => client.request(method_of_call, url.replacen("http://", "https://", 1)),
            };
            if !body.is_empty() {
                let body: Value = serde_json::from_str(&body).unwrap();
                request = request.json(&body);
            }
            let status = request.send().await.unwrap().status();
            assert_ne!(status, StatusCode::INTERNAL_SERVER_ERROR, "{method} {path} by {identity}");
            if [1, 6, 8, 11].contains(&place) {
                letters.push(' ');
            }
            letters.push(self.noted(status, on, id));
        }
        letters
    }

    /// Fills the names of objects into a text. `NEW` is the name of a new one.
    pub(crate) fn filled(&self, text: &str) -> String {
        let texts = [
            ("NEW", format!("new-{}", self.made)),
            ("JOB", self.job.to_string()),
            ("MADE", self.gateway_name.clone()),
            ("GATEWAY", self.gateway.to_string()),
        ];
        texts.iter().fold(text.to_owned(), |text, (key, value)| text.replace(key, value))
    }

    /// Returns the letter of an answer, and keeps the object for the next call if it is as before.
    pub(crate) fn noted(&mut self, status: StatusCode, on: On, id: String) -> char {
        let letter = match status {
            StatusCode::UNAUTHORIZED => '4',
            StatusCode::FORBIDDEN => 'x',
            StatusCode::NOT_FOUND => '-',
            _ => '+',
        };
        self.left = (letter != '+').then_some((on, id));
        letter
    }
}

fn submission() -> Submission {
    Submission { image: Some("docker.io/library/alpine:3".parse().unwrap()), ..Submission::default() }
}

async fn gateway(owner: &Client, name: &str, first: u16) -> GatewayId {
    let port_range = format!("{first}:{}", first + 9);
    let request = GatewayCreateRequest { name: name.into(), port_range, ..GatewayCreateRequest::default() };
    owner.gateway_create(&request).await.unwrap().id
}

/// Returns the endpoints of the API: those for users from its description, and the others.
fn endpoints() -> BTreeSet<(String, String)> {
    let document = serde_json::to_value(mooring_opcenter::openapi()).unwrap();
    let described = document["paths"].as_object().unwrap().iter().flat_map(|(path, operations)| {
        let methods = operations.as_object().unwrap().keys().filter(|key| *key != "parameters");
        methods.map(move |method| (method.to_uppercase(), path.clone()))
    });
    let of_daemons = [
        ("POST", paths::HOSTS),
        ("GET", paths::HOST_SLICES),
        ("POST", paths::HOST_REPORT),
        ("POST", paths::HOST_CERTIFICATE),
        ("POST", paths::HOST_GATEWAY_CERTIFICATE),
        ("PUT", paths::HOST_JOB_LOG),
        ("GET", paths::GATEWAY_SLICES),
        ("POST", paths::GATEWAY_REPORT),
        ("POST", paths::GATEWAY_PORT_CERTIFICATE),
        ("POST", paths::GATEWAY_VISITS),
        ("GET", paths::OPENAPI),
        ("GET", paths::HEALTHZ),
        ("GET", paths::READYZ),
        ("GET", paths::METRICS),
        ("GET", paths::PROGRAM),
    ];
    described.chain(of_daemons.map(|(method, path)| (method.to_owned(), path.to_owned()))).collect()
}

#[tokio::test]
async fn every_endpoint_answers_every_identity_as_the_table_says() {
    let listed: BTreeSet<(String, String)> =
        TABLE.iter().map(|(method, path, ..)| ((*method).to_owned(), (*path).to_owned())).collect();
    assert_eq!(listed.len(), TABLE.len(), "an endpoint has two rows");
    let all = endpoints();
    let lacking: Vec<_> = all.difference(&listed).collect();
    let unknown: Vec<_> = listed.difference(&all).collect();
    assert!(lacking.is_empty() && unknown.is_empty(), "without a row: {lacking:#?}; no endpoint: {unknown:#?}");
    let mut world = World::build().await;
    let mut wrong = Vec::new();
    for row in TABLE {
        let letters = world.letters(*row).await;
        if letters != row.2 {
            wrong.push(format!("{:6} {:40} {} instead of {}", row.0, row.1, letters, row.2));
        }
    }
    assert!(wrong.is_empty(), "{IDENTITIES:?}\n{}", wrong.join("\n"));
}
