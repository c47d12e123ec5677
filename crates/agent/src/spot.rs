//! The machine as its cloud knows it: how it is paid for, and notices that it is reclaimed.
//!
//! The source is EC2's instance metadata service, in its version 2 (IMDSv2):
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
//!
//! The instance action is written two minutes ahead. Each action counts: the jobs of a machine that
//! is stopped or hibernated can't be reached either. AWS advises to ask every 5 s; a request costs
//! nothing and two minutes are short, so it is every 2 s.
//!
//! The purchase is asked for until it is known, unless the command line names it. A service that
//! stops answering withdraws nothing: [`CloudFacts`] keep the last answer. A machine whose service
//! never answers is no EC2 instance; it is asked again at longer intervals, and logged once.

use std::sync::Arc;
use std::time::Duration;

use mooring_api::watch::Notice;
use mooring_ops::log::chain;
use mooring_tls::Trust;
use mooring_types::Timestamp;
use mooring_types::host::Purchase;
use reqwest::{Client, Method, Response, StatusCode};
use serde::Deserialize;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

const TOKEN: &str = "/latest/api/token";
const LIFE_CYCLE: &str = "/latest/meta-data/instance-life-cycle";
const INSTANCE_ACTION: &str = "/latest/meta-data/spot/instance-action";
const REBALANCE: &str = "/latest/meta-data/events/recommendations/rebalance";
const LIFETIME_HEADER: &str = "X-aws-ec2-metadata-token-ttl-seconds";
const TOKEN_HEADER: &str = "X-aws-ec2-metadata-token";
/// The lifetime of a token. It is renewed after half of it.
const TOKEN_LIFETIME: Duration = Duration::from_secs(600);
/// The interval of requests to a service that answers.
const POLL_INTERVAL: Duration = Duration::from_secs(2);
/// The interval of requests to a service that has never answered.
const ABSENT_POLL_INTERVAL: Duration = Duration::from_secs(60);
/// The time that a request may take: the service is one hop away.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(1);

/// The facts that the cloud has told of the machine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct CloudFacts {
    /// The machine's kind of payment; `None` until the cloud has answered.
    pub(crate) purchase: Option<Purchase>,
    pub(crate) notice: Option<Notice>,
    /// The cloud was asked at least once, or is not to be asked.
    pub(crate) asked: bool,
}

impl CloudFacts {
    /// The facts before the cloud is asked. A machine without a metadata service is on demand,
    /// unless the command line says otherwise.
    pub(crate) fn before_asking(configured: Option<Purchase>, metadata: Option<&str>) -> Self {
        let has_no_cloud = metadata.is_none();
        let purchase = configured.or(has_no_cloud.then_some(Purchase::OnDemand));
        Self { purchase, notice: None, asked: has_no_cloud }
    }
}

/// Watches the metadata service.
#[derive(Debug)]
pub(crate) struct Watcher {
    endpoint: String,
    facts: watch::Sender<CloudFacts>,
    /// Notified of news that are worth a report at once.
    observed: Arc<Notify>,
    token: Option<Token>,
}

#[derive(Debug, Clone)]
struct Token {
    secret: String,
    since: Instant,
}

/// A failure to ask the metadata service.
#[derive(Debug, thiserror::Error)]
enum Failure {
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

impl Watcher {
    /// Watches the service at `endpoint`, like `http://169.254.169.254`.
    pub(crate) fn new(endpoint: String, facts: watch::Sender<CloudFacts>, observed: Arc<Notify>) -> Self {
        Self { endpoint: endpoint.trim_end_matches('/').to_owned(), facts, observed, token: None }
    }

