//! The requests of one client, from the client to the job and back.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{Either, Empty, Full};
use hyper::body::{Body, Incoming};
use hyper::ext::ReasonPhrase;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::upgrade::OnUpgrade;
use hyper::{Method, Request, Response, StatusCode, Uri, Version};
use mooring_api::watch::CallerObservation;
use mooring_types::host_name;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::body::JobBody;
use super::client_io::Requests;
use super::expect::{self, ClientBody, CutOff, Expectation};
use super::headers::Refusal;
use super::interim::Interim;
use super::limits::TooLarge;
use super::logged::{Entry, Guard, Logged};
use super::origin::Origin;
use super::own_part::{Answer, AnswerBody, OwnPart};
use super::pool::{Pool, PooledConnection};
use super::speech::{self, Asks, JobHttp};
use super::trailers::Trailers;
use super::upgrade::{JobUpgrade, Upgrade};
use super::{Aborted, farewell, headers, response};
use crate::browser::worker;
use crate::budget::AddressShare;
use crate::client::ClientConnection;
use crate::entry::{self, Asking};
use crate::metrics::{Budget, Unavailable};
use crate::page;
use crate::relay::Content;
use crate::route::Route;
use crate::upstream::{Connected, ConnectionEnd};
use crate::wake::polls::Noted;
use crate::wake::{self, caller};
use crate::widget;

/// The number of connections that are tried for a request, where each turns out to be closed.
const ATTEMPTS_MAX: usize = 3;

/// The state that the requests of one client share.
#[derive(Debug)]
pub(crate) struct Proxy {
    client: ClientConnection,
    pool: Arc<Pool>,
    requests: Requests,
    interim: Interim,
    count: AtomicU64,
    upgrade: Mutex<Option<Upgrade>>,
    /// The client of the last request, if a proxy has sent it.
    behind_proxy: Mutex<Option<IpAddr>>,
    /// The hash of the token of the last request that was let in, where that takes a login.
    visit: Mutex<Option<String>>,
    /// The number of requests whose responses are not out.
    busy: watch::Sender<usize>,
    /// The trailers of the response that is written to a client of HTTP/1.
    trailers: Trailers,
}

/// A request whose response is not out; counted out by drop.
#[derive(Debug)]
pub(crate) struct Busy(watch::Sender<usize>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.send_modify(|busy| *busy -= 1);
    }
}

impl Proxy {
    /// A proxy without requests; its connections to the job end when `stop` is cancelled.
    pub(crate) fn new(client: ClientConnection, stop: CancellationToken) -> Arc<Self> {
        let pool = Pool::new(client.upstream.clone(), client.shared.tasks.clone(), stop);
        Arc::new(Self {
            client,
            pool,
            requests: Requests::default(),
            interim: Interim::default(),
            count: AtomicU64::new(0),
            upgrade: Mutex::default(),
            behind_proxy: Mutex::default(),
            visit: Mutex::default(),
            busy: watch::Sender::new(0),
            trailers: Trailers::default(),
        })
    }

    /// Sends the first request over a connection that was made already.
    ///
    /// # Errors
    /// The connection is broken.
    pub(crate) async fn use_first(&self, connected: Connected) -> io::Result<()> {
        self.pool.give_back(self.pool.begin(connected, JobHttp::Http1).await?);
        Ok(())
    }

    /// The client.
    pub(crate) fn client(&self) -> &ClientConnection {
        &self.client
    }

    /// The framing of the client's requests.
    pub(crate) fn requests(&self) -> &Requests {
        &self.requests
    }

    /// The job's interim responses.
    pub(crate) fn interim(&self) -> &Interim {
        &self.interim
    }

    /// The trailers of the response that is written to a client of HTTP/1.
    pub(crate) fn trailers(&self) -> &Trailers {
        &self.trailers
    }

    /// The number of requests whose answers are not out.
    pub(crate) fn busy(&self) -> watch::Receiver<usize> {
        self.busy.subscribe()
    }

