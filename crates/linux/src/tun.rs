//! TUN devices: network interfaces whose packets a process reads and writes.

#![expect(unsafe_code, reason = "the device is asked for by ioctl")]

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::{Error, Result};

const DEVICE: &str = "/dev/net/tun";
/// Removal of the device is reported as an error only.
const INTEREST: Interest = Interest::READABLE.add(Interest::ERROR);

/// A TUN device to which this process is attached.
///
/// The device is persistent: after a drop it keeps its addresses and routes, and a process can
/// attach to it again. `ip link delete` removes it.
#[derive(Debug)]
pub struct Tun {
    file: AsyncFd<File>,
}

impl Tun {
    /// Attaches to the device `name` in the network namespace of the calling thread. Makes the
    /// device where it is missing. Needs a tokio runtime.
    ///
    /// # Errors
    /// The kernel has no TUN, a device of another kind has the name, or another process is
    /// attached.
    pub fn attach(name: &str) -> Result<Self> {
        let attempt = || format!("attach to TUN device {name}");
        let not_a_name = || Error::Refused { attempt: attempt(), reason: "it is no name of a device".into() };
        let mut request = request(name).ok_or_else(not_a_name)?;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(DEVICE)
            .map_err(Error::system(attempt()))?;
        // SAFETY: TUNSETIFF reads and writes one ifreq, which is whole and lives for the call; the
        // descriptor is open.
        let made = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
        answered(made).map_err(Error::system(attempt()))?;
        // SAFETY: TUNSETPERSIST takes its argument by value; the descriptor is open.
        let kept = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETPERSIST, 1 as libc::c_int) };
        answered(kept).map_err(Error::system(attempt()))?;
        // SAFETY: a `File` has the same open descriptor from here to its end, which is that of the
        // `AsyncFd` that takes it.
        let file = unsafe { AsyncFd::register_with_interest(file, INTEREST) };
        let file = file.map_err(|error| Error::system(attempt())(error.into()))?;
        Ok(Self { file })
    }

    /// Waits for an IP packet and returns its length. Bytes beyond `packet` are cut off. Dropping
    /// the future loses no packet.
    ///
    /// # Errors
    /// The device was removed.
    pub async fn read(&self, packet: &mut [u8]) -> io::Result<usize> {
        self.file.async_io(INTEREST, |mut file| file.read(packet)).await
    }

    /// Injects an IP packet, which arrives on the device.
    ///
    /// # Errors
    /// The packet is malformed, or the device was removed or is down.
    pub fn write(&self, packet: &[u8]) -> io::Result<()> {
        // The kernel takes a packet whole or not at all, and never blocks a writer.
        self.file.get_ref().write(packet).map(|_| ())
    }
}

/// Returns the argument of TUNSETIFF, or `None` where the name is empty or too long.
fn request(name: &str) -> Option<libc::ifreq> {
    // SAFETY: an ifreq is a C struct of integers and a union of them, for which all zeros is a
    // value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // The last byte stays zero.
    if name.is_empty() || name.len() >= request.ifr_name.len() {
        return None;
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from.cast_signed() as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI) as libc::c_short;
    Some(request)
}

fn answered(answer: libc::c_int) -> io::Result<()> {
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_to_fit() {
        assert!(request("").is_none());
        assert!(request("sixteen-letters!").is_none());
        assert!(request("fifteen-letters").is_some());
    }
}
