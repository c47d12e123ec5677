//! A line between a client and a server that can be cut, held or bad.

use std::net::SocketAddr;

use anyhow::Result;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// The treatment of bytes that are sent through a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Passes,
    Holds,
    /// Flips a bit in what is long enough to be of a body.
    Flips,
}

/// A TCP port that passes on to another.
pub(crate) struct Line {
    address: SocketAddr,
    server: SocketAddr,
    state: watch::Sender<State>,
    carried: watch::Sender<usize>,
    answered: watch::Sender<usize>,
    task: JoinSet<Result<()>>,
}

impl Line {
    pub(crate) async fn to(server: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (state, watching) = watch::channel(State::Passes);
        let (carried, answered) = (watch::Sender::new(0), watch::Sender::new(0));
        let mut task = JoinSet::new();
        task.spawn(accept(listener, server, watching, carried.clone(), answered.clone()));
        Ok(Self { address, server, state, carried, answered, task })
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns once the client has sent `bytes` bytes.
    pub(crate) async fn has_carried(&mut self, bytes: usize) -> Result<()> {
        self.carried.subscribe().wait_for(|carried| *carried >= bytes).await?;
        Ok(())
    }

    /// Returns once the server has sent `bytes` bytes.
    pub(crate) async fn has_answered(&mut self, bytes: usize) -> Result<()> {
        self.answered.subscribe().wait_for(|answered| *answered >= bytes).await?;
        Ok(())
    }

    /// Takes connections again after a cut.
    pub(crate) async fn mend(&mut self) -> Result<()> {
        let listener = TcpListener::bind(self.address).await?;
        let (watching, carried, answered) = (self.state.subscribe(), self.carried.clone(), self.answered.clone());
        self.task.spawn(accept(listener, self.server, watching, carried, answered));
        Ok(())
    }

    /// Breaks what is open and refuses what comes.
    pub(crate) async fn cut(&mut self) {
        self.task.shutdown().await;
    }

    /// Passes on something else from now on.
    pub(crate) fn flip(&self) {
        self.state.send_replace(State::Flips);
    }

    /// Keeps everything open and passes on nothing.
    pub(crate) fn hold(&self) {
        self.state.send_replace(State::Holds);
    }
}

async fn accept(
    listener: TcpListener,
    server: SocketAddr,
    state: watch::Receiver<State>,
    carried: watch::Sender<usize>,
    answered: watch::Sender<usize>,
) -> Result<()> {
    let mut connections = JoinSet::new();
    loop {
        let (client, _) = listener.accept().await?;
        connections.spawn(pass(client, server, state.clone(), carried.clone(), answered.clone()));
    }
}

async fn pass(
    client: TcpStream,
    server: SocketAddr,
    mut state: watch::Receiver<State>,
    carried: watch::Sender<usize>,
    answered: watch::Sender<usize>,
) -> Result<()> {
    let (mut from_server, mut to_server) = TcpStream::connect(server).await?.into_split();
    let (mut from_client, mut to_client) = client.into_split();
    let back = async {
        let mut buffer = vec![0; 64 << 10];
        loop {
            let taken = from_server.read(&mut buffer).await?;
            if taken == 0 {
                return Ok(());
            }
            to_client.write_all(&buffer[..taken]).await?;
            answered.send_modify(|answered| *answered += taken);
        }
    };
    let forth = async {
        let mut buffer = vec![0; 64 << 10];
        loop {
            let taken = from_client.read(&mut buffer).await?;
            if taken == 0 {
                return Ok(());
            }
            if *state.wait_for(|state| *state != State::Holds).await? == State::Flips && taken > 16 << 10 {
                buffer[taken / 2] ^= 1;
            }
            to_server.write_all(&buffer[..taken]).await?;
            carried.send_modify(|carried| *carried += taken);
        }
    };
    tokio::select! {
        done = back => done,
        done = forth => done,
    }
}
