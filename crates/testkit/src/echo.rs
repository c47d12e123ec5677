//! The job's end of a [`load`](crate::load): HTTP that says what was asked for, and WebSockets that
//! say what they were told.
//!
//! A small server whose thousands of connections are checkpointed like those of any program.
//! `GET /ws` with an upgrade becomes a WebSocket on which every message comes back. Any other `GET`
//! is answered with its path.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context, Result};
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

use crate::streams::program_named;

/// The program `echo-server` beside the running test or measurement.
pub fn program() -> Result<PathBuf> {
    program_named("echo-server")
}

/// Serves at each of the addresses until a listener fails.
pub async fn serve(addresses: &[SocketAddr]) -> Result<()> {
    let mut listeners = Vec::new();
    for address in addresses {
        listeners.push(TcpListener::bind(address).await.with_context(|| format!("listen at {address}"))?);
    }
    serve_at(listeners).await
}

/// Serves at bound listeners until one fails.
pub async fn serve_at(listeners: Vec<TcpListener>) -> Result<()> {
    let mut servers: JoinSet<Result<()>> = listeners.into_iter().map(accept).collect();
    while let Some(ended) = servers.join_next().await {
        ended??;
    }
    Ok(())
}

async fn accept(listener: TcpListener) -> Result<()> {
    let mut connections = JoinSet::new();
    loop {
        let (tcp, _) = listener.accept().await.context("accept a connection")?;
        tcp.set_nodelay(true)?;
        connections.spawn(answer(tcp));
        while connections.try_join_next().is_some() {}
    }
}

/// Answers one request after the other, until the client goes or wants a WebSocket.
async fn answer(tcp: TcpStream) -> Result<()> {
    let mut tcp = BufReader::new(tcp);
    loop {
        let mut first = String::new();
        if tcp.read_line(&mut first).await? == 0 {
            return Ok(());
        }
        let path = first.split_whitespace().nth(1).unwrap_or_default().to_owned();
        let mut key = None;
        loop {
            let mut line = String::new();
            tcp.read_line(&mut line).await?;
            match line.trim_end().split_once(':') {
                None => break,
                Some((name, value)) if name.eq_ignore_ascii_case("sec-websocket-key") => {
                    key = Some(value.trim().to_owned());
                }
                Some(_) => {}
            }
        }
        let Some(key) = key else {
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", path.len());
            tcp.write_all(format!("{head}{path}").as_bytes()).await?;
            continue;
        };
        let accept = derive_accept_key(key.as_bytes());
        let head = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n";
        tcp.write_all(format!("{head}Sec-WebSocket-Accept: {accept}\r\n\r\n").as_bytes()).await?;
        return echo(tcp).await;
    }
}

async fn echo(tcp: BufReader<TcpStream>) -> Result<()> {
    // A client of the load waits for the upgrade before it speaks: nothing is in the buffer.
    let mut socket = WebSocketStream::from_raw_socket(tcp.into_inner(), Role::Server, None).await;
    while let Some(message) = socket.next().await {
        let message = message?;
        if message.is_text() {
            socket.send(message).await?;
        }
    }
    Ok(())
}
