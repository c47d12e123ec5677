//! TLS on the ports of a gateway: which certificates there are, and the beginning of a client's
//! connection.
//!
//! ```text
//!  client ─► first byte ─┬─ of TLS ──► handshake ─► session, as of a plain client
//!                        ├─ of HTTP ─► 308 to `https://` (`http::redirect`)
//!                        └─ other ───► closed
//! ```
//!
//! * `socket` is a client's connection with TLS.
//! * `own` keeps a certificate of OpCenter's authority. Users' certificates are in the slice.
//!
//! [`PortTls`] is changed by slices and by `own`. A client gets what is in force when its handshake
//! begins; later changes do not concern it. A client chooses HTTP/2 or HTTP/1.1 (ALPN). A client
//! that offers neither is let in where the port is not for HTTP alone. Its offer gets no answer,
//! since what the job speaks is unknown here.

pub(crate) mod own;
mod socket;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use mooring_api::watch::{GatewaySlice, GivenCertificate, TlsDirective};
use mooring_ops::log::chain;
use mooring_tls::{HTTP_PROTOCOLS, PortCertificate, PortCertificates, port_config};
use mooring_types::Timestamp;
use mooring_types::gateway::Protocol;
use parking_lot::RwLock;
use rustls::ServerConfig;
use rustls::server::Accepted;
use tokio::net::TcpStream;
use tokio::sync::Notify;

pub(crate) use self::socket::TlsSocket;

/// Time limit of the beginning of a connection: of a client's first byte, and of its handshake.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// The first byte of a client that speaks TLS: a record with handshake messages (RFC 8446, section
/// 5.1).
pub(crate) const HANDSHAKE_RECORD: u8 = 0x16;

/// The TLS of a gateway process's ports.
#[derive(Debug, Default)]
pub struct PortTls {
    state: RwLock<State>,
    /// Notified when other names are desired.
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// The newest slice's part; `None` if ports are plain.
    desired: Option<Desired>,
    given: Vec<PortCertificate>,
    own: Option<PortCertificate>,
    in_force: Option<InForce>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Desired {
    address: IpAddr,
    directive: TlsDirective,
}

/// The configurations of new connections.
#[derive(Debug, Clone)]
pub(crate) struct InForce {
    /// For clients of HTTP.
    http: Arc<ServerConfig>,
    /// For clients of any other protocol.
    any: Arc<ServerConfig>,
}

/// The beginning of a client's connection.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Beginning {
    Tls,
    /// Something else, which may be HTTP.
    Plain,
    /// Nothing: it has ended.
    End,
}

impl PortTls {
    /// Takes what a slice says.
    pub(crate) fn apply(&self, slice: &GatewaySlice) {
        let desired = slice.tls.clone().map(|directive| Desired { address: slice.bind, directive });
        let mut state = self.state.write();
        if state.desired == desired {
            return;
        }
        let given = desired.as_ref().map_or(&[][..], |desired| &desired.directive.certificates);
        if state.certificates() != given {
            state.given = read_all(given);
        }
        state.desired = desired;
        state.renew();
        self.changed.notify_one();
    }

    /// Takes the next certificate of the authority.
    pub(crate) fn set_own(&self, certificate: PortCertificate) {
        let mut state = self.state.write();
        state.own = Some(certificate);
        state.renew();
    }

    /// The configurations of new connections; `None` if the ports are plain.
    ///
    /// # Errors
    /// The ports speak TLS, and no configuration could be made.
    pub(crate) fn in_force(&self) -> std::io::Result<Option<InForce>> {
        let state = self.state.read();
        match (&state.desired, &state.in_force) {
            (None, _) => Ok(None),
            (Some(_), Some(in_force)) => Ok(Some(in_force.clone())),
            (Some(_), None) => Err(std::io::Error::other("the port speaks TLS, and its ciphers can't be used")),
        }
    }

    /// The reason why no client can connect, if none can.
    pub(crate) fn problem(&self) -> Option<String> {
        let state = self.state.read();
        let has_none = state.desired.is_some() && state.given.is_empty() && state.own.is_none();
        has_none.then(|| "OpCenter has not issued its certificate yet".to_owned())
    }

    /// Returns whether a certificate of the authority should be asked for.
    fn is_due(&self, now: Timestamp) -> bool {
        let state = self.state.read();
        let Some(Desired { directive, .. }) = &state.desired else { return false };
        state.own.as_ref().is_none_or(|own| own.is_due(&directive.names, now))
    }
}

impl State {
    fn certificates(&self) -> &[GivenCertificate] {
        self.desired.as_ref().map_or(&[], |desired| &desired.directive.certificates)
    }

    /// Puts in force what there is.
    fn renew(&mut self) {
        let Some(Desired { address, .. }) = self.desired else {
            self.in_force = None;
            return;
        };
        let all = PortCertificates { address, given: self.given.clone(), own: self.own.clone() };
        match InForce::new(Arc::new(all)) {
            Ok(in_force) => self.in_force = Some(in_force),
            Err(error) => tracing::error!(error = %chain(&error), "the new certificates are not in force"),
        }
    }
}

fn read_all(all: &[GivenCertificate]) -> Vec<PortCertificate> {
    let read = |given: &GivenCertificate| {
        PortCertificate::read(&given.certificate, &given.key)
            .inspect_err(|error| tracing::error!(error = %chain(error), "a certificate of a user is left out"))
            .ok()
    };
    all.iter().filter_map(read).collect()
}

impl InForce {
    fn new(certificates: Arc<PortCertificates>) -> Result<Self, mooring_tls::Error> {
        let http = port_config(Arc::clone(&certificates), &HTTP_PROTOCOLS)?;
        Ok(Self { http, any: port_config(certificates, &[])? })
    }

    /// Completes the handshake of a client of a port.
    ///
    /// # Errors
    /// The client does not complete it, or nothing that both know can be used.
    pub(crate) async fn accept(self, client: TcpStream, protocol: Protocol) -> std::io::Result<TlsSocket> {
        TlsSocket::accept(client, |hello| self.choose(hello, protocol)).await
    }

    fn choose(self, hello: &Accepted, protocol: Protocol) -> Arc<ServerConfig> {
        let offers_http =
            hello.client_hello().alpn().is_some_and(|mut offered| offered.any(|name| HTTP_PROTOCOLS.contains(&name)));
        if offers_http || protocol == Protocol::Http { self.http } else { self.any }
    }
}

/// Waits for a client's first byte.
///
/// # Errors
/// The client's connection broke.
pub(crate) async fn beginning(client: &TcpStream) -> std::io::Result<Beginning> {
    let mut first = [0];
    Ok(match client.peek(&mut first).await? {
        0 => Beginning::End,
        _ if first == [HANDSHAKE_RECORD] => Beginning::Tls,
        _ => Beginning::Plain,
    })
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn first_byte_tells_tls_from_anything_else() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        for (sent, expected) in [
            (&b"\x16\x03\x01"[..], Beginning::Tls),
            (b"GET / HTTP/1.1\r\n", Beginning::Plain),
            (b"\x15", Beginning::Plain),
            (b"", Beginning::End),
        ] {
            let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            let (accepted, _) = listener.accept().await.unwrap();
            client.write_all(sent).await.unwrap();
            client.shutdown().await.unwrap();
            assert_eq!(beginning(&accepted).await.unwrap(), expected, "{sent:?}");
            // The byte is still there to be read.
            let mut byte = [0];
            assert_eq!(accepted.peek(&mut byte).await.unwrap(), sent.len().min(1));
        }
    }
}
