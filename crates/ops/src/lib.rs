//! Process plumbing that every daemon shares: the two stages of a stop, owned tasks, and the log.
//!
//! A [`Lifecycle`] has a *soft* stop (finish what runs) that is a child of a *hard* stop (drop everything): the first SIGINT or
//! SIGTERM asks for the soft one, a second signal or the end of the grace period for the hard one. Every task belongs to a [`Tasks`],
//! which names it, awaits it at shutdown, and asks for a soft stop when one ends by a panic.

#![forbid(unsafe_code)]

pub mod failpoint;
pub mod lifecycle;
pub mod log;
pub mod tasks;

pub use lifecycle::Lifecycle;
pub use tasks::Tasks;
