//! The machine as its cloud knows it, how it is paid for and what becomes of it: EC2's instance metadata service, spoken to as IMDSv2.
//!
//! ```text
//!   PUT /latest/api/token                                     a token, for the seconds that are asked for
//!   GET /latest/meta-data/instance-life-cycle                 spot, or on-demand, scheduled, capacity-block: paid for as long as wanted
//!   GET /latest/meta-data/spot/instance-action                {"action": "terminate", "time": "…"}: it is taken away then
//!   GET /latest/meta-data/events/recommendations/rebalance    {"noticeTime": "…"}: it is likelier than others to be
//!                                                             404: nothing of the kind
//! ```
//!
//! The instance action is written two minutes before, and counts whatever it is: of a machine that is stopped or hibernated its jobs
//! can't be reached either. AWS advises to look every 5 s; of two minutes that is much, and a look costs nothing, so it is every 2 s.
//!
//! How it is paid for is asked until it is known, unless it was said on the command line. What is known ([`Heard`]) is not forgotten: a service that does not answer for a while has withdrawn
//! nothing. Where it never answered, the machine is no EC2 instance: that is asked again now and then, and said once.

use std::sync::Arc;
use std::time::Duration;

use mooring_api::tls;
use mooring_api::watch::Notice;
use mooring_ops::log::chain;
use mooring_types::Timestamp;
use mooring_types::host::Purchase;
use reqwest::{Client, Method, Response, StatusCode};
use serde::Deserialize;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

const TOKEN: &str = "/latest/api/token";
const LIFE_CYCLE: &str = "/latest/meta-data/instance-life-cycle";
const ACTION: &str = "/latest/meta-data/spot/instance-action";
const REBALANCE: &str = "/latest/meta-data/events/recommendations/rebalance";
const LIFETIME_HEADER: &str = "X-aws-ec2-metadata-token-ttl-seconds";
const TOKEN_HEADER: &str = "X-aws-ec2-metadata-token";
/// How long a token is asked for; another one is asked for after half of it.
const TOKEN_LIFETIME: Duration = Duration::from_secs(600);
const PERIOD: Duration = Duration::from_secs(2);
/// How often a service that never answered is asked.
const ABSENT_PERIOD: Duration = Duration::from_secs(60);
/// The service is one hop away.
const TIMEOUT: Duration = Duration::from_secs(1);

/// What is known of the machine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Heard {
    /// How it is paid for.
    pub(crate) purchase: Option<Purchase>,
    /// What becomes of it.
    pub(crate) notice: Option<Notice>,
    /// Whether its cloud was asked, as far as one is to be: what is not known yet may stay so.
    pub(crate) looked: bool,
}

impl Heard {
    /// What is known before the cloud is asked. Where it is not asked, the machine is paid for as was said, or on demand.
    pub(crate) fn without_a_cloud(said: Option<Purchase>, metadata: Option<&str>) -> Self {
        let alone = metadata.is_none();
        Self { purchase: said.or(alone.then_some(Purchase::OnDemand)), notice: None, looked: alone }
    }
}

/// Watches the metadata service.
#[derive(Debug)]
pub(crate) struct Watcher {
    endpoint: String,
    heard: watch::Sender<Heard>,
    /// Has what is new reported at once.
    observed: Arc<Notify>,
    token: Option<Token>,
}

#[derive(Debug, Clone)]
struct Token {
    secret: String,
    since: Instant,
}

/// Why nothing was learned.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("can't ask the metadata service")]
    Unreachable(#[from] reqwest::Error),
    #[error("the metadata service answers {path} with HTTP status {status}")]
    Refused { path: &'static str, status: StatusCode },
    #[error("can't read what the metadata service answers {path} with")]
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
    pub(crate) fn new(endpoint: String, heard: watch::Sender<Heard>, observed: Arc<Notify>) -> Self {
        Self { endpoint: endpoint.trim_end_matches('/').to_owned(), heard, observed, token: None }
    }

    /// Watches until asked to stop.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let http = match Client::builder()
            .no_proxy()
            .tls_backend_preconfigured(tls::client_config())
            .connect_timeout(TIMEOUT)
            .timeout(TIMEOUT)
            .build()
        {
            Ok(http) => http,
            Err(error) => {
                tracing::error!(error = %chain(&error), "the metadata service is not watched");
                return;
            }
        };
        let mut answers = true;
        loop {
            let outcome = tokio::select! {
                () = stop.cancelled() => return,
                outcome = self.look(&http) => outcome,
            };
            match outcome {
                Ok(notice) => {
                    answers = true;
                    self.tell(notice);
                }
                Err(error) => {
                    let was_there = self.heard.borrow().notice.is_some();
                    let error = chain(&error).to_string();
                    match (std::mem::take(&mut answers), was_there) {
                        (true, true) => tracing::warn!(error, "the metadata service does not answer any more"),
                        (true, false) => {
                            tracing::info!(error, "no metadata service: nobody says when this machine is taken away")
                        }
                        (false, _) => {}
                    }
                }
            }
            self.heard.send_if_modified(|heard| !std::mem::replace(&mut heard.looked, true));
            let period = if self.heard.borrow().notice.is_some() { PERIOD } else { ABSENT_PERIOD };
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(period) => {}
            }
        }
    }

    fn tell(&self, notice: Notice) {
        let is_new = self.heard.send_if_modified(|heard| heard.notice.replace(notice) != Some(notice));
        if is_new {
            match notice {
                Notice::Stays => tracing::info!("the cloud leaves this machine where it is"),
                Notice::AtRisk => tracing::warn!("the cloud may take this machine away soon"),
                Notice::Reclaimed { at } => tracing::warn!("the cloud takes this machine away at {at}"),
            }
            self.observed.notify_one();
        }
    }

    async fn look(&mut self, http: &Client) -> Result<Notice, Failure> {
        if self.heard.borrow().purchase.is_none() {
            let text = self.get(http, LIFE_CYCLE).await?;
            let purchase =
                if text.as_deref().map(str::trim) == Some("spot") { Purchase::Spot } else { Purchase::OnDemand };
            tracing::info!("this machine is {purchase}, as its cloud says");
            self.heard.send_modify(|heard| heard.purchase = Some(purchase));
            self.observed.notify_one();
        }
        if let Some(text) = self.get(http, ACTION).await? {
            let InstanceAction { time } =
                serde_json::from_str(&text).map_err(|source| Failure::Unreadable { path: ACTION, source })?;
            return Ok(Notice::Reclaimed { at: time });
        }
        match self.get(http, REBALANCE).await? {
            Some(text) => serde_json::from_str(&text)
                .map(|Rebalance { .. }| Notice::AtRisk)
                .map_err(|source| Failure::Unreadable { path: REBALANCE, source }),
            None => Ok(Notice::Stays),
        }
    }

    /// What is at a path, if there is anything. A token that is not taken any more is asked for anew, once.
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
        let known = self.token.as_ref().filter(|token| token.since.elapsed() < TOKEN_LIFETIME / 2);
        if let Some(token) = known {
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
