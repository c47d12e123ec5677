//! Sign-in by an OpenID provider: the authorization code flow of OpenID Connect Core 1.0 with PKCE
//! (RFC 7636).
//!
//! ```text
//!  browser ── GET /login/oidc ────────► begin: state, nonce and verifier, sealed in a cookie
//!          ◄── 303 to the provider ────
//!          ── signs in there
//!          ── GET /login/oidc/callback ► finish: the cookie is opened, the state compared
//!                                          │ code and verifier ──► provider ──► ID token
//!                                          │ its signature, issuer, audience, times and nonce
//!                                          ▼
//!                                        a person ──► usecase::sign_in: user, groups, session
//! ```
//!
//! OpCenter keeps nothing between the two requests, so strangers can't fill its memory. What it has
//! to know again is in a cookie ([`flow`]) that only this process can make or read. The cookie
//! binds the sign-in to the browser that began it.
//!
//! | file | holds |
//! |---|---|
//! | `flow` | the sealed cookie |
//! | `provider` | the requests to the provider: its description, keys, tokens |
//! | `id_token` | the check of an ID token, without I/O |
//! | `failure` | what can go wrong, in words |

mod failure;
mod flow;
mod id_token;
mod provider;

use std::time::Duration;

use mooring_types::Clock;
use reqwest::Url;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::config::OidcConfig;
use crate::error::Error;
use crate::state::token::new_token;

pub(crate) use failure::Failure;
pub(crate) use flow::Flow;
pub(crate) use flow::LIFE as SIGN_IN_LIFE;
use flow::Seal;
use id_token::{Expected, Untrusted};
use provider::{Metadata, Provider};

/// The path that the provider sends browsers back to.
pub(crate) const CALLBACK: &str = "/login/oidc/callback";
/// The most groups of a person that are looked at.
const GROUPS_MAX: usize = 1000;
/// The longest subject, in bytes: the limit of OpenID Connect Core 1.0, section 2.
const SUBJECT_MAX: usize = 255;

/// Sign-in by one provider.
#[derive(Debug)]
pub(crate) struct Oidc {
    config: OidcConfig,
    provider: Provider,
    seal: Seal,
}

/// A sign-in that has begun.
#[derive(Debug)]
pub(crate) struct Begun {
    /// The URL at the provider.
    pub(crate) location: String,
    /// The value of the cookie.
    pub(crate) cookie: String,
}

/// The parameters with which the provider sends a browser back; empty ones are absent.
#[derive(Debug)]
pub(crate) struct Callback<'a> {
    pub(crate) state: &'a str,
    pub(crate) code: &'a str,
    pub(crate) error: &'a str,
    /// The provider that answers (RFC 9207).
    pub(crate) issuer: &'a str,
}

/// A person that the provider vouches for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Person {
    pub(crate) subject: String,
    /// The name by its claim, or the subject where there is none.
    pub(crate) name: String,
    pub(crate) groups: Vec<String>,
}

impl Oidc {
    /// Prepares sign-in. The provider need not be reachable yet.
    ///
    /// # Errors
    /// The configuration can't be used.
    pub(crate) fn new(config: OidcConfig) -> Result<Self, Error> {
        Ok(Self { provider: Provider::new(&config)?, seal: Seal::new()?, config })
    }

    /// The provider's name for people.
    pub(crate) fn name(&self) -> &str {
        &self.config.name
    }

    pub(crate) fn issuer(&self) -> &str {
        &self.config.issuer
    }

    /// The group whose members are admins.
    pub(crate) fn admin_group(&self) -> Option<&str> {
        self.config.admin_group.as_deref()
    }

    /// Begins a sign-in that comes back to `redirect`, a URL of [`CALLBACK`], and then leads to the
    /// page `next`.
    pub(crate) async fn begin(&self, clock: &dyn Clock, redirect: String, next: &str) -> Result<Begun, Failure> {
        let metadata = self.provider.metadata(clock).await?;
        let flow = Flow::new(redirect, next, clock.now());
        let challenge = base64_url(&Sha256::digest(&flow.verifier));
        let mut location = Url::parse(&metadata.authorization_endpoint)
            .map_err(|error| Failure::Unusable { what: "the provider's description", reason: error.to_string() })?;
        location
            .query_pairs_mut()
            .append_pair("response_type", "code")
            .append_pair("client_id", &self.config.client_id)
            .append_pair("redirect_uri", &flow.redirect)
            .append_pair("scope", &self.scope(&metadata))
            .append_pair("state", &flow.state)
            .append_pair("nonce", &flow.nonce)
            .append_pair("code_challenge", &challenge)
            .append_pair("code_challenge_method", "S256");
        let cookie = self.seal.close(&flow).ok_or(Failure::Stale)?;
        Ok(Begun { location: location.into(), cookie })
    }

