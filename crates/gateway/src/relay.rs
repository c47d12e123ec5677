//! Relays bytes between a client and a job, until both directions end, a side breaks or the job is
//! replaced.
//!
//! A half-close and a reset are passed on. Back-pressure goes from end to end: bytes are read only
//! when those before them are written, but for one pipe. While the gate is closed the client's
//! connection stays open and is not read. Nothing is sent to the job, not even an end. A WebSocket
//! is read all the same, up to a bound, and its pings are answered (`unsent`).
//!
//! | event | the client sees |
//! |---|---|
//! | a side ends a direction | the end of that direction |
//! | a side breaks | a reset; if the job's side breaks while the job is away, then when it is back |
//! | the job is replaced, and ready | a WebSocket: what the job still sends, then a close frame with code 1012; else a reset |
//! | the job has ended | the end; a WebSocket gets no close frame, since the job has sent none |
//!
//! Bytes are moved by splice(2). They are read instead where they are looked at: on a WebSocket, in
//! order to follow its frames, and with TLS.

use std::io;
use std::os::fd::AsFd;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::FusedFuture;
use mooring_linux::splice::Pipe;
use parking_lot::{Mutex, MutexGuard};
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::client_socket::ClientSocket;
use crate::detect::{DETECT_TIMEOUT, FirstBytes, first_bytes};
use crate::gated::GatedStream;
use crate::http::speech::Speech;
use crate::proxy_line;
use crate::socket;
use crate::unsent::{Pongs, Unsent};
use crate::upstream::{Connected, ConnectionEnd, Upstream};
use crate::websocket::{CLOSE_RESTARTING, Frames};

/// The number of empty pipes that are kept for reuse.
const IDLE_PIPES_MAX: usize = 64;
/// Time limit of sending a close frame to a client.
const CLOSE_FRAME_TIMEOUT: Duration = Duration::from_secs(5);

/// The time that a replaced job has to end its side of a WebSocket. It may be gone for good.
const DRAIN_TIMEOUT: Duration = Duration::from_millis(500);

static IDLE_PIPES: Mutex<Vec<Pipe>> = Mutex::new(Vec::new());

/// The kind of the relayed bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// Any bytes.
    Bytes,
    /// Bytes of a client that has sent none yet. They may be anything but a request of HTTP.
    Unexamined,
    /// Bytes of a client that begins with a hello of TLS.
    Tls,
    /// WebSocket frames.
    WebSocket,
}

/// Bytes that were read before the relay began.
#[derive(Debug, Default)]
pub struct Early {
    pub from_client: Bytes,
    pub from_job: Bytes,
}

/// The side that broke.
enum Broken {
    Client(io::Error),
    Job(io::Error),
}

/// The end of a relay.
enum End {
    /// Both directions have ended.
    BothDirections,
    Broken(io::Error),
    /// The job was replaced or has ended.
    Job(ConnectionEnd),
}

/// The state that the two directions of a WebSocket share.
#[derive(Debug, Default)]
struct WebSocket {
    /// The frames that the client has got.
    frames: Mutex<Frames>,
    pongs: Pongs,
}

