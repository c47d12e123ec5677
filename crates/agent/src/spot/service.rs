//! EC2's instance metadata service, in its version 2 (IMDSv2).
//!
//! ```text
//!   PUT /latest/api/token         a token, valid for the seconds asked for
//!   GET /latest/meta-data/…
//!     instance-life-cycle         spot, or on-demand, scheduled, capacity-block
//!     spot/instance-action        {"action": "terminate", "time": "…"}: reclaimed at that time
//!     events/recommendations/rebalance
//!                                 {"noticeTime": "…"}: likelier to be reclaimed than others
//!                                 404: no such notice
//! ```

use std::sync::Arc;
use std::time::Duration;

use mooring_tls::Trust;
use mooring_types::Timestamp;
use mooring_types::host::Purchase;
use reqwest::{Client, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

const TOKEN: &str = "/latest/api/token";
const LIFE_CYCLE: &str = "/latest/meta-data/instance-life-cycle";
const INSTANCE_ACTION: &str = "/latest/meta-data/spot/instance-action";
const REBALANCE: &str = "/latest/meta-data/events/recommendations/rebalance";
const LIFETIME_HEADER: &str = "X-aws-ec2-metadata-token-ttl-seconds";
const TOKEN_HEADER: &str = "X-aws-ec2-metadata-token";
/// The lifetime of a token. Another one is asked for after half of it.
const TOKEN_LIFETIME: Duration = Duration::from_secs(600);
/// The time of a connection: the service is one hop away.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// The time of an answer. A slow one is better than none: a notice is two minutes ahead.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);

/// The metadata service of this machine. Clones are the same service.
#[derive(Debug, Clone)]
pub(super) struct Service {
    endpoint: Arc<str>,
    http: Client,
}

/// A question to the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Question {
    Token,
    Purchase,
    Action,
    Rebalance,
}

/// An answer of the service.
#[derive(Debug, Clone)]
pub(super) enum Answer {
    Token(Token),
    Purchase(Purchase),
    /// The time at which the machine is reclaimed, if it is.
    Action(Option<Timestamp>),
    /// Says whether the machine is likelier to be reclaimed than others.
    Rebalance(bool),
}

/// A secret without which the service answers no question.
#[derive(Debug, Clone)]
pub(super) struct Token {
    secret: Arc<str>,
    since: Instant,
}

/// A failure to ask the metadata service.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("can't reach the metadata service")]
    Unreachable(#[from] reqwest::Error),
    #[error("the metadata service answers {path} with HTTP status {status}")]
    Refused { path: &'static str, status: StatusCode },
    #[error("can't read the metadata service's answer to {path}")]
    Unreadable { path: &'static str, source: serde_json::Error },
}

#[derive(Debug, Deserialize)]
struct InstanceAction {
    time: Timestamp,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rebalance {
    #[serde(rename = "noticeTime")]
    _notice_time: Timestamp,
}

impl Token {
    pub(super) fn age(&self) -> Duration {
        self.since.elapsed()
    }

    /// Says whether another one should be asked for; this one is still good then.
    pub(super) fn is_old(&self) -> bool {
        self.age() > TOKEN_LIFETIME / 2
    }

    pub(super) fn has_ended(&self) -> bool {
        self.age() > TOKEN_LIFETIME - ANSWER_TIMEOUT
    }
}

impl Failure {
    /// Says whether the service has refused the token.
    pub(super) fn is_of_token(&self) -> bool {
        matches!(self, Self::Refused { status: StatusCode::UNAUTHORIZED, .. })
    }
}

impl Service {
    /// Opens the service at `endpoint`, like `http://169.254.169.254`.
    pub(super) fn open(endpoint: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let tls = mooring_tls::client_config(&Trust::System, None)?;
        let http = Client::builder()
            .no_proxy()
            .tls_backend_preconfigured(tls)
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(ANSWER_TIMEOUT)
            .build()?;
        Ok(Self { endpoint: endpoint.trim_end_matches('/').into(), http })
    }

    /// Asks a question. All but the one for a token need one.
    pub(super) async fn ask(self, question: Question, token: Option<Token>) -> Result<Answer, Failure> {
        match question {
            Question::Token => self.token().await.map(Answer::Token),
            Question::Purchase => {
                let text = self.get(LIFE_CYCLE, token).await?;
                let is_spot = text.as_deref().map(str::trim) == Some("spot");
                Ok(Answer::Purchase(if is_spot { Purchase::Spot } else { Purchase::OnDemand }))
            }
            Question::Action => {
                let action: Option<InstanceAction> = self.read(INSTANCE_ACTION, token).await?;
                Ok(Answer::Action(action.map(|InstanceAction { time }| time)))
            }
            Question::Rebalance => {
                let advice: Option<Rebalance> = self.read(REBALANCE, token).await?;
                Ok(Answer::Rebalance(advice.is_some()))
            }
        }
    }

    async fn read<T: DeserializeOwned>(&self, path: &'static str, token: Option<Token>) -> Result<Option<T>, Failure> {
        let Some(text) = self.get(path, token).await? else { return Ok(None) };
        serde_json::from_str(&text).map(Some).map_err(|source| Failure::Unreadable { path, source })
    }

    /// Returns the text at a path, if there is any.
    async fn get(&self, path: &'static str, token: Option<Token>) -> Result<Option<String>, Failure> {
        let mut request = self.http.get(format!("{}{path}", self.endpoint));
        if let Some(token) = token {
            request = request.header(TOKEN_HEADER, &*token.secret);
        }
        let answer = request.send().await?;
        match answer.status() {
            StatusCode::OK => Ok(Some(answer.text().await?)),
            StatusCode::NOT_FOUND => Ok(None),
            status => Err(Failure::Refused { path, status }),
        }
    }

    async fn token(&self) -> Result<Token, Failure> {
        let since = Instant::now();
        let asked = self.http.put(format!("{}{TOKEN}", self.endpoint));
        let answer = asked.header(LIFETIME_HEADER, TOKEN_LIFETIME.as_secs()).send().await?;
        if answer.status() != StatusCode::OK {
            return Err(Failure::Refused { path: TOKEN, status: answer.status() });
        }
        Ok(Token { secret: answer.text().await?.into(), since })
    }
}
