//! A gateway with hand-made slices, and a job that speaks HTTP, for tests of the data plane.

#![expect(dead_code, reason = "each test file uses a part of it")]

use std::convert::Infallible;
use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use mooring_api::Client;
use mooring_api::watch::{ConnectionDirective, FarewellDirective, Flow, GatewaySlice, Target};
use mooring_gateway::budget::Budgets;
use mooring_gateway::shared::Shared;
use mooring_gateway::state::Gateway;
use mooring_gateway::widget::OpCenterLink;
use mooring_ops::Lifecycle;
use mooring_types::external::EndpointRules;
use mooring_types::gateway::{Access, Cookies, HoldLimits, Protocol, WakeOn, Widget, usual_checkers};
use mooring_types::job::JobStatus;
use mooring_types::{ConnectionId, GatewayId, JobId, Port, PortRange};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

/// A time limit that only a failure reaches.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// The time for which nothing may happen.
pub(crate) const QUIET: Duration = Duration::from_millis(300);

pub(crate) type Body = BoxBody<Bytes, hyper::Error>;
type Answered = Pin<Box<dyn Future<Output = Response<Body>> + Send>>;

pub(crate) struct World {
    pub(crate) lifecycle: Lifecycle,
    pub(crate) gateway: Gateway,
    pub(crate) slice: GatewaySlice,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with_budgets(Budgets::default())
    }

    pub(crate) fn with_budgets(budgets: Budgets) -> Self {
        let lifecycle = Lifecycle::new();
        let shared = Shared { budgets, ..Shared::new(lifecycle.tasks().clone()) };
        Self::of(lifecycle, shared)
    }

    /// A gateway with a link to an OpCenter, which need not answer.
    pub(crate) fn with_opcenter(url: &str) -> Self {
        let lifecycle = Lifecycle::new();
        let gateway = GatewayId::random(&mut rand::rng());
        let opcenter = OpCenterLink::new(Client::new(url).expect("an address"), gateway);
        let shared = Shared { opcenter, ..Shared::new(lifecycle.tasks().clone()) };
        Self::of(lifecycle, shared)
    }

    fn of(lifecycle: Lifecycle, shared: Shared) -> Self {
        let gateway = Gateway::new(shared, lifecycle.soft());
        let slice = GatewaySlice {
            sequence: 1,
            gateway: GatewayId::random(&mut rand::rng()),
            name: "test".parse().expect("a name"),
            bind: Ipv4Addr::LOCALHOST.into(),
            port_range: PortRange::DEFAULT,
            rules: vec!["tcp:*:127.0.0.0/8".parse().expect("a rule")],
            endpoints: EndpointRules::default(),
            host_names: vec!["*".parse().expect("any name")],
            trusted_proxies: Vec::new(),
            checkers: usual_checkers(),
            tls: None,
            opcenter: String::new(),
            connections: Vec::new(),
            farewells: Vec::new(),
        };
        Self { lifecycle, gateway, slice }
    }

    /// Connects a job that listens on `target`; returns the gateway's address for it.
    pub(crate) async fn connect(&mut self, target: SocketAddr, protocol: Protocol, flow: Flow) -> SocketAddr {
        let free = TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("an address");
        self.slice.connections.push(ConnectionDirective {
            connection: ConnectionId::random(&mut rand::rng()),
            job: JobId::random(&mut rand::rng()),
            job_name: "job".parse().expect("a name"),
            job_status: JobStatus::Executing,
            gateway_port: Port::new(free.port()).expect("a port"),
            target: Target::Overlay(target),
            epoch: 0,
            protocol,
            hold_limits: HoldLimits::default(),
            wake_on: WakeOn::Request,
            resumes: true,
            idle_seconds: None,
            is_idle: false,
            widget: Widget::Hidden,
            cookies: Cookies::Shared,
            access: Access::Open,
            visits: Vec::new(),
            unserved: String::new(),
            external_url: None,
            flow,
            unaccepted: None,
        });
        self.apply();
        free
    }

    /// Changes the first connection.
    pub(crate) fn change(&mut self, change: impl FnOnce(&mut ConnectionDirective)) {
        change(&mut self.slice.connections[0]);
        self.apply();
    }

    pub(crate) fn hold(&mut self) {
        self.change(|connection| {
            (connection.flow, connection.job_status) = (held(), JobStatus::Floating);
        });
    }

    pub(crate) fn open(&mut self) {
        self.change(|connection| {
            (connection.flow, connection.job_status) = (Flow::Open, JobStatus::Executing);
        });
    }

    /// Suspends the job of the first connection.
    pub(crate) fn suspend(&mut self) {
        self.change(|connection| {
            (connection.flow, connection.job_status) = (held(), JobStatus::Suspended);
        });
    }

    /// The callers of the first connection's job.
    pub(crate) fn caller(&self) -> Option<String> {
        let connection = self.gateway.observe().connections.remove(0);
        assert_eq!(connection.calling > 0, connection.caller.is_some());
        connection.caller.map(|caller| caller.to_string())
    }

    /// Ends the job of the first connection and leaves a farewell.
    pub(crate) fn end(&mut self, job_status: JobStatus, status_reason: &str, exit_code: Option<i32>) {
        let connection = self.slice.connections.remove(0);
        self.slice.farewells.push(FarewellDirective {
            connection: connection.connection,
            job: connection.job,
            job_name: connection.job_name,
            job_status,
            status_reason: status_reason.to_owned(),
            exit_code,
            end_time: "2026-01-02T03:04:05Z".parse().expect("a time"),
            gateway_port: connection.gateway_port,
            protocol: connection.protocol,
            widget: connection.widget,
        });
        self.apply();
    }

    /// Sets the flow of a connection.
    pub(crate) fn flow(&mut self, index: usize, flow: Flow) {
        self.slice.connections[index].flow = flow;
        self.apply();
    }

    pub(crate) fn apply(&mut self) {
        self.slice.sequence += 1;
        self.gateway.apply(self.slice.clone());
    }

    /// The number of clients of the first connection.
    pub(crate) fn clients(&self) -> usize {
        self.gateway.observe().connections[0].clients.len()
    }

    /// Waits until a condition holds for the observed state.
    pub(crate) async fn until(&self, is_so: impl Fn(&Self) -> bool) {
        let wait = async {
            while !is_so(self) {
                // Some conditions change without an event.
                let _ = timeout(Duration::from_millis(5), self.gateway.observed()).await;
            }
        };
        timeout(PATIENCE, wait).await.expect("it becomes so");
    }

    pub(crate) async fn stop(self) {
        self.lifecycle.stop();
        self.gateway.close();
        timeout(PATIENCE, self.lifecycle.tasks().ended()).await.expect("all tasks end");
        assert!(!self.lifecycle.tasks().panicked());
    }

    /// A job that answers requests.
    pub(crate) async fn job<F, A>(&self, answer: F) -> Job
    where
        F: Fn(Request<Incoming>) -> A + Send + Sync + 'static,
        A: Future<Output = Response<Body>> + Send + 'static,
    {
        let (listener, address) = server().await;
        let answer: Arc<dyn Fn(Request<Incoming>) -> Answered + Send + Sync> =
            Arc::new(move |request| Box::pin(answer(request)));
        let (accepted, requests) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let job = Job { address, accepted: accepted.clone(), requests: requests.clone() };
        let (tasks, stop) = (self.lifecycle.tasks().clone(), self.lifecycle.soft().clone());
        self.lifecycle.tasks().spawn("job", async move {
            loop {
                let stream = tokio::select! {
                    () = stop.cancelled() => return,
                    accepted = listener.accept() => accepted.expect("a connection").0,
                };
                accepted.fetch_add(1, Ordering::Relaxed);
                let (answer, requests, stop) = (answer.clone(), requests.clone(), stop.clone());
                tasks.spawn("job connection", async move {
                    let service = service_fn(move |request| {
                        requests.fetch_add(1, Ordering::Relaxed);
                        let answered = answer(request);
                        async move { Ok::<_, Infallible>(answered.await) }
                    });
                    let serving = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .with_upgrades();
                    tokio::select! {
                        () = stop.cancelled() => {}
                        _ = serving => {}
                    }
                });
            }
        });
        job
    }
}