    /// Waits until there has been no request for a time.
    pub(crate) async fn idle_for(&self, time: Duration) {
        let mut busy = self.busy.subscribe();
        loop {
            // The sender is this value's own.
            let _ = busy.wait_for(|busy| *busy == 0).await;
            if timeout(time, busy.wait_for(|busy| *busy > 0)).await.is_err() {
                return;
            }
        }
    }

    /// The upgrade of the last request, if it has one.
    pub(crate) fn take_upgrade(&self) -> Option<Upgrade> {
        self.upgrade.lock().take()
    }

    /// The response to a request. The request is logged once the response is out.
    ///
    /// # Errors
    /// No response can be given, or the client has left.
    pub(crate) async fn respond(
        &self,
        mut request: Request<Incoming>,
    ) -> Result<Response<Logged<AnswerBody>>, Aborted> {
        self.busy.send_modify(|busy| *busy += 1);
        let origin = Origin::of(request.headers(), self.client.peer(), self.client.upstream.routes.now().front());
        let counts = self.counts_by_request(&origin);
        let share = if counts { self.share(&origin) } else { None };
        let is_over_budget = counts && share.is_none();
        let mut guard = Guard::of(&self.client.upstream.routes, &origin).filter(|_| self.admits(&origin));
        *self.behind_proxy.lock() = origin.is_behind_proxy.then_some(origin.client);
        let base = origin.base(self.client.upstream.routes.now().external.as_ref());
        remove_base(request.uri_mut(), &base);
        let mut entry = Entry::new(&self.client, &request, &origin, Busy(self.busy.clone()), share);
        let is_one_of_many = request.version() == Version::HTTP_2;
        let may_be_chunked = request.version() == Version::HTTP_11 && *request.method() != Method::HEAD;
        let expectation = Expectation::of(&request);
        let mut answer = tokio::select! {
            answer = self.find_answer(request, &origin, is_over_budget, expectation.as_ref()) => answer?,
            () = Guard::refused(guard.as_mut()) => return Err(Aborted::Refused),
        };
        entry.answered(answer.status().as_u16());
        // The client's next request belongs to the process that serves, or is the body that nobody
        // asked for.
        let is_last = self.client.shared.role.is_retired() || expectation.is_some_and(|expected| expected.is_unasked());
        if is_last && !is_one_of_many && answer.status() != StatusCode::SWITCHING_PROTOCOLS {
            answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        // HTTP/1.0 has none, and HTTP/2 takes them with the body.
        let is_chunked = may_be_chunked && !answer.headers().contains_key(header::CONTENT_LENGTH);
        let trailers = is_chunked.then(|| self.trailers.clone());
        Ok(answer.map(|body| Logged::new(body, entry, guard, trailers)))
    }

    async fn find_answer(
        &self,
        request: Request<Incoming>,
        origin: &Origin,
        is_over_budget: bool,
        expectation: Option<&Expectation>,
    ) -> Result<Answer, Aborted> {
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        let unanswered = (request.version() == Version::HTTP_11).then(|| self.interim.begin(number));
        let prepared = match self.requests.conflict(number) {
            true => Err(Refusal::ConflictingLengths),
            false if let Some(limit) = TooLarge::of(request.headers()) => Err(Refusal::TooLarge(limit)),
            false if !self.is_for_this_host(&request, origin) => Err(Refusal::Misdirected),
            false if !self.admits(origin) => Err(Refusal::Client),
            false if is_over_budget => Err(Refusal::OverBudget),
            false if !self.is_let_in(&request) => return Ok(self.ask_for_login(request, origin).await),
            false if widget::concerns(&self.client.upstream.routes.now(), request.uri().path()) => {
                return Ok(self.serve_widget(request, origin).await);
            }
            false => self.prepare(request, origin),
        };
        let answer = match prepared {
            Ok(mut prepared) => {
                prepared.target = self.requests.target(number);
                self.listen(&mut prepared.head, number, expectation);
                self.forward(prepared, expectation).await?
            }
            Err(refusal) => {
                let status = match refusal {
                    Refusal::TransferCoding | Refusal::Method => StatusCode::NOT_IMPLEMENTED,
                    Refusal::ConflictingLengths | Refusal::Host => StatusCode::BAD_REQUEST,
                    Refusal::Misdirected => StatusCode::MISDIRECTED_REQUEST,
                    Refusal::Client => StatusCode::FORBIDDEN,
                    Refusal::OverBudget => StatusCode::SERVICE_UNAVAILABLE,
                    Refusal::TooLarge(limit) => limit.status(),
                };
                response::refused(status, &refusal.to_string()).map(Either::Left)
            }
        };
        if let Some(unanswered) = unanswered {
            unanswered.end().await;
        }
        self.client.shared.metrics.request_answered(&self.client.job, answer.status().as_u16());
        Ok(answer)
    }

    /// Returns whether the connection lets the sender of a request in. What is open to everybody
    /// tells nothing of the job.
    fn is_let_in(&self, request: &Request<Incoming>) -> bool {
        let route = self.client.upstream.routes.now();
        let path = request.uri().path();
        if !route.access.is_guarded() || path != entry::PATH && widget::is_public(&route, path) {
            return true;
        }
        // The job gets neither codes nor links.
        if path == entry::PATH {
            return false;
        }
        let visit = entry::visit(&route, request.headers()).filter(|visit| route.lets_in(visit));
        let is_let_in = visit.is_some();
        if is_let_in {
            *self.visit.lock() = visit;
        }
        is_let_in
    }

    async fn ask_for_login(&self, request: Request<Incoming>, origin: &Origin) -> Answer {
        let named = request.uri().authority().map(|authority| authority.as_str().to_owned());
        let in_header = || request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).map(str::to_owned);
        let host = origin.authority(&named.or_else(in_header).unwrap_or_default());
        let route = self.client.upstream.routes.now();
        let asking = Asking {
            method: request.method(),
            uri: request.uri(),
            headers: request.headers(),
            host: &host,
            is_tls: origin.is_tls,
            base: origin.base(route.external.as_ref()),
        };
        entry::answer(&asking, &self.client.upstream.routes, &self.client.shared.opcenter).await.map(Either::Left)
    }

