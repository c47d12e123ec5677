//! The access log: one event for each client connection and for each HTTP request, when it has
//! ended.
//!
//! The target of the events is `mooring_gateway::access`, so
//! `MOORING_LOG=info,mooring_gateway::access=off` turns them off. Paths and headers are left out,
//! since they may contain tokens.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::Duration;

use mooring_types::{JobId, Port};

use crate::clients::ClientRecord;

/// The subject of an event, and its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// A client connection.
    Connection,
    /// An HTTP request with a response.
    Request { status: u16 },
    /// An HTTP request without a response: the client left, or the job was replaced.
    Aborted,
}

/// The fields of an event.
#[derive(Debug, Clone)]
pub struct Access {
    pub client: SocketAddr,
    /// The gateway port.
    pub port: Port,
    pub job: JobId,
    /// The protocol: `tcp`, `http/1.1` or `http/2`.
    pub protocol: &'static str,
    /// Bytes from the client to the job.
    pub bytes_in: u64,
    /// Bytes from the job to the client.
    pub bytes_out: u64,
    pub duration: Duration,
}

impl Access {
    /// The fields of a connection or request that begins.
    #[must_use]
    pub fn new(client: SocketAddr, port: Port, job: &JobId, protocol: &'static str) -> Self {
        Self { client, port, job: job.clone(), protocol, bytes_in: 0, bytes_out: 0, duration: Duration::ZERO }
    }

    /// Adds the bytes and the duration of a connection.
    #[must_use]
    pub fn of_connection(self, record: &ClientRecord, duration: Duration) -> Self {
        let [bytes_in, bytes_out] = [&record.bytes_in, &record.bytes_out].map(|count| count.load(Ordering::Relaxed));
        Self { bytes_in, bytes_out, duration, ..self }
    }

    /// Writes the event.
    pub fn log(&self, ended: Ended) {
        let Self { client, port, job, protocol, bytes_in, bytes_out, duration } = self;
        let seconds = duration.as_secs_f64();
        match ended {
            Ended::Connection => tracing::info!(
                target: "mooring_gateway::access",
                %client, %port, %job, protocol, bytes_in, bytes_out, seconds,
                "connection of {client} to port {port} ended"
            ),
            Ended::Request { status } => tracing::info!(
                target: "mooring_gateway::access",
                %client, %port, %job, protocol, bytes_in, bytes_out, seconds, status,
                "request of {client} to port {port} was answered with {status}"
            ),
            Ended::Aborted => tracing::info!(
                target: "mooring_gateway::access",
                %client, %port, %job, protocol, bytes_in, bytes_out, seconds,
                "request of {client} to port {port} was not answered"
            ),
        }
    }
}
