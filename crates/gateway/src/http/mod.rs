//! HTTP between a client and its job: HTTP/1.1 or HTTP/2 on the client's side, HTTP/1.1 on the job's.
//!
//! ```text
//!  client ─► hyper's server ─► answer ─► headers ─► pool ─► hyper's client ─► gated stream ─► job
//!                                │                    │ none, and the gate is closed or the job refuses
//!                                │                    ▼
//!                                │                  hold: for a while, a number of them; then 503 or the waiting page
//!                                └─ 101 ─► upgrade ─► relay
//! ```
//!
//! Bodies stream through in both directions. A request that has been sent to the job stays with it while it is away. When the job is
//! another one afterwards, what was under way is aborted: the client's connection is closed, a stream of HTTP/2 is reset. A connection
//! on which nothing was under way stays. A request is sent a second time only if not a byte of it was sent before, or if it changes
//! nothing and its connection was an old one, which the job may have closed at the same moment.

pub mod answer;
mod body;
mod client_io;
pub mod headers;
pub mod lengths;
mod logged;
mod pool;
mod upgrade;

use std::future::{self, Future};
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{Either, Empty, Full};
use hyper::body::{Body, Incoming};
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper::{Method, Request, Response, StatusCode, Uri, Version};
use hyper_util::rt::{TokioIo, TokioTimer};
use mooring_ops::Tasks;
use mooring_types::JobId;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use self::body::JobBody;
use self::client_io::{ClientIo, Requests};
use self::headers::{Origin, Refusal};
use self::logged::{Entry, Logged};
use self::pool::{Pool, Upstream};
use self::upgrade::Upgrade;
use crate::connect::{Connected, Way};
use crate::metrics::{Metrics, Unavailable};
use crate::relay::{self, Content};
use crate::seat::Seat;

/// The longest head of a request.
const HEAD_MAX: usize = 64 * 1024;
/// The most headers of a request.
const HEADERS_MAX: usize = 128;
/// The most requests at a time on one connection of HTTP/2.
const STREAMS_MAX: u32 = 200;
/// How long a client of a retired process may send nothing on an idle connection.
const IDLE_LIMIT: Duration = Duration::from_secs(30);
/// How often a request is tried whose connection turns out to be closed.
const TRIES: usize = 3;

/// Why a request ends without an answer.
#[derive(Debug, Clone, Copy, thiserror::Error)]
pub enum Aborted {
    /// The job that it was sent to is no more.
    #[error("the job is another one now")]
    JobIsAnother,
    /// The job's side broke in the middle of the answer.
    #[error("the job broke off its answer")]
    JobBroke,
    /// Nobody waits for the answer.
    #[error("the client has gone")]
    ClientLeft,
}

type AnswerBody = Either<Full<Bytes>, JobBody>;
type Answer = Response<AnswerBody>;

/// A client that speaks HTTP.
#[derive(Debug)]
pub struct Session {
    /// Its socket.
    pub client: Arc<TcpStream>,
    /// Its address.
    pub address: SocketAddr,
    /// The way to the job.
    pub way: Way,
    /// The job.
    pub job: JobId,
    /// Who owns what runs for it.
    pub tasks: Tasks,
    /// Where its requests are counted.
    pub metrics: Metrics,
    /// Whether another process serves by now.
    pub seat: Arc<Seat>,
}

