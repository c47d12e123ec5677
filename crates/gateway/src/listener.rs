//! A gateway port, and each of its client connections from accept to end.
//!
//! | a client connection | ends by |
//! |---|---|
//! | whose handshake of TLS fails, or lasts 10 s | an alert where there is a reason to tell, and a close |
//! | of plain HTTP at a port with TLS | a redirect, and a close |
//! | that no rule allows | a reset: at accept, before a byte is read, or when the rules change |
//! | beyond a [budget](crate::budget) | a reset at accept |
//! | whose port is disconnected | a close |
//! | whose job has ended | a close; an HTTP client stays, and is told at its next request |
//! | any other | the client, the job, or as [`relay`](crate::relay) and [`http`](crate::http) say |

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use mooring_ops::accept;
use mooring_types::{Clock, ConnectionId, JobId, Port, SystemClock};
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::access::{Access, Ended};
use crate::client::ClientConnection;
use crate::client_socket::ClientSocket;
use crate::clients::{ClientRecord, Clients};
use crate::detect::{FirstBytes, first_bytes};
use crate::gate::Gate;
use crate::http::redirect::PlainClient;
use crate::http::speech::Speech;
use crate::metrics::Budget;
use crate::route::{Route, RouteCell, Routes};
use crate::session::Session;
use crate::shared::Shared;
use crate::socket;
use crate::tls::{self, Beginning};
use crate::upstream::Upstream;

const ACCEPT_BACKLOG: u32 = 1024;
/// The idle time after which a client's machine is probed.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);

/// The identity of a listener.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) connection: ConnectionId,
    pub(crate) address: IpAddr,
    pub(crate) port: Port,
}

/// A port that is listened on, or should be.
#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) clients: Clients,
    pub(crate) route: RouteCell,
    /// The gate of the job.
    pub(crate) gate: Arc<Gate>,
    pub(crate) stop: CancellationToken,
    /// The socket, for a successor; `None` if the port is not listened on.
    pub(crate) socket: Option<Arc<TcpListener>>,
    /// The reason why the port is not listened on.
    pub(crate) problem: Option<String>,
    /// True where another program listens at the port.
    pub(crate) is_port_taken: bool,
}

/// Serves the clients of one listener.
#[derive(Debug, Clone)]
pub(crate) struct PortServer {
    pub(crate) job: JobId,
    pub(crate) routes: Routes,
    pub(crate) gate: Arc<Gate>,
    pub(crate) clients: Clients,
    pub(crate) speech: Arc<Speech>,
    pub(crate) stop: CancellationToken,
    pub(crate) shared: Arc<Shared>,
}

impl Listener {
    /// Leads the clients along another route.
    pub(crate) fn set_route(&self, route: Route) {
        let job_ended = route.ending.is_some();
        self.route.set(route);
        if job_ended {
            // A client that finds the gate open knows of the end by now. Opening closes the sockets
            // of dropped connections.
            self.gate.open();
        }
    }
}

impl Key {
    pub(crate) fn socket_address(&self) -> SocketAddr {
        SocketAddr::new(self.address, self.port.get())
    }
}

/// Listens on an address.
pub(crate) fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(ACCEPT_BACKLOG)
}

impl PortServer {
    /// Accepts clients until the port is disconnected or another process serves it.
    pub(crate) async fn accept(self, listener: Arc<TcpListener>) {
        let _work = self.shared.role.begin_work();
        loop {
            let (client, address) = tokio::select! {
                // Clients that come later belong to the next owner of the socket.
                biased;
                () = self.stop.cancelled() => return,
                () = self.shared.role.retired() => return,
                client = accept::next(&*listener, "a client") => client,
            };
            if !self.routes.now().allows(address.ip()) {
                tracing::debug!(client = %address, "no rule allows {address}");
                self.shared.metrics.connection_refused(&self.job);
                socket::reset_on_drop(&client);
                continue;
            }
            let Some(share) = self.shared.budgets.connection(address.ip(), &self.job) else {
                tracing::debug!(client = %address, "the budget of {address} or of its job is used up");
                self.shared.metrics.over_budget(&self.job, Budget::Connections);
                socket::reset_on_drop(&client);
                continue;
            };
            let work = self.shared.role.begin_work();
            let server = self.clone();
            self.shared.tasks.spawn("client", async move {
                let _used = (work, share);
                server.serve(client, address).await;
            });
        }
    }