    /// Waits until the visit of the last request that was let in has ended.
    pub(crate) async fn expelled(&self) {
        let mut routes = self.client.upstream.routes.clone();
        loop {
            let visit = self.visit.lock().clone();
            if visit.is_some_and(|visit| !routes.now().lets_in(&visit)) {
                return;
            }
            routes.changed().await;
        }
    }

    async fn serve_widget(&self, request: Request<Incoming>, origin: &Origin) -> Answer {
        let route = self.client.upstream.routes.now();
        let named = request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        let (asked, opcenter) = (origin.authority(named), &self.client.shared.opcenter);
        let (answer, watcher) =
            widget::answer(opcenter, &route, &self.client.job, origin.client, request, &asked).await;
        if let Some(watcher) = watcher {
            self.goes_over(Upgrade::Watcher(watcher));
        }
        answer.map(Either::Left)
    }

    fn goes_over(&self, upgrade: Upgrade) {
        *self.upgrade.lock() = Some(upgrade);
    }

    /// Returns whether the rules admit the client of a request. The connection was admitted when it
    /// began; it may be of a proxy, for another client.
    fn admits(&self, origin: &Origin) -> bool {
        let route = self.client.upstream.routes.now();
        route.gateway.trusted_proxies.is_empty() && !origin.is_behind_proxy || route.allows(origin.client)
    }

    /// Returns whether a client counts in the budgets by this request. Others count by their
    /// connection.
    fn counts_by_request(&self, origin: &Origin) -> bool {
        origin.is_behind_proxy && origin.client != self.client.address.ip().to_canonical()
    }

    /// Takes the place of a client behind a proxy within the budget of its address.
    fn share(&self, origin: &Origin) -> Option<AddressShare> {
        let share = self.client.shared.budgets.address(origin.client);
        if share.is_none() {
            self.client.shared.metrics.over_budget(&self.client.job, Budget::Connections);
        }
        share
    }

