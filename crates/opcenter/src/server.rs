//! The HTTP server: TLS, and connections with limits.
//!
//! A connection's first byte tells whether it is TLS. Plain HTTP is for clients on this machine's
//! loopback alone: a browser beside OpCenter, or a proxy that ends TLS. Others are sent to
//! `https://`, or refused.
//!
//! A connection that sends no complete head for [`HEAD_TIMEOUT`] is closed, before its first
//! request and between two. Requests under way, streams of slices and watches among them, take as
//! long as they take. A daemon's connections end with its certificate's life, or at once when its
//! key counts no more. Beyond [`CONNECTIONS_MAX`] connections, further ones wait in the kernel's
//! queue.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::header::{AUTHORIZATION, HOST};
use axum::http::{HeaderMap, Request, Response};
use axum::response::{IntoResponse, Redirect};
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use mooring_api::ErrorCode;
use mooring_ops::accept;
use mooring_ops::log::chain;
use mooring_tls::{ACME_PROTOCOL, Peer};
use mooring_types::external::IpNet;
use mooring_types::{Clock, SystemClock, forwarded};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::auth::cookie::OverTls;
use crate::auth::daemon::DaemonConnections;
use crate::error::ApiError;

/// The time within which a head has to come, or a handshake.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// The largest head of a request in bytes.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// The most connections at a time. Each needs an open file.
const CONNECTIONS_MAX: usize = 8192;
/// The most requests under way on one connection of HTTP/2.
const STREAMS_MAX: u32 = 200;
/// The time that requests of a daemon have to end after its certificate's life.
const EXPIRED_GRACE: Duration = Duration::from_secs(5);
/// The first byte of a TLS connection: a handshake record.
const TLS_HANDSHAKE: u8 = 0x16;

/// The parts of the server that all connections share.
#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) router: Router,
    pub(crate) tls: TlsAcceptor,
    pub(crate) daemons: Arc<DaemonConnections>,
    /// The proxies whose word about clients is believed.
    pub(crate) trusted: Arc<[IpNet]>,
}

/// Serves at a socket until asked to stop, and then until requests under way are answered.
pub(crate) async fn serve(listener: TcpListener, server: Server, stop: CancellationToken) {
    let (room, connections) = (Arc::new(Semaphore::new(CONNECTIONS_MAX)), TaskTracker::new());
    loop {
        let next = async {
            let place = room.clone().acquire_owned().await;
            (accept::next(&listener, "a client").await, place)
        };
        let ((stream, peer), place) = tokio::select! {
            next = next => next,
            () = stop.cancelled() => break,
        };
        let (server, stop) = (server.clone(), stop.clone());
        connections.spawn(async move {
            let _place = place;
            serve_connection(stream, peer, server, &stop).await;
        });
    }
    connections.close();
    connections.wait().await;
}

async fn serve_connection(stream: TcpStream, address: SocketAddr, server: Server, stop: &CancellationToken) {
    // Small answers go at once; without this a client waits for its own acknowledgement.
    let _ = stream.set_nodelay(true);
    let Server { router, tls, daemons, trusted } = server;
    // A client that has not asked for anything is not waited for.
    let first = tokio::select! {
        first = timeout(HEAD_TIMEOUT, first_byte(&stream)) => first,
        () = stop.cancelled() => return,
    };
    match first {
        Ok(Some(TLS_HANDSHAKE)) => {}
        Ok(Some(_)) if address.ip().to_canonical().is_loopback() => {
            return serve_http(stream, address, Arrival::Plain(router), trusted, stop).await;
        }
        Ok(Some(_)) => {
            let elsewhere = Router::new().fallback(in_the_clear);
            return serve_http(stream, address, Arrival::Plain(elsewhere), trusted, stop).await;
        }
        Ok(None) | Err(_) => return,
    }
    let accepted = tokio::select! {
        accepted = timeout(HEAD_TIMEOUT, tls.accept(stream)) => accepted,
        () = stop.cancelled() => return,
    };
    let stream = match accepted {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            tracing::debug!(%address, error = %chain(&error), "{address} was refused: its handshake has failed");
            return;
        }
        Err(_) => return,
    };
    if stream.get_ref().1.alpn_protocol() == Some(ACME_PROTOCOL) {
        // The certificate was the answer.
        return;
    }
    let certificates = stream.get_ref().1.peer_certificates().unwrap_or_default();
    match certificates.first().and_then(Peer::of) {
        None => serve_http(stream, address, Arrival::Tls(router), trusted, stop).await,
        Some(peer) => {
            let ended = daemons.begun(&peer.daemon);
            tokio::select! {
                () = serve_http(stream, address, Arrival::Daemon(router, peer), trusted, stop) => {}
                () = ended.cancelled() => tracing::debug!(%address, "the connection of {address} is ended: its key counts no more"),
            }
        }
    }
}

