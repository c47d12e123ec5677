//! Many clients of one job at once: WebSockets that stay, and requests that come at a steady rate.
//!
//! The job is an [`echo`](crate::echo) server. Every message on a WebSocket has to come back, once
//! and in order, on the same WebSocket. Every request has to be answered with 200 and its path, or
//! with 503 and `Retry-After`. Everything else is a fault.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use futures_util::{SinkExt, StreamExt};
use parking_lot::Mutex;
use serde::Serialize;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_util::sync::CancellationToken;

/// Longer than a job is ever away.
const LIMIT: Duration = Duration::from_secs(120);
/// The number of idle connections and the time that they are kept: shorter than between two pauses.
const IDLE: usize = 32;
const IDLE_LIMIT: Duration = Duration::from_secs(2);
/// The number of WebSockets that are opened at a time.
const OPENING: usize = 50;
/// The number of faults that are kept as text.
const FAULTS: usize = 10;

/// The amount of load.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// The number of WebSockets.
    pub websockets: usize,
    /// The pause between two messages of a WebSocket.
    pub says_every: Duration,
    /// The rate of requests.
    pub requests_a_second: u32,
}

/// Clients under way.
#[derive(Debug)]
pub struct Load {
    stop: CancellationToken,
    seen: Arc<Mutex<Seen>>,
    tasks: JoinSet<()>,
}

/// The record of all clients.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Seen {
    /// Messages that were sent on WebSockets.
    pub sent: u64,
    /// Those that came back as they should.
    pub echoed: u64,
    /// Requests that were made.
    pub requests: u64,
    /// Those that were answered with 200 and what they asked for.
    pub answered: u64,
    /// Those that were answered with 503 and `Retry-After`.
    pub later: u64,
    /// Faults.
    pub faults: u64,
    /// The first of them.
    pub first_faults: Vec<String>,
    /// The longest that a request took since [`Load::slowest`] was asked last, in seconds.
    slowest: f64,
}

impl Load {
    /// Opens the WebSockets, and begins.
    pub async fn start(address: SocketAddr, plan: Plan) -> Result<Self> {
        let (stop, seen) = (CancellationToken::new(), Arc::<Mutex<Seen>>::default());
        let mut sockets = Vec::new();
        while sockets.len() < plan.websockets {
            let count = OPENING.min(plan.websockets - sockets.len());
            let mut opening = JoinSet::new();
            (0..count).for_each(|_| drop(opening.spawn(open(address))));
            while let Some(socket) = opening.join_next().await {
                sockets.push(socket??);
            }
        }
        let mut tasks = JoinSet::new();
        for (number, socket) in sockets.into_iter().enumerate() {
            // Spread, so that they don't all speak at once.
            let first = plan.says_every.mul_f64(number as f64 / plan.websockets as f64);
            let (seen, stop) = (seen.clone(), stop.clone());
            tasks.spawn(async move {
                if let Err(error) = converse(socket, first, plan.says_every, &seen, &stop).await {
                    note(&seen).fault(&format!("WebSocket {number}: {error:#}"));
                }
            });
        }
        tasks.spawn(request(address, plan.requests_a_second, seen.clone(), stop.clone()));
        Ok(Self { stop, seen, tasks })
    }

    /// Returns the record so far.
    #[must_use]
    pub fn seen(&self) -> Seen {
        note(&self.seen).clone()
    }

    /// The longest that a request took since this was asked last.
    #[must_use]
    pub fn slowest(&self) -> Duration {
        Duration::from_secs_f64(std::mem::take(&mut note(&self.seen).slowest))
    }

    /// Ends it: what is under way is waited for.
    pub async fn finish(mut self) -> Seen {
        self.stop.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            if let Err(error) = ended {
                note(&self.seen).fault(&format!("a client broke: {error}"));
            }
        }
        self.seen()
    }
}

impl Seen {
    /// Returns whether there was no fault.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.faults == 0 && self.sent == self.echoed && self.requests == self.answered + self.later && self.sent > 0
    }

    fn fault(&mut self, what: &str) {
        self.faults += 1;
        if self.first_faults.len() < FAULTS {
            self.first_faults.push(what.to_owned());
        }
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sent, echoed, requests, answered, later, faults, .. } = self;
        write!(
            f,
            "{echoed} of {sent} messages came back; {answered} of {requests} requests were answered, {later} were told to come later; {faults} faults"
        )
    }
}

