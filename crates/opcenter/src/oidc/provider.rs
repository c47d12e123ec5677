//! The requests to a provider: its description, its keys, and the tokens of a sign-in.
//!
//! The description and the keys are kept for [`KEPT_FOR`], so that a key that the provider takes
//! back counts no longer than that. One request at a time asks for them, and after a failure none
//! for [`PAUSE`]: strangers can't use OpCenter to trouble the provider.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jsonwebtoken::jwk::Jwk;
use mooring_ops::log::chain;
use mooring_types::Clock;
use reqwest::{RequestBuilder, StatusCode, Url, redirect};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use tokio::sync::Mutex;

use super::failure::Failure;
use super::flow::Flow;
use super::since;
use crate::config::OidcConfig;
use crate::error::Error;

/// The time limit of a request.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The largest answer in bytes.
const ANSWER_MAX: usize = 1 << 20;
/// The time for which the description and the keys are kept.
const KEPT_FOR: Duration = Duration::from_secs(3600);
/// The shortest time between two requests for the keys, and after a failure.
const PAUSE: Duration = Duration::from_secs(10);

const DESCRIPTION: &str = "the provider's description";
const KEYS: &str = "the provider's keys";
const TOKENS: &str = "the provider's token endpoint";
const USERINFO: &str = "the provider's userinfo endpoint";

/// A provider.
pub(super) struct Provider {
    http: reqwest::Client,
    issuer: String,
    client_id: String,
    secret_file: PathBuf,
    known: Mutex<Known>,
}

/// The facts that are kept of a provider.
#[derive(Default)]
struct Known {
    metadata: Option<(Duration, Arc<Metadata>)>,
    keys: Option<Arc<Keys>>,
    /// The last failure, and its time.
    failed: Option<(Duration, Failure)>,
}

/// A provider's keys.
#[derive(Debug)]
pub(super) struct Keys {
    /// The time at which they were asked for, on the clock that is never set back.
    asked_at: Duration,
    pub(super) keys: Vec<Jwk>,
}

/// A provider's description of itself: OpenID Connect Discovery 1.0, section 3.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Metadata {
    issuer: String,
    pub(super) authorization_endpoint: String,
    token_endpoint: String,
    jwks_uri: String,
    userinfo_endpoint: Option<String>,
    pub(super) scopes_supported: Option<Vec<String>>,
    token_endpoint_auth_methods_supported: Option<Vec<String>>,
}

/// The tokens that a code is redeemed for.
#[derive(Deserialize)]
pub(super) struct Tokens {
    pub(super) id_token: String,
    pub(super) access_token: Option<String>,
}

#[derive(Deserialize)]
struct KeySet {
    keys: Vec<Value>,
}

#[derive(Deserialize)]
struct Refusal {
    error: String,
}

impl Provider {
    /// Prepares requests to the provider of a configuration.
    pub(super) fn new(config: &OidcConfig) -> Result<Self, Error> {
        let unusable = |reason: String| Error::Oidc { reason };
        if !is_protected(&config.issuer) {
            return Err(unusable(format!("`{}` is no `https://` URL", config.issuer)));
        }
        let tls = mooring_tls::client_config_for_others(config.ca.as_deref())?;
        let http = reqwest::Client::builder()
            .timeout(TIMEOUT)
            .no_proxy()
            // A redirect could lead to an address that nobody has declared.
            .redirect(redirect::Policy::none())
            .user_agent(concat!("mooring/", env!("CARGO_PKG_VERSION")))
            .tls_backend_preconfigured(tls)
            .build()
            .map_err(|error| unusable(chain(&error).to_string()))?;
        let provider = Self {
            http,
            issuer: config.issuer.clone(),
            client_id: config.client_id.clone(),
            secret_file: config.client_secret_file.clone(),
            known: Mutex::default(),
        };
        provider.secret().map_err(|failure| unusable(failure.to_string()))?;
        Ok(provider)
    }

    /// Returns the provider's description.
    pub(super) async fn metadata(&self, clock: &dyn Clock) -> Result<Arc<Metadata>, Failure> {
        let mut known = self.known.lock().await;
        self.metadata_of(&mut known, clock).await
    }

    /// Returns the provider's keys.
    pub(super) async fn keys(&self, clock: &dyn Clock) -> Result<Arc<Keys>, Failure> {
        let mut known = self.known.lock().await;
        match &known.keys {
            Some(keys) if since(clock, keys.asked_at) < KEPT_FOR => Ok(Arc::clone(keys)),
            _ => self.ask_for_keys(&mut known, clock).await,
        }
    }

