//! The destination's side of a move from another host: who may come, and taking in what comes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mooring_ops::Tasks;
use mooring_types::MigrationId;
use tokio::io::{AsyncWriteExt, BufStream};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::frame::{self, Frame, Hello};
use super::intake::{Intake, Taken};
use super::secure::{Identity, fingerprint};
use crate::error::{Error, Result};
use crate::runtime::checkpoint::Checkpoint;
use crate::runtime::place::Place;

const HELLO_LIMIT: Duration = Duration::from_secs(10);
const BUFFER: usize = 512 << 10;

type Stream = BufStream<TlsStream<TcpStream>>;

/// The attempts that are expected.
#[derive(Debug, Clone, Default)]
pub(crate) struct Arrivals(Arc<Mutex<HashMap<MigrationId, Guest>>>);

#[derive(Debug, Clone)]
struct Guest {
    hello: Hello,
    from: String,
    door: mpsc::Sender<Incoming>,
}

/// An attempt that is expected; leaving by drop.
#[derive(Debug)]
pub(crate) struct Expected {
    arrivals: Arrivals,
    migration: MigrationId,
    door: mpsc::Receiver<Incoming>,
}

/// A connection from the source of an expected attempt.
#[derive(Debug)]
pub(crate) struct Incoming(Box<Stream>);

/// How far a capsule has come when the connection ended.
#[derive(Debug)]
pub(crate) enum Received {
    /// All of it is there.
    Whole,
    /// The connection broke while the job still executed at its source: it may come again.
    Ahead(Error),
    /// It broke after the job was frozen.
    Broken(Error),
}

impl Arrivals {
    /// Lets the source of an attempt in.
    pub(crate) fn expect(&self, hello: Hello, from: String) -> Expected {
        let (sender, door) = mpsc::channel(1);
        let migration = hello.migration.clone();
        self.guests().insert(migration.clone(), Guest { hello, from, door: sender });
        Expected { arrivals: self.clone(), migration, door }
    }

    /// Takes connections, for ever.
    pub(crate) async fn serve(&self, listener: TcpListener, identity: &Identity, tasks: &Tasks) -> Result<()> {
        let acceptor = TlsAcceptor::from(identity.server()?);
        loop {
            match listener.accept().await {
                Ok((stream, address)) => {
                    let (arrivals, acceptor) = (self.clone(), acceptor.clone());
                    tasks.spawn("arrival", async move {
                        match tokio::time::timeout(HELLO_LIMIT, arrivals.welcome(stream, &acceptor)).await {
                            Ok(Ok(())) => {}
                            Ok(Err(error)) => {
                                tracing::warn!(%address, error = &error as &dyn std::error::Error, "{address} was not let in");
                            }
                            Err(_) => tracing::warn!(%address, "{address} did not say what it wants"),
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "can't accept a capsule's connection");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }

    async fn welcome(&self, stream: TcpStream, acceptor: &TlsAcceptor) -> Result<()> {
        let lost = |error| Error::system("greet the other host")(error);
        stream.set_nodelay(true).map_err(lost)?;
        let stream = acceptor.accept(stream).await.map_err(lost)?;
        let certificates = stream.get_ref().1.peer_certificates().unwrap_or_default();
        let from = certificates.first().map(fingerprint).unwrap_or_default();
        let mut stream = BufStream::with_capacity(BUFFER, 16 << 10, stream);
        let Frame::Hello(hello) = frame::receive(&mut stream).await? else {
            return Err(Error::Peer("did not introduce itself".into()));
        };
        let guest = self.guests().get(&hello.migration).cloned();
        match guest.filter(|guest| guest.hello == hello && guest.from == from) {
            Some(guest) => {
                guest.door.send(Incoming(Box::new(stream))).await.map_err(|_| Error::Peer("came too late".into()))
            }
            None => {
                let refusal = Frame::Answer(Err("this attempt is not expected here".into()));
                frame::send(&mut stream, &refusal).await.map_err(lost)?;
                stream.flush().await.map_err(lost)?;
                Err(Error::Peer(format!("is not expected with attempt {}", hello.migration)))
            }
        }
    }

    fn guests(&self) -> std::sync::MutexGuard<'_, HashMap<MigrationId, Guest>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Expected {
    /// The next connection of the source.
    pub(crate) async fn arrived(&mut self) -> Incoming {
        match self.door.recv().await {
            Some(incoming) => incoming,
            // The sender is kept as long as the attempt is expected.
            None => std::future::pending().await,
        }
    }
}

impl Drop for Expected {
    fn drop(&mut self) {
        self.arrivals.guests().remove(&self.migration);
    }
}

impl Incoming {
    async fn answer(&mut self, answer: &Frame) -> Result<()> {
        frame::send(self.0.as_mut(), answer).await.map_err(Error::system("answer the source"))?;
        self.0.flush().await.map_err(Error::system("answer the source"))
    }

    /// Takes in what comes until it is whole or breaks off. `frozen` is awaited when the first part of the frozen job arrives.
    pub(crate) async fn receive(
        mut self,
        place: &Place,
        checkpoint: &Checkpoint,
        frozen: impl AsyncFnOnce() -> Result<()>,
    ) -> Received {
        let mut intake = Intake::new(place, checkpoint);
        let mut frozen = Some(frozen);
        loop {
            let outcome = async {
                let frame = frame::receive(self.0.as_mut()).await?;
                if matches!(frame, Frame::Chunk { .. })
                    && let Some(frozen) = frozen.take()
                {
                    frozen().await?;
                }
                let taken = intake.take(frame).await?;
                match taken {
                    Taken::More => {}
                    Taken::Ahead => intake.files_are_there().await?,
                    Taken::Sealed => intake.whole().await?,
                }
                Ok::<_, Error>(taken)
            };
            let step = outcome.await;
            let answer = match step {
                Ok(Taken::More) => continue,
                Ok(Taken::Ahead | Taken::Sealed) => Frame::Answer(Ok(())),
                Err(ref error) => Frame::Answer(Err(error.told())),
            };
            let answered = self.answer(&answer).await;
            match (step, frozen.is_none()) {
                // Whether the source hears of it or not: all is here, and it has said that all may be used.
                (Ok(Taken::Sealed), _) => return Received::Whole,
                (Ok(Taken::More | Taken::Ahead), _) if answered.is_ok() => {}
                (step, frozen) => {
                    let error = step.err().or(answered.err()).unwrap_or_else(|| Error::Peer("went away".into()));
                    return if frozen { Received::Broken(error) } else { Received::Ahead(error) };
                }
            }
        }
    }
}
