//! The stream of a capsule, between hosts or in the capsule store.
//!
//! * [`frame`]: the messages of the stream; [`path_list`]: file names in them.
//! * [`tls`]: this host's identity, and TLS connections between hosts of one authority.
//! * [`sender`]: the source's end; [`sink`]: the connection or the capsule that it writes to.
//! * [`listener`]: the destination's end of a connection; [`from_store`]: a capsule read from the
//!   store.
//! * [`receiver`]: writes the frames that arrive into a job's directory.

pub(crate) mod frame;
pub(crate) mod from_store;
pub(crate) mod listener;
pub(crate) mod path_list;
mod receiver;
pub(crate) mod sender;
mod sink;
pub(crate) mod tls;

/// The data of one frame: bytes of a file, an image or a list of paths.
pub(crate) const FRAME_DATA_BYTES: usize = 256 << 10;