/// Relays the bytes of one client.
///
/// # Errors
/// A side broke; both connections have been reset.
pub async fn relay(
    client: &ClientSocket,
    job: Connected,
    upstream: &Upstream,
    content: Content,
    early: Early,
) -> io::Result<()> {
    let Connected { stream: job, epoch } = job;
    let websocket = (content == Content::WebSocket).then(WebSocket::default);
    let end = {
        let examines = (content == Content::Tls).then_some(&*upstream.speech);
        let mut to_client = pin!(to_client(&job, client, &early.from_job, websocket.as_ref(), examines).fuse());
        let to_job = async {
            match &websocket {
                Some(websocket) => frames_to_job(client, &job, early.from_client, &websocket.pongs).await,
                None => to_job(client, &job, &early.from_client, content, upstream).await,
            }
        };
        let end = tokio::select! {
            biased;
            end = upstream.end(epoch) => End::Job(end),
            end = both_directions(client, upstream, epoch, to_job, to_client.as_mut()) => end,
        };
        if websocket.is_some() && matches!(end, End::Job(ConnectionEnd::JobReplaced)) {
            drain(&job, to_client).await;
        }
        end
    };
    match end {
        End::BothDirections | End::Job(ConnectionEnd::JobEnded) => Ok(()),
        End::Broken(error) => {
            client.reset_on_drop();
            job.reset_on_drop();
            Err(error)
        }
        End::Job(ConnectionEnd::JobReplaced) => {
            job.reset_on_drop();
            drop(job);
            match websocket {
                None => client.reset_on_drop(),
                Some(WebSocket { frames, .. }) if lock(&frames).is_between_frames() => {
                    let uncounted = AtomicU64::new(0);
                    let close = send(client, &CLOSE_RESTARTING, &uncounted, None);
                    if matches!(timeout(CLOSE_FRAME_TIMEOUT, close).await, Ok(Ok(()))) {
                        return client.close_gracefully().await;
                    }
                }
                Some(_) => {}
            }
            Ok(())
        }
    }
}

async fn both_directions(
    client: &ClientSocket,
    upstream: &Upstream,
    epoch: u64,
    to_job: impl Future<Output = Result<(), Broken>>,
    to_client: impl Future<Output = Result<(), Broken>>,
) -> End {
    let to_client = async {
        to_client.await?;
        client.end().await.map_err(Broken::Client)
    };
    match tokio::try_join!(to_job, to_client) {
        Ok(_) => End::BothDirections,
        Err(Broken::Client(error)) => End::Broken(error),
        Err(Broken::Job(error)) => tokio::select! {
            job_replaced = upstream.job_replaced(epoch) => {
                if job_replaced { End::Job(ConnectionEnd::JobReplaced) } else { End::Broken(error) }
            }
            () = client.until_reset() => End::Broken(error),
        },
    }
}

/// Ends the direction to a replaced job, and passes on what the job sends until it ends its own.
///
/// A server keeps the output of a closed connection for the next one, as JupyterLab's does. Without
/// this, what it sent before it noticed the end would reach nobody.
async fn drain(job: &GatedStream, to_client: impl FusedFuture<Output = Result<(), Broken>>) {
    if to_client.is_terminated() || job.end_at_once().is_err() {
        return;
    }
    // The client is told of the end in any case.
    let _ = timeout(DRAIN_TIMEOUT, to_client).await;
}

async fn to_job(
    client: &ClientSocket,
    job: &GatedStream,
    early: &[u8],
    content: Content,
    upstream: &Upstream,
) -> Result<(), Broken> {
    job.send(early).await.map_err(Broken::Job)?;
    if content == Content::Unexamined {
        refuse_request(client, upstream).await.map_err(Broken::Client)?;
    }
    loop {
        job.gate().opened().await;
        // What has to be kept is read: a pipe is emptied by sending.
        let received = if job.keeps_what_is_sent() {
            read(From::Client(client)).await
        } else {
            receive(From::Client(client)).await
        };
        match received.map_err(Broken::Client)? {
            Received::End => return job.send_end().await.map_err(Broken::Job),
            Received::Piped(mut pipe) => {
                job.send_from(&mut pipe).await.map_err(Broken::Job)?;
                release(pipe);
            }
            Received::Read(bytes) => job.send(&bytes).await.map_err(Broken::Job)?,
        }
    }
}