    /// Returns the sign-in that a cookie holds, if it is one of this process and not too old.
    pub(crate) fn opened(&self, cookie: Option<&str>, clock: &dyn Clock) -> Option<Flow> {
        self.seal.open(cookie?, clock.now())
    }

    /// Ends a sign-in: redeems the code of the callback and checks the ID token.
    pub(crate) async fn finish(
        &self,
        clock: &dyn Clock,
        flow: &Flow,
        callback: &Callback<'_>,
    ) -> Result<Person, Failure> {
        if !flow.has_state(callback.state) {
            return Err(Failure::Stale);
        }
        if !callback.issuer.is_empty() && callback.issuer != self.config.issuer {
            return Err(Untrusted::Issuer.into());
        }
        match callback.error {
            "" => {}
            "access_denied" => return Err(Failure::Denied),
            other => return Err(Failure::refused(other)),
        }
        let tokens = self.provider.redeem(clock, callback.code, flow).await?;
        let claims = self.checked(clock, &tokens.id_token, &flow.nonce).await?;
        let claims = self.completed(clock, claims, tokens.access_token.as_deref()).await?;
        self.person(&claims)
    }

    /// Checks an ID token. A key that is not known is asked for once: the provider may have a new
    /// one.
    async fn checked(&self, clock: &dyn Clock, token: &str, nonce: &str) -> Result<Map<String, Value>, Failure> {
        let expected = Expected {
            issuer: &self.config.issuer,
            client_id: &self.config.client_id,
            nonce,
            now: clock.now().as_second(),
        };
        let known = self.provider.keys(clock).await?;
        match id_token::check(token, &known.keys, &expected) {
            Err(Failure::Untrusted(Untrusted::UnknownKey)) => {
                let newer = self.provider.newer_keys(clock, &known).await?;
                id_token::check(token, &newer.keys, &expected)
            }
            checked => checked,
        }
    }

    /// Adds the claims that the provider tells only at its userinfo endpoint, as some do.
    async fn completed(
        &self,
        clock: &dyn Clock,
        claims: Map<String, Value>,
        access_token: Option<&str>,
    ) -> Result<Map<String, Value>, Failure> {
        let is_complete =
            [&self.config.name_claim, &self.config.group_claim].iter().all(|key| claims.contains_key(*key));
        let (false, Some(token)) = (is_complete, access_token) else { return Ok(claims) };
        let Some(mut told) = self.provider.userinfo(clock, token).await? else { return Ok(claims) };
        // Section 5.3.2: another person's claims must not be used.
        if told.get("sub") != claims.get("sub") {
            return Err(Untrusted::Subject.into());
        }
        // What is signed counts.
        told.extend(claims);
        Ok(told)
    }

    fn person(&self, claims: &Map<String, Value>) -> Result<Person, Failure> {
        let text = |key: &str| claims.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
        let subject = text("sub").filter(|subject| subject.len() <= SUBJECT_MAX).ok_or(Untrusted::Subject)?;
        let groups = match claims.get(&self.config.group_claim) {
            Some(Value::Array(all)) => {
                all.iter().filter_map(Value::as_str).take(GROUPS_MAX).map(str::to_owned).collect()
            }
            Some(Value::String(one)) => vec![one.clone()],
            _ => Vec::new(),
        };
        let name = text(&self.config.name_claim).unwrap_or(subject);
        Ok(Person { subject: subject.to_owned(), name: name.to_owned(), groups })
    }

    /// Returns the scopes to ask for. Providers often name a scope like the claim that it brings;
    /// one that is not offered may be refused.
    fn scope(&self, metadata: &Metadata) -> String {
        let offered = metadata.scopes_supported.as_deref().unwrap_or_default();
        let mut scopes = vec!["openid"];
        for wanted in ["profile", &self.config.name_claim, &self.config.group_claim] {
            let is_offered = offered.iter().any(|scope| scope == wanted) || wanted == "profile" && offered.is_empty();
            if is_offered && !scopes.contains(&wanted) {
                scopes.push(wanted);
            }
        }
        scopes.join(" ")
    }
}

/// The time since a moment of a clock that is never set back.
fn since(clock: &dyn Clock, moment: Duration) -> Duration {
    clock.monotonic().saturating_sub(moment)
}

fn base64_url(bytes: &[u8]) -> String {
    use base64::Engine;
    base64::prelude::BASE64_URL_SAFE_NO_PAD.encode(bytes)
}