    /// Waits until no rule admits the client of the last request, if a proxy has sent it.
    pub(crate) async fn shut_out(&self) {
        let client = *self.behind_proxy.lock();
        match client {
            Some(client) => self.client.upstream.routes.refuses(client).await,
            None => std::future::pending().await,
        }
    }

    /// The request as the job gets it.
    fn prepare(&self, mut request: Request<Incoming>, origin: &Origin) -> Result<Prepared, Refusal> {
        if *request.method() == Method::CONNECT {
            return Err(Refusal::Method);
        }
        let route = self.client.upstream.routes.now();
        let host = self.named_host(&request);
        let (caller, noted) = self.caller(&route, &request, origin.client);
        let mut headers = headers::forward_headers(request.headers(), host.as_ref(), origin, route.own_names())?;
        let request_version = request.version();
        if request_version == Version::HTTP_2 {
            join_cookies(&mut headers);
        }
        if request.version() < Version::HTTP_11 && expect::is_expected(&headers) {
            headers.remove(header::EXPECT);
        }
        let is_page_load = response::is_page_load(request.method(), request.headers());
        let base = origin.base(route.external.as_ref());
        let gets = OwnPart::of(&route, request.method(), request.headers(), &base);
        page::leave_out_changed(&mut headers);
        match &gets {
            OwnPart::Page { additions, .. } if !additions.is_empty() => page::ask_for_page(&mut headers),
            OwnPart::Worker => worker::ask_for_script(&mut headers),
            _ => {}
        }
        let upgrade = headers.contains_key(header::UPGRADE).then(|| hyper::upgrade::on(&mut request));
        let (parts, body) = request.into_parts();
        let path = parts.uri.path_and_query().map_or_else(|| Uri::from_static("/"), |path| Uri::from(path.clone()));
        let mut head = Request::new(());
        (*head.method_mut(), *head.uri_mut(), *head.headers_mut()) = (parts.method, path, headers);
        let is_of_http2 = request_version == Version::HTTP_2;
        Ok(Prepared { head, target: None, body, upgrade, is_page_load, caller, noted, is_of_http2, gets, base })
    }

    /// Returns the caller that a request is of, if it wakes the job, and takes note of the request.
    fn caller(
        &self,
        route: &Route,
        request: &Request<Incoming>,
        address: IpAddr,
    ) -> (Option<CallerObservation>, Option<Noted>) {
        let (method, headers) = (request.method(), request.headers());
        let kind = wake::kind(method, headers, &route.gateway.checkers);
        if !wake::request_wakes(route.wake_on, route.protocol, kind) {
            return (None, None);
        }
        let noted = self.client.upstream.note((address, method, request.uri().path(), headers.get(header::USER_AGENT)));
        (Some(CallerObservation { address, call: wake::call(method, request.uri()) }), noted)
    }

    /// Handles the job's interim responses to a request.
    fn listen(&self, head: &mut Request<()>, number: u64, expectation: Option<&Expectation>) {
        let (interim, expectation) = (self.interim.clone(), expectation.cloned());
        let routes = self.client.upstream.routes.clone();
        hyper::ext::on_informational(head, move |response| match (response.status(), &expectation) {
            (StatusCode::CONTINUE, Some(expectation)) => expectation.want(),
            // The client did not ask for it.
            (StatusCode::CONTINUE, None) => {}
            (status, _) => interim.send(number, status, response.headers(), routes.now().own_names()),
        });
    }

    /// The host that a request names outside of its headers. A request of HTTP/1.0 need not name
    /// any.
    fn named_host(&self, request: &Request<Incoming>) -> Option<HeaderValue> {
        let named = request.uri().authority().map(|authority| {
            let authority = authority.as_str();
            authority.rsplit_once('@').map_or(authority, |(_, host)| host).to_owned()
        });
        let is_old = request.version() < Version::HTTP_11 && !request.headers().contains_key(header::HOST);
        let named = named.or_else(|| {
            let address = is_old.then(|| self.client.socket.local_addr().ok()).flatten();
            address.map(|address| address.to_string())
        });
        named.and_then(|host| HeaderValue::try_from(host).ok())
    }