/// Sends the frames of a WebSocket's client. While the gate is closed they wait, up to a bound, but
/// for pings, which are answered.
async fn frames_to_job(client: &ClientSocket, job: &GatedStream, early: Bytes, pongs: &Pongs) -> Result<(), Broken> {
    let (mut unsent, mut has_ended) = (Unsent::default(), false);
    unsent.push(early);
    loop {
        let is_held = job.gate().is_held();
        if is_held {
            pongs.add(unsent.answer_pings());
        }
        let front = unsent.front();
        if has_ended && front.is_none() {
            return job.send_end().await.map_err(Broken::Job);
        }
        let may_read = !has_ended && if is_held { unsent.has_room() } else { front.is_none() };
        tokio::select! {
            biased;
            sent = job.send_some(front.as_deref().unwrap_or_default()), if front.is_some() => {
                unsent.sent(sent.map_err(Broken::Job)?);
            }
            received = read(From::Client(client)), if may_read => match received.map_err(Broken::Client)? {
                // A buffer is larger than most frames, which may wait for long.
                Received::Read(bytes) if job.gate().is_held() => unsent.push(Bytes::copy_from_slice(&bytes)),
                Received::Read(bytes) => unsent.push(bytes),
                Received::End | Received::Piped(_) => has_ended = true,
            },
            // From now on more may be read, and pings are answered.
            () = job.gate().closed(), if !is_held && front.is_some() => {}
        }
    }
}

/// Waits for the first bytes of a client.
///
/// # Errors
/// They are a request of HTTP, or a PROXY line that is refused, or the connection broke.
async fn refuse_request(client: &ClientSocket, upstream: &Upstream) -> io::Result<()> {
    match first_bytes(client, sleep(DETECT_TIMEOUT)).await? {
        FirstBytes::Http1 | FirstBytes::Http2 => {
            Err(io::Error::new(io::ErrorKind::InvalidData, "a request of HTTP after the job has spoken"))
        }
        FirstBytes::ProxyLine if !upstream.routes.now().passes_proxy_lines() => Err(proxy_line::refusal()),
        FirstBytes::Other | FirstBytes::Undecided | FirstBytes::ProxyLine => Ok(()),
    }
}

async fn to_client(
    job: &GatedStream,
    client: &ClientSocket,
    early: &[u8],
    websocket: Option<&WebSocket>,
    examines: Option<&Speech>,
) -> Result<(), Broken> {
    let (count, uncounted) = (&job.record().bytes_out, AtomicU64::new(0));
    let frames = websocket.map(|websocket| &websocket.frames);
    // The early bytes were counted when they were read.
    send(client, early, &uncounted, frames).await.map_err(Broken::Client)?;
    if let Some(speech) = examines
        && let Received::Read(bytes) = read(From::Job(job)).await.map_err(Broken::Job)?
    {
        bytes.first().into_iter().for_each(|first| speech.answers_hello(*first));
        send(client, &bytes, count, None).await.map_err(Broken::Client)?;
    }
    loop {
        let received = match (websocket, client.plain()) {
            (None, Some(_)) => receive(From::Job(job)).await,
            // TLS seals what is in memory.
            (None, None) => read(From::Job(job)).await,
            (Some(WebSocket { frames, pongs }), _) => {
                while lock(frames).is_between_frames()
                    && let Some(pong) = pongs.next()
                {
                    send(client, &pong, &uncounted, Some(frames)).await.map_err(Broken::Client)?;
                }
                tokio::select! {
                    biased;
                    received = read(From::Job(job)) => received,
                    () = pongs.added() => continue,
                }
            }
        };
        match (received.map_err(Broken::Job)?, client.plain()) {
            (Received::End, _) => return Ok(()),
            (Received::Piped(mut pipe), Some(client)) => {
                while pipe.holds() > 0 {
                    let send = || pipe.splice_out(client.as_fd());
                    let sent = client.async_io(Interest::WRITABLE, send).await.map_err(Broken::Client)?;
                    count.fetch_add(sent as u64, Ordering::Relaxed);
                }
                release(pipe);
            }
            (Received::Piped(_), None) => {
                let error = io::Error::other("bytes for a client with TLS are in a pipe");
                return Err(Broken::Client(error));
            }
            (Received::Read(bytes), _) => send(client, &bytes, count, frames).await.map_err(Broken::Client)?,
        }
    }
}

