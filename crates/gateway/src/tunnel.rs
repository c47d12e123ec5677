//! The bytes of one client, in both directions, through the gate of the job.
//!
//! Half-close is kept each way, a reset is passed on as a reset, and back-pressure goes from end to end: what is not written yet is not
//! read either, beyond one buffer that exists only while bytes are under way. While the gate is closed the client's side stays open and is
//! not read; the job's side stays as it is, and nothing is sent on it, not even its end.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use mooring_api::watch::Target;
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::clients::ClientRecord;
use crate::gate::{Gate, Leg};

/// How long a job's port may refuse connections before a client is let go: a server that was just started does not listen yet.
pub const CONNECT_LIMIT: Duration = Duration::from_secs(30);

const CONNECT_PAUSE: Duration = Duration::from_millis(100);
const BUFFER: usize = 64 * 1024;

/// Carries a client's bytes until both directions have ended or either side breaks.
///
/// # Errors
/// The job could not be reached within [`CONNECT_LIMIT`], or a side broke; the other one has been reset by then.
pub async fn carry(client: TcpStream, target: &Target, gate: &Arc<Gate>, record: &ClientRecord) -> io::Result<()> {
    client.set_nodelay(true)?;
    let (job, leg) = connect(target, gate).await?;
    let outcome =
        tokio::try_join!(to_job(&client, &job, gate, &record.bytes_in), to_client(&job, &client, &record.bytes_out));
    if outcome.is_err() {
        reset_on_drop(&client);
        reset_on_drop(&job);
    }
    drop(client);
    // Closing sends; a job that floats learns of it when it is back.
    let mut job = Some((job, leg));
    while gate.pass(|| drop(job.take())).is_none() {
        gate.opened().await;
    }
    outcome.map(drop)
}

async fn connect(target: &Target, gate: &Arc<Gate>) -> io::Result<(TcpStream, Leg)> {
    let mut refusing_since = None;
    loop {
        gate.opened().await;
        let Some(attempt) = gate.connecting() else { continue };
        match dial(target).await {
            Ok(job) => {
                let leg = gate.watch(&job)?;
                drop(attempt);
                job.set_nodelay(true)?;
                return Ok((job, leg));
            }
            Err(error) if *refusing_since.get_or_insert_with(Instant::now) + CONNECT_LIMIT < Instant::now() => {
                return Err(error);
            }
            Err(_) => {
                drop(attempt);
                tokio::time::sleep(CONNECT_PAUSE).await;
            }
        }
    }
}

/// Connects to the job, wherever it is.
async fn dial(target: &Target) -> io::Result<TcpStream> {
    match target {
        Target::Overlay(address) => TcpStream::connect(address).await,
        Target::Endpoints(endpoints) => {
            let mut outcome = Err(io::Error::new(io::ErrorKind::NotFound, "the job has no endpoint"));
            for endpoint in endpoints {
                outcome = TcpStream::connect((endpoint.host(), endpoint.port().get())).await;
                if outcome.is_ok() {
                    break;
                }
            }
            outcome
        }
    }
}

async fn to_job(client: &TcpStream, job: &TcpStream, gate: &Gate, count: &AtomicU64) -> io::Result<()> {
    loop {
        gate.opened().await;
        let Some(bytes) = read(client).await? else {
            loop {
                gate.opened().await;
                if let Some(done) = gate.pass(|| SockRef::from(job).shutdown(std::net::Shutdown::Write)) {
                    return done;
                }
            }
        };
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            gate.opened().await;
            job.writable().await?;
            match gate.pass(|| job.try_write(rest)) {
                Some(Ok(written)) => {
                    count.fetch_add(written as u64, Ordering::Relaxed);
                    rest = &rest[written..];
                }
                Some(Err(error)) if error.kind() == io::ErrorKind::WouldBlock => {}
                Some(Err(error)) => return Err(error),
                None => {}
            }
        }
    }
}

async fn to_client(job: &TcpStream, client: &TcpStream, count: &AtomicU64) -> io::Result<()> {
    while let Some(bytes) = read(job).await? {
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            client.writable().await?;
            match client.try_write(rest) {
                Ok(written) => {
                    count.fetch_add(written as u64, Ordering::Relaxed);
                    rest = &rest[written..];
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }
    SockRef::from(client).shutdown(std::net::Shutdown::Write)
}

/// What has arrived, `None` at the end. The buffer is made when there is something to put into it.
async fn read(from: &TcpStream) -> io::Result<Option<Vec<u8>>> {
    loop {
        from.readable().await?;
        let mut bytes = Vec::with_capacity(BUFFER);
        match from.try_read_buf(&mut bytes) {
            Ok(0) => return Ok(None),
            Ok(_) => return Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

fn reset_on_drop(socket: &TcpStream) {
    if let Err(error) = SockRef::from(socket).set_linger(Some(Duration::ZERO)) {
        tracing::debug!(%error, "a connection ends without a reset");
    }
}
