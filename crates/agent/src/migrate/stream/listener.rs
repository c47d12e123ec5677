//! The destination's end of a migration between hosts: admits expected sources and receives
//! capsules.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use mooring_ops::Tasks;
use mooring_ops::accept;
use mooring_ops::log::chain;
use mooring_types::MigrationId;
use parking_lot::Mutex;
use tokio::io::{AsyncWriteExt, BufStream};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::frame::{self, Frame, Hello};
use super::receiver::{CapsuleReceiver, Received};
use super::tls::{Identity, PeerHost};
use crate::error::{Error, Result, StreamError};
use crate::runtime::checkpoint::Checkpoint;
use crate::runtime::job_dir::JobDir;

const HELLO_TIMEOUT: Duration = Duration::from_secs(10);
/// The most connections of one address that have not been let in.
const ARRIVALS_MAX: usize = 16;
const INPUT_BUFFER_BYTES: usize = 512 << 10;

type Stream = BufStream<TlsStream<TcpStream>>;

/// The migrations whose source may connect.
#[derive(Debug, Clone, Default)]
pub(crate) struct MigrationListener(Arc<Mutex<HashMap<MigrationId, ExpectedSource>>>);

#[derive(Debug, Clone)]
struct ExpectedSource {
    hello: Hello,
    from: PeerHost,
    connections: mpsc::Sender<SourceConnection>,
}

/// A migration whose source may connect, until this value is dropped.
#[derive(Debug)]
pub(crate) struct ExpectedConnection {
    listener: MigrationListener,
    migration: MigrationId,
    connections: mpsc::Receiver<SourceConnection>,
}

/// A connection from the source of an expected migration.
#[derive(Debug)]
pub(crate) struct SourceConnection(Box<Stream>);

/// The state of a capsule when its connection ended.
#[derive(Debug)]
pub(crate) enum Reception {
    /// The capsule is complete.
    Complete,
    /// The connection was lost while the job executed at its source: the source may connect again.
    LostBeforeFreeze(Error),
    /// The connection was lost after the job was frozen.
    LostAfterFreeze(Error),
}

impl MigrationListener {
    /// Admits the source of a migration.
    pub(crate) fn expect(&self, hello: Hello, from: PeerHost) -> ExpectedConnection {
        let (sender, connections) = mpsc::channel(1);
        let migration = hello.migration.clone();
        self.sources().insert(migration.clone(), ExpectedSource { hello, from, connections: sender });
        ExpectedConnection { listener: self.clone(), migration, connections }
    }

    /// Accepts connections and never returns without an error.
    pub(crate) async fn serve(&self, listener: TcpListener, identity: &Identity, tasks: &Tasks) -> Result<()> {
        let arrivals = Arrivals::default();
        loop {
            let (stream, address) = accept::next(&listener, "the source of a migration").await;
            let Some(arrival) = arrivals.begin(address.ip()) else {
                tracing::debug!(%address, "{address} has too many connections that are not let in");
                continue;
            };
            let acceptor = match identity.server() {
                Ok(config) => TlsAcceptor::from(config),
                Err(error) => {
                    tracing::debug!(%address, error = %chain(&error), "{address} comes too early");
                    continue;
                }
            };
            let listener = self.clone();
            tasks.spawn("arrival", async move {
                let _arrival = arrival;
                match tokio::time::timeout(HELLO_TIMEOUT, listener.accept_source(stream, &acceptor)).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => {
                        tracing::warn!(%address, error = %chain(&error), "{address} was not let in");
                    }
                    Err(_) => tracing::warn!(%address, "{address} did not say what it wants"),
                }
            });
        }
    }

    async fn accept_source(&self, stream: TcpStream, acceptor: &TlsAcceptor) -> Result<()> {
        let lost = |error| Error::system("greet the connecting host")(error);
        stream.set_nodelay(true).map_err(lost)?;
        let stream = acceptor.accept(stream).await.map_err(lost)?;
        let certificates = stream.get_ref().1.peer_certificates().unwrap_or_default();
        let from = certificates.first().and_then(PeerHost::of);
        if !self.sources().values().any(|source| Some(&source.from) == from.as_ref()) {
            // Nothing of a stranger is read.
            return Err(StreamError::Stranger.into());
        }
        let mut stream = BufStream::with_capacity(INPUT_BUFFER_BYTES, 16 << 10, stream);
        let hello = frame::receive_hello(&mut stream).await?;
        let source = self.sources().get(&hello.migration).cloned();
        match source.filter(|source| source.hello == hello && Some(&source.from) == from.as_ref()) {
            Some(source) => source
                .connections
                .send(SourceConnection(Box::new(stream)))
                .await
                .map_err(|_| StreamError::TooLate { migration: hello.migration }.into()),
            None => {
                let refusal = Frame::Answer(Err("it does not expect this migration".into()));
                frame::send(&mut stream, &refusal).await.map_err(lost)?;
                stream.flush().await.map_err(lost)?;
                Err(StreamError::NotExpected { migration: hello.migration }.into())
            }
        }
    }

    fn sources(&self) -> parking_lot::MutexGuard<'_, HashMap<MigrationId, ExpectedSource>> {
        self.0.lock()
    }
}

