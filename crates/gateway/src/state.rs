//! What the gateway is now, made to match each slice.
//!
//! Listeners are kept by connection, address and port: a directive for which these are unchanged keeps its listener and every client of
//! it, whatever else changes; what its clients need to know is in the listener's route. Gates are kept by job and shared by all of its
//! connections.
//!
//! A slice takes effect in this order: gates are closed, routes are set, gates are opened. So whoever finds a gate open knows whether
//! the job behind it is still the same.
//!
//! A port whose job has ended keeps its listener for as long as slices say, and says so: its clients are told, answered or closed by what
//! their route says. One that another connection gets passes its socket on, so that there is no moment at which nobody listens.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mooring_api::watch::{ConnectionDirective, ConnectionObservation, Flow, GatewayReport, GatewaySlice, Quiesced};
use mooring_ops::{Tasks, failpoint};
use mooring_types::migration::Phase;
use mooring_types::security::InboundRule;
use mooring_types::{ConnectionId, JobId, MigrationId};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::clients::Clients;
use crate::gate::Gate;
use crate::handover::{Handed, Socket};
use crate::listener::{Key, Listener, Serving, bind};
use crate::metrics::Metrics;
use crate::route::{Route, RouteCell};
use crate::seat::Seat;
use crate::widget::Desk;

const RETRY: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct JobFlow {
    gate: Arc<Gate>,
    /// Since when the gate is closed, once it was open.
    paused: Option<Instant>,
    quiesce: Option<MigrationId>,
    quiesced: Option<Quiesced>,
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
    tasks: Tasks,
    stop: CancellationToken,
    observed: Arc<Notify>,
    seat: Arc<Seat>,
    metrics: Metrics,
    desk: Desk,
}

impl Gateway {
    /// A gateway without listeners; its tasks end when `stop` is cancelled.
    #[must_use]
    pub fn new(tasks: Tasks, stop: CancellationToken) -> Self {
        Self {
            state: Arc::default(),
            tasks,
            stop: stop.child_token(),
            observed: Arc::default(),
            seat: Arc::default(),
            metrics: Metrics::default(),
            desk: Desk::default(),
        }
    }

    /// The same, in a place of its own among the gateway's processes.
    #[must_use]
    pub fn seated(self, seat: Seat) -> Self {
        Self { seat: Arc::new(seat), ..self }
    }

    /// The same, counting here.
    #[must_use]
    pub fn counted(self, metrics: Metrics) -> Self {
        Self { metrics, ..self }
    }

    /// The same, with a way to OpCenter for the widget.
    #[must_use]
    pub fn asking(self, desk: Desk) -> Self {
        Self { desk, ..self }
    }

