//! The state of the gateway, made to match each slice.
//!
//! A listener is identified by connection, address and port. A directive that changes none of these
//! keeps its listener and all of its clients; the rest of the directive is in the listener's route.
//! A job has one gate, which its connections share.
//!
//! A slice is applied in this order: close gates, set routes, open gates. So the route tells a
//! client that finds a gate open if the job has been replaced. Connections that a restored job
//! lacks are given up just before its gate opens, and made again afterwards.
//!
//! A port whose job has ended keeps its listener for as long as slices contain the farewell. Its
//! route decides which clients are told of the end, and which are closed. A port that another
//! connection gets passes its socket on, so it is listened on at every moment.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use mooring_api::watch::{ConnectionDirective, ConnectionObservation, Flow, GatewayReport, GatewaySlice, Quiesced};
use mooring_ops::failpoint;
use mooring_types::migration::Phase;
use mooring_types::{ConnectionId, JobId, MigrationId};
use parking_lot::{Mutex, MutexGuard};
use tokio::net::TcpListener;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::clients::Clients;
use crate::gate::Gate;
use crate::handover::message::{HandedOver, ListeningSocket};
use crate::listener::{Key, Listener, PortServer, bind};
use crate::metrics::Metrics;
use crate::process_role::ProcessRole;
use crate::route::{GatewayRules, Route, RouteCell};
use crate::shared::Shared;
use crate::tls::PortTls;

/// The time between two attempts to listen on a port that is in use.
const LISTEN_RETRY_DELAY: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct JobFlow {
    gate: Arc<Gate>,
    /// The time at which the open gate was closed.
    paused: Option<Instant>,
    /// The migration for which the gate was last asked to quiesce.
    quiesce: Option<MigrationId>,
    quiesced: Option<Quiesced>,
    /// The checkpoint without connections for which they were last made again.
    made_again: Option<u64>,
}

#[derive(Debug, Default)]
struct State {
    slice: Option<GatewaySlice>,
    listeners: BTreeMap<Key, Listener>,
    jobs: HashMap<JobId, JobFlow>,
}

/// A gateway that serves.
#[derive(Debug, Clone)]
pub struct Gateway {
    state: Arc<Mutex<State>>,
    stop: CancellationToken,
    shared: Arc<Shared>,
}

