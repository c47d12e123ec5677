//! A port that clients connect to, and each of its clients from accept to end.
//!
//! | a client | is ended |
//! |---|---|
//! | that no rule allows | by a reset: at accept, before a byte of it is read, or when the rules change |
//! | whose port is disconnected | by closing it |
//! | whose job has ended | by closing it; one that speaks HTTP stays, and is told so when it asks |
//! | any other | by itself, its job, or what [`relay`] and [`http`] say |

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use mooring_ops::Tasks;
use mooring_types::{Clock, ConnectionId, JobId, Port, SystemClock};
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::access::{Access, Ended};
use crate::clients::Clients;
use crate::connect::Way;
use crate::detect::{self, Client};
use crate::gate::Gate;
use crate::metrics::Metrics;
use crate::relay;
use crate::route::{Route, RouteCell, Routes};
use crate::seat::Seat;
use crate::widget::Desk;
use crate::{http, tunnel};

const BACKLOG: u32 = 1024;
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// A client whose machine is gone without a word is noticed after this long and a few of the intervals.
const KEEPALIVE: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);

/// What makes a listener another one.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) connection: ConnectionId,
    pub(crate) address: IpAddr,
    pub(crate) port: Port,
}

/// A port that is listened at, or should be.
#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) clients: Clients,
    pub(crate) route: RouteCell,
    /// Its job's.
    pub(crate) gate: Arc<Gate>,
    pub(crate) stop: CancellationToken,
    /// Kept for a successor; none where it does not listen.
    pub(crate) socket: Option<Arc<TcpListener>>,
    /// Why it does not listen.
    pub(crate) problem: Option<String>,
}

/// What a listener's clients share.
#[derive(Debug, Clone)]
pub(crate) struct Serving {
    pub(crate) job: JobId,
    pub(crate) routes: Routes,
    pub(crate) gate: Arc<Gate>,
    pub(crate) clients: Clients,
    pub(crate) tasks: Tasks,
    pub(crate) stop: CancellationToken,
    pub(crate) observed: Arc<Notify>,
    pub(crate) seat: Arc<Seat>,
    pub(crate) metrics: Metrics,
    pub(crate) desk: Desk,
}

impl Listener {
    /// Has its clients follow another route.
    pub(crate) fn follow(&self, route: Route) {
        let is_over = route.ending.is_some();
        self.route.set(route);
        if is_over {
            // Whoever finds it open knows by now; what it keeps of the job's connections can go.
            self.gate.open();
        }
    }
}

impl Key {
    /// The address to listen at.
    pub(crate) fn socket_address(&self) -> SocketAddr {
        SocketAddr::new(self.address, self.port.get())
    }
}

/// Listens at an address.
pub(crate) fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

impl Serving {
    /// Takes clients in until the port is disconnected or another process serves it.
    pub(crate) async fn accept(self, socket: Arc<TcpListener>) {
        let _working = self.seat.at_work();
        loop {
            let accepted = tokio::select! {
                // Whoever comes after is for the one that has the socket next.
                biased;
                () = self.stop.cancelled() => return,
                () = self.seat.retired() => return,
                accepted = socket.accept() => accepted,
            };
            match accepted {
                Ok((client, address)) if !self.routes.now().allows(address.ip()) => {
                    tracing::debug!(client = %address, "no rule allows {address}");
                    self.metrics.connection_refused(&self.job);
                    relay::reset_on_drop(&client);
                }
                Ok((client, address)) => {
                    let working = self.seat.at_work();
                    let serving = self.clone();
                    self.tasks.spawn("client", async move {
                        let _working = working;
                        serving.serve(client, address).await;
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

    async fn serve(self, client: TcpStream, address: SocketAddr) {
        let (present, began) = (self.clients.enter(address, SystemClock.now()), Instant::now());
        let _counted = self.metrics.connection_opened(&self.job, present.record.clone());
        self.observed.notify_one();
        let client = Arc::new(client);
        let way = Way { routes: self.routes.clone(), gate: self.gate.clone(), record: present.record.clone() };
        tokio::select! {
            () = self.stop.cancelled() => {}
            () = self.routes.refuse(address.ip()) => {
                tracing::info!(client = %address, "no rule allows {address} any more");
                relay::reset_on_drop(&client);
            }
            outcome = self.carry(&client, address, way) => if let Err(error) = outcome {
                tracing::debug!(client = %address, job = %self.job, %error, "the connection of {address} broke");
                relay::reset_on_drop(&client);
            },
        }
        let access = Access::new(address, self.routes.now().port, &self.job, "tcp");
        access.of_connection(&present.record, began.elapsed()).log(Ended::Connection);
        drop(present);
        self.observed.notify_one();
    }

    async fn carry(&self, client: &Arc<TcpStream>, address: SocketAddr, way: Way) -> io::Result<()> {
        client.set_nodelay(true)?;
        let keepalive = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE_INTERVAL);
        SockRef::from(&**client).set_tcp_keepalive(&keepalive)?;
        let spoken = detect::listen_to(client, way.routes.now().protocol, &way).await?;
        let session = |way| http::Session {
            client: client.clone(),
            address,
            way,
            job: self.job.clone(),
            tasks: self.tasks.clone(),
            metrics: self.metrics.clone(),
            seat: self.seat.clone(),
            desk: self.desk.clone(),
        };
        // Each is a large future, and a client needs one.
        match spoken {
            Client::Bytes(connected) => Box::pin(tunnel::carry(client, connected, &way)).await,
            Client::Http1(connected) => Box::pin(session(way).serve_http1(connected)).await,
            Client::Http2 => Box::pin(session(way).serve_http2()).await,
        }
    }
}
