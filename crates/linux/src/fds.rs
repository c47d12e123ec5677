//! Messages between processes of this machine that carry open descriptors.
//!
//! A message is a length of four bytes and a body. Its descriptors travel with the first byte
//! (SCM_RIGHTS). A receiver never reads beyond one message, so that descriptors stay with theirs.

#![expect(unsafe_code, reason = "a descriptor that the kernel hands over is made an owned one")]

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, UnixAddr, recvmsg, sendmsg};

/// The most descriptors of one message; the kernel allows 253.
pub const DESCRIPTORS_MAX: usize = 128;
/// The longest body. A longer one is refused.
const BODY_MAX_BYTES: usize = 4 << 20;
const LENGTH_BYTES: usize = 4;

/// A message from a peer.
#[derive(Debug)]
pub struct Message {
    pub body: Vec<u8>,
    /// The descriptors in the order in which they were sent; closed on exec.
    pub descriptors: Vec<OwnedFd>,
}

/// Sends a message over a blocking socket. The descriptors stay open in this process as well.
///
/// # Errors
/// The message is too large, or the peer is gone or does not read within the socket's time-out.
pub fn send(socket: &UnixStream, body: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let length = u32::try_from(body.len()).ok().filter(|_| body.len() <= BODY_MAX_BYTES);
    let (Some(length), true) = (length, descriptors.len() <= DESCRIPTORS_MAX) else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "too much for one message"));
    };
    let bytes = [&length.to_be_bytes(), body].concat();
    let numbers: Vec<RawFd> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&numbers)];
    let mut sent = 0;
    while sent < bytes.len() {
        // The descriptors travel with the first byte, and only once.
        let control = if sent == 0 && !numbers.is_empty() { rights.as_slice() } else { &[] };
        let piece = [IoSlice::new(&bytes[sent..])];
        match sendmsg::<UnixAddr>(socket.as_raw_fd(), &piece, control, MsgFlags::MSG_NOSIGNAL, None) {
            Ok(count) => sent += count,
            Err(nix::Error::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Receives the next message from a blocking socket. Returns `None` after the last one.
///
/// # Errors
/// The peer stops in the middle of a message, sends none within the socket's time-out, or violates
/// the protocol.
pub fn receive(socket: &UnixStream) -> io::Result<Option<Message>> {
    let mut descriptors = Vec::new();
    let mut prefix = [0; LENGTH_BYTES];
    match fill(socket, &mut prefix, &mut descriptors)? {
        0 => return Ok(None),
        LENGTH_BYTES => {}
        _ => return Err(io::ErrorKind::UnexpectedEof.into()),
    }
    let length = u32::from_be_bytes(prefix) as usize;
    if length > BODY_MAX_BYTES {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("a message of {length} bytes")));
    }
    let mut body = vec![0; length];
    if fill(socket, &mut body, &mut descriptors)? < length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(Some(Message { body, descriptors }))
}

/// Reads until `bytes` is full or the peer has closed. Returns the number of bytes.
fn fill(socket: &UnixStream, bytes: &mut [u8], descriptors: &mut Vec<OwnedFd>) -> io::Result<usize> {
    let mut read = 0;
    while read < bytes.len() {
        let mut space = nix::cmsg_space!([RawFd; DESCRIPTORS_MAX]);
        let mut pieces = [IoSliceMut::new(&mut bytes[read..])];
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        let message = match recvmsg::<UnixAddr>(socket.as_raw_fd(), &mut pieces, Some(&mut space), flags) {
            Ok(message) => message,
            Err(nix::Error::EINTR) => continue,
            Err(error) => return Err(error.into()),
        };
        for control in message.cmsgs()? {
            if let ControlMessageOwned::ScmRights(numbers) = control {
                // SAFETY: the kernel has just opened these for this process, and nobody else has
                // them.
                descriptors.extend(numbers.into_iter().map(|number| unsafe { OwnedFd::from_raw_fd(number) }));
            }
        }
        if message.flags.contains(MsgFlags::MSG_CTRUNC) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "descriptors were lost on the way"));
        }
        match message.bytes {
            0 => return Ok(read),
            count => read += count,
        }
    }
    Ok(read)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd;
    use std::thread;
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_listening_socket_keeps_who_waits_in_its_queue() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mut early = TcpStream::connect(address).unwrap();
        send(&ours, b"port", &[listener.as_fd()]).unwrap();
        drop(listener);
        // Only the message has the socket between the two.
        let mut late = TcpStream::connect(address).unwrap();
        let mut message = receive(&theirs).unwrap().unwrap();
        assert_eq!(message.body, b"port");
        let listener = TcpListener::from(message.descriptors.pop().unwrap());
        assert!(message.descriptors.is_empty());
        for client in [&mut early, &mut late] {
            let (mut served, peer) = listener.accept().unwrap();
            assert_eq!(peer, client.local_addr().unwrap());
            served.write_all(b"x").unwrap();
            client.read_exact(&mut [0]).unwrap();
        }
    }

    #[test]
    fn descriptors_stay_with_their_message() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let sender = thread::spawn(move || {
            for number in 0..300_u32 {
                let listener = TcpListener::bind("127.0.0.1:0").unwrap();
                let port = listener.local_addr().unwrap().port();
                // Some have no descriptors, some are longer than a socket's buffer.
                let body = [port.to_be_bytes().to_vec(), vec![0; if number % 7 == 0 { 300_000 } else { 0 }]].concat();
                let descriptors = [listener.as_fd()];
                send(&ours, &body, &descriptors[..usize::from(number % 3 != 0)]).unwrap();
            }
        });
        for number in 0..300_u32 {
            let message = receive(&theirs).unwrap().unwrap();
            let port = u16::from_be_bytes([message.body[0], message.body[1]]);
            let ports: Vec<u16> = message
                .descriptors
                .into_iter()
                .map(|descriptor| TcpListener::from(descriptor).local_addr().unwrap().port())
                .collect();
            assert_eq!(ports, if number % 3 == 0 { vec![] } else { vec![port] });
        }
        sender.join().unwrap();
        assert!(receive(&theirs).unwrap().is_none());
    }

    #[test]
    fn as_many_as_allowed_arrive_and_one_more_is_refused() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let many = vec![listener.as_fd(); DESCRIPTORS_MAX + 1];
        assert_eq!(send(&ours, b"", &many).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        send(&ours, b"", &many[1..]).unwrap();
        assert_eq!(receive(&theirs).unwrap().unwrap().descriptors.len(), DESCRIPTORS_MAX);
    }

    #[test]
    fn what_is_no_message_is_refused() {
        for (sent, kind) in [
            (&[0xff; 8][..], io::ErrorKind::InvalidData),
            (&[0, 0, 0, 9, 1], io::ErrorKind::UnexpectedEof),
            (&[0, 0], io::ErrorKind::UnexpectedEof),
        ] {
            let (mut ours, theirs) = UnixStream::pair().unwrap();
            ours.write_all(sent).unwrap();
            drop(ours);
            assert_eq!(receive(&theirs).unwrap_err().kind(), kind);
        }
        let (_silent, theirs) = UnixStream::pair().unwrap();
        theirs.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
        assert_eq!(receive(&theirs).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }
}