impl Session {
    /// Serves HTTP/1 until the client or an upgrade ends; first over `connected`, if that was made already.
    ///
    /// # Errors
    /// A side broke, or the client does not keep to the protocol.
    pub async fn serve_http1(self, connected: Option<Connected>) -> io::Result<()> {
        let stop = CancellationToken::new();
        let _stop_with_this = stop.clone().drop_guard();
        let proxy = Proxy::new(self, stop);
        if let Some(connected) = connected {
            proxy.pool.give_back(proxy.pool.begin(connected).await?);
        }
        let io = ClientIo::new(proxy.session.client.clone(), Some(proxy.requests.clone()));
        let service = service_fn(|request| {
            let proxy = proxy.clone();
            async move {
                tokio::select! {
                    answer = proxy.answer(request) => answer,
                    () = left(&proxy.session.client) => Err(Aborted::ClientLeft),
                }
            }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(None)
            .max_buf_size(HEAD_MAX)
            .max_header_size(HEAD_MAX)
            .max_headers(HEADERS_MAX)
            .serve_connection(TokioIo::new(io), service);
        let mut connection = pin!(connection.with_upgrades());
        let outcome = tokio::select! {
            outcome = connection.as_mut() => outcome,
            // A request that comes meanwhile is answered, and told to be the last; an idle connection is not closed at once, since its
            // client may just be sending one.
            () = retired_for(&proxy.session.seat, IDLE_LIMIT) => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        match outcome {
            // Refused: the client is to read why.
            Err(error) if error.is_parse() => return relay::linger(&proxy.session.client).await,
            outcome => outcome.map_err(io::Error::other)?,
        }
        let upgrade = proxy.upgrade.lock().unwrap_or_else(PoisonError::into_inner).take();
        match upgrade {
            Some(upgrade) => upgrade.carry(&proxy.session.client, &proxy.session.way).await,
            None => relay::linger(&proxy.session.client).await,
        }
    }

    /// Serves HTTP/2 until the client ends.
    ///
    /// # Errors
    /// A side broke, or the client does not keep to the protocol.
    pub async fn serve_http2(self) -> io::Result<()> {
        let stop = CancellationToken::new();
        let _stop_with_this = stop.clone().drop_guard();
        let proxy = Proxy::new(self, stop);
        let io = ClientIo::new(proxy.session.client.clone(), None);
        let service = service_fn(|request| {
            let proxy = proxy.clone();
            async move { proxy.answer(request).await }
        });
        let connection = http2::Builder::new(Owner(proxy.session.tasks.clone()))
            .timer(TokioTimer::new())
            .max_concurrent_streams(STREAMS_MAX)
            .max_header_list_size(HEAD_MAX as u32)
            .serve_connection(TokioIo::new(io), service);
        let mut connection = pin!(connection);
        let outcome = tokio::select! {
            outcome = connection.as_mut() => outcome,
            () = proxy.session.seat.retired() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        outcome.map_err(io::Error::other)
    }
}

/// What the requests of one client share.
#[derive(Debug)]
struct Proxy {
    session: Session,
    pool: Arc<Pool>,
    requests: Requests,
    count: AtomicU64,
    upgrade: Mutex<Option<Upgrade>>,
}

impl Proxy {
    fn new(session: Session, stop: CancellationToken) -> Arc<Self> {
        let pool = Pool::new(session.way.clone(), session.tasks.clone(), stop);
        Arc::new(Self {
            session,
            pool,
            requests: Requests::default(),
            count: AtomicU64::new(0),
            upgrade: Mutex::default(),
        })
    }

    /// The answer to a request, which is logged once the answer is out.
    async fn answer(&self, request: Request<Incoming>) -> Result<Response<Logged<AnswerBody>>, Aborted> {
        let mut entry = Entry::new(&self.session, &request);
        let is_one_of_many = request.version() == Version::HTTP_2;
        let mut answer = self.find_answer(request).await?;
        entry.answered(answer.status().as_u16());
        // The next request of the client is for the process that serves.
        if self.session.seat.is_retired() && !is_one_of_many && answer.status() != StatusCode::SWITCHING_PROTOCOLS {
            answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        Ok(answer.map(|body| Logged::new(body, entry)))
    }

    async fn find_answer(&self, request: Request<Incoming>) -> Result<Answer, Aborted> {
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        let prepared = match self.requests.conflict(number) {
            true => Err(Refusal::ConflictingLengths),
            false => self.prepare(request),
        };
        let answer = match prepared {
            Ok(prepared) => self.forward(prepared).await?,
            Err(refusal) => {
                let status = match refusal {
                    Refusal::TransferCoding | Refusal::Method => StatusCode::NOT_IMPLEMENTED,
                    Refusal::ConflictingLengths | Refusal::Host => StatusCode::BAD_REQUEST,
                };
                answer::refused(status, &refusal.to_string()).map(Either::Left)
            }
        };
        self.session.metrics.request_answered(&self.session.job, answer.status().as_u16());
        Ok(answer)
    }

    /// The request as the job gets it.
    fn prepare(&self, mut request: Request<Incoming>) -> Result<Prepared, Refusal> {
        if *request.method() == Method::CONNECT {
            return Err(Refusal::Method);
        }
        let origin = Origin { client: self.session.address, port: self.session.way.routes.now().port };
        let host = self.named_host(&request);
        let mut headers = headers::forward_headers(request.headers(), host.as_ref(), origin)?;
        if request.version() == Version::HTTP_2 {
            join_cookies(&mut headers);
        }
        let is_page_load = answer::is_page_load(request.method(), request.headers());
        let upgrade = headers.contains_key(header::UPGRADE).then(|| hyper::upgrade::on(&mut request));
        let (parts, body) = request.into_parts();
        let path = parts.uri.path_and_query().map_or_else(|| Uri::from_static("/"), |path| Uri::from(path.clone()));
        let mut head = Request::new(());
        (*head.method_mut(), *head.uri_mut(), *head.headers_mut()) = (parts.method, path, headers);
        Ok(Prepared { head, body, upgrade, is_page_load })
    }

    /// The host that a request names outside of its headers. HTTP/1.0 need not name any.
    fn named_host(&self, request: &Request<Incoming>) -> Option<HeaderValue> {
        let named = request.uri().authority().map(|authority| {
            let authority = authority.as_str();
            authority.rsplit_once('@').map_or(authority, |(_, host)| host).to_owned()
        });
        let is_old = request.version() < Version::HTTP_11 && !request.headers().contains_key(header::HOST);
        let named = named.or_else(|| {
            let address = is_old.then(|| self.session.client.local_addr().ok()).flatten();
            address.map(|address| address.to_string())
        });
        named.and_then(|host| HeaderValue::try_from(host).ok())
    }

    async fn forward(&self, prepared: Prepared) -> Result<Answer, Aborted> {
        let Prepared { head, body, mut upgrade, is_page_load } = prepared;
        let bodiless = body.is_end_stream();
        let repeatable = bodiless && upgrade.is_none() && head.method().is_safe();
        let body = if bodiless { Either::Right(Empty::new()) } else { Either::Left(body) };
        let mut request = head.clone().map(|()| body);
        let mut why = Unavailable::Broken;
        for _ in 0..TRIES {
            let mut upstream = match self.upstream(is_page_load).await {
                Ok(upstream) => upstream,
                Err(unavailable) => {
                    why = unavailable;
                    break;
                }
            };
            let sent = tokio::select! {
                biased;
                () = self.session.way.end(upstream.epoch) => return Err(Aborted::JobIsAnother),
                sent = upstream.sender.try_send_request(request) => sent,
            };
            match sent {
                Ok(response) => return Ok(self.pass_on(response, upstream, upgrade.take())),
                Err(mut failed) => match failed.take_message() {
                    Some(unsent) => request = unsent,
                    None => {
                        tracing::debug!(error = %failed.error(), "a job did not answer a request");
                        if self.session.way.is_another(upstream.epoch).await {
                            return Err(Aborted::JobIsAnother);
                        }
                        if !repeatable || !upstream.used {
                            break;
                        }
                        request = head.clone().map(|()| Either::Right(Empty::new()));
                    }
                },
            }
        }
        Ok(self.unavailable(why, is_page_load))
    }

    fn unavailable(&self, why: Unavailable, is_page_load: bool) -> Answer {
        self.session.metrics.request_refused(&self.session.job, why);
        let route = self.session.way.routes.now();
        let answer = if is_page_load { answer::waiting_page(&route) } else { answer::later(&route) };
        answer.map(Either::Left)
    }

    fn pass_on(&self, mut response: Response<Incoming>, upstream: Upstream, asked: Option<OnUpgrade>) -> Answer {
        let mut headers = headers::answer_headers(response.headers());
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            let (Some(client), Some(protocol)) = (asked, headers::upgrade(response.headers())) else {
                return self.unavailable(Unavailable::Broken, false);
            };
            let is_websocket = protocol.as_bytes().eq_ignore_ascii_case(b"websocket");
            let content = if is_websocket { Content::WebSocket } else { Content::Bytes };
            headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
            headers.insert(header::UPGRADE, protocol);
            let job = hyper::upgrade::on(&mut response);
            let upgrade = Upgrade { client, job, epoch: upstream.epoch, content };
            *self.upgrade.lock().unwrap_or_else(PoisonError::into_inner) = Some(upgrade);
            let mut answer = Response::new(Either::Left(Full::default()));
            (*answer.status_mut(), *answer.headers_mut()) = (StatusCode::SWITCHING_PROTOCOLS, headers);
            return answer;
        }
        let (parts, body) = response.into_parts();
        let upstream = Upstream { used: true, ..upstream };
        let body = JobBody::new(body, &self.session.way, upstream, &self.pool);
        let mut answer = Response::new(Either::Right(body));
        (*answer.status_mut(), *answer.headers_mut()) = (parts.status, headers);
        answer
    }

    /// A connection that takes a request, as soon as there is one; none when the job's patience is over.
    async fn upstream(&self, is_page_load: bool) -> Result<Upstream, Unavailable> {
        let way = &self.session.way;
        if way.gate.is_open() {
            if let Some(upstream) = self.pool.take().await {
                return Ok(upstream);
            }
            if let Ok(connected) = way.attempt().await {
                return self.pool.begin(connected).await.map_err(|_| Unavailable::Broken);
            }
        }
        let patience = way.routes.now().patience;
        let _place = way.gate.hold(patience.held_max).ok_or(Unavailable::TooManyHeld)?;
        let _counted = self.session.metrics.request_held(&self.session.job);
        let seconds = if is_page_load { patience.page_seconds.min(patience.hold_seconds) } else { patience.hold_seconds };
        let ready = async {
            way.gate.opened().await;
            if let Some(upstream) = self.pool.take().await {
                return Ok(upstream);
            }
            let connected = way.connect().await.map_err(|_| Unavailable::Unreachable)?;
            self.pool.begin(connected).await.map_err(|_| Unavailable::Broken)
        };
        timeout(Duration::from_secs(seconds.into()), ready).await.unwrap_or(Err(Unavailable::HeldTooLong))
    }
}

/// A request that goes to the job.
struct Prepared {
    head: Request<()>,
    body: Incoming,
    /// The client's side, where it asks for an upgrade.
    upgrade: Option<OnUpgrade>,
    is_page_load: bool,
}

/// HTTP/2 may spread cookies over several lines, HTTP/1.1 may not (RFC 9113, section 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let crumbs: Vec<&[u8]> = headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if crumbs.len() > 1
        && let Ok(joined) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..]))
    {
        headers.insert(header::COOKIE, joined);
    }
}

/// Resolves when the client will send nothing more, whatever of it has not been read yet.
async fn left(client: &TcpStream) {
    // Waiting for urgent data ends with the read direction as well, and is not woken by ordinary data.
    loop {
        match client.ready(Interest::PRIORITY).await {
            Ok(ready) if ready.is_read_closed() => return,
            Ok(_) => future::pending().await,
            Err(_) => return,
        }
    }
}

/// Resolves when another process has served for so long.
async fn retired_for(seat: &Seat, time: Duration) {
    seat.retired().await;
    tokio::time::sleep(time).await;
}

/// Runs hyper's tasks as owned ones.
#[derive(Debug, Clone)]
struct Owner(Tasks);

impl<F> hyper::rt::Executor<F> for Owner
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, task: F) {
        self.0.spawn("stream", task);
    }
}
