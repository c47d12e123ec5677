//! Accepting connections without spinning when the kernel refuses to.
//!
//! An accept fails when the process is out of descriptors or the kernel out of memory. The next try
//! then waits, twice as long after each failure: open connections go on and may free what is
//! missing.

use std::future::Future;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// A listening socket.
pub trait Accept: Sync {
    /// A connection, with its peer's address where there is one.
    type Connection: Send;

    /// Accepts one connection.
    fn accept(&self) -> impl Future<Output = io::Result<Self::Connection>> + Send;
}

impl Accept for TcpListener {
    type Connection = (TcpStream, SocketAddr);

    async fn accept(&self) -> io::Result<Self::Connection> {
        self.accept().await
    }
}

impl Accept for UnixListener {
    type Connection = UnixStream;

    async fn accept(&self) -> io::Result<Self::Connection> {
        self.accept().await.map(|(stream, _)| stream)
    }
}

/// Returns the next connection, after as many failures as it takes. `peer` names in the log who
/// connects: `a client`, `a hook`.
///
/// It may be dropped at any time without losing a connection.
pub async fn next<L: Accept>(listener: &L, peer: &str) -> L::Connection {
    let mut pause = FIRST_PAUSE;
    loop {
        match listener.accept().await {
            Ok(connection) => return connection,
            Err(error) if concerns_one_connection(&error) => {
                tracing::debug!(%error, "{peer} left before it was accepted");
            }
            Err(error) => {
                tracing::warn!(%error, "can't accept {peer}: trying again in {} ms", pause.as_millis());
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}

/// Says whether the peer caused the failure: the next connection in the queue may be accepted at
/// once.
fn concerns_one_connection(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset | ErrorKind::ConnectionRefused)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Instant;

    use super::*;

    /// Fails with each of its errors, then accepts.
    struct Failing {
        errors: Vec<ErrorKind>,
        accepts: AtomicUsize,
    }

    impl Accept for Failing {
        type Connection = usize;

        async fn accept(&self) -> io::Result<usize> {
            let accepts = self.accepts.fetch_add(1, Ordering::Relaxed);
            self.errors.get(accepts).map_or(Ok(accepts), |kind| Err((*kind).into()))
        }
    }

    #[tokio::test]
    async fn pauses_double() {
        let listener = Failing { errors: vec![ErrorKind::OutOfMemory; 3], accepts: AtomicUsize::new(0) };
        let began = Instant::now();
        assert_eq!(next(&listener, "a client").await, 3);
        assert!(began.elapsed() >= FIRST_PAUSE * 7);
    }

    #[tokio::test]
    async fn aborted_connection_is_skipped_at_once() {
        let listener = Failing { errors: vec![ErrorKind::ConnectionAborted; 10_000], accepts: AtomicUsize::new(0) };
        assert_eq!(tokio::time::timeout(LONGEST_PAUSE, next(&listener, "a client")).await, Ok(10_000));
    }

    #[tokio::test]
    async fn tcp_and_unix_listeners_accept() {
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(tcp.local_addr().unwrap()).await.unwrap();
        assert_eq!(next(&tcp, "a client").await.1, client.local_addr().unwrap());
        let directory = tempfile::tempdir().unwrap();
        let unix = UnixListener::bind(directory.path().join("socket")).unwrap();
        let (connected, _) = tokio::join!(UnixStream::connect(directory.path().join("socket")), next(&unix, "a hook"));
        connected.unwrap();
    }
}
