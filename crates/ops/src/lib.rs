//! Process plumbing that every daemon shares.
//!
//! A [`Lifecycle`] has two stages of a stop: *soft* (finish what runs), a child of *hard* (drop
//! everything). The first SIGINT or SIGTERM asks for the soft one; a second signal or the end of
//! the grace period asks for the hard one. Every task belongs to a [`Tasks`], which names it,
//! awaits it at shutdown, and asks for a soft stop when one ends by a panic.
//!
//! [`mod@file`] replaces files as a whole, [`accept`] accepts connections with a back-off and
//! [`log`] writes the log. [`failpoint`] lets tests break a process at a named place.

#![forbid(unsafe_code)]

pub mod accept;
pub mod failpoint;
pub mod file;
pub mod lifecycle;
pub mod log;
pub mod log_file;
pub mod tasks;

pub use lifecycle::Lifecycle;
pub use tasks::Tasks;
