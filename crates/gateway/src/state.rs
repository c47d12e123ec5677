//! What the gateway is now, made to match each slice.
//!
//! Listeners are kept by [`Key`]: a directive whose key is unchanged keeps its listener and every client of it, whatever else changes.
//! Gates are kept by job and shared by all of its connections.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mooring_api::watch::{
    ConnectionDirective, ConnectionObservation, Flow, GatewayReport, GatewaySlice, Quiesced, Target,
};
use mooring_ops::{Tasks, failpoint};
use mooring_types::migration::Phase;
use mooring_types::{Clock, ConnectionId, JobId, MigrationId, Port, SystemClock};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::clients::Clients;
use crate::gate::Gate;
use crate::tunnel;

const BACKLOG: u32 = 1024;
const RETRY: Duration = Duration::from_secs(1);
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What makes a listener another one.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Key {
    connection: ConnectionId,
    address: IpAddr,
    port: Port,
    target: Target,
}

#[derive(Debug)]
struct Listener {
    clients: Clients,
    stop: CancellationToken,
    /// Why it does not listen.
    problem: Option<String>,
}

#[derive(Debug)]
struct JobFlow {
    gate: Arc<Gate>,
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
}

impl Gateway {
    /// A gateway without listeners; its tasks end when `stop` is cancelled.
    #[must_use]
    pub fn new(tasks: Tasks, stop: CancellationToken) -> Self {
        Self { state: Arc::default(), tasks, stop: stop.child_token(), observed: Arc::default() }
    }

    /// Makes a slice so.
    pub fn apply(&self, slice: GatewaySlice) {
        let mut state = self.lock();
        for directive in &slice.connections {
            self.apply_flow(&mut state, directive);
        }
        state.jobs.retain(|job, _| slice.connections.iter().any(|directive| directive.job == *job));
        let wanted: BTreeMap<Key, &ConnectionDirective> =
            slice.connections.iter().map(|directive| (key(&slice, directive), directive)).collect();
        state.listeners.retain(|key, listener| {
            let stays = wanted.contains_key(key);
            if !stays {
                tracing::info!(port = key.port, "port {} is disconnected", key.port);
                listener.stop.cancel();
            }
            stays
        });
        for (key, directive) in wanted {
            self.listen(&mut state, key, &directive.job);
        }
        state.slice = Some(slice);
        self.observed.notify_one();
    }

    /// What is so, to be reported.
    #[must_use]
    pub fn observe(&self) -> GatewayReport {
        let state = self.lock();
        let observe = |(key, listener): (&Key, &Listener)| ConnectionObservation {
            connection: key.connection.clone(),
            problem: listener.problem.clone(),
            clients: listener.clients.observe(),
        };
        GatewayReport {
            sequence: state.slice.as_ref().map_or(0, |slice| slice.sequence),
            quiesced: state.jobs.values().filter_map(|flow| flow.quiesced.clone()).collect(),
            connections: state.listeners.iter().map(observe).collect(),
        }
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
            for directive in &slice.connections {
                let key = key(&slice, directive);
                if state.listeners.get(&key).is_some_and(|listener| listener.problem.is_some()) {
                    self.listen(&mut state, key, &directive.job);
                }
            }
        }
    }

    /// Closes every listener and every connection.
    pub fn close(&self) {
        self.stop.cancel();
    }

    fn apply_flow(&self, state: &mut State, directive: &ConnectionDirective) {
        let fresh = || JobFlow { gate: Gate::new(), quiesce: None, quiesced: None };
        let flow = state.jobs.entry(directive.job.clone()).or_insert_with(fresh);
        match &directive.flow {
            Flow::Open => {
                (flow.quiesce, flow.quiesced) = (None, None);
                flow.gate.open();
            }
            Flow::Held { quiesce } => {
                flow.gate.close();
                if flow.quiesce != *quiesce {
                    (flow.quiesce, flow.quiesced) = (quiesce.clone(), None);
                    if let Some(migration) = quiesce {
                        self.quiesce(directive.job.clone(), flow.gate.clone(), migration.clone());
                    }
                }
            }
        }
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

    /// Listens at `key`, if nothing does yet.
    fn listen(&self, state: &mut State, key: Key, job: &JobId) {
        if state.listeners.get(&key).is_some_and(|listener| listener.problem.is_none()) {
            return;
        }
        let Some(flow) = state.jobs.get(job) else { return };
        let address = SocketAddr::new(key.address, key.port.get());
        let (clients, stop) = (Clients::default(), self.stop.child_token());
        let problem = match bind(address) {
            Ok(socket) => {
                tracing::info!(%address, target = ?key.target, "port {} leads to job {job}", key.port);
                let serving = Serving { target: key.target.clone(), gate: flow.gate.clone(), clients: clients.clone() };
                self.tasks.spawn("listener", self.clone().accept(socket, serving, stop.clone()));
                None
            }
            Err(error) => {
                let again = state.listeners.contains_key(&key);
                if !again {
                    tracing::warn!(%address, %error, "can't listen at {address}");
                }
                Some(format!("can't listen at {address}: {error}"))
            }
        };
        state.listeners.insert(key, Listener { clients, stop, problem });
        self.observed.notify_one();
    }

    async fn accept(self, socket: TcpListener, serving: Serving, stop: CancellationToken) {
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => return,
                accepted = socket.accept() => accepted,
            };
            match accepted {
                Ok((client, address)) => {
                    let (gateway, serving, stop) = (self.clone(), serving.clone(), stop.clone());
                    self.tasks.spawn("client", async move {
                        tokio::select! {
                            () = stop.cancelled() => {}
                            () = gateway.serve(client, address, serving) => {}
                        }
                    });
                }
                Err(error) => {
                    // Out of descriptors, most often: those who are connected go on, and the next try waits a little.
                    tracing::warn!(%error, "can't accept a client");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn serve(&self, client: TcpStream, address: SocketAddr, serving: Serving) {
        let present = serving.clients.enter(address, SystemClock.now());
        self.observed.notify_one();
        let outcome = tunnel::carry(client, &serving.target, &serving.gate, &present.record).await;
        if let Err(error) = outcome {
            tracing::debug!(client = %address, target = ?serving.target, %error, "the connection of {address} broke");
        }
        drop(present);
        self.observed.notify_one();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a listener's clients need.
#[derive(Debug, Clone)]
struct Serving {
    target: Target,
    gate: Arc<Gate>,
    clients: Clients,
}

fn key(slice: &GatewaySlice, directive: &ConnectionDirective) -> Key {
    Key {
        connection: directive.connection.clone(),
        address: slice.bind,
        port: directive.gateway_port,
        target: directive.target.clone(),
    }
}

fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}
