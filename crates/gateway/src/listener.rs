//! A gateway port, and each of its client connections from accept to end.
//!
//! | a client connection | ends by |
//! |---|---|
//! | whose handshake of TLS fails, or lasts 10 s | an alert where there is a reason to tell, and a close |
//! | of plain HTTP at a port with TLS | a redirect, and a close |
//! | of a trusted proxy | as for the client that it [announces](crate::proxy_line) |
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
use mooring_types::gateway::Protocol;
use mooring_types::{Clock, ConnectionId, JobId, Port, SystemClock};
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::access::{Access, Ended};
use crate::budget::{AddressShare, HeadShare};
use crate::client::ClientConnection;
use crate::client_socket::ClientSocket;
use crate::clients::{ClientRecord, Clients};
use crate::detect::{DETECT_TIMEOUT, FirstBytes, first_bytes};
use crate::gate::Gate;
use crate::http::redirect::PlainClient;
use crate::http::speech::Speech;
use crate::metrics::Budget;
use crate::proxy_line::{self, Announced, Told};
use crate::route::{Route, RouteCell, Routes};
use crate::session::Session;
use crate::shared::Shared;
use crate::socket;
use crate::tls::{self, Beginning};
use crate::upstream::Upstream;
use crate::wake::caller::{self, unheard};
use crate::wake::polls::Polls;

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
    pub(crate) polls: Arc<Polls>,
    pub(crate) stop: CancellationToken,
    pub(crate) shared: Arc<Shared>,
}