/// A job that speaks HTTP.
pub(crate) struct Job {
    pub(crate) address: SocketAddr,
    accepted: Arc<AtomicUsize>,
    requests: Arc<AtomicUsize>,
}

impl Job {
    /// The number of connections that the job has accepted.
    pub(crate) fn accepted(&self) -> usize {
        self.accepted.load(Ordering::Relaxed)
    }

    /// The number of requests that the job has received.
    pub(crate) fn requests(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }
}

/// A client of HTTP/1.1 that shows the bytes of its connection.
pub(crate) struct Wire(pub(crate) BufReader<TcpStream>);

/// A response.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Received {
    pub(crate) fn status(&self) -> u16 {
        self.head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status")
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(':'));
        lines.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).next()
    }
}

impl Wire {
    pub(crate) async fn connect(port: SocketAddr) -> Self {
        Self(BufReader::new(timeout(PATIENCE, TcpStream::connect(port)).await.expect("in time").expect("a connection")))
    }

    /// Leaves for good. The end alone may be that of one direction.
    pub(crate) fn reset(self) {
        socket2::SockRef::from(self.0.get_ref()).set_linger(Some(Duration::ZERO)).expect("a connection");
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.write_all(bytes.as_ref()).await.expect("the client is connected");
    }

    /// The head of the next response, with its last empty line.
    pub(crate) async fn head(&mut self) -> String {
        let mut head = String::new();
        loop {
            let before = head.len();
            let read =
                timeout(PATIENCE, self.0.read_line(&mut head)).await.expect("an answer in time").expect("an answer");
            assert!(read > 0, "the connection ended after {head:?}");
            if head[before..].trim().is_empty() {
                return head;
            }
        }
    }