    /// Returns whether all hosts that a request names are this one.
    fn is_for_this_host(&self, request: &Request<Incoming>, origin: &Origin) -> bool {
        let route = self.client.upstream.routes.now();
        let in_target = request.uri().authority().map(|authority| authority.as_str());
        let in_headers = request.headers().get_all(header::HOST).into_iter().map(|host| host.to_str().unwrap_or("."));
        let told = origin.host.as_ref().map(|host| host.to_str().unwrap_or("."));
        let named =
            in_headers.chain(in_target).chain(told).map(|host| host.rsplit_once('@').map_or(host, |(_, host)| host));
        named.into_iter().all(|host| host_name::may_name(host, &route.gateway.host_names))
    }

    async fn forward(&self, prepared: Prepared, expectation: Option<&Expectation>) -> Result<Answer, Aborted> {
        let Prepared { head, target, body, mut upgrade, is_page_load, caller, noted, is_of_http2, gets, base } =
            prepared;
        let waiting = is_page_load.then_some(base.as_str());
        let bodiless = body.is_end_stream();
        let repeatable = bodiless && upgrade.is_none() && head.method().is_safe();
        let asks = is_of_http2.then(|| Asks { of_grpc: speech::is_of_grpc(head.headers()), repeatable });
        let may_only_leave = !is_of_http2 && response::is_of_browser(head.headers());
        let wait = Wait { is_page_load, caller, noted, asks, may_only_leave };
        let speech = &self.client.upstream.speech;
        let cut_off = CutOff::default();
        let body = match bodiless {
            true => Either::Right(Empty::new()),
            false => Either::Left(ClientBody::new(body, expectation, &self.client.upstream.gate, cut_off.clone())),
        };
        let mut request = head.clone().map(|()| body);
        let mut why = Unavailable::Broken;
        if self.client.upstream.routes.now().ending.is_some() {
            return Ok(self.unavailable(why, waiting));
        }
        let budgets = &self.client.shared.budgets;
        for _ in 0..ATTEMPTS_MAX {
            let pooled = tokio::select! {
                biased;
                pooled = self.pooled(&wait) => pooled,
                () = self.client.upstream.routes.job_ended() => break,
                () = self.leaves_while_held(&wait) => return Err(Aborted::ClientLeft),
            };
            let mut pooled = match pooled {
                Ok(pooled) => pooled,
                Err(unavailable) => {
                    why = unavailable;
                    break;
                }
            };
            let trailers = Trailers::default();
            pooled.head.expect(budgets.heads_of_job(&self.client.job), &trailers, target.as_ref());
            if let Either::Left(body) = request.body_mut() {
                body.give_trailers((pooled.sender.version() == JobHttp::Http1).then_some(trailers));
            }
            let sent = tokio::select! {
                biased;
                end = self.client.upstream.end(pooled.epoch) => Err(end),
                sent = pooled.sender.send(request) => Ok(sent),
            };
            pooled.head.end();
            match sent {
                Err(ConnectionEnd::JobEnded) => break,
                // No response has begun, and the method is safe: the new job is asked.
                Err(ConnectionEnd::JobReplaced) if repeatable => {
                    request = head.clone().map(|()| Either::Right(Empty::new()))
                }
                Err(ConnectionEnd::JobReplaced) => return Err(Aborted::JobReplaced),
                Ok(Ok(response)) => {
                    if pooled.sender.version() == JobHttp::Http1 {
                        speech.answers_http1(pooled.epoch);
                    }
                    pooled.unasked = expectation.and_then(Expectation::refuse);
                    let answer = self.pass_on(response, pooled, upgrade.take());
                    return Ok(gets.add_to(answer, &self.client.upstream.routes.now()).await);
                }
                Ok(Err(mut failed)) => match failed.take_message() {
                    Some(unsent) => request = head.clone().map(|()| unsent.into_body()),
                    None => {
                        tracing::debug!(error = %failed.error(), "a job did not answer a request");
                        if cut_off.is_cut_off() {
                            return Err(Aborted::ClientLeft);
                        }
                        if failed.error().is_parse_too_large() || pooled.head.is_over_budget() {
                            why = Unavailable::HeadTooLarge;
                            break;
                        }
                        let job_replaced = self.client.upstream.job_replaced(pooled.epoch).await;
                        if job_replaced && !repeatable {
                            return Err(Aborted::JobReplaced);
                        }
                        let is_new = !pooled.used && !job_replaced;
                        if is_new && pooled.sender.version() == JobHttp::Http2 {
                            speech.forget(pooled.epoch);
                        } else if is_new && speech.is_http2_alone(&self.client.upstream).await {
                            if !is_of_http2 {
                                why = Unavailable::Http2Alone;
                                break;
                            }
                        } else if is_new {
                            break;
                        }
                        if !repeatable {
                            break;
                        }
                        request = head.clone().map(|()| Either::Right(Empty::new()));
                    }
                },
            }
        }
        Ok(self.unavailable(why, waiting))
    }