    /// Watches until asked to stop.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let tls = match mooring_tls::client_config(&Trust::System, None) {
            Ok(tls) => tls,
            Err(error) => {
                tracing::error!(error = %chain(&error), "can't watch the metadata service");
                return;
            }
        };
        let http = match Client::builder()
            .no_proxy()
            .tls_backend_preconfigured(tls)
            .connect_timeout(REQUEST_TIMEOUT)
            .timeout(REQUEST_TIMEOUT)
            .build()
        {
            Ok(http) => http,
            Err(error) => {
                tracing::error!(error = %chain(&error), "can't watch the metadata service");
                return;
            }
        };
        let mut answering = true;
        loop {
            let outcome = tokio::select! {
                () = stop.cancelled() => return,
                outcome = self.ask(&http) => outcome,
            };
            match outcome {
                Ok(notice) => {
                    answering = true;
                    self.publish(notice);
                }
                Err(error) => {
                    let had_answered = self.facts.borrow().notice.is_some();
                    let error = chain(&error);
                    match (std::mem::take(&mut answering), had_answered) {
                        (true, true) => tracing::warn!(%error, "the metadata service no longer answers"),
                        (true, false) => {
                            tracing::info!(%error, "no metadata service answers: this machine gets no notice when it is reclaimed")
                        }
                        (false, _) => {}
                    }
                }
            }
            self.facts.send_if_modified(|facts| !std::mem::replace(&mut facts.asked, true));
            let period = if self.facts.borrow().notice.is_some() { POLL_INTERVAL } else { ABSENT_POLL_INTERVAL };
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(period) => {}
            }
        }
    }

    fn publish(&self, notice: Notice) {
        let is_new = self.facts.send_if_modified(|facts| facts.notice.replace(notice) != Some(notice));
        if is_new {
            match notice {
                Notice::Stays => tracing::info!("the cloud has no notice for this machine"),
                Notice::AtRisk => tracing::warn!("the cloud may reclaim this machine soon"),
                Notice::Reclaimed { at } => tracing::warn!("the cloud reclaims this machine at {at}"),
            }
            self.observed.notify_one();
        }
    }

    async fn ask(&mut self, http: &Client) -> Result<Notice, Failure> {
        if self.facts.borrow().purchase.is_none() {
            let text = self.get(http, LIFE_CYCLE).await?;
            let purchase =
                if text.as_deref().map(str::trim) == Some("spot") { Purchase::Spot } else { Purchase::OnDemand };
            tracing::info!("the cloud says that this machine is {purchase}");
            self.facts.send_modify(|facts| facts.purchase = Some(purchase));
            self.observed.notify_one();
        }
        if let Some(text) = self.get(http, INSTANCE_ACTION).await? {
            let InstanceAction { time } =
                serde_json::from_str(&text).map_err(|source| Failure::Unreadable { path: INSTANCE_ACTION, source })?;
            return Ok(Notice::Reclaimed { at: time });
        }
        match self.get(http, REBALANCE).await? {
            Some(text) => serde_json::from_str(&text)
                .map(|Rebalance { .. }| Notice::AtRisk)
                .map_err(|source| Failure::Unreadable { path: REBALANCE, source }),
            None => Ok(Notice::Stays),
        }
    }

    /// Returns the text at a path, if there is any. A token that is refused is renewed once.
    async fn get(&mut self, http: &Client, path: &'static str) -> Result<Option<String>, Failure> {
        let mut answer = self.get_once(http, path).await?;
        if answer.status() == StatusCode::UNAUTHORIZED {
            self.token = None;
            answer = self.get_once(http, path).await?;
        }
        match answer.status() {
            StatusCode::OK => Ok(Some(answer.text().await?)),
            StatusCode::NOT_FOUND => Ok(None),
            status => Err(Failure::Refused { path, status }),
        }
    }

    async fn get_once(&mut self, http: &Client, path: &'static str) -> Result<Response, Failure> {
        let token = self.token(http).await?;
        let url = format!("{}{path}", self.endpoint);
        Ok(http.request(Method::GET, url).header(TOKEN_HEADER, token).send().await?)
    }

    async fn token(&mut self, http: &Client) -> Result<String, Failure> {
        let fresh = self.token.as_ref().filter(|token| token.since.elapsed() < TOKEN_LIFETIME / 2);
        if let Some(token) = fresh {
            return Ok(token.secret.clone());
        }
        let (since, url) = (Instant::now(), format!("{}{TOKEN}", self.endpoint));
        let asked = http.request(Method::PUT, url).header(LIFETIME_HEADER, TOKEN_LIFETIME.as_secs());
        let answer = asked.send().await?;
        if answer.status() != StatusCode::OK {
            return Err(Failure::Refused { path: TOKEN, status: answer.status() });
        }
        let secret = answer.text().await?;
        self.token = Some(Token { secret: secret.clone(), since });
        Ok(secret)
    }
}
