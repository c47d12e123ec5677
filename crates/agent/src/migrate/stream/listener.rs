//! The destination's end of a migration between hosts: admits expected sources and receives
//! capsules.

use std::collections::HashMap;
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
use super::tls::{Identity, fingerprint};
use crate::error::{Error, Result, StreamError};
use crate::runtime::checkpoint::Checkpoint;
use crate::runtime::job_dir::JobDir;

const HELLO_TIMEOUT: Duration = Duration::from_secs(10);
const INPUT_BUFFER_BYTES: usize = 512 << 10;

type Stream = BufStream<TlsStream<TcpStream>>;

/// The migrations whose source may connect.
#[derive(Debug, Clone, Default)]
pub(crate) struct MigrationListener(Arc<Mutex<HashMap<MigrationId, ExpectedSource>>>);

#[derive(Debug, Clone)]
struct ExpectedSource {
    hello: Hello,
    from: String,
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
    pub(crate) fn expect(&self, hello: Hello, from: String) -> ExpectedConnection {
        let (sender, connections) = mpsc::channel(1);
        let migration = hello.migration.clone();
        self.sources().insert(migration.clone(), ExpectedSource { hello, from, connections: sender });
        ExpectedConnection { listener: self.clone(), migration, connections }
    }

    /// Accepts connections and never returns without an error.
    pub(crate) async fn serve(&self, listener: TcpListener, identity: &Identity, tasks: &Tasks) -> Result<()> {
        let acceptor = TlsAcceptor::from(identity.server()?);
        loop {
            let (stream, address) = accept::next(&listener, "the source of a migration").await;
            let (listener, acceptor) = (self.clone(), acceptor.clone());
            tasks.spawn("arrival", async move {
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
        let from = certificates.first().map(fingerprint).unwrap_or_default();
        let mut stream = BufStream::with_capacity(INPUT_BUFFER_BYTES, 16 << 10, stream);
        let Frame::Hello(hello) = frame::receive(&mut stream).await? else {
            return Err(StreamError::NoHello.into());
        };
        let source = self.sources().get(&hello.migration).cloned();
        match source.filter(|source| source.hello == hello && source.from == from) {
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