async fn open(address: SocketAddr) -> Result<WebSocketStream<TcpStream>> {
    let opened = async {
        let tcp = TcpStream::connect(address).await.context("connect")?;
        tcp.set_nodelay(true)?;
        let (socket, _) = tokio_tungstenite::client_async(format!("ws://{address}/ws"), tcp).await?;
        Ok(socket)
    };
    timeout(LIMIT, opened).await.context("open a WebSocket in time")?
}

/// Says numbers, and waits for each to come back.
async fn converse(
    mut socket: WebSocketStream<TcpStream>,
    first: Duration,
    every: Duration,
    seen: &Mutex<Seen>,
    stop: &CancellationToken,
) -> Result<()> {
    let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + first, every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for number in 0_u64.. {
        tokio::select! {
            _ = ticks.tick() => {}
            () = stop.cancelled() => break,
            // Nothing was asked, so nothing comes, not even the end.
            unasked = socket.next() => bail!("unasked: {unasked:?}"),
        }
        note(seen).sent += 1;
        socket.send(Message::text(number.to_string())).await.context("send")?;
        let back = timeout(LIMIT, socket.next()).await.context("nothing came back")?;
        let back = back.context("it was closed")?.context("receive")?;
        ensure!(back == Message::text(number.to_string()), "{back:?} came back for {number}");
        note(seen).echoed += 1;
    }
    socket.close(None).await.context("close")
}

async fn request(address: SocketAddr, a_second: u32, seen: Arc<Mutex<Seen>>, stop: CancellationToken) {
    // Another one may have been installed before.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let client = match reqwest::Client::builder()
        .no_proxy()
        .timeout(LIMIT)
        .pool_max_idle_per_host(IDLE)
        .pool_idle_timeout(IDLE_LIMIT)
        .build()
    {
        Ok(client) => client,
        Err(error) => return note(&seen).fault(&format!("no client for requests: {error}")),
    };
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / a_second.max(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut requests = JoinSet::new();
    for number in 0_u64.. {
        tokio::select! {
            _ = ticks.tick() => {}
            () = stop.cancelled() => break,
        }
        let (client, seen) = (client.clone(), seen.clone());
        requests.spawn(async move {
            let began = Instant::now();
            note(&seen).requests += 1;
            let outcome = ask(&client, address, number).await;
            let mut seen = note(&seen);
            seen.slowest = seen.slowest.max(began.elapsed().as_secs_f64());
            match outcome {
                Ok(true) => seen.answered += 1,
                Ok(false) => seen.later += 1,
                Err(error) => seen.fault(&format!("request {number}: {error:#}")),
            }
        });
        while requests.try_join_next().is_some() {}
    }
    while requests.join_next().await.is_some() {}
}

/// Returns whether a request was answered; `false` for 503.
async fn ask(client: &reqwest::Client, address: SocketAddr, number: u64) -> Result<bool> {
    let answer = client.get(format!("http://{address}/{number}")).send().await?;
    match answer.status().as_u16() {
        200 => {
            let body = answer.text().await?;
            ensure!(body == format!("/{number}"), "it was answered with `{body}`");
            Ok(true)
        }
        503 if answer.headers().contains_key("retry-after") => Ok(false),
        status => bail!("it was answered with {status}"),
    }
}

fn note(seen: &Mutex<Seen>) -> parking_lot::MutexGuard<'_, Seen> {
    seen.lock()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::echo;
    use crate::wait::wait_for;

    #[tokio::test]
    async fn load_is_clean_until_its_server_ends() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut server = JoinSet::new();
        server.spawn(echo::serve_at(vec![listener]));
        let plan = Plan { websockets: 20, says_every: Duration::from_millis(20), requests_a_second: 200 };
        let load = Load::start(address, plan).await.unwrap();
        let enough = async || Ok((load.seen().answered > 20 && load.seen().echoed > 100).then_some(()));
        wait_for("answers", LIMIT, enough).await.unwrap();
        let seen = load.finish().await;
        assert!(seen.is_clean(), "{seen:?}");

        let load = Load::start(address, plan).await.unwrap();
        wait_for("answers", LIMIT, async || Ok((load.seen().echoed > 20).then_some(()))).await.unwrap();
        server.shutdown().await;
        wait_for("faults", LIMIT, async || Ok((load.seen().faults > 20).then_some(()))).await.unwrap();
        assert!(!load.finish().await.is_clean());
    }
}