impl Gateway {
    /// Creates a gateway without listeners; its tasks end when `stop` is cancelled.
    #[must_use]
    pub fn new(shared: Shared, stop: &CancellationToken) -> Self {
        Self { state: Arc::default(), stop: stop.child_token(), shared: Arc::new(shared) }
    }

    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.shared.metrics
    }

    #[must_use]
    pub fn role(&self) -> &ProcessRole {
        &self.shared.role
    }

    #[must_use]
    pub fn tls(&self) -> &PortTls {
        &self.shared.tls
    }

    /// Returns whether a slice has been applied.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.lock().slice.is_some()
    }

    /// The number of clients and held requests.
    #[must_use]
    pub fn load(&self) -> usize {
        let state = self.lock();
        let held = state.jobs.values().map(|flow| flow.gate.held() as usize);
        state.listeners.values().map(|listener| listener.clients.count()).chain(held).sum()
    }

    /// Returns the slice and the listening sockets for a successor.
    ///
    /// No listener is opened until [`Gateway::retire`] or [`Gateway::serve_on`].
    #[must_use]
    pub fn hand_over(&self) -> (Option<GatewaySlice>, Vec<HandedOver>) {
        let state = self.lock();
        self.role().begin_hand_over();
        let handed_over = |(key, listener): (&Key, &Listener)| {
            let address = SocketAddr::new(key.address, key.port.get());
            Some((ListeningSocket { connection: key.connection.clone(), address }, listener.socket.clone()?))
        };
        (state.slice.clone(), state.listeners.iter().filter_map(handed_over).collect())
    }

    /// Accepts no clients any more; the client connections go on.
    pub fn retire(&self) {
        let mut state = self.lock();
        self.role().retire();
        state.listeners.values_mut().for_each(|listener| listener.socket = None);
        self.shared.observed.notify_one();
    }

    /// Serves on after a successor has failed.
    pub fn serve_on(&self) {
        self.role().serve_on();
        let slice = self.lock().slice.clone();
        if let Some(slice) = slice {
            self.apply(slice);
        }
    }

    /// Applies a slice.
    pub fn apply(&self, slice: GatewaySlice) {
        let mut state = self.lock();
        // Before a port is opened: no client gets through it without TLS.
        self.shared.tls.apply(&slice);
        let desired = desired_listeners(&slice);
        self.metrics().retain_jobs(desired.values().map(|listener| listener.job.clone()).collect());
        for directive in &slice.connections {
            self.hold(&mut state, directive);
        }
        state.jobs.retain(|job, _| slice.connections.iter().any(|directive| directive.job == *job));
        let mut sockets: HashMap<SocketAddr, Arc<TcpListener>> = HashMap::new();
        state.listeners.retain(|key, listener| {
            let stays = desired.contains_key(key);
            if !stays {
                tracing::info!(port = key.port, "port {} is disconnected", key.port);
                listener.stop.cancel();
                sockets.extend(listener.socket.take().map(|socket| (key.socket_address(), socket)));
            }
            stays
        });
        for (key, DesiredListener { job, route }) in desired {
            match state.listeners.get(&key) {
                Some(listener) => listener.set_route(route),
                None => {
                    let socket = sockets.remove(&key.socket_address());
                    self.listen(&mut state, key, job, route, socket);
                }
            }
        }
        for directive in &slice.connections {
            self.release(&mut state, directive);
        }
        self.count_failing_listeners(&state);
        state.slice = Some(slice);
        self.shared.observed.notify_one();
    }

    /// The observed state, to be reported.
    #[must_use]
    pub fn observe(&self) -> GatewayReport {
        let state = self.lock();
        // A retired process reports only the clients that it has.
        let is_reported =
            |connection: &ConnectionObservation| !self.role().is_retired() || !connection.clients.is_empty();
        let without_tls = self.shared.tls.problem();
        let observe = |(key, listener): (&Key, &Listener)| {
            let (bytes_in, bytes_out) = listener.clients.moved();
            let (calling, caller) = listener.gate.callers();
            ConnectionObservation {
                connection: key.connection.clone(),
                problem: listener.problem.clone().or_else(|| without_tls.clone()),
                is_port_taken: listener.is_port_taken,
                calling,
                caller,
                held: listener.clients.held(),
                clients: listener.clients.observe(),
                bytes_in,
                bytes_out,
            }
        };
        // OpCenter has no connection any more for a farewell's port.
        let connected = state.listeners.iter().filter(|(_, listener)| !listener.route.job_ended());
        GatewayReport {
            incarnation: self.role().incarnation,
            replaces: self.role().replaces,
            finished: false,
            sequence: state.slice.as_ref().map_or(0, |slice| slice.sequence),
            quiesced: state.jobs.values().filter_map(|flow| flow.quiesced.clone()).collect(),
            connections: connected.map(observe).filter(is_reported).collect(),
        }
    }

    /// The last report of the process.
    #[must_use]
    pub fn final_report(&self) -> GatewayReport {
        GatewayReport { finished: true, quiesced: Vec::new(), connections: Vec::new(), ..self.observe() }
    }

    /// Waits until the observed state has changed in a way to report at once.
    pub async fn observed(&self) {
        self.shared.observed.notified().await;
    }

    /// Retries to listen on ports where it failed, for ever.
    pub async fn retry_listeners(&self) {
        loop {
            tokio::time::sleep(LISTEN_RETRY_DELAY).await;
            let mut state = self.lock();
            let Some(slice) = state.slice.clone() else { continue };
            for (key, DesiredListener { job, route }) in desired_listeners(&slice) {
                if state.listeners.get(&key).is_some_and(|listener| listener.problem.is_some()) {
                    self.listen(&mut state, key, job, route, None);
                }
            }
            self.count_failing_listeners(&state);
        }
    }

    /// Closes every listener and every connection.
    pub fn close(&self) {
        self.stop.cancel();
    }

    /// Closes the job's gate if the directive holds bytes.
    fn hold(&self, state: &mut State, directive: &ConnectionDirective) {
        let closed = || JobFlow {
            gate: Gate::new(self.shared.observed.clone()),
            paused: None,
            quiesce: None,
            quiesced: None,
            made_again: None,
        };
        let flow = state.jobs.entry(directive.job.clone()).or_insert_with(closed);
        let Flow::Held { quiesce } = &directive.flow else { return };
        if flow.gate.is_open() {
            flow.paused = Some(Instant::now());
        }
        flow.gate.close();
        if flow.quiesce != *quiesce {
            (flow.quiesce, flow.quiesced) = (quiesce.clone(), None);
            if let Some(migration) = quiesce {
                self.quiesce(directive.job.clone(), flow.gate.clone(), migration.clone());
            }
        }
    }

    /// Opens the job's gate if the directive lets bytes pass.
    fn release(&self, state: &mut State, directive: &ConnectionDirective) {
        let (Flow::Open, Some(flow)) = (&directive.flow, state.jobs.get_mut(&directive.job)) else { return };
        (flow.quiesce, flow.quiesced) = (None, None);
        if let Some(since) = flow.paused.take() {
            self.metrics().paused(&directive.job, since.elapsed());
        }
        if let Some(unaccepted) = &directive.unaccepted
            && flow.made_again.replace(unaccepted.checkpoint) != Some(unaccepted.checkpoint)
        {
            for socket in flow.gate.lose(&unaccepted.connections) {
                self.shared.tasks.spawn("make again", socket.make_again());
            }
        }
        flow.gate.open();
    }

    /// Waits until no byte is unacknowledged, and reports that.
    fn quiesce(&self, job: JobId, gate: Arc<Gate>, migration: MigrationId) {
        let (gateway, read) = (self.clone(), gate.clone());
        self.shared.tasks.spawn("read ahead", async move { read.read_ahead().await });
        self.shared.tasks.spawn("quiesce", async move {
            if let Err(error) = failpoint::check(&Phase::Quiesce.failpoint()).await {
                tracing::warn!(%job, %error, "job {job} is not reported as quiesced");
                return;
            }
            let started = Instant::now();
            let unacknowledged = gate.settle().await;
            let seconds = started.elapsed().as_secs_f64();
            tracing::info!(%job, unacknowledged, "job {job} is quiesced with {unacknowledged} unacknowledged bytes");
            if let Some(flow) = gateway.lock().jobs.get_mut(&job)
                && flow.quiesce.as_ref() == Some(&migration)
            {
                flow.quiesced = Some(Quiesced { migration, unacknowledged, seconds });
            }
            gateway.shared.observed.notify_one();
        });
    }

    /// Listens at `key`: on `socket`, on a socket of the predecessor or on a new one.
    fn listen(&self, state: &mut State, key: Key, job: JobId, route: Route, socket: Option<Arc<TcpListener>>) {
        if !self.role().may_listen() {
            return;
        }
        let gate = match state.jobs.get(&job) {
            Some(flow) if route.ending.is_none() => flow.gate.clone(),
            _ => Gate::new(self.shared.observed.clone()),
        };
        let address = key.socket_address();
        let (clients, stop) = (Clients::default(), self.stop.child_token());
        let open = || self.role().inherit(address).map_or_else(|| bind(address), Ok).map(Arc::new);
        let verb = if route.ending.is_some() { "tells of the end of" } else { "leads to" };
        let target = route.target.clone();
        let route = RouteCell::new(route);
        let mut is_port_taken = false;
        let (problem, socket) = match socket.map_or_else(open, Ok) {
            Ok(socket) => {
                tracing::info!(%address, ?target, "port {} {verb} job {job}", key.port);
                let server = PortServer {
                    job,
                    routes: route.routes(),
                    gate: gate.clone(),
                    clients: clients.clone(),
                    speech: Arc::default(),
                    polls: Arc::default(),
                    stop: stop.clone(),
                    shared: self.shared.clone(),
                };
                self.shared.tasks.spawn("listener", server.accept(socket.clone()));
                (None, Some(socket))
            }
            Err(error) => {
                let is_retry = state.listeners.contains_key(&key);
                if !is_retry {
                    tracing::warn!(%address, %error, "can't listen on {address}");
                }
                is_port_taken = error.kind() == io::ErrorKind::AddrInUse;
                (Some(format!("can't listen on {address}: {error}")), None)
            }
        };
        state.listeners.insert(key, Listener { clients, route, gate, stop, socket, problem, is_port_taken });
        self.shared.observed.notify_one();
    }

    fn count_failing_listeners(&self, state: &State) {
        let failing =
            state.listeners.values().filter(|listener| listener.problem.is_some() && !listener.route.job_ended());
        self.metrics().listeners_failing(failing.count());
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }
}

/// A listener that a slice asks for.
#[derive(Debug)]
struct DesiredListener {
    job: JobId,
    route: Route,
}

/// The listeners that a slice asks for. On one port a connection displaces a farewell.
fn desired_listeners(slice: &GatewaySlice) -> BTreeMap<Key, DesiredListener> {
    let rules = Arc::new(GatewayRules::of(slice));
    let key = |connection: &ConnectionId, port| Key { connection: connection.clone(), address: slice.bind, port };
    let connected = slice.connections.iter().map(|directive| {
        let listener = DesiredListener { job: directive.job.clone(), route: Route::new(directive, rules.clone()) };
        (key(&directive.connection, directive.gateway_port), listener)
    });
    let is_free = |port| slice.connections.iter().all(|directive| directive.gateway_port != port);
    let farewells = slice.farewells.iter().filter(|directive| is_free(directive.gateway_port)).map(|directive| {
        let listener = DesiredListener { job: directive.job.clone(), route: Route::farewell(directive, rules.clone()) };
        (key(&directive.connection, directive.gateway_port), listener)
    });
    connected.chain(farewells).collect()
}
