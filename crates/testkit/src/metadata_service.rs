//! EC2's instance metadata service, as IMDSv2: what a machine is told of its future depends on
//! which machine asks.
//!
//! Nothing is told without a token, and a token is good for the seconds that were asked for and for
//! the machine that asked. [`Service`] is a task of the test; inside a world's namespace the
//! virtual hosts reach it at the bridge's address, each with its own.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, put};
use axum::{Json, Router};
use mooring_types::Timestamp;
use parking_lot::{Mutex, MutexGuard};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

const LIFETIME_MAX: u64 = 21_600;

/// A service that runs until it is dropped.
#[derive(Debug)]
pub struct Service {
    address: SocketAddr,
    told: Shared,
    _task: JoinSet<()>,
}

type Shared = Arc<Mutex<Told>>;

#[derive(Debug, Default)]
struct Told {
    tokens: HashMap<String, (IpAddr, Instant)>,
    interruptions: HashMap<IpAddr, Timestamp>,
    recommendations: HashMap<IpAddr, Timestamp>,
    looks: HashMap<IpAddr, u64>,
    spot: HashSet<IpAddr>,
    /// The time that each answer takes.
    delay: Duration,
    refuses_until: Option<Instant>,
}

impl Service {
    /// Serves at an address; port 0 takes a free one.
    pub async fn start(address: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind(address).await.with_context(|| format!("listen at {address}"))?;
        let (address, told) = (listener.local_addr()?, Shared::default());
        let router = Router::new()
            .route("/latest/api/token", put(token))
            .route("/latest/meta-data/instance-life-cycle", get(life_cycle))
            .route("/latest/meta-data/spot/instance-action", get(action))
            .route("/latest/meta-data/events/recommendations/rebalance", get(rebalance))
            .layer(middleware::from_fn_with_state(Arc::clone(&told), slowly))
            .with_state(Arc::clone(&told))
            .into_make_service_with_connect_info::<SocketAddr>();
        let mut task = JoinSet::new();
        task.spawn(async move { drop(axum::serve(listener, router).await) });
        Ok(Self { address, told, _task: task })
    }

    /// Its URL.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A machine is a spot instance; the others are on demand.
    pub fn is_spot(&self, machine: IpAddr) {
        lock(&self.told).spot.insert(machine);
    }

    /// A machine is taken away at that time.
    pub fn interrupt(&self, machine: IpAddr, time: Timestamp) {
        lock(&self.told).interruptions.insert(machine, time);
    }

    /// A machine is at risk since that time.
    pub fn recommend(&self, machine: IpAddr, time: Timestamp) {
        lock(&self.told).recommendations.insert(machine, time);
    }

    /// A machine stays where it is after all.
    pub fn withdraw(&self, machine: IpAddr) {
        let mut told = lock(&self.told);
        told.interruptions.remove(&machine);
        told.recommendations.remove(&machine);
    }

    /// Each answer takes that time from now on.
    pub fn answer_after(&self, delay: Duration) {
        lock(&self.told).delay = delay;
    }

    /// All requests are refused for some time, as too many.
    pub fn refuse_for(&self, time: Duration) {
        lock(&self.told).refuses_until = Some(Instant::now() + time);
    }

    /// No token that was given out is good any more.
    pub fn forget_tokens(&self) {
        lock(&self.told).tokens.clear();
    }

    /// Returns the number of a machine's requests with a valid token.
    #[must_use]
    pub fn looks(&self, machine: IpAddr) -> u64 {
        lock(&self.told).looks.get(&machine).copied().unwrap_or(0)
    }
}

fn lock(told: &Shared) -> MutexGuard<'_, Told> {
    told.lock()
}

/// Answers as late as the service is slow, or refuses.
async fn slowly(State(told): State<Shared>, request: Request, next: Next) -> Response {
    let (delay, refuses_until) = {
        let told = lock(&told);
        (told.delay, told.refuses_until)
    };
    tokio::time::sleep(delay).await;
    if refuses_until.is_some_and(|until| Instant::now() < until) {
        return StatusCode::TOO_MANY_REQUESTS.into_response();
    }
    next.run(request).await
}

