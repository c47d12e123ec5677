//! Bytes between a client and a job, in both directions, until both have ended, a side breaks or the job is another one.
//!
//! Half-close is kept each way, a reset is passed on as a reset, and back-pressure goes from end to end: what is not written yet is not
//! read either, beyond one pipe that exists only while bytes are under way. While the gate is closed the client's side stays open and is
//! not read; the job's side stays as it is, and nothing is sent on it, not even its end.
//!
//! | what happens | the client sees |
//! |---|---|
//! | a side ends a direction | the end of that direction |
//! | a side breaks | a reset; when the job's side breaks while it is away, only once it is back |
//! | the job is another one, and ready | a WebSocket: a close frame with code 1012; anything else: a reset |
//! | the job has ended | the end, as far as it was told; a WebSocket no close frame, since none was sent by the job |
//!
//! Bytes are moved by splice(2). What a job sends on a WebSocket is read instead, to know where its frames end.

use std::future;
use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use mooring_linux::splice::Pipe;
use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::connect::{Connected, Fate, Way};
use crate::gated::GatedStream;
use crate::websocket::{Frames, RESTARTING};

const BUFFER: usize = 64 * 1024;
/// Pipes that are kept for the next bytes.
const POOL_MAX: usize = 64;
/// How long a client may take to leave after it was told to.
const CLOSE_LIMIT: Duration = Duration::from_secs(5);

static POOL: Mutex<Vec<Pipe>> = Mutex::new(Vec::new());

/// What the bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// Anything.
    Bytes,
    /// WebSocket frames.
    WebSocket,
}

/// What was read before the bytes were only carried.
#[derive(Debug, Default)]
pub struct Early {
    /// From the client.
    pub from_client: Bytes,
    /// From the job.
    pub from_job: Bytes,
}

/// A side that broke.
enum Broken {
    Client(io::Error),
    Job(io::Error),
}

enum Ended {
    Whole,
    Broken(io::Error),
    Decided(Fate),
}

/// Carries the bytes of one client.
///
/// # Errors
/// A side broke; both have been reset by then.
pub async fn carry(client: &TcpStream, job: Connected, way: &Way, content: Content, early: Early) -> io::Result<()> {
    let Connected { stream: job, epoch } = job;
    let frames = (content == Content::WebSocket).then(Mutex::default);
    let ended = tokio::select! {
        biased;
        fate = way.end(epoch) => Ended::Decided(fate),
        ended = both(client, &job, way, epoch, &early, frames.as_ref()) => ended,
    };
    match ended {
        Ended::Whole | Ended::Decided(Fate::Over) => Ok(()),
        Ended::Broken(error) => {
            reset_on_drop(client);
            reset_on_drop(job.socket());
            Err(error)
        }
        Ended::Decided(Fate::Another) => {
            reset_on_drop(job.socket());
            drop(job);
            match frames {
                None => reset_on_drop(client),
                Some(frames) if lock(&frames).takes_frame() => {
                    let said = timeout(CLOSE_LIMIT, send(client, &RESTARTING, &AtomicU64::new(0), None)).await;
                    if matches!(said, Ok(Ok(()))) {
                        return linger(client).await;
                    }
                }
                Some(_) => {}
            }
            Ok(())
        }
    }
}

async fn both(
    client: &TcpStream,
    job: &GatedStream,
    way: &Way,
    epoch: u64,
    early: &Early,
    frames: Option<&Mutex<Frames>>,
) -> Ended {
    let outcome =
        tokio::try_join!(to_job(client, job, &early.from_client), to_client(job, client, &early.from_job, frames));
    match outcome {
        Ok(_) => Ended::Whole,
        Err(Broken::Client(error)) => Ended::Broken(error),
        Err(Broken::Job(error)) => tokio::select! {
            another = way.is_another(epoch) => if another { Ended::Decided(Fate::Another) } else { Ended::Broken(error) },
            () = broken(client) => Ended::Broken(error),
        },
    }
}

async fn to_job(client: &TcpStream, job: &GatedStream, early: &[u8]) -> Result<(), Broken> {
    job.send(early).await.map_err(Broken::Job)?;
    loop {
        job.gate().opened().await;
        match take(client).await.map_err(Broken::Client)? {
            Taken::End => return job.send_end().await.map_err(Broken::Job),
            Taken::Piped(mut pipe) => {
                job.send_from(&mut pipe).await.map_err(Broken::Job)?;
                give_back(pipe);
            }
            Taken::Read(bytes) => job.send(&bytes).await.map_err(Broken::Job)?,
        }
    }
}

