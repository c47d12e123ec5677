//! An OpenID provider that says what a test wants, with real signatures: also what no honest one
//! says.

use std::path::Path;
use std::sync::Arc;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use mooring_opcenter::OidcConfig;
use mooring_ops::Lifecycle;
use mooring_types::{Clock, ManualClock, SystemClock};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::visit::{Answer, Visit};

pub(crate) const CLIENT: &str = "mooring";
pub(crate) const SECRET: &str = "sesame";

/// A signing key of a provider.
pub(crate) struct Key {
    id: String,
    private: EncodingKey,
    public: Value,
}

impl Key {
    pub(crate) fn new(id: &str) -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        // An uncompressed point: 4, and the two coordinates.
        let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
        let coordinate = |bytes| BASE64_URL_SAFE_NO_PAD.encode(bytes);
        let public = json!({
            "kty": "EC", "crv": "P-256", "kid": id, "alg": "ES256", "use": "sig", "x": coordinate(x), "y": coordinate(y),
        });
        let private = EncodingKey::from_ec_der(pair.to_pkcs8v1().unwrap().as_ref());
        Self { id: id.to_owned(), private, public }
    }

    /// Signs claims, under the name of this key.
    pub(crate) fn sign(&self, claims: &Value) -> String {
        let header = Header { kid: Some(self.id.clone()), ..Header::new(Algorithm::ES256) };
        jsonwebtoken::encode(&header, claims, &self.private).unwrap()
    }
}

/// Returns a token with that header and no signature.
pub(crate) fn unsigned(header: &Value, claims: &Value) -> String {
    let part = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}.", part(header), part(claims))
}

/// The answers of a provider.
#[derive(Debug, Clone, Default)]
struct Answers {
    keys: Vec<Value>,
    token: String,
    token_error: String,
    userinfo: Value,
    issuer: String,
    /// The requests for the keys so far.
    asked_for_keys: usize,
}

/// A provider of the test.
pub(crate) struct Forger {
    pub(crate) issuer: String,
    pub(crate) key: Key,
    answers: Arc<Mutex<Answers>>,
    lifecycle: Lifecycle,
    directory: TempDir,
}

type Kept = State<(String, Arc<Mutex<Answers>>)>;

async fn description(State((issuer, answers)): Kept) -> Json<Value> {
    Json(json!({
        "issuer": answers.lock().issuer,
        "authorization_endpoint": format!("{issuer}/authorize"),
        "token_endpoint": format!("{issuer}/token"),
        "jwks_uri": format!("{issuer}/keys"),
        "userinfo_endpoint": format!("{issuer}/userinfo"),
        "scopes_supported": ["openid", "profile", "groups"],
    }))
}

async fn keys(State((_, answers)): Kept) -> Json<Value> {
    let mut answers = answers.lock();
    answers.asked_for_keys += 1;
    // Kinds of keys that OpCenter does not know are no reason to fail.
    let unknown = json!({"kty": "new", "kid": "later"});
    Json(json!({ "keys": answers.keys.iter().cloned().chain([unknown]).collect::<Vec<_>>() }))
}

async fn token(State((_, answers)): Kept) -> (StatusCode, Json<Value>) {
    let answers = answers.lock().clone();
    if answers.token_error.is_empty() {
        let tokens = json!({"id_token": answers.token, "access_token": "a", "token_type": "Bearer"});
        return (StatusCode::OK, Json(tokens));
    }
    (StatusCode::BAD_REQUEST, Json(json!({ "error": answers.token_error })))
}

async fn userinfo(State((_, answers)): Kept) -> Json<Value> {
    Json(answers.lock().userinfo.clone())
}

