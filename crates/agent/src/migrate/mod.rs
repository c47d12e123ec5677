//! Migration of a job: to another host, into the capsule store and out of it.
//!
//! * [`source`] and [`destination`]: the steps of a driver at the two ends of a migration;
//!   [`restore`]: the steps that both share.
//! * [`stream`]: the frames of a capsule, on a TLS connection between hosts or in the capsule
//!   store.
//! * [`memory`]: which of a job's memory pages are sent, and where in the images they belong.
//! * [`files`]: the files that a job has changed, as they are sent; [`listing`]: which differ;
//!   [`changes`]: what the kernel tells of them; [`mapped`]: those that change unnoticed.
//! * [`record_locks`]: the `fcntl` locks that a restored job takes again.
//! * [`shared_locks`]: locks that the source can't keep while the destination restores the job.
//! * [`connections`]: the connections that no checkpoint has.
//! * [`socket_files`]: the names of unix sockets.
//! * [`datagrams`]: the options and groups of UDP sockets, and what waits in them.
//! * [`epoll_targets`]: targets of epoll sets that another process has open.
//! * [`message_queues`]: message queues without messages.
//! * [`criu`]: the hooks that CRIU calls during a checkpoint or a restore.
//! * [`terminals`]: what waits in a job's terminals.
//! * [`timers`]: timers, which CRIU sets to other times.
//! * [`watches`]: inotify watches that CRIU can't restore, and events that are no change.
//!
//! One connection carries a migration. While the job executes, its files are sent, and again those
//! that it changes meanwhile. Once it is
//! frozen, CRIU's images follow (memory while CRIU still writes it), and the files that have
//! changed since. The last frame is the [seal](stream::frame::Frame::Seal): without it nothing is
//! restored. Out of the store, memory follows the seal.
//!
//! The source records that it sends the seal before it does. Until then it may roll back on its
//! own. Its processes stay frozen until OpCenter knows that the job is elsewhere.

pub(crate) mod changes;
pub(crate) mod connections;
pub(crate) mod criu;
pub(crate) mod datagrams;
pub(crate) mod destination;
pub(crate) mod epoll_targets;
pub(crate) mod failure;
pub(crate) mod files;
pub(crate) mod listing;
pub(crate) mod mapped;
pub(crate) mod memory;
pub(crate) mod message_queues;
pub(crate) mod record_locks;
pub(crate) mod restore;
mod shared_locks;
pub(crate) mod socket_files;
pub(crate) mod source;
pub(crate) mod stream;
pub(crate) mod terminals;
pub(crate) mod timers;
pub(crate) mod watches;
