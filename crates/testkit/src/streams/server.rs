//! The other end of the streams: what the program `streamer` does in a job.
//!
//! Sockets at full speed are nearly always ready, so each direction yields after every block.
//! Otherwise a connection would wait for the turns of all others, and a test would measure that.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinSet, yield_now};
use tokio_util::sync::CancellationToken;

use super::frame::{HEAD, Summary, head};
use super::source::{BLOCK, Checker, Source};

/// Listens at `address` and serves every connection until the process ends. `say` is told where it
/// listens, and of each connection's end.
pub async fn run(address: SocketAddr, mut say: impl FnMut(String)) -> Result<()> {
    let listener = TcpListener::bind(address).await.with_context(|| format!("listen at {address}"))?;
    say(format!("listening {}", listener.local_addr()?));
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (tcp, peer) = accepted.context("accept a connection")?;
                connections.spawn(async move { (peer, serve(tcp).await) });
            }
            Some(ended) = connections.join_next() => match ended.context("serve a connection")? {
                (peer, Ok(summary)) => say(format!(
                    "{peer} ended: received {} bytes, sent {}", summary.received.count, summary.sent.count
                )),
                (peer, Err(error)) => say(format!("{peer} broke: {error:#}")),
            }
        }
    }
}

async fn serve(tcp: TcpStream) -> Result<Summary> {
    let (mut input, mut output) = tcp.into_split();
    let seed = input.read_u64().await.context("read the seed")?;
    let (mut received, mut sent) = (Checker::new(seed), Source::new(seed.wrapping_add(1)));
    let (enough, count) = (CancellationToken::new(), AtomicU64::new(0));
    let receive = async {
        let outcome = receive(input, &mut received, &count).await;
        enough.cancel();
        outcome
    };
    let (receiving, sending) = tokio::join!(receive, send(&mut output, &mut sent, &count, &enough));
    receiving.and(sending)?;
    let summary =
        Summary { first_difference: received.first_difference(), received: received.digest(), sent: sent.digest() };
    output.write_all(&summary.frame()).await.context("send the last frame")?;
    output.shutdown().await.context("end the server's half")?;
    Ok(summary)
}

/// Receives until the client ends its half.
async fn receive(mut input: OwnedReadHalf, received: &mut Checker, count: &AtomicU64) -> Result<()> {
    let mut buffer = vec![0; BLOCK];
    loop {
        match input.read(&mut buffer).await.context("receive")? {
            0 => return Ok(()),
            length => {
                received.check(&buffer[..length]);
                count.fetch_add(length as u64, Ordering::Relaxed);
            }
        }
        yield_now().await;
    }
}

/// Sends until it is enough, and says each time how much was received.
async fn send(
    output: &mut OwnedWriteHalf,
    sent: &mut Source,
    received: &AtomicU64,
    enough: &CancellationToken,
) -> Result<()> {
    let mut frame = vec![0; HEAD + BLOCK];
    while !enough.is_cancelled() {
        let block = sent.block();
        frame[..HEAD].copy_from_slice(&head(u32::try_from(block.len())?, received.load(Ordering::Relaxed)));
        frame[HEAD..].copy_from_slice(block);
        output.write_all(&frame).await.context("send")?;
        yield_now().await;
    }
    Ok(())
}