    /// Returns keys that are newer than those, unless they are new themselves.
    pub(super) async fn newer_keys(&self, clock: &dyn Clock, old: &Keys) -> Result<Arc<Keys>, Failure> {
        let mut known = self.known.lock().await;
        match &known.keys {
            Some(keys) if keys.asked_at != old.asked_at || since(clock, keys.asked_at) < PAUSE => Ok(Arc::clone(keys)),
            _ => self.ask_for_keys(&mut known, clock).await,
        }
    }

    async fn metadata_of(&self, known: &mut Known, clock: &dyn Clock) -> Result<Arc<Metadata>, Failure> {
        match &known.metadata {
            Some((at, metadata)) if since(clock, *at) < KEPT_FOR => return Ok(Arc::clone(metadata)),
            _ => {}
        }
        known.refuse_too_soon(clock)?;
        let asked = self.ask_for_metadata().await;
        let metadata = Arc::new(known.noted(clock, asked)?);
        known.metadata = Some((clock.monotonic(), Arc::clone(&metadata)));
        Ok(metadata)
    }

    async fn ask_for_metadata(&self) -> Result<Metadata, Failure> {
        let url = format!("{}/.well-known/openid-configuration", self.issuer.trim_end_matches('/'));
        let metadata: Metadata = self.ask(self.http.get(url), DESCRIPTION).await?;
        let unusable = |reason: String| Failure::Unusable { what: DESCRIPTION, reason };
        // Section 4.3: otherwise one provider could speak for another.
        if metadata.issuer != self.issuer {
            let reason = format!("it is of `{}`, and `--oidc-issuer` is `{}`", metadata.issuer, self.issuer);
            return Err(unusable(reason));
        }
        let endpoints = [&metadata.authorization_endpoint, &metadata.token_endpoint, &metadata.jwks_uri];
        let exposed = endpoints.into_iter().chain(&metadata.userinfo_endpoint).find(|url| !is_protected(url));
        match exposed {
            Some(url) => Err(unusable(format!("`{url}` is no `https://` URL"))),
            None => Ok(metadata),
        }
    }

    async fn ask_for_keys(&self, known: &mut Known, clock: &dyn Clock) -> Result<Arc<Keys>, Failure> {
        let metadata = self.metadata_of(known, clock).await?;
        known.refuse_too_soon(clock)?;
        let asked_at = clock.monotonic();
        let asked = self.ask::<KeySet>(self.http.get(&metadata.jwks_uri), KEYS).await;
        let set = known.noted(clock, asked)?;
        // Kinds of keys that nobody knows here are no reason to refuse the others.
        let keys = set.keys.into_iter().filter_map(|key| serde_json::from_value(key).ok()).collect();
        let keys = Arc::new(Keys { asked_at, keys });
        known.keys = Some(Arc::clone(&keys));
        Ok(keys)
    }

    /// Redeems the code of a callback.
    pub(super) async fn redeem(&self, clock: &dyn Clock, code: &str, flow: &Flow) -> Result<Tokens, Failure> {
        let metadata = self.metadata(clock).await?;
        let secret = self.secret()?;
        let mut form = vec![
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", &flow.redirect),
            ("code_verifier", &flow.verifier),
        ];
        let request = self.http.post(&metadata.token_endpoint);
        let request = if metadata.takes_secret_in_body() {
            form.extend([("client_id", self.client_id.as_str()), ("client_secret", secret.as_str())]);
            request
        } else {
            // RFC 6749, section 2.3.1: both are written as in a form first.
            let written = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
            request.basic_auth(written(&self.client_id), Some(written(&secret)))
        };
        let (status, bytes) = self.send(request.form(&form), TOKENS).await?;
        if status.is_success() {
            return read(&bytes, TOKENS);
        }
        match read::<Refusal>(&bytes, TOKENS) {
            Ok(refusal) if refusal.error == "invalid_grant" => Err(Failure::Stale),
            Ok(refusal) => {
                Err(Failure::Unusable { what: TOKENS, reason: Failure::refused(&refusal.error).to_string() })
            }
            Err(_) => Err(Failure::Unreachable { what: TOKENS, reason: format!("it answered {status}") }),
        }
    }

    /// Returns the claims about the owner of an access token; `None` if the provider tells them
    /// nowhere but in ID tokens.
    pub(super) async fn userinfo(
        &self,
        clock: &dyn Clock,
        access_token: &str,
    ) -> Result<Option<Map<String, Value>>, Failure> {
        let metadata = self.metadata(clock).await?;
        let Some(url) = &metadata.userinfo_endpoint else { return Ok(None) };
        self.ask(self.http.get(url).bearer_auth(access_token), USERINFO).await.map(Some)
    }