/// Returns the first byte that a client sends; `None` if it sends none.
async fn first_byte(stream: &TcpStream) -> Option<u8> {
    let mut first = [0];
    (stream.peek(&mut first).await.ok()? == 1).then_some(first[0])
}

/// The kind of a connection, with the router of its requests.
enum Arrival {
    Plain(Router),
    Tls(Router),
    Daemon(Router, Peer),
}

/// Sends a browser to `https://`, and refuses all that could carry a secret.
async fn in_the_clear(request: Request<Body>) -> Response<Body> {
    let host = request.headers().get(HOST).and_then(|host| host.to_str().ok());
    match host {
        Some(host) if request.method().is_safe() && !request.headers().contains_key(AUTHORIZATION) => {
            let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
            Redirect::permanent(&format!("https://{host}{path}")).into_response()
        }
        _ => ApiError::new(ErrorCode::InvalidArgument, "OpCenter takes plain HTTP from its own machine alone")
            .hint("give its address as `https://...`, and change the password if this request had it")
            .into_response(),
    }
}

async fn serve_http<S>(
    stream: S,
    address: SocketAddr,
    arrival: Arrival,
    trusted: Arc<[IpNet]>,
    stop: &CancellationToken,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (router, is_tls, daemon) = match arrival {
        Arrival::Plain(router) => (router, false, None),
        Arrival::Tls(router) => (router, true, None),
        Arrival::Daemon(router, peer) => (router, true, Some(peer)),
    };
    let expired = expiry(daemon.as_ref());
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: Request<Incoming>| {
        let (client, is_tls_at_proxy) = believed(address, request.headers(), &trusted);
        request.extensions_mut().insert(ConnectInfo(client));
        if is_tls || is_tls_at_proxy {
            request.extensions_mut().insert(OverTls);
        }
        if let Some(peer) = &daemon {
            request.extensions_mut().insert(peer.clone());
        }
        router.call(request)
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(HEAD_BYTES_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(HEAD_TIMEOUT)
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEAD_BYTES_MAX as u32);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
        () = expired => {
            connection.as_mut().graceful_shutdown();
            // What is left is a stream, which goes on over a new connection.
            timeout(EXPIRED_GRACE, connection).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%address, error, "the connection of {address} has ended early");
    }
}

/// Returns the client of a request, as trusted proxies say, and whether it reached them over TLS.
fn believed(peer: SocketAddr, headers: &HeaderMap, trusted: &[IpNet]) -> (SocketAddr, bool) {
    if !forwarded::is_trusted(peer.ip(), trusted) {
        return (peer, false);
    }
    let all = |name| headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    let elements: Vec<&str> = all("x-forwarded-for").flat_map(|line| line.split(',')).collect();
    let client = forwarded::client(peer.ip(), elements.into_iter(), trusted);
    let scheme = all("x-forwarded-proto").flat_map(|line| line.split(',')).next_back();
    (SocketAddr::new(client, peer.port()), scheme.is_some_and(|scheme| scheme.trim() == "https"))
}

