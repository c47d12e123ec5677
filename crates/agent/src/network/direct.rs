//! Plain routes over the network that joins the hosts. They have to be on one subnet: a host that is not is an error of its own, and
//! the others are reached all the same.

use std::net::Ipv4Addr;

use super::{NetworkError, link};

/// Nothing is put around a packet.
pub(super) const MTU: u32 = 1500;

/// The device that joins the hosts, made ready to carry packets of jobs.
pub(super) async fn device(underlay: Ipv4Addr) -> Result<String, NetworkError> {
    let device = link::with_address(underlay).await?.ok_or(NetworkError::Underlay(underlay))?;
    link::open_to_jobs(&device)?;
    Ok(device)
}