    /// Reads the client's secret, which may be replaced while OpCenter runs.
    fn secret(&self) -> Result<String, Failure> {
        let reason = match std::fs::read_to_string(&self.secret_file) {
            Ok(text) if !text.trim().is_empty() => return Ok(text.trim().to_owned()),
            Ok(_) => format!("{} is empty", self.secret_file.display()),
            Err(error) => format!("{}: {error}", self.secret_file.display()),
        };
        Err(Failure::Unusable { what: "the client's secret", reason })
    }

    /// Sends a request, and reads a JSON answer.
    async fn ask<T: DeserializeOwned>(&self, request: RequestBuilder, what: &'static str) -> Result<T, Failure> {
        let (status, bytes) = self.send(request, what).await?;
        if !status.is_success() {
            return Err(Failure::Unreachable { what, reason: format!("it answered {status}") });
        }
        read(&bytes, what)
    }

    async fn send(&self, request: RequestBuilder, what: &'static str) -> Result<(StatusCode, Vec<u8>), Failure> {
        let unreachable = |error: reqwest::Error| {
            // The URL of a request for tokens has no secret, and is no help either.
            Failure::Unreachable { what, reason: chain(&error.without_url()).to_string() }
        };
        let mut answer = request.send().await.map_err(unreachable)?;
        let mut bytes = Vec::new();
        while let Some(piece) = answer.chunk().await.map_err(unreachable)? {
            if bytes.len() + piece.len() > ANSWER_MAX {
                return Err(Failure::Unusable { what, reason: "its answer is too long".into() });
            }
            bytes.extend_from_slice(&piece);
        }
        Ok((answer.status(), bytes))
    }
}

impl Known {
    /// Returns the last failure again if it was a moment ago.
    fn refuse_too_soon(&self, clock: &dyn Clock) -> Result<(), Failure> {
        match &self.failed {
            Some((at, failure)) if since(clock, *at) < PAUSE => Err(failure.clone()),
            _ => Ok(()),
        }
    }

    /// Notes a failure.
    fn noted<T>(&mut self, clock: &dyn Clock, outcome: Result<T, Failure>) -> Result<T, Failure> {
        self.failed = outcome.as_ref().err().map(|failure| (clock.monotonic(), failure.clone()));
        outcome
    }
}

impl Metadata {
    /// Returns whether the secret has to be in the body: in the header it is by default.
    fn takes_secret_in_body(&self) -> bool {
        let methods = self.token_endpoint_auth_methods_supported.as_deref().unwrap_or_default();
        let has = |name: &str| methods.iter().any(|method| method == name);
        has("client_secret_post") && !has("client_secret_basic")
    }
}

impl fmt::Debug for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Provider").field("issuer", &self.issuer).finish_non_exhaustive()
    }
}

fn read<T: DeserializeOwned>(bytes: &[u8], what: &'static str) -> Result<T, Failure> {
    // The message of a wrong type may quote a value, and that may be a token.
    serde_json::from_slice(bytes).map_err(|error| Failure::Unusable {
        what,
        reason: format!("line {}, column {} is not what was expected", error.line(), error.column()),
    })
}

/// Returns whether nobody between can read what is sent to a URL.
fn is_protected(url: &str) -> bool {
    let Ok(url) = Url::parse(url) else { return false };
    let is_loopback = url.host_str().is_some_and(|host| {
        let address = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
        host == "localhost" || address.is_ok_and(|address| address.is_loopback())
    });
    url.scheme() == "https" || url.scheme() == "http" && is_loopback
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_sent_over_tls_or_on_this_machine() {
        for url in ["https://login.example.org/realms/a", "http://127.0.0.1:1234", "http://[::1]:1", "http://localhost"]
        {
            assert!(is_protected(url), "{url}");
        }
        for url in
            ["http://login.example.org", "http://localhost.example.org", "ftp://localhost", "login.example.org", ""]
        {
            assert!(!is_protected(url), "{url}");
        }
    }

    #[test]
    fn errors_quote_no_token() {
        let text = br#"{"id_token": {"secret": 1}, "access_token": "sesame"}"#;
        let failure = read::<Tokens>(text, TOKENS).err().unwrap();
        assert!(!failure.to_string().contains("sesame"), "{failure}");
    }
}
