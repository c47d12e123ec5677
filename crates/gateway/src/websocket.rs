//! The frames of a WebSocket (RFC 6455): only between two frames may the gateway send one of its
//! own.

/// A close frame of a server with code 1012: the service restarts, so the client may reconnect.
pub const CLOSE_RESTARTING: [u8; 4] = [0x88, 0x02, 0x03, 0xF4];

const CLOSE: u8 = 0x8;

/// Follows a stream of frames.
#[derive(Debug, Default)]
pub struct Frames {
    head: Vec<u8>,
    payload: u64,
    closing: bool,
}

impl Frames {
    /// Follows the next bytes of the stream.
    pub fn advance(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.payload > 0 {
                let skipped = bytes.len().min(usize::try_from(self.payload).unwrap_or(usize::MAX));
                self.payload -= skipped as u64;
                bytes = &bytes[skipped..];
                continue;
            }
            self.head.push(bytes[0]);
            bytes = &bytes[1..];
            if let Some(payload) = payload(&self.head) {
                self.closing |= self.head[0] & 0xF == CLOSE;
                self.payload = payload;
                self.head.clear();
            }
        }
    }

    /// Returns whether a frame may be sent now: between two frames, and not after a close frame.
    #[must_use]
    pub fn is_between_frames(&self) -> bool {
        self.head.is_empty() && self.payload == 0 && !self.closing
    }
}

/// The length of a frame's payload, by its head; `None` while the head is incomplete.
pub(crate) fn payload(head: &[u8]) -> Option<u64> {
    let second = *head.get(1)?;
    let (extended, mask) = (second & 0x7F, if second & 0x80 == 0 { 0 } else { 4 });
    let size = match extended {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    if head.len() < 2 + size + mask {
        return None;
    }
    let length = head[2..2 + size].iter().fold(0, |length, byte| length << 8 | u64::from(*byte));
    Some(if size == 0 { extended.into() } else { length })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame() -> impl Strategy<Value = Vec<u8>> {
        let opcode = prop_oneof![Just(0x0_u8), Just(0x1), Just(0x2), Just(0x9), Just(0xA)];
        (opcode, any::<bool>(), prop_oneof![0_usize..130, 65_530_usize..65_540]).prop_map(|(opcode, masked, length)| {
            let mask_bit = if masked { 0x80 } else { 0 };
            let mut bytes = vec![0x80 | opcode];
            match length {
                0..126 => bytes.push(mask_bit | length as u8),
                126..65_536 => {
                    bytes.push(mask_bit | 126);
                    bytes.extend((length as u16).to_be_bytes());
                }
                _ => {
                    bytes.push(mask_bit | 127);
                    bytes.extend((length as u64).to_be_bytes());
                }
            }
            bytes.extend(vec![0x55; length + if masked { 4 } else { 0 }]);
            bytes
        })
    }

    proptest! {
        #[test]
        fn frame_borders_are_found(
            frames in prop::collection::vec(frame(), 1..4),
            cuts in prop::collection::vec(1_usize..2000, 1..40),
        ) {
            let mut ends = vec![0];
            for frame in &frames {
                ends.push(ends[ends.len() - 1] + frame.len());
            }
            let stream = frames.concat();
            let (mut followed, mut at, mut cuts) = (Frames::default(), 0, cuts.into_iter().cycle());
            while at < stream.len() {
                let next = stream.len().min(at + cuts.next().unwrap_or(1));
                followed.advance(&stream[at..next]);
                at = next;
                prop_assert_eq!(followed.is_between_frames(), ends.contains(&at), "at {}", at);
            }
        }
    }

    #[test]
    fn no_frame_after_close() {
        let mut frames = Frames::default();
        frames.advance(&CLOSE_RESTARTING);
        assert!(!frames.is_between_frames());
    }
}
