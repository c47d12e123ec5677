//! Moving a job: what goes from host to host, and how.
//!
//! * [`secure`]: who this host is, and TLS connections in which both sides are known by their certificates.
//! * [`frame`]: what is said on such a connection; [`names`]: how files are named in it.
//! * [`files`]: which files have changed, and sending them.
//! * [`memory`]: what of a job's memory is in the store when it goes there, known by the [`tags`] of pages; [`places`]: where pages belong.
//! * [`source`] and [`destination`]: the two sides of a move. When the other side is the capsule store, [`sink`] is what the source writes
//!   to, and [`stored`] takes the place of the destination. [`intake`] is what becomes of what comes, [`behind`] the thread
//!   that writes memory.
//! * [`hook`]: CRIU's questions at the moments that matter; [`gate`]: the answer that waits for memory; [`stillness`]: at which
//!   moments a job may be frozen.
//!
//! One connection carries an attempt: the files ahead of time, then, when the job is frozen, the CRIU images (its memory while it is
//! still being written) and the files that have changed since. The last frame, [`frame::Frame::Seal`], is what the destination needs
//! before it restores anything; out of the store memory comes after it. The source writes down that it gives the seal before it does; a
//! source that has not can go on by itself.

mod behind;
pub(crate) mod destination;
pub(crate) mod files;
pub(crate) mod frame;
pub(crate) mod gate;
pub(crate) mod hook;
mod intake;
pub(crate) mod memory;
mod names;
mod places;
pub(crate) mod secure;
mod sink;
pub(crate) mod source;
mod stillness;
pub(crate) mod stored;
mod tags;