    /// The next response, with a `Content-Length`.
    pub(crate) async fn receive(&mut self) -> Received {
        let mut received = Received { head: self.head().await, body: String::new() };
        let length = received.header("content-length").map_or(0, |length| length.parse().expect("a length"));
        let mut body = vec![0; length];
        timeout(PATIENCE, self.0.read_exact(&mut body)).await.expect("a body in time").expect("a body");
        received.body = String::from_utf8(body).expect("text");
        received
    }

    /// The next response, with chunked coding.
    pub(crate) async fn receive_chunks(&mut self) -> Received {
        let mut received = Received { head: self.head().await, body: String::new() };
        loop {
            let mut line = String::new();
            timeout(PATIENCE, self.0.read_line(&mut line)).await.expect("a chunk in time").expect("a chunk");
            let length = usize::from_str_radix(line.trim(), 16).expect("a length");
            let mut chunk = vec![0; length + 2];
            timeout(PATIENCE, self.0.read_exact(&mut chunk)).await.expect("a chunk in time").expect("a chunk");
            if length == 0 {
                return received;
            }
            received.body.push_str(std::str::from_utf8(&chunk[..length]).expect("text"));
        }
    }

    pub(crate) async fn ask(&mut self, request: impl AsRef<[u8]>) -> Received {
        self.send(request).await;
        self.receive().await
    }

    /// Returns whether nothing arrives for a while, not even the end.
    pub(crate) async fn is_quiet(&mut self) -> bool {
        timeout(QUIET, self.0.read_u8()).await.is_err()
    }

    /// Returns the bytes until the connection ends or is reset.
    pub(crate) async fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        let _ = timeout(PATIENCE, self.0.read_to_end(&mut rest)).await.expect("an end in time");
        rest
    }
}

pub(crate) fn held() -> Flow {
    Flow::Held { quiesce: None }
}

pub(crate) fn text(text: impl Into<Bytes>) -> Response<Body> {
    Response::new(Full::new(text.into()).map_err(|never| match never {}).boxed())
}

pub(crate) async fn server() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    (listener, address)
}

pub(crate) const GET: &str = "GET / HTTP/1.1\r\nHost: example\r\n\r\n";
