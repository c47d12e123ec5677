//! The access log: one event for each connection and for each HTTP request, when it has ended.
//!
//! The target of the events is `mooring_gateway::access`, so `MOORING_LOG=info,mooring_gateway::access=off` turns them off. Paths and
//! headers are not in them: they may hold tokens.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::Duration;

use mooring_types::{JobId, Port};

use crate::clients::ClientRecord;

/// What has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// A connection, whatever it carried.
    Connection,
    /// An HTTP request that was answered.
    Request {
        /// The status of its answer.
        status: u16,
    },
    /// An HTTP request that was not: its client has gone, or the job that it was sent to is no more.
    Aborted,
}

/// Whose it was, and what it took.
#[derive(Debug, Clone)]
pub struct Access {
    /// The client.
    pub client: SocketAddr,
    /// The gateway's port.
    pub port: Port,
    /// The job.
    pub job: JobId,
    /// What was spoken: `tcp`, `http/1.1`, `http/2`.
    pub protocol: &'static str,
    /// Bytes from the client to the job.
    pub bytes_in: u64,
    /// Bytes from the job to the client.
    pub bytes_out: u64,
    /// How long it took.
    pub duration: Duration,
}

impl Access {
    /// Something that has just begun.
    #[must_use]
    pub fn new(client: SocketAddr, port: Port, job: &JobId, protocol: &'static str) -> Self {
        Self { client, port, job: job.clone(), protocol, bytes_in: 0, bytes_out: 0, duration: Duration::ZERO }
    }

    /// With all the bytes of a connection.
    #[must_use]
    pub fn of_connection(self, record: &ClientRecord, duration: Duration) -> Self {
        let [bytes_in, bytes_out] = [&record.bytes_in, &record.bytes_out].map(|count| count.load(Ordering::Relaxed));
        Self { bytes_in, bytes_out, duration, ..self }
    }

    /// Says that it has ended.
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