/// The client of a connection.
#[derive(Debug, Clone, Copy)]
struct Visitor {
    /// The address, or that of the proxy before it.
    address: SocketAddr,
    told: Option<Told>,
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
            let route = self.routes.now();
            if !route.lets_connect(address.ip()) {
                tracing::debug!(client = %address, "no rule allows {address}");
                self.shared.metrics.connection_refused(&self.job);
                socket::reset_on_drop(&client);
                continue;
            }
            let share = match route.is_proxy(address.ip()) {
                true => self.shared.budgets.connection_of_proxy(&self.job),
                false => self.shared.budgets.connection(address.ip(), &self.job),
            };
            let Some(share) = share else {
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

    async fn serve(self, client: TcpStream, peer: SocketAddr) {
        let (present, began) = (self.clients.enter(peer, SystemClock.now()), Instant::now());
        let record = present.record.clone();
        let _open = self.shared.metrics.connection_opened(&self.job, record.clone());
        self.shared.observed.notify_one();
        let announced = tokio::select! {
            () = self.stop.cancelled() => None,
            announced = self.behind_proxies(&client, peer) => announced.inspect_err(|error| {
                tracing::debug!(client = %peer, job = %self.job, %error, "{peer} was not let in");
                socket::reset_on_drop(&client);
            }).ok(),
        };
        let address = announced.map_or(peer, |announced| announced.client);
        let _share = match announced {
            Some(Announced { told: Some(_), .. }) => match self.admit_announced(&client, address) {
                Some(share) => {
                    record.name(address);
                    Some(share)
                }
                None => return,
            },
            _ => None,
        };
        let welcomed = match announced {
            None => None,
            Some(_) => tokio::select! {
                () = self.stop.cancelled() => None,
                () = self.routes.shuts_out(address.ip()) => None,
                welcomed = self.welcome(client, address) => welcomed.unwrap_or_else(|error| {
                    tracing::debug!(client = %address, job = %self.job, %error, "{address} was not let in");
                    None
                }),
            },
        };
        if let Some(client) = welcomed {
            let told = announced.and_then(|announced| announced.told);
            self.serve_client(&Arc::new(client), Visitor { address, told }, &present.record).await;
        }
        // All connections are logged as `tcp`; their requests are logged by what is spoken.
        let access = Access::new(address, self.routes.now().port, &self.job, "tcp");
        access.of_connection(&record, began.elapsed()).log(Ended::Connection);
        drop(present);
        self.shared.observed.notify_one();
    }

    /// Reads what trusted proxies say of their client at the beginning of a connection.
    async fn behind_proxies(&self, client: &TcpStream, peer: SocketAddr) -> io::Result<Announced> {
        let route = self.routes.now();
        if !route.is_proxy(peer.ip()) {
            return Ok(Announced { client: peer, told: None });
        }
        // Where the client speaks first, a connection may rest before it is used.
        let speaks_first = route.client_protocol() == Protocol::Http || self.shared.tls.in_force()?.is_some();
        let silence = if speaks_first { self.shared.budgets.limits().idle } else { proxy_line::SILENCE };
        proxy_line::read(client, peer, &route.gateway.trusted_proxies, silence).await
    }

    /// Judges the client that a proxy has announced. One that may not connect is reset.
    fn admit_announced(&self, stream: &TcpStream, client: SocketAddr) -> Option<AddressShare> {
        let share = if !self.routes.now().lets_connect(client.ip()) {
            tracing::debug!(%client, "no rule allows {client}, behind a proxy");
            self.shared.metrics.connection_refused(&self.job);
            None
        } else {
            let share = self.shared.budgets.address(client.ip());
            if share.is_none() {
                tracing::debug!(%client, "the budget of {client} is used up");
                self.shared.metrics.over_budget(&self.job, Budget::Connections);
            }
            share
        };
        if share.is_none() {
            socket::reset_on_drop(stream);
        }
        share
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
        match first_bytes(&socket, sleep(DETECT_TIMEOUT)).await? {
            FirstBytes::Http1 => {
                let (socket, rules) = (Arc::new(socket), self.routes.now().gateway.clone());
                let heads = self.heads_of(address.ip());
                PlainClient { socket, address: address.ip(), rules }.redirect(heads).await
            }
            FirstBytes::ProxyLine => Err(proxy_line::refusal()),
            FirstBytes::Http2 | FirstBytes::Other | FirstBytes::Undecided => Ok(()),
        }
    }

    fn heads_of(&self, address: IpAddr) -> HeadShare {
        match self.routes.now().is_proxy(address) {
            true => self.shared.budgets.heads_of_proxy(),
            false => self.shared.budgets.heads(address),
        }
    }

    async fn serve_client(&self, client: &Arc<ClientSocket>, visitor: Visitor, record: &Arc<ClientRecord>) {
        let address = visitor.address;
        tokio::select! {
            () = self.stop.cancelled() => client.end_at_once(),
            () = self.routes.shuts_out(address.ip()) => {
                tracing::info!(client = %address, "no rule allows {address} any more");
                client.reset_on_drop();
            }
            outcome = self.serve_session(client, visitor, record) => match outcome {
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
        visitor: Visitor,
        record: &Arc<ClientRecord>,
    ) -> io::Result<()> {
        let Visitor { address, told } = visitor;
        let upstream = Upstream {
            routes: self.routes.clone(),
            gate: self.gate.clone(),
            record: record.clone(),
            speech: self.speech.clone(),
            polls: self.polls.clone(),
        };
        let serve = async {
            let route = self.routes.now();
            // A proxy that no rule admits is there for others, whom only requests of HTTP name.
            let protocol = match route.client_protocol() {
                protocol if route.allows(address.ip()) => protocol,
                Protocol::Tcp => {
                    return Err(io::Error::new(io::ErrorKind::PermissionDenied, "no rule allows the proxy"));
                }
                Protocol::Auto | Protocol::Http => Protocol::Http,
            };
            drop(route);
            let session = Session::detect(protocol, client, &upstream, self.shared.budgets.limits().idle).await?;
            let connection = ClientConnection {
                socket: client.clone(),
                address,
                told,
                job: self.job.clone(),
                upstream: upstream.clone(),
                shared: self.shared.clone(),
            };
            session.serve(connection).await
        };
        tokio::select! {
            outcome = serve => outcome,
            () = caller::of_connection(client, &upstream, address.ip()) => Err(unheard()),
        }
    }
}
