//! Plain routes over the network of the hosts, which have to be on one subnet. A host on another
//! subnet is an error, and the other hosts are reached nevertheless.

use std::net::Ipv4Addr;

use super::{NetworkError, link};

/// Packets are not encapsulated.
pub(super) const MTU: u32 = 1500;

/// Finds the device of the underlay address and prepares it for packets of jobs.
pub(super) async fn device(underlay: Ipv4Addr) -> Result<String, NetworkError> {
    let device = link::with_address(underlay).await?.ok_or(NetworkError::Underlay(underlay))?;
    link::open_to_jobs(&device)?;
    Ok(device)
}