    /// The answer in place of the job's; for a page load with the base of the gateway's own paths.
    fn unavailable(&self, why: Unavailable, page_load: Option<&str>) -> Answer {
        let route = self.client.upstream.routes.now();
        if let Some(ending) = &route.ending {
            return farewell::respond(&route, ending, page_load.is_some()).map(Either::Left);
        }
        self.client.shared.metrics.request_refused(&self.client.job, why);
        // Another attempt of a browser ends like this one.
        let is_lasting = matches!(why, Unavailable::HeadTooLarge | Unavailable::Http2Alone);
        let answer = match page_load.filter(|_| !is_lasting) {
            Some(base) => response::waiting_page(&route, base),
            None => response::unavailable(&route, why),
        };
        answer.map(Either::Left)
    }

    fn pass_on(&self, mut response: Response<Incoming>, pooled: PooledConnection, asked: Option<OnUpgrade>) -> Answer {
        let route = self.client.upstream.routes.now();
        let mut headers = headers::response_headers(response.headers(), route.own_names());
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            let (Some(client), Some(protocol)) = (asked, headers::upgrade(response.headers())) else {
                return self.unavailable(Unavailable::Broken, None);
            };
            let is_websocket = protocol.as_bytes().eq_ignore_ascii_case(b"websocket");
            let content = if is_websocket { Content::WebSocket } else { Content::Bytes };
            headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
            headers.insert(header::UPGRADE, protocol);
            let job = hyper::upgrade::on(&mut response);
            self.goes_over(Upgrade::Job(JobUpgrade { client, job, epoch: pooled.epoch, content }));
            let mut answer = Response::new(Either::Left(Full::default()));
            (*answer.status_mut(), *answer.headers_mut()) = (StatusCode::SWITCHING_PROTOCOLS, headers);
            return answer;
        }
        let (parts, body) = response.into_parts();
        let pooled = PooledConnection { used: true, ..pooled };
        let body = JobBody::new(body, &self.client.upstream, pooled, &self.pool);
        let mut answer = Response::new(Either::Right(Either::Left(Either::Left(body))));
        (*answer.status_mut(), *answer.headers_mut()) = (parts.status, headers);
        // The words beside the status, where they are the job's own.
        if let Some(words) = parts.extensions.get::<ReasonPhrase>() {
            answer.extensions_mut().insert(words.clone());
        }
        answer
    }

    /// Returns a connection for a request as soon as there is one, within the hold limits.
    async fn pooled(&self, wait: &Wait) -> Result<PooledConnection, Unavailable> {
        let upstream = &self.client.upstream;
        if upstream.gate.is_open() {
            if let Some(pooled) = self.idle(wait.asks).await {
                return Ok(pooled);
            }
            if let Ok(connected) = upstream.connect_once().await {
                return self.begin(connected, wait.asks).await;
            }
        }
        let hold_limits = upstream.routes.now().hold_limits;
        let _place = upstream.gate.hold(hold_limits.held_max).ok_or(Unavailable::TooManyHeld)?;
        let _waiting = upstream.record.wait();
        let _counted = self.client.shared.metrics.request_held(&self.client.job);
        let seconds = if wait.is_page_load {
            hold_limits.page_seconds.min(hold_limits.hold_seconds)
        } else {
            hold_limits.hold_seconds
        };
        let ready = async {
            upstream.gate.opened().await;
            if let Some(pooled) = self.idle(wait.asks).await {
                return Ok(pooled);
            }
            let connected = tokio::select! {
                biased;
                connected = upstream.connect() => connected.map_err(|_| Unavailable::Unreachable)?,
                () = upstream.unserved() => return Err(Unavailable::Unreachable),
            };
            self.begin(connected, wait.asks).await
        };
        tokio::select! {
            biased;
            ready = timeout(Duration::from_secs(seconds.into()), ready) => ready.unwrap_or(Err(Unavailable::HeldTooLong)),
            () = caller::until_refused(&self.client.socket, upstream, wait.caller.clone(), wait.noted.as_ref()) => {
                Err(Unavailable::Asleep)
            }
        }
    }

    /// Waits until a browser has left whose request is held: an open page polls, gives up and polls
    /// again.
    async fn leaves_while_held(&self, wait: &Wait) {
        if !wait.may_only_leave {
            return std::future::pending().await;
        }
        self.client.upstream.gate.closed().await;
        self.client.socket.until_end_of_input().await;
    }

    /// Takes a connection that can carry a request now, if there is one.
    async fn idle(&self, asks: Option<Asks>) -> Option<PooledConnection> {
        let upstream = &self.client.upstream;
        let version = match asks {
            None => JobHttp::Http1,
            Some(asks) => upstream.speech.version(upstream.routes.now().epoch, asks)?,
        };
        self.pool.take(version).await
    }

    /// Prepares a connection for a request.
    async fn begin(&self, connected: Connected, asks: Option<Asks>) -> Result<PooledConnection, Unavailable> {
        let version = match asks {
            None => JobHttp::Http1,
            Some(asks) => self.client.upstream.speech.choose(&self.client.upstream, asks).await,
        };
        self.pool.begin(connected, version).await.map_err(|_| Unavailable::Broken)
    }
}

