//! Finds out what a client speaks, and serves it.
//!
//! | the connection's protocol | the client | session |
//! |---|---|---|
//! | `tcp` | any | as `auto` of a silent client, without a wait |
//! | `http` | speaks, with the preface of HTTP/2 | [`http::serve_http2`] |
//! | `http` | speaks | [`http::serve_http1`], which answers garbage with 400 |
//! | `auto` | speaks | by its first bytes: HTTP/2, HTTP/1 or a tunnel |
//! | any but `tcp` | sends a PROXY line, and is no trusted proxy | refused; with `tcp`, where proxies are trusted |
//! | `auto` | is silent | connected to the job; the side that speaks first decides |
//!
//! A browser opens connections before it needs them. Such a connection is silent for long, and HTTP
//! in the end.
//!
//! No request of a browser may pass unread, since it has the cookies of all ports. To read them, a
//! job could speak first, or have its port connected with `tcp`. A client that sends a request
//! after the job has spoken is cut off.

use std::io;
use std::pin::pin;
use std::time::Duration;

use mooring_types::gateway::Protocol;
use tokio::time::{sleep, timeout};

use crate::client::ClientConnection;
use crate::client_socket::ClientSocket;
use crate::detect::{DETECT_TIMEOUT, FirstBytes, first_bytes};
use crate::proxy_line;
use crate::relay::Content;
use crate::upstream::{Connected, Upstream};
use crate::{http, tunnel};

/// The protocol of a client, with its connection to the job if there is one already.
#[derive(Debug)]
pub enum Session {
    Http1(Option<Connected>),
    Http2,
    Tunnel(Option<Connected>, Content),
}

impl Session {
    /// Finds out what a client speaks. A client of HTTP may be silent for `idle`.
    ///
    /// # Errors
    /// The client's connection broke, or the job could not be reached.
    pub async fn detect(
        protocol: Protocol,
        client: &ClientSocket,
        upstream: &Upstream,
        idle: Duration,
    ) -> io::Result<Self> {
        match protocol {
            Protocol::Tcp => Self::of_silent_client(client, upstream).await,
            Protocol::Http => Ok(match timeout(idle, first_bytes(client, late(upstream))).await?? {
                FirstBytes::Http2 => Self::Http2,
                FirstBytes::ProxyLine => return Err(proxy_line::refusal()),
                _ => Self::Http1(None),
            }),
            Protocol::Auto => match timeout(DETECT_TIMEOUT, client.peek(&mut [0])).await {
                Ok(peeked) => {
                    peeked?;
                    Self::of(first_bytes(client, late(upstream)).await?, None, upstream)
                }
                Err(_) => Self::of_silent_client(client, upstream).await,
            },
        }
    }

    /// Serves a client until its session ends.
    ///
    /// # Errors
    /// A side broke, the job could not be reached, or the client violates its protocol.
    pub async fn serve(self, client: ClientConnection) -> io::Result<()> {
        // Each future is large, and a client needs one of them.
        match self {
            Self::Tunnel(connected, content) => {
                Box::pin(tunnel::tunnel(&client.socket, connected, client.address.ip(), &client.upstream, content))
                    .await
            }
            Self::Http1(connected) => Box::pin(http::serve_http1(client, connected)).await,
            Self::Http2 => Box::pin(http::serve_http2(client)).await,
        }
    }

    /// Connects to the job, which may be the side that speaks first.
    async fn of_silent_client(client: &ClientSocket, upstream: &Upstream) -> io::Result<Self> {
        let mut connecting = pin!(upstream.connect());
        let connected = tokio::select! {
            biased;
            bytes = first_bytes(client, late(upstream)) => {
                // A connection that is under way is used: to the job a second one would be another
                // client, and the first one a client that leaves.
                let begun = timeout(DETECT_TIMEOUT, connecting.as_mut()).await;
                return Self::of(bytes?, begun.ok().transpose()?, upstream);
            }
            connected = connecting.as_mut() => connected?,
        };
        tokio::select! {
            biased;
            // Bytes, an end and an error alike are for the client to see.
            () = connected.stream.arrived() => {}
            _ = upstream.end(connected.epoch) => {}
            bytes = first_bytes(client, late(upstream)) => return Self::of(bytes?, Some(connected), upstream),
        }
        Ok(Self::Tunnel(Some(connected), Content::Unexamined))
    }

    fn of(bytes: FirstBytes, connected: Option<Connected>, upstream: &Upstream) -> io::Result<Self> {
        Ok(match bytes {
            FirstBytes::Http1 => Self::Http1(connected),
            FirstBytes::Http2 => Self::Http2,
            FirstBytes::ProxyLine if !upstream.routes.now().passes_proxy_lines() => return Err(proxy_line::refusal()),
            FirstBytes::Other | FirstBytes::Undecided | FirstBytes::ProxyLine => {
                Self::Tunnel(connected, Content::Bytes)
            }
        })
    }
}

/// Waits until first bytes are late. While the job is away there is no hurry: half a line wakes
/// nothing, and the rest may come.
async fn late(upstream: &Upstream) {
    sleep(DETECT_TIMEOUT).await;
    upstream.gate.opened().await;
}
