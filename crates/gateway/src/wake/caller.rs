//! Callers: clients that want their job while it is away, for as long as they stay.

use std::future;
use std::io;
use std::net::IpAddr;

use mooring_api::watch::{Call, CallerObservation};
use mooring_types::gateway::WakeOn;
use tokio::time::sleep;

use super::polls::Noted;
use super::{GRACE, Opening, opening_wakes};
use crate::client_socket::ClientSocket;
use crate::upstream::Upstream;

/// The first byte of TLS: a record with handshake messages (RFC 8446, section 5.1).
const TLS_RECORD: [u8; 2] = [0x16, 0x03];

/// Is a caller for a client; returns when the client has gone.
async fn until_gone(client: &ClientSocket, upstream: &Upstream, caller: CallerObservation) {
    let call = async {
        sleep(GRACE).await;
        let _caller = upstream.gate.call(caller);
        future::pending::<()>().await;
    };
    tokio::select! {
        biased;
        () = client.until_reset() => {}
        () = client.until_end_of_input() => {}
        () = call => {}
    }
}

/// Calls for a client while its job is suspended, if it is a caller. Returns when the job is
/// suspended and the client is none: it never was, it has gone, or it polls.
pub(crate) async fn until_refused(
    client: &ClientSocket,
    upstream: &Upstream,
    caller: Option<CallerObservation>,
    noted: Option<&Noted>,
) {
    upstream.routes.suspended().await;
    let is_poll = noted.is_some_and(Noted::is_poll) && upstream.routes.now().is_idle;
    if let Some(caller) = caller.filter(|_| !is_poll) {
        until_gone(client, upstream, caller).await;
        upstream.routes.suspended().await;
    }
}

/// Calls for a client that connects while the job is away, where that or its first byte is enough.
/// Returns if the client may not wait.
pub(crate) async fn of_connection(client: &ClientSocket, upstream: &Upstream, address: IpAddr) {
    let route = upstream.routes.now();
    if upstream.gate.is_open() && route.idle.is_none() {
        return future::pending().await;
    }
    match (route.wake_on, route.client_protocol().speaks_http()) {
        (WakeOn::Connection, _) => {}
        (_, true) => return future::pending().await,
        // The end of a client without a word, and one that breaks, are seen by its session.
        (_, false) if !matches!(client.peek(&mut [0]).await, Ok(1..)) => return future::pending().await,
        (_, false) => {}
    }
    let wakes = opening_wakes(route.wake_on, route.protocol, Opening::Bytes, false);
    wait(client, upstream, address, wakes).await;
}

/// Calls for a client whose first bytes are of another protocol than HTTP. Returns if the client
/// may not wait.
pub(crate) async fn of_opening(client: &ClientSocket, upstream: &Upstream, address: IpAddr, opening: Opening) {
    let route = upstream.routes.now();
    if route.wake_on == WakeOn::Connection || !route.client_protocol().speaks_http() {
        // It is called for since it connected.
        return future::pending().await;
    }
    let wakes = opening_wakes(route.wake_on, route.protocol, opening, upstream.speech.answers_tls());
    wait(client, upstream, address, wakes).await;
}

async fn wait(client: &ClientSocket, upstream: &Upstream, address: IpAddr, wakes: bool) {
    let noted = upstream.note((address, "connection"));
    let caller = wakes.then_some(CallerObservation { address, call: Call::Connection });
    tokio::select! {
        biased;
        // Its job may be away again later, and it is connected.
        () = upstream.gate.opened() => future::pending().await,
        () = until_refused(client, upstream, caller, noted.as_ref()) => {}
    }
}

impl Opening {
    /// Returns the first bytes of a client that has spoken or ended.
    ///
    /// # Errors
    /// The client's connection broke.
    pub(crate) async fn of(client: &ClientSocket) -> io::Result<Self> {
        let mut first = [0; 2];
        Ok(match client.peek(&mut first).await? {
            0 => Self::Nothing,
            length if TLS_RECORD.starts_with(&first[..length]) => Self::Tls,
            _ => Self::Bytes,
        })
    }
}

/// The error of a client that may not wait for its suspended job.
pub(crate) fn unheard() -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, "the job is suspended, and this client does not wake it")
}