async fn token(
    State(told): State<Shared>,
    ConnectInfo(from): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
) -> Result<String, StatusCode> {
    let asked = headers.get("X-aws-ec2-metadata-token-ttl-seconds").and_then(|value| value.to_str().ok());
    let lifetime = asked.and_then(|text| text.parse().ok()).filter(|seconds| (1..=LIFETIME_MAX).contains(seconds));
    let lifetime = Duration::from_secs(lifetime.ok_or(StatusCode::BAD_REQUEST)?);
    let token = format!("{:032x}", rand::random::<u128>());
    lock(&told).tokens.insert(token.clone(), (from.ip(), Instant::now() + lifetime));
    Ok(token)
}

async fn life_cycle(
    State(told): State<Shared>,
    ConnectInfo(from): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
) -> Result<&'static str, StatusCode> {
    let told = lock(&told);
    told.admit(from.ip(), &headers)?;
    Ok(if told.spot.contains(&from.ip()) { "spot" } else { "on-demand" })
}

async fn action(
    State(told): State<Shared>,
    ConnectInfo(from): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
) -> Result<Json<Value>, StatusCode> {
    let mut told = lock(&told);
    told.admit(from.ip(), &headers)?;
    *told.looks.entry(from.ip()).or_default() += 1;
    let time = told.interruptions.get(&from.ip()).ok_or(StatusCode::NOT_FOUND)?;
    Ok(Json(json!({ "action": "terminate", "time": time })))
}

async fn rebalance(
    State(told): State<Shared>,
    ConnectInfo(from): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
) -> Result<Json<Value>, StatusCode> {
    let told = lock(&told);
    told.admit(from.ip(), &headers)?;
    let time = told.recommendations.get(&from.ip()).ok_or(StatusCode::NOT_FOUND)?;
    Ok(Json(json!({ "noticeTime": time })))
}

impl Told {
    fn admit(&self, machine: IpAddr, headers: &HeaderMap) -> Result<(), StatusCode> {
        let token = headers.get("X-aws-ec2-metadata-token").and_then(|value| value.to_str().ok());
        let known = token.and_then(|token| self.tokens.get(token));
        match known {
            Some((owner, until)) if *owner == machine && Instant::now() < *until => Ok(()),
            _ => Err(StatusCode::UNAUTHORIZED),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nothing_is_told_without_a_token_that_is_good() {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let service = Service::start("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let machine: IpAddr = "127.0.0.1".parse().unwrap();
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let token = async |seconds: &str| {
            let url = format!("{}/latest/api/token", service.endpoint());
            http.put(url).header("X-aws-ec2-metadata-token-ttl-seconds", seconds).send().await.unwrap()
        };
        let look = async |token: &str| {
            let url = format!("{}/latest/meta-data/spot/instance-action", service.endpoint());
            http.get(url).header("X-aws-ec2-metadata-token", token).send().await.unwrap().status()
        };
        assert_eq!(token("0").await.status(), StatusCode::BAD_REQUEST);
        assert_eq!(token("21601").await.status(), StatusCode::BAD_REQUEST);
        assert_eq!(look("guessed").await, StatusCode::UNAUTHORIZED);
        let good = token("60").await.text().await.unwrap();
        assert_eq!(look(&good).await, StatusCode::NOT_FOUND);
        service.interrupt(machine, "2026-01-02T03:04:05Z".parse().unwrap());
        assert_eq!(look(&good).await, StatusCode::OK);
        service.forget_tokens();
        assert_eq!(look(&good).await, StatusCode::UNAUTHORIZED);
        let short = token("3").await.text().await.unwrap();
        assert_eq!(look(&short).await, StatusCode::OK);
        crate::wait::wait_for("the token's end", Duration::from_secs(30), async || {
            Ok((look(&short).await == StatusCode::UNAUTHORIZED).then_some(()))
        })
        .await
        .unwrap();
    }
}