/// A request for the job.
struct Prepared {
    head: Request<()>,
    /// The target as the client has sent it, if the head has another.
    target: Option<Bytes>,
    body: Incoming,
    /// The client's side of the upgrade that the request asks for.
    upgrade: Option<OnUpgrade>,
    is_page_load: bool,
    caller: Option<CallerObservation>,
    noted: Option<Noted>,
    is_of_http2: bool,
    gets: OwnPart,
    /// The path below which a browser finds the gateway's own paths.
    base: String,
}

/// The limits and effects of holding a request.
#[derive(Debug)]
struct Wait {
    /// A page load is held briefly, since it can get the waiting page.
    is_page_load: bool,
    /// The sender, if the request wakes the suspended job.
    caller: Option<CallerObservation>,
    /// The request, as it may be repeated.
    noted: Option<Noted>,
    /// For a request of an HTTP/2 client.
    asks: Option<Asks>,
    /// The client ends its direction by leaving alone, as browsers do.
    may_only_leave: bool,
}

/// Removes the base of the gateway's own paths. A proxy may pass it on, for a job that knows it.
fn remove_base(uri: &mut Uri, base: &str) {
    let own = uri.path_and_query().and_then(|path| path.as_str().strip_prefix(base));
    let own = own.filter(|path| !base.is_empty() && path.starts_with(widget::PREFIX));
    if let Some(Ok(path)) = own.map(str::parse::<Uri>) {
        *uri = path;
    }
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
