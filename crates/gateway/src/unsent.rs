//! The frames of a WebSocket's client that its job has not got (RFC 6455).
//!
//! Clients ping, and give up a connection without a pong. While the job is away the gateway answers
//! on the job's behalf. A ping that it has answered never reaches the job; all other bytes do, in
//! their order. A ping of which the job has got a byte is the job's to answer.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::websocket::payload;

/// The most bytes of one client that wait for a job.
const PER_CONNECTION_MAX: usize = 64 << 10;
/// The most bytes in this process.
const IN_PROCESS_MAX: usize = 64 << 20;
/// The most pongs that wait for a client. It may get that of its last ping alone (section 5.5.3).
const PONGS_MAX: usize = 64;
/// The first byte of a ping: whole, and a control frame.
const PING: u8 = 0x89;
const PONG: u8 = 0x8A;
const MASKED: u8 = 0x80;
/// The bytes before a ping's payload: two, and a mask.
const PING_HEAD_BYTES: usize = 6;

static IN_PROCESS: AtomicUsize = AtomicUsize::new(0);

/// The bytes that wait for the job.
#[derive(Debug, Default)]
pub(crate) struct Unsent {
    pieces: VecDeque<Piece>,
    len: usize,
    frame: Frame,
}

#[derive(Debug)]
enum Piece {
    Bytes(Bytes),
    /// A ping of which nothing was sent.
    Ping {
        frame: Vec<u8>,
        is_whole: bool,
    },
}

/// The frame that comes in.
#[derive(Debug, Default)]
struct Frame {
    head: Vec<u8>,
    payload: u64,
    is_ping: bool,
}

impl Unsent {
    /// Adds bytes of the client.
    pub(crate) fn push(&mut self, mut bytes: Bytes) {
        self.len += bytes.len();
        IN_PROCESS.fetch_add(bytes.len(), Ordering::Relaxed);
        // Frames that are no pings stay together.
        let mut others = 0;
        while others < bytes.len() {
            let (length, begins, ends) = self.frame.advance(&bytes[others..]);
            if !self.frame.is_ping {
                others += length;
                continue;
            }
            self.push_bytes(bytes.split_to(others));
            self.push_ping(bytes.split_to(length), begins, ends);
            others = 0;
        }
        self.push_bytes(bytes);
    }

    fn push_bytes(&mut self, bytes: Bytes) {
        if !bytes.is_empty() {
            self.pieces.push_back(Piece::Bytes(bytes));
        }
    }

    fn push_ping(&mut self, part: Bytes, begins: bool, ends: bool) {
        match self.pieces.back_mut() {
            _ if begins => self.pieces.push_back(Piece::Ping { frame: part.into(), is_whole: ends }),
            Some(Piece::Ping { frame, is_whole: is_whole @ false }) => {
                frame.extend_from_slice(&part);
                *is_whole = ends;
            }
            // The job has got its begin.
            _ => self.push_bytes(part),
        }
    }

    /// Takes out the pings, and returns their pongs.
    pub(crate) fn answer_pings(&mut self) -> Vec<Bytes> {
        let (mut pongs, before) = (Vec::new(), self.len);
        self.pieces.retain(|piece| {
            let Piece::Ping { frame, is_whole: true } = piece else { return true };
            let Some(pong) = pong(frame) else { return true };
            self.len -= frame.len();
            pongs.push(pong);
            false
        });
        IN_PROCESS.fetch_sub(before - self.len, Ordering::Relaxed);
        pongs
    }

    /// The bytes to send next.
    pub(crate) fn front(&self) -> Option<Bytes> {
        self.pieces.front().map(|piece| match piece {
            Piece::Bytes(bytes) => bytes.clone(),
            Piece::Ping { frame, .. } => Bytes::copy_from_slice(frame),
        })
    }

    /// Removes the first of the bytes, which were sent.
    pub(crate) fn sent(&mut self, count: usize) {
        if count == 0 {
            return;
        }
        let Some(front) = self.pieces.pop_front() else { return };
        let mut rest = match front {
            Piece::Bytes(bytes) => bytes,
            Piece::Ping { frame, .. } => frame.into(),
        };
        let sent = rest.split_to(count.min(rest.len())).len();
        self.len -= sent;
        IN_PROCESS.fetch_sub(sent, Ordering::Relaxed);
        if !rest.is_empty() {
            self.pieces.push_front(Piece::Bytes(rest));
        }
    }

    /// Returns whether more bytes may wait.
    pub(crate) fn has_room(&self) -> bool {
        self.len < PER_CONNECTION_MAX && IN_PROCESS.load(Ordering::Relaxed) < IN_PROCESS_MAX
    }
}

impl Drop for Unsent {
    fn drop(&mut self) {
        IN_PROCESS.fetch_sub(self.len, Ordering::Relaxed);
    }
}

impl Frame {
    /// Follows one frame: the number of bytes that are its own, whether it begins with them, and
    /// whether it ends with them.
    fn advance(&mut self, bytes: &[u8]) -> (usize, bool, bool) {
        let begins = self.head.is_empty() && self.payload == 0;
        if begins {
            self.is_ping = bytes.first() == Some(&PING);
        }
        let mut length = 0;
        while self.payload == 0 {
            let Some(byte) = bytes.get(length) else { return (length, begins, false) };
            self.head.push(*byte);
            length += 1;
            if let Some(payload) = payload(&self.head) {
                self.head.clear();
                self.payload = payload;
                if payload == 0 {
                    return (length, begins, true);
                }
            }
        }
        let rest = bytes.len() - length;
        let own = rest.min(usize::try_from(self.payload).unwrap_or(usize::MAX));
        self.payload -= own as u64;
        (length + own, begins, self.payload == 0)
    }
}

