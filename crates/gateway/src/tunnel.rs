//! A client whose connection is bytes, from its first one to its last.

use std::io;

use tokio::net::TcpStream;

use crate::connect::{Connected, Way};
use crate::relay::{self, Content, Early};

/// Carries a client's bytes until both directions have ended or either side breaks; over `connected`, if that was made already.
///
/// # Errors
/// The job could not be reached in time, or a side broke; the other one has been reset by then.
pub async fn carry(client: &TcpStream, connected: Option<Connected>, way: &Way) -> io::Result<()> {
    let job = match connected {
        Some(connected) => connected,
        None => tokio::select! {
            connected = way.connect() => connected?,
            () = relay::broken(client) => return Err(io::ErrorKind::ConnectionReset.into()),
        },
    };
    relay::carry(client, job, way, Content::Bytes, Early::default()).await
}