/// The connections that have not been let in, by address.
#[derive(Debug, Clone, Default)]
struct Arrivals(Arc<Mutex<HashMap<IpAddr, usize>>>);

/// A connection that has not been let in, until this value is dropped.
#[derive(Debug)]
struct Arrival {
    arrivals: Arrivals,
    address: IpAddr,
}

impl Arrivals {
    /// Counts a connection; `None` if the address has too many.
    fn begin(&self, address: IpAddr) -> Option<Arrival> {
        let mut counts = self.0.lock();
        let count = counts.entry(address).or_default();
        if *count >= ARRIVALS_MAX {
            return None;
        }
        *count += 1;
        Some(Arrival { arrivals: self.clone(), address })
    }
}

impl Drop for Arrival {
    fn drop(&mut self) {
        let mut counts = self.arrivals.0.lock();
        if let Some(count) = counts.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.address);
            }
        }
    }
}

impl ExpectedConnection {
    /// Waits for the next connection of the source.
    pub(crate) async fn connected(&mut self) -> SourceConnection {
        match self.connections.recv().await {
            Some(incoming) => incoming,
            // The sender lives as long as this value.
            None => std::future::pending().await,
        }
    }
}

impl Drop for ExpectedConnection {
    fn drop(&mut self) {
        self.listener.sources().remove(&self.migration);
    }
}

impl SourceConnection {
    async fn answer(&mut self, answer: &Frame) -> Result<()> {
        frame::send(self.0.as_mut(), answer).await.map_err(Error::system("answer the source"))?;
        self.0.flush().await.map_err(Error::system("answer the source"))
    }