    async fn serve(self, client: TcpStream, address: SocketAddr) {
        let (present, began) = (self.clients.enter(address, SystemClock.now()), Instant::now());
        let record = present.record.clone();
        let _open = self.shared.metrics.connection_opened(&self.job, record.clone());
        self.shared.observed.notify_one();
        let welcomed = tokio::select! {
            () = self.stop.cancelled() => None,
            () = self.routes.refuses(address.ip()) => None,
            welcomed = self.welcome(client, address) => welcomed.unwrap_or_else(|error| {
                tracing::debug!(client = %address, job = %self.job, %error, "{address} was not let in");
                None
            }),
        };
        if let Some(client) = welcomed {
            self.serve_client(&Arc::new(client), address, &present.record).await;
        }
        // All connections are logged as `tcp`; their requests are logged by what is spoken.
        let access = Access::new(address, self.routes.now().port, &self.job, "tcp");
        access.of_connection(&record, began.elapsed()).log(Ended::Connection);
        drop(present);
        self.shared.observed.notify_one();
    }

    /// Begins a client's connection: with a handshake, if the port speaks TLS. `None` if the client
    /// has left, or is of plain HTTP and has its answer.
    async fn welcome(&self, client: TcpStream, address: SocketAddr) -> io::Result<Option<ClientSocket>> {
        client.set_nodelay(true)?;
        let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_IDLE).with_interval(KEEPALIVE_INTERVAL);
        SockRef::from(&client).set_tcp_keepalive(&keepalive)?;
        let Some(in_force) = self.shared.tls.in_force()? else { return Ok(Some(client.into())) };
        let begin = async {
            match tls::beginning(&client).await? {
                Beginning::End => Ok(None),
                Beginning::Tls => {
                    let socket = in_force.accept(client, self.routes.now().protocol).await?;
                    Ok(Some(ClientSocket::Tls(Box::new(socket))))
                }
                Beginning::Plain => {
                    self.answer_plain(client.into(), address).await?;
                    Ok(None)
                }
            }
        };
        // The future is large, and few connections are in it.
        timeout(tls::HANDSHAKE_TIMEOUT, Box::pin(begin)).await?
    }

    /// Answers a client that does not speak TLS, at a port that does.
    async fn answer_plain(&self, socket: ClientSocket, address: SocketAddr) -> io::Result<()> {
        match first_bytes(&socket).await? {
            FirstBytes::Http1 => {
                let (socket, rules) = (Arc::new(socket), self.routes.now().gateway.clone());
                let heads = self.shared.budgets.heads(address.ip());
                PlainClient { socket, address: address.ip(), rules }.redirect(heads).await
            }
            FirstBytes::Http2 | FirstBytes::Other | FirstBytes::Undecided => Ok(()),
        }
    }

    async fn serve_client(&self, client: &Arc<ClientSocket>, address: SocketAddr, record: &Arc<ClientRecord>) {
        tokio::select! {
            () = self.stop.cancelled() => client.end_at_once(),
            () = self.routes.refuses(address.ip()) => {
                tracing::info!(client = %address, "no rule allows {address} any more");
                client.reset_on_drop();
            }
            outcome = self.serve_session(client, address, record) => match outcome {
                Ok(()) => client.end_at_once(),
                Err(error) => {
                    tracing::debug!(client = %address, job = %self.job, %error, "the connection of {address} broke");
                    client.reset_on_drop();
                }
            },
        }
    }

    async fn serve_session(
        &self,
        client: &Arc<ClientSocket>,
        address: SocketAddr,
        record: &Arc<ClientRecord>,
    ) -> io::Result<()> {
        let upstream = Upstream {
            routes: self.routes.clone(),
            gate: self.gate.clone(),
            record: record.clone(),
            speech: self.speech.clone(),
        };
        let session =
            Session::detect(self.routes.now().client_protocol(), client, &upstream, self.shared.budgets.limits().idle)
                .await?;
        let connection = ClientConnection {
            socket: client.clone(),
            address,
            job: self.job.clone(),
            upstream,
            shared: self.shared.clone(),
        };
        session.serve(connection).await
    }
}