impl Forger {
    pub(crate) async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let issuer = format!("http://{}", listener.local_addr().unwrap());
        let key = Key::new("first");
        let answers = Answers { keys: vec![key.public.clone()], issuer: issuer.clone(), ..Answers::default() };
        let answers = Arc::new(Mutex::new(answers));
        let router = Router::new()
            .route("/.well-known/openid-configuration", get(description))
            .route("/keys", get(keys))
            .route("/token", post(token))
            .route("/userinfo", get(userinfo))
            .with_state((issuer.clone(), Arc::clone(&answers)));
        let lifecycle = Lifecycle::new();
        let soft = lifecycle.soft().clone();
        let served = axum::serve(listener, router).with_graceful_shutdown(soft.cancelled_owned());
        lifecycle.tasks().spawn("provider", served.into_future());
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("secret"), SECRET).unwrap();
        Self { issuer, key, answers, lifecycle, directory }
    }

    pub(crate) fn config(&self) -> OidcConfig {
        config(&self.issuer, &self.directory.path().join("secret"))
    }

    /// Publishes these keys, and no others.
    pub(crate) fn publish(&self, keys: &[&Key]) {
        self.answers.lock().keys = keys.iter().map(|key| key.public.clone()).collect();
    }

    /// Hands out this ID token.
    pub(crate) fn hand_out(&self, token: String) {
        self.answers.lock().token = token;
    }

    /// Answers a request for tokens with an error.
    pub(crate) fn refuse_tokens(&self, error: &str) {
        self.answers.lock().token_error = error.to_owned();
    }

    /// Tells this at the userinfo endpoint.
    pub(crate) fn tell(&self, userinfo: Value) {
        self.answers.lock().userinfo = userinfo;
    }

    /// Claims to be another provider.
    pub(crate) fn pose_as(&self, issuer: &str) {
        self.answers.lock().issuer = issuer.to_owned();
    }

    /// Returns how often the keys were asked for.
    pub(crate) fn asked_for_keys(&self) -> usize {
        self.answers.lock().asked_for_keys
    }

    /// Returns the claims of a right ID token.
    pub(crate) fn claims(&self, begun: &Begun, subject: &str, now: &ManualClock) -> Value {
        let now = now.now().as_second();
        json!({
            "iss": self.issuer, "aud": CLIENT, "sub": subject, "nonce": begun.nonce, "iat": now, "exp": now + 300,
            "preferred_username": subject, "groups": [],
        })
    }
}

impl Drop for Forger {
    fn drop(&mut self) {
        self.lifecycle.stop();
    }
}

/// The configuration for a provider.
pub(crate) fn config(issuer: &str, client_secret_file: &Path) -> OidcConfig {
    OidcConfig {
        issuer: issuer.to_owned(),
        client_id: CLIENT.into(),
        client_secret_file: client_secret_file.to_owned(),
        name: "Harbour".into(),
        name_claim: "preferred_username".into(),
        group_claim: "groups".into(),
        admin_group: Some("captains".into()),
        ca: None,
    }
}

/// A sign-in that OpCenter has begun.
#[derive(Debug)]
pub(crate) struct Begun {
    pub(crate) state: String,
    pub(crate) nonce: String,
    pub(crate) location: String,
}

/// Begins a sign-in in a browser.
pub(crate) async fn begin(browser: &mut Visit, path: &str) -> Begun {
    let answer = browser.follow(path).await;
    assert_eq!(answer.status, 303, "{}", answer.text);
    let of = |key: &str| parameter(&answer.location, key);
    Begun { state: of("state"), nonce: of("nonce"), location: answer.location.clone() }
}

/// Returns a parameter of a URL.
pub(crate) fn parameter(url: &str, key: &str) -> String {
    let (_, query) = url.split_once('?').unwrap();
    let found = form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == key);
    found.unwrap_or_else(|| panic!("no `{key}` in {url}")).1.into_owned()
}

/// Comes back from the provider with a code.
pub(crate) async fn come_back(browser: &mut Visit, begun: &Begun) -> Answer {
    browser.follow(&format!("/login/oidc/callback?code=c&state={}", begun.state)).await
}

/// The time of the machine, at which a lab with a real provider begins.
pub(crate) fn now() -> mooring_types::Timestamp {
    SystemClock.now()
}