async fn to_client(
    job: &GatedStream,
    client: &TcpStream,
    early: &[u8],
    frames: Option<&Mutex<Frames>>,
) -> Result<(), Broken> {
    let count = &job.record().bytes_out;
    // Those were counted when they were read.
    send(client, early, &AtomicU64::new(0), frames).await.map_err(Broken::Client)?;
    loop {
        let taken = match frames {
            None => take(job.socket()).await,
            Some(_) => read(job.socket()).await,
        };
        match taken.map_err(Broken::Job)? {
            Taken::End => break,
            Taken::Piped(mut pipe) => {
                while pipe.holds() > 0 {
                    let send = || pipe.splice_out(client.as_fd());
                    let sent = client.async_io(Interest::WRITABLE, send).await.map_err(Broken::Client)?;
                    count.fetch_add(sent as u64, Ordering::Relaxed);
                }
                give_back(pipe);
            }
            Taken::Read(bytes) => send(client, &bytes, count, frames).await.map_err(Broken::Client)?,
        }
    }
    SockRef::from(client).shutdown(std::net::Shutdown::Write).map_err(Broken::Client)
}

async fn send(
    client: &TcpStream,
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
    Ok(())
}

/// Ends the direction to a client that was told all, and waits until it has gone, at most [`CLOSE_LIMIT`].
///
/// A socket that is closed with unread bytes is reset, and the client might not see what it was told.
///
/// # Errors
/// The client's side is broken.
pub async fn linger(client: &TcpStream) -> io::Result<()> {
    let left = async {
        SockRef::from(client).shutdown(std::net::Shutdown::Write)?;
        while !matches!(read(client).await?, Taken::End) {}
        Ok(())
    };
    timeout(CLOSE_LIMIT, left).await.unwrap_or(Ok(()))
}

enum Taken {
    End,
    Piped(Pipe),
    Read(Vec<u8>),
}

/// What has arrived, left in the kernel where that can be.
async fn take(from: &TcpStream) -> io::Result<Taken> {
    loop {
        from.readable().await?;
        // Out of descriptors, say.
        let Ok(mut pipe) = lease() else { return read(from).await };
        match from.try_io(Interest::READABLE, || pipe.splice_in(from.as_fd())) {
            Ok(0) => {
                give_back(pipe);
                return Ok(Taken::End);
            }
            Ok(_) => return Ok(Taken::Piped(pipe)),
            Err(error) => {
                give_back(pipe);
                match error.kind() {
                    io::ErrorKind::WouldBlock => {}
                    io::ErrorKind::InvalidInput => return read(from).await,
                    _ => return Err(error),
                }
            }
        }
    }
}

/// What has arrived. The buffer is made when there is something to put into it.
async fn read(from: &TcpStream) -> io::Result<Taken> {
    loop {
        from.readable().await?;
        let mut bytes = Vec::with_capacity(BUFFER);
        match from.try_read_buf(&mut bytes) {
            Ok(0) => return Ok(Taken::End),
            Ok(_) => return Ok(Taken::Read(bytes)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

fn lease() -> io::Result<Pipe> {
    let kept = POOL.lock().unwrap_or_else(PoisonError::into_inner).pop();
    kept.map_or_else(Pipe::new, Ok)
}

fn give_back(pipe: Pipe) {
    let mut pool = POOL.lock().unwrap_or_else(PoisonError::into_inner);
    if pipe.holds() == 0 && pool.len() < POOL_MAX {
        pool.push(pipe);
    }
}

/// Resolves when a client's connection was reset.
pub async fn broken(client: &TcpStream) {
    if client.ready(Interest::ERROR).await.is_err() {
        future::pending().await
    }
}

/// Has a connection end by a reset when it is closed.
pub fn reset_on_drop(socket: &TcpStream) {
    if let Err(error) = SockRef::from(socket).set_linger(Some(Duration::ZERO)) {
        tracing::debug!(%error, "a connection ends without a reset");
    }
}

fn lock(frames: &Mutex<Frames>) -> MutexGuard<'_, Frames> {
    frames.lock().unwrap_or_else(PoisonError::into_inner)
}