/// Waits until the life of a daemon's certificate is over; for ever without one.
fn expiry(daemon: Option<&Peer>) -> impl Future<Output = ()> + use<> {
    let left = daemon.map(|peer| peer.expires_at.duration_since(SystemClock.now()));
    async move {
        match left {
            Some(left) => tokio::time::sleep(left.try_into().unwrap_or_default()).await,
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use mooring_ops::Lifecycle;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use mooring_tls::{Authority, Daemon, Identity, ServerCertificate, Trust, client_config};
    use mooring_types::{HostId, Timestamp};
    use tokio_rustls::TlsConnector;
    use tokio_rustls::client::TlsStream;

    use super::*;

    /// A server of an authority of its own, in a directory that may go.
    fn server(router: Router) -> (Arc<Authority>, Server) {
        let directory = tempfile::tempdir().unwrap();
        let now = SystemClock.now();
        let authority = Arc::new(Authority::open(directory.path(), now).unwrap());
        let certificate = ServerCertificate::new(authority.clone(), Vec::new(), None, now).unwrap();
        let tls = mooring_tls::server_config(&authority, Arc::new(certificate)).unwrap().into();
        (authority, Server { router, tls, daemons: Arc::default(), trusted: Arc::default() })
    }

    #[tokio::test(start_paused = true)]
    async fn silent_connection_is_closed_and_a_request_under_way_is_not() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
        let slow = get(|ConnectInfo(peer): ConnectInfo<SocketAddr>| async move {
            tokio::time::sleep(HEAD_TIMEOUT * 3).await;
            peer.ip().to_string()
        });
        let (lifecycle, (_, server)) = (Lifecycle::new(), server(Router::new().route("/", slow)));
        let served = lifecycle.tasks().spawn("server", serve(listener, server, stop.clone()));
        let mut silent = TcpStream::connect(address).await.unwrap();
        let mut asking = TcpStream::connect(address).await.unwrap();
        asking.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.unwrap();
        silent.write_all(b"GET / HTTP/1.1\r\nHost:").await.unwrap();
        let mut text = String::new();
        silent.read_to_string(&mut text).await.unwrap();
        assert!(!text.contains("200"), "{text}");
        stop.cancel();
        text.clear();
        asking.read_to_string(&mut text).await.unwrap();
        assert!(text.starts_with("HTTP/1.1 200") && text.ends_with("127.0.0.1"), "{text}");
        served.await.unwrap();
    }

    #[tokio::test]
    async fn plain_http_from_another_machine_is_sent_to_tls() {
        let of = async |method: &str, authorization: Option<&str>| {
            let mut request =
                Request::builder().method(method).uri("/jobs?status=Executing").header(HOST, "10.0.0.5:8443");
            if let Some(value) = authorization {
                request = request.header(AUTHORIZATION, value);
            }
            in_the_clear(request.body(Body::empty()).unwrap()).await
        };
        let sent = of("GET", None).await;
        assert_eq!(sent.headers()["location"], "https://10.0.0.5:8443/jobs?status=Executing");
        assert_eq!(of("GET", Some("Bearer token")).await.status(), 400);
        assert_eq!(of("POST", None).await.status(), 400);
    }

    #[test]
    fn client_behind_a_proxy_is_believed_from_trusted_proxies_alone() {
        let mut headers = HeaderMap::new();
        headers.insert("x-forwarded-for", "127.0.0.1, 192.0.2.7".parse().unwrap());
        headers.insert("x-forwarded-proto", "https".parse().unwrap());
        let (proxy, trusted) = ("10.0.0.1:999".parse().unwrap(), ["10.0.0.1/32".parse().unwrap()]);
        assert_eq!(believed(proxy, &headers, &trusted), ("192.0.2.7:999".parse().unwrap(), true));
        assert_eq!(believed(proxy, &headers, &[]), (proxy, false));
    }

    /// A stream of a daemon that has begun and says nothing more, by a certificate of that time.
    async fn stream(issued_at: Timestamp) -> (Daemon, Arc<DaemonConnections>, TlsStream<TcpStream>) {
        let silent =
            get(|| async { Body::from_stream(futures_util::stream::pending::<std::io::Result<bytes::Bytes>>()) });
        let (authority, server) = server(Router::new().route("/", silent));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, daemons, lifecycle) = (listener.local_addr().unwrap(), server.daemons.clone(), Lifecycle::new());
        lifecycle.tasks().spawn("server", serve(listener, server, CancellationToken::new()));
        let (daemon, identity) =
            (Daemon::Host(HostId::random(&mut rand::rng())), Arc::new(Identity::generate().unwrap()));
        let certificate = authority.issue(&daemon, &identity.request().unwrap(), issued_at).unwrap();
        identity.set_certificate(&certificate).unwrap();
        let mut config = client_config(&Trust::Pinned(authority.fingerprint()), Some(identity)).unwrap();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let stream = TcpStream::connect(address).await.unwrap();
        let name = mooring_tls::OPCENTER_NAME.try_into().unwrap();
        let mut stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        let mut head = [0; 15];
        stream.read_exact(&mut head).await.unwrap();
        assert_eq!(&head, b"HTTP/1.1 200 OK");
        (daemon, daemons, stream)
    }

    /// Returns whether a stream ends within a time.
    async fn ends_within(stream: &mut TlsStream<TcpStream>, limit: Duration) -> bool {
        // It may end by a reset.
        timeout(limit, stream.read_to_end(&mut Vec::new())).await.is_ok()
    }

    #[tokio::test]
    async fn stream_of_a_daemon_ends_with_its_key() {
        let (daemon, daemons, mut stream) = stream(SystemClock.now()).await;
        assert!(!ends_within(&mut stream, Duration::from_millis(200)).await);
        daemons.end(&daemon);
        assert!(ends_within(&mut stream, Duration::from_secs(10)).await, "the stream goes on");
    }

    #[tokio::test]
    async fn stream_of_a_daemon_ends_with_the_life_of_its_certificate() {
        let left = Duration::from_secs(2);
        let (_, _, mut stream) = stream(SystemClock.now() - mooring_tls::DAEMON_LIFE + left).await;
        assert!(ends_within(&mut stream, left + EXPIRED_GRACE * 3).await, "the stream goes on");
    }
}
