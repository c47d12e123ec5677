//! Which versions of HTTP a job speaks at a port. Its clients find that out once, for all of them.
//!
//! A job may know HTTP/1.1, or HTTP/2 without TLS from the first byte, as gRPC does, or both. No
//! server is bothered with HTTP/2 that has shown HTTP/1.1, unless a call of gRPC asks for it:
//!
//! | a request | goes over |
//! |---|---|
//! | of an HTTP/2 client, and the job is known to speak HTTP/2 | HTTP/2 |
//! | of gRPC, or one that can't be repeated and nothing is known | what a look finds out |
//! | any other | HTTP/1.1; if the job closes without an answer, what a look finds out |
//!
//! A job may also speak TLS itself, which clients of a port of unknown protocol find out.
//!
//! A look is a connection of its own: a preface, upon which a server of HTTP/2 sends its settings.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hyper::header::{self, HeaderMap};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout};

use crate::tls::HANDSHAKE_RECORD;
use crate::upstream::Upstream;

/// The preface of HTTP/2 and an empty frame of settings (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
/// A frame that says goodbye (RFC 9113, section 6.8).
const GO_AWAY: &[u8] = b"\0\0\x08\x07\0\0\0\0\0\0\0\0\0\0\0\0\0";
const FRAME_HEAD_BYTES: usize = 9;
const SETTINGS: u8 = 4;
/// Time limit of a look. The time of a closed gate does not count.
const LOOK_TIMEOUT: Duration = Duration::from_secs(2);
/// The least time between two looks: a job that breaks off its answers is not looked at each time.
const LOOK_INTERVAL: Duration = Duration::from_secs(10);

/// The version of HTTP of a connection to a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum JobHttp {
    Http1,
    Http2,
}

/// The properties of a request that decide about its version.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asks {
    pub(crate) of_grpc: bool,
    pub(crate) repeatable: bool,
}

/// The knowledge of a job.
#[derive(Debug, Default)]
pub struct Speech {
    known: Mutex<Known>,
    look: tokio::sync::Mutex<()>,
    answers_tls: AtomicBool,
}

#[derive(Debug, Default, Clone, Copy)]
struct Known {
    epoch: u64,
    http1: bool,
    http2: Option<bool>,
    looked: Option<Instant>,
}

impl Speech {
    /// Returns the version for a request of an HTTP/2 client; `None` if a look has to find it out.
    pub(crate) fn version(&self, epoch: u64, asks: Asks) -> Option<JobHttp> {
        let known = self.known(epoch);
        match known.http2 {
            Some(true) => Some(JobHttp::Http2),
            None if asks.of_grpc || !asks.repeatable && !known.http1 => None,
            _ => Some(JobHttp::Http1),
        }
    }

    /// Chooses the version for a request of an HTTP/2 client to a job that listens.
    pub(crate) async fn choose(&self, upstream: &Upstream, asks: Asks) -> JobHttp {
        match self.version(upstream.routes.now().epoch, asks) {
            Some(version) => version,
            None if self.look(upstream).await => JobHttp::Http2,
            None => JobHttp::Http1,
        }
    }

    /// Returns whether a job that has closed without an answer speaks HTTP/2, and not HTTP/1.1.
    pub(crate) async fn is_http2_alone(&self, upstream: &Upstream) -> bool {
        let epoch = upstream.routes.now().epoch;
        {
            // It may be another program by now.
            let mut known = self.known.lock();
            known.http1 = false;
            if known.epoch == epoch && known.http2 == Some(true) {
                return true;
            }
            known.http2 = None;
        }
        self.look(upstream).await
    }

    /// Records that a job has answered a request of HTTP/1.1.
    pub(crate) fn answers_http1(&self, epoch: u64) {
        self.change(epoch, |known| known.http1 = true);
    }

    /// Records that a job has not answered a request of HTTP/2.
    pub(crate) fn forget(&self, epoch: u64) {
        self.change(epoch, |known| (known.http2, known.looked) = (None, None));
    }

    /// Records the first byte of an answer to a hello of TLS.
    pub(crate) fn answers_hello(&self, first: u8) {
        if first == HANDSHAKE_RECORD {
            self.answers_tls.store(true, Ordering::Relaxed);
        }
    }

    /// Returns whether the job has answered a hello of TLS with its own.
    pub(crate) fn answers_tls(&self) -> bool {
        self.answers_tls.load(Ordering::Relaxed)
    }

    fn known(&self, epoch: u64) -> Known {
        let known = *self.known.lock();
        if known.epoch == epoch { known } else { Known { epoch, ..Known::default() } }
    }

    fn change(&self, epoch: u64, change: impl FnOnce(&mut Known)) {
        let mut known = self.known.lock();
        if known.epoch != epoch {
            *known = Known { epoch, ..Known::default() };
        }
        change(&mut known);
    }

    async fn look(&self, upstream: &Upstream) -> bool {
        let _one_at_a_time = self.look.lock().await;
        let epoch = upstream.routes.now().epoch;
        let known = self.known(epoch);
        if let Some(speaks) = known.http2 {
            return speaks;
        }
        if known.looked.is_some_and(|looked| looked.elapsed() < LOOK_INTERVAL) {
            return false;
        }
        let outcome = look(upstream).await;
        self.change(epoch, |known| {
            (known.http2, known.looked) = (outcome.as_ref().ok().copied(), Some(Instant::now()));
        });
        outcome.unwrap_or_else(|error| {
            tracing::debug!(%error, "can't find out whether a job speaks HTTP/2");
            false
        })
    }
}

/// Returns whether a request is a call of gRPC.
pub(crate) fn is_of_grpc(request: &HeaderMap) -> bool {
    request.get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}

/// Returns whether a job answers the preface of HTTP/2 as a server of it does.
async fn look(upstream: &Upstream) -> io::Result<bool> {
    let mut stream = upstream.connect_once().await?.stream;
    let gate = upstream.gate.clone();
    let ask = async {
        stream.write_all(PREFACE).await?;
        let mut head = [0; FRAME_HEAD_BYTES];
        match stream.read_exact(&mut head).await {
            Ok(_) => {}
            Err(_) => return Ok(false),
        }
        let is_settings = head[3] == SETTINGS && head[4] & 1 == 0 && head[5..] == [0; 4];
        if is_settings {
            stream.write_all(GO_AWAY).await?;
        }
        Ok(is_settings)
    };
    let silence = async {
        loop {
            gate.opened().await;
            if timeout(LOOK_TIMEOUT, gate.closed()).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        outcome = ask => outcome,
        () = silence => Err(io::ErrorKind::TimedOut.into()),
    }
}