    /// What is counted.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Whether it is known what should be served.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.lock().slice.is_some()
    }

    /// How many clients and held requests there are.
    #[must_use]
    pub fn load(&self) -> usize {
        let state = self.lock();
        let held = state.jobs.values().map(|flow| flow.gate.held() as usize);
        state.listeners.values().map(|listener| listener.clients.count()).chain(held).sum()
    }

    /// This process's place among those of the gateway.
    #[must_use]
    pub fn seat(&self) -> &Seat {
        &self.seat
    }

    /// Gives a successor what it takes to serve. Until [`Gateway::retire`] or [`Gateway::keep_serving`] no listener is opened.
    #[must_use]
    pub fn hand_over(&self) -> (Option<GatewaySlice>, Vec<Handed>) {
        let state = self.lock();
        self.seat.begin_to_hand_over();
        let handed = |(key, listener): (&Key, &Listener)| {
            let address = SocketAddr::new(key.address, key.port.get());
            Some((Socket { connection: key.connection.clone(), address }, listener.socket.clone()?))
        };
        (state.slice.clone(), state.listeners.iter().filter_map(handed).collect())
    }

    /// Accepts nobody any more; the connections go on.
    pub fn retire(&self) {
        let mut state = self.lock();
        self.seat.retire();
        state.listeners.values_mut().for_each(|listener| listener.socket = None);
        self.observed.notify_one();
    }

    /// Goes on serving when a successor has failed.
    pub fn keep_serving(&self) {
        self.seat.keep();
        let slice = self.lock().slice.clone();
        if let Some(slice) = slice {
            self.apply(slice);
        }
    }

    /// Makes a slice so.
    pub fn apply(&self, slice: GatewaySlice) {
        let mut state = self.lock();
        let wanted = wanted(&slice);
        self.metrics.keep(wanted.values().map(|wanted| wanted.job.clone()).collect());
        for directive in &slice.connections {
            self.hold(&mut state, directive);
        }
        state.jobs.retain(|job, _| slice.connections.iter().any(|directive| directive.job == *job));
        let mut sockets: HashMap<SocketAddr, Arc<TcpListener>> = HashMap::new();
        state.listeners.retain(|key, listener| {
            let stays = wanted.contains_key(key);
            if !stays {
                tracing::info!(port = key.port, "port {} is disconnected", key.port);
                listener.stop.cancel();
                sockets.extend(listener.socket.take().map(|socket| (key.socket_address(), socket)));
            }
            stays
        });
        for (key, Wanted { job, route }) in wanted {
            match state.listeners.get(&key) {
                Some(listener) => listener.follow(route),
                None => {
                    let socket = sockets.remove(&key.socket_address());
                    self.listen(&mut state, key, job, route, socket);
                }
            }
        }
        for directive in &slice.connections {
            self.release(&mut state, directive);
        }
        self.count_listeners(&state);
        state.slice = Some(slice);
        self.observed.notify_one();
    }

    /// What is so, to be reported.
    #[must_use]
    pub fn observe(&self) -> GatewayReport {
        let state = self.lock();
        // Whether a port can be listened at is for the process that serves to say.
        let concerns = |seen: &ConnectionObservation| !self.seat.is_retired() || !seen.clients.is_empty();
        let observe = |(key, listener): (&Key, &Listener)| {
            let (bytes_in, bytes_out) = listener.clients.moved();
            ConnectionObservation {
                connection: key.connection.clone(),
                problem: listener.problem.clone(),
                calling: listener.gate.calling(),
                clients: listener.clients.observe(),
                bytes_in,
                bytes_out,
            }
        };
        // What is left of a connection whose job has ended is nobody's concern.
        let listeners = state.listeners.iter().filter(|(_, listener)| !listener.route.is_over());
        GatewayReport {
            incarnation: self.seat.incarnation,
            replaces: self.seat.replaces,
            finished: false,
            sequence: state.slice.as_ref().map_or(0, |slice| slice.sequence),
            quiesced: state.jobs.values().filter_map(|flow| flow.quiesced.clone()).collect(),
            connections: listeners.map(observe).filter(concerns).collect(),
        }
    }

    /// The last report.
    #[must_use]
    pub fn farewell(&self) -> GatewayReport {
        GatewayReport { finished: true, quiesced: Vec::new(), connections: Vec::new(), ..self.observe() }
    }

    /// Resolves when something worth an immediate report has been observed.
    pub async fn observed(&self) {
        self.observed.notified().await;
    }

    /// Tries again, for ever, to listen where it failed.
    pub async fn retry_listeners(&self) {
        loop {
            tokio::time::sleep(RETRY).await;
            let mut state = self.lock();
            let Some(slice) = state.slice.clone() else { continue };
            for (key, Wanted { job, route }) in wanted(&slice) {
                if state.listeners.get(&key).is_some_and(|listener| listener.problem.is_some()) {
                    self.listen(&mut state, key, job, route, None);
                }
            }
            self.count_listeners(&state);
        }
    }

    /// Closes every listener and every connection.
    pub fn close(&self) {
        self.stop.cancel();
    }

    /// Closes the job's gate where its bytes have to wait.
    fn hold(&self, state: &mut State, directive: &ConnectionDirective) {
        let fresh = || JobFlow { gate: Gate::new(self.observed.clone()), paused: None, quiesce: None, quiesced: None };
        let flow = state.jobs.entry(directive.job.clone()).or_insert_with(fresh);
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

    /// Opens the job's gate where its bytes flow.
    fn release(&self, state: &mut State, directive: &ConnectionDirective) {
        let (Flow::Open, Some(flow)) = (&directive.flow, state.jobs.get_mut(&directive.job)) else { return };
        (flow.quiesce, flow.quiesced) = (None, None);
        if let Some(since) = flow.paused.take() {
            self.metrics.paused(&directive.job, since.elapsed());
        }
        flow.gate.open();
    }

    /// Waits until nothing is unacknowledged, and says so in the report.
    fn quiesce(&self, job: JobId, gate: Arc<Gate>, migration: MigrationId) {
        let gateway = self.clone();
        self.tasks.spawn("quiesce", async move {
            if let Err(error) = failpoint::check(&Phase::Quiesce.failpoint()).await {
                tracing::warn!(%job, %error, "job {job} is not reported as quiesced");
                return;
            }
            let started = Instant::now();
            let unacknowledged = gate.settle().await;
            let seconds = started.elapsed().as_secs_f64();
            tracing::info!(%job, unacknowledged, "nothing more is sent to job {job}: {unacknowledged} bytes unacknowledged");
            if let Some(flow) = gateway.lock().jobs.get_mut(&job)
                && flow.quiesce.as_ref() == Some(&migration)
            {
                flow.quiesced = Some(Quiesced { migration, unacknowledged, seconds });
            }
            gateway.observed.notify_one();
        });
    }

    /// Listens at `key`, where nothing does; with the socket of whoever listened there before, if there is one.
    fn listen(&self, state: &mut State, key: Key, job: JobId, route: Route, socket: Option<Arc<TcpListener>>) {
        if !self.seat.may_listen() {
            return;
        }
        let gate = match state.jobs.get(&job) {
            Some(flow) if route.ending.is_none() => flow.gate.clone(),
            _ => Gate::new(self.observed.clone()),
        };
        let address = key.socket_address();
        let (clients, stop) = (Clients::default(), self.stop.child_token());
        let fresh = || self.seat.inherit(address).map_or_else(|| bind(address), Ok).map(Arc::new);
        let says = if route.ending.is_some() { "says what became of" } else { "leads to" };
        let target = route.target.clone();
        let route = RouteCell::new(route);
        let (problem, socket) = match socket.map_or_else(fresh, Ok) {
            Ok(socket) => {
                tracing::info!(%address, ?target, "port {} {says} job {job}", key.port);
                let serving = Serving {
                    job,
                    routes: route.routes(),
                    gate: gate.clone(),
                    clients: clients.clone(),
                    tasks: self.tasks.clone(),
                    stop: stop.clone(),
                    observed: self.observed.clone(),
                    seat: self.seat.clone(),
                    metrics: self.metrics.clone(),
                    desk: self.desk.clone(),
                };
                self.tasks.spawn("listener", serving.accept(socket.clone()));
                (None, Some(socket))
            }
            Err(error) => {
                let again = state.listeners.contains_key(&key);
                if !again {
                    tracing::warn!(%address, %error, "can't listen at {address}");
                }
                (Some(format!("can't listen at {address}: {error}")), None)
            }
        };
        state.listeners.insert(key, Listener { clients, route, gate, stop, socket, problem });
        self.observed.notify_one();
    }

    fn count_listeners(&self, state: &State) {
        let failing =
            state.listeners.values().filter(|listener| listener.problem.is_some() && !listener.route.is_over());
        self.metrics.listeners_failing(failing.count());
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A port that a slice wants to be listened at.
#[derive(Debug)]
struct Wanted {
    job: JobId,
    route: Route,
}

/// All of them. Where a port is connected, nothing else is said there.
fn wanted(slice: &GatewaySlice) -> BTreeMap<Key, Wanted> {
    let rules: Arc<[InboundRule]> = slice.rules.as_slice().into();
    let key = |connection: &ConnectionId, port| Key { connection: connection.clone(), address: slice.bind, port };
    let connected = slice.connections.iter().map(|directive| {
        let wanted = Wanted { job: directive.job.clone(), route: Route::new(directive, rules.clone()) };
        (key(&directive.connection, directive.gateway_port), wanted)
    });
    let is_free = |port| slice.connections.iter().all(|directive| directive.gateway_port != port);
    let over = slice.farewells.iter().filter(|directive| is_free(directive.gateway_port)).map(|directive| {
        let wanted = Wanted { job: directive.job.clone(), route: Route::farewell(directive, rules.clone()) };
        (key(&directive.connection, directive.gateway_port), wanted)
    });
    connected.chain(over).collect()
}