async fn send(
    client: &ClientSocket,
    mut bytes: &[u8],
    count: &AtomicU64,
    frames: Option<&Mutex<Frames>>,
) -> io::Result<()> {
    while !bytes.is_empty() {
        client.writable().await?;
        match client.try_write(bytes) {
            Ok(written) => {
                count.fetch_add(written as u64, Ordering::Relaxed);
                if let Some(frames) = frames {
                    lock(frames).advance(&bytes[..written]);
                }
                bytes = &bytes[written..];
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    client.flush().await
}

/// Bytes that have arrived on a socket.
enum Received {
    End,
    Piped(Pipe),
    Read(Bytes),
}

/// The side from which bytes are received.
#[derive(Clone, Copy)]
enum From<'a> {
    Client(&'a ClientSocket),
    /// Bytes that were read ahead come first.
    Job(&'a GatedStream),
}

impl From<'_> {
    fn read_ahead(self) -> Option<Received> {
        match self {
            Self::Client(_) => None,
            Self::Job(job) => job.take_read_ahead().map(Received::Read),
        }
    }

    async fn readable(self) -> io::Result<()> {
        match self {
            Self::Client(client) => client.readable().await,
            Self::Job(job) => job.readable().await,
        }
    }

    /// Reads into the spare room of a vector.
    fn try_read_buf(self, bytes: &mut Vec<u8>) -> io::Result<usize> {
        match self {
            Self::Client(client) => client.try_read_buf(bytes),
            Self::Job(job) => job.try_read(|stream| stream.try_read_buf(bytes)),
        }
    }

    /// Reads into a pipe. Where splice(2) is impossible that is an invalid input.
    fn try_splice(self, pipe: &mut Pipe) -> io::Result<usize> {
        let splice = |stream: &TcpStream| stream.try_io(Interest::READABLE, || pipe.splice_in(stream.as_fd()));
        match self {
            Self::Client(client) => client.plain().map_or_else(|| Err(io::ErrorKind::InvalidInput.into()), splice),
            Self::Job(job) => job.try_read(splice),
        }
    }
}

/// Receives bytes into a pipe, or into memory where splice(2) is impossible.
async fn receive(from: From<'_>) -> io::Result<Received> {
    if let From::Client(client) = from
        && client.is_tls()
    {
        return read(from).await;
    }
    loop {
        if let Some(bytes) = from.read_ahead() {
            return Ok(bytes);
        }
        from.readable().await?;
        // A pipe can be unavailable: the process may be out of descriptors.
        let Ok(mut pipe) = acquire() else { return read(from).await };
        match from.try_splice(&mut pipe) {
            Ok(0) => {
                release(pipe);
                return Ok(Received::End);
            }
            Ok(_) => return Ok(Received::Piped(pipe)),
            Err(error) => {
                release(pipe);
                match error.kind() {
                    io::ErrorKind::WouldBlock => {}
                    io::ErrorKind::InvalidInput => return read(from).await,
                    _ => return Err(error),
                }
            }
        }
    }
}

async fn read(from: From<'_>) -> io::Result<Received> {
    loop {
        if let Some(bytes) = from.read_ahead() {
            return Ok(bytes);
        }
        from.readable().await?;
        let mut bytes = Vec::with_capacity(socket::READ_BUFFER_BYTES);
        match from.try_read_buf(&mut bytes) {
            Ok(0) => return Ok(Received::End),
            Ok(_) => return Ok(Received::Read(bytes.into())),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

fn acquire() -> io::Result<Pipe> {
    let idle = IDLE_PIPES.lock().pop();
    idle.map_or_else(Pipe::new, Ok)
}

fn release(pipe: Pipe) {
    let mut idle = IDLE_PIPES.lock();
    if pipe.holds() == 0 && idle.len() < IDLE_PIPES_MAX {
        idle.push(pipe);
    }
}

fn lock(frames: &Mutex<Frames>) -> MutexGuard<'_, Frames> {
    frames.lock()
}