    /// Receives the capsule until it is complete or the connection is lost. Awaits `frozen` when
    /// the first part of the frozen job arrives.
    pub(crate) async fn receive(
        mut self,
        job_dir: &JobDir,
        checkpoint: &Checkpoint,
        frozen: impl AsyncFnOnce() -> Result<()>,
    ) -> Reception {
        let mut receiver = CapsuleReceiver::new(job_dir, checkpoint);
        let mut frozen = Some(frozen);
        loop {
            let outcome = async {
                let frame = frame::receive(self.0.as_mut()).await?;
                if matches!(frame, Frame::Chunk { .. })
                    && let Some(frozen) = frozen.take()
                {
                    frozen().await?;
                }
                let taken = receiver.accept(frame).await?;
                match taken {
                    Received::More => {}
                    Received::PreCopied => receiver.wait_for_files().await?,
                    Received::Sealed => receiver.complete().await?,
                }
                Ok::<_, Error>(taken)
            };
            let step = outcome.await;
            let answer = match step {
                Ok(Received::More) => continue,
                Ok(Received::PreCopied | Received::Sealed) => Frame::Answer(Ok(())),
                Err(ref error) => Frame::Answer(Err(error.chain())),
            };
            let answered = self.answer(&answer).await;
            match (step, frozen.is_none()) {
                // The capsule is complete and sealed, even when the confirmation does not reach the
                // source.
                (Ok(Received::Sealed), _) => return Reception::Complete,
                (Ok(Received::More | Received::PreCopied), _) if answered.is_ok() => {}
                (step, frozen) => {
                    let error = step.err().or(answered.err()).unwrap_or_else(|| StreamError::Closed.into());
                    return if frozen { Reception::LostAfterFreeze(error) } else { Reception::LostBeforeFreeze(error) };
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use mooring_api::watch::JoinAnswer;
    use mooring_ops::Lifecycle;
    use mooring_tls::{Authority, Daemon};
    use mooring_types::{Clock, HostId, JobId, SystemClock};
    use tokio::io::AsyncReadExt;
    use tokio_rustls::TlsConnector;

    use super::*;

    fn hello() -> Hello {
        let mut rng = rand::rng();
        Hello { migration: MigrationId::random(&mut rng), job: JobId::random(&mut rng), token: "token".into() }
    }

    /// A host that has joined, its name for others, and the directory of its state.
    struct Member {
        identity: Arc<Identity>,
        name: PeerHost,
        _state_dir: tempfile::TempDir,
    }

    fn member(authority: &Authority) -> Member {
        let state_dir = tempfile::tempdir().unwrap();
        let identity = Arc::new(Identity::open(state_dir.path()).unwrap());
        let host = HostId::random(&mut rand::rng());
        let daemon = Daemon::Host(host.clone());
        let certificate = authority.issue(&daemon, &identity.request().unwrap(), SystemClock.now()).unwrap();
        let answer = JoinAnswer { host: host.clone(), certificate, authority: authority.pem().to_owned() };
        identity.joined(&answer).unwrap();
        let name = PeerHost { host, key: identity.shown().key_fingerprint() };
        Member { identity, name, _state_dir: state_dir }
    }

    fn authority() -> Authority {
        Authority::open(tempfile::tempdir().unwrap().path(), SystemClock.now()).unwrap()
    }

    /// A listener that serves on loopback, and its host.
    async fn served(authority: &Authority) -> (MigrationListener, SocketAddr, Member) {
        let (listener, own, socket) =
            (MigrationListener::default(), member(authority), TcpListener::bind("127.0.0.1:0").await.unwrap());
        let (address, serving, identity) = (socket.local_addr().unwrap(), listener.clone(), own.identity.clone());
        let tasks = Lifecycle::new().tasks().clone();
        let arrivals = tasks.clone();
        tasks.spawn("listener", async move { serving.serve(socket, &identity, &arrivals).await });
        (listener, address, own)
    }

    /// Connects, sends bytes, and returns whether the peer ends the connection.
    async fn ends(member: &Member, to: SocketAddr, other: &Member, bytes: &[u8]) -> bool {
        let connector = TlsConnector::from(member.identity.client().unwrap());
        let stream = TcpStream::connect(to).await.unwrap();
        let mut stream = connector.connect(other.name.server_name().unwrap(), stream).await.unwrap();
        // The peer may close before it has read.
        let _ = stream.write_all(bytes).await;
        let read = tokio::time::timeout(Duration::from_secs(2), stream.read(&mut [0; 64])).await;
        read.is_ok_and(|read| read.unwrap_or(0) == 0)
    }

    #[tokio::test]
    async fn stranger_is_not_read_and_an_expected_source_has_a_short_hello() {
        let authority = authority();
        let (listener, address, own) = served(&authority).await;
        let (expected, stranger) = (member(&authority), member(&authority));
        let _expected = listener.expect(hello(), expected.name.clone());
        // A frame of 8 MiB whose end never comes.
        let long = [[1, 0, 0x7f, 0xff, 0].as_slice(), &[0; 5000]].concat();
        assert!(ends(&stranger, address, &own, &long).await);
        assert!(ends(&expected, address, &own, &long).await);
        // A stranger is not asked what it wants.
        assert!(ends(&stranger, address, &own, &[]).await);
        assert!(!ends(&expected, address, &own, &[]).await, "an expected source has its time");
        // The right id with another key, as after a join that replaced the host's key.
        let other_key = PeerHost { key: stranger.name.key, ..expected.name.clone() };
        let (listener, address, own) = served(&authority).await;
        let _expected = listener.expect(hello(), other_key);
        assert!(ends(&expected, address, &own, &[]).await);
    }

    #[tokio::test]
    async fn host_of_another_authority_has_no_connection() {
        let (own, other) = (authority(), authority());
        let (_listener, address, serving) = served(&own).await;
        let stranger = member(&other);
        let connector = TlsConnector::from(stranger.identity.client().unwrap());
        let stream = TcpStream::connect(address).await.unwrap();
        assert!(connector.connect(serving.name.server_name().unwrap(), stream).await.is_err());
        // One that takes the listener for anybody is refused by the listener.
        let identity = mooring_tls::Identity::generate().unwrap();
        let daemon = Daemon::Host(HostId::random(&mut rand::rng()));
        let certificate = other.issue(&daemon, &identity.request().unwrap(), SystemClock.now()).unwrap();
        identity.set_certificate(&certificate).unwrap();
        let config = mooring_tls::connect_to_daemons(Arc::new(identity), own.pem()).unwrap();
        let stream = TcpStream::connect(address).await.unwrap();
        let connected = TlsConnector::from(config).connect(serving.name.server_name().unwrap(), stream).await;
        // TLS 1.3: the refusal comes with the first read.
        let read = match connected {
            Ok(mut stream) => stream.read(&mut [0; 1]).await,
            Err(error) => Err(error),
        };
        assert!(read.is_err(), "{read:?}");
    }

    #[test]
    fn connections_of_an_address_are_counted() {
        let (arrivals, one, other) = (Arrivals::default(), [10, 0, 0, 1].into(), [10, 0, 0, 2].into());
        let mut begun: Vec<_> = (0..ARRIVALS_MAX).map(|_| arrivals.begin(one).unwrap()).collect();
        assert!(arrivals.begin(one).is_none() && arrivals.begin(other).is_some());
        begun.pop();
        assert!(arrivals.begin(one).is_some());
    }
}