/// The pong of a client's ping; `None` if a client may not send such a ping.
fn pong(ping: &[u8]) -> Option<Bytes> {
    let (head, masked) = ping.split_at_checked(PING_HEAD_BYTES)?;
    if head[1] != MASKED | u8::try_from(masked.len()).ok()? {
        return None;
    }
    let payload = masked.iter().zip(head[2..].iter().cycle()).map(|(byte, mask)| byte ^ mask);
    Some([PONG, head[1] & !MASKED].into_iter().chain(payload).collect())
}

/// The pongs for a client. They are sent between two frames of the job.
#[derive(Debug, Default)]
pub(crate) struct Pongs {
    waiting: Mutex<VecDeque<Bytes>>,
    added: Notify,
}

impl Pongs {
    pub(crate) fn add(&self, pongs: Vec<Bytes>) {
        if pongs.is_empty() {
            return;
        }
        let mut waiting = self.waiting.lock();
        waiting.extend(pongs);
        let surplus = waiting.len().saturating_sub(PONGS_MAX);
        waiting.drain(..surplus);
        self.added.notify_one();
    }

    pub(crate) fn next(&self) -> Option<Bytes> {
        self.waiting.lock().pop_front()
    }

    /// Waits until one is added.
    pub(crate) async fn added(&self) {
        self.added.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![first];
        match payload.len() {
            length @ 0..126 => bytes.push(MASKED | length as u8),
            length => {
                bytes.push(MASKED | 126);
                bytes.extend((length as u16).to_be_bytes());
            }
        }
        let mask = [1, 2, 3, 4];
        bytes.extend(mask);
        bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        bytes
    }

    fn drained(unsent: &mut Unsent) -> Vec<u8> {
        let mut got = Vec::new();
        while let Some(front) = unsent.front() {
            unsent.sent(front.len());
            got.extend_from_slice(&front);
        }
        got
    }

    fn frames() -> impl Strategy<Value = Vec<(u8, Vec<u8>)>> {
        let first = prop_oneof![Just(PING), Just(0x81), Just(0x01), Just(0x80), Just(0x88), Just(0xC1)];
        let payload = prop::collection::vec(any::<u8>(), 0..6);
        let long = prop::collection::vec(any::<u8>(), 126..300).prop_map(|payload| (0x82, payload));
        prop::collection::vec(prop_oneof![4 => (first, payload), 1 => long], 0..8)
    }

    proptest! {
        #[test]
        fn pings_are_answered_once_and_the_rest_is_in_order(
            frames in frames(),
            cuts in prop::collection::vec(1_usize..200, 1..10),
            sends in prop::collection::vec(0_usize..40, 0..10),
        ) {
            let stream: Vec<u8> = frames.iter().flat_map(|(first, payload)| frame(*first, payload)).collect();
            let (mut unsent, mut rest, mut sends) = (Unsent::default(), Bytes::from(stream), sends.into_iter());
            let (mut got, mut pongs) = (Vec::new(), Vec::new());
            for cut in cuts.into_iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                unsent.push(rest.split_to(cut.min(rest.len())));
                if let Some(count) = sends.next()
                    && let Some(front) = unsent.front()
                {
                    let count = count.min(front.len());
                    got.extend_from_slice(&front[..count]);
                    unsent.sent(count);
                } else {
                    pongs.extend(unsent.answer_pings());
                }
            }
            pongs.extend(unsent.answer_pings());
            got.extend(drained(&mut unsent));
            prop_assert_eq!(unsent.len, 0);
            // Each ping is at the job or has its pong; without those that were answered, the job
            // has got the stream.
            let mut pongs = pongs.into_iter().peekable();
            let mut expected = Vec::new();
            for (first, payload) in &frames {
                let answer = [&[PONG, payload.len() as u8][..], payload].concat();
                let bytes = frame(*first, payload);
                let is_next = got[expected.len()..].starts_with(&bytes);
                if *first == PING && pongs.peek().is_some_and(|pong| *pong == answer) && !is_next {
                    pongs.next();
                    continue;
                }
                if *first == PING && !is_next {
                    prop_assert!(false, "a ping is lost");
                }
                expected.extend(bytes);
            }
            prop_assert_eq!(&got, &expected);
        }
    }

    #[test]
    fn ping_that_was_begun_is_the_jobs() {
        let ping = Bytes::from(frame(PING, b"hello"));
        let mut unsent = Unsent::default();
        unsent.push(ping.slice(..3));
        unsent.sent(1);
        unsent.push(ping.slice(3..));
        assert!(unsent.answer_pings().is_empty());
        assert_eq!(drained(&mut unsent), ping[1..]);
        // One that is not whole waits for its end.
        unsent.push(ping.slice(..7));
        assert!(unsent.answer_pings().is_empty());
        unsent.push(ping.slice(7..));
        assert_eq!(unsent.answer_pings(), [&b"\x8A\x05hello"[..]]);
        assert!(unsent.front().is_none() && unsent.has_room());
        // A client's frames are masked. What is none is for the job to judge.
        unsent.push(Bytes::from_static(b"\x89\x00\x89\x7E\x00\x01a"));
        assert!(unsent.answer_pings().is_empty());
    }

    #[test]
    fn few_pongs_wait() {
        let pongs = Pongs::default();
        pongs.add((0..=PONGS_MAX as u8).map(|number| Bytes::from(vec![number])).collect());
        assert_eq!(pongs.next().unwrap()[0], 1);
    }
}
