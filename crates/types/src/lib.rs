//! The language of Mooring: ids, names, specs, statuses and the rules between them.
//!
//! Everything here is pure: no IO, no async, no clock and no randomness of its own (both are passed in as [`Clock`] and
//! [`rand::Rng`]). What users and other processes send is parsed into these types once, at the edge; from there on a value of such a
//! type is known to be valid.
//!
//! | module | noun |
//! |---|---|
//! | [`id`] | the ids of all objects, one list |
//! | [`name`] | names that people choose |
//! | [`port`] | ports, port ranges and the pool a gateway assigns from |
//! | [`address`] | the overlay addresses that belong to jobs and hosts |
//! | [`endpoint`] | where a job listens that somebody else runs |
//! | [`job`] | what a job is, its 19 statuses, and who may do what when |
//! | [`migration`] | the phases of a move and its outcome |
//! | [`host`] | machines, their capacity and readiness |
//! | [`gateway`] | gateways and connections |
//! | [`security`] | security groups and what their rules allow |
//! | [`placement`] | which host a job goes to |
//! | [`generation`] | the number that makes stale actors harmless |
//! | [`clock`] | time as a parameter |

#![forbid(unsafe_code)]

pub mod address;
pub mod clock;
pub mod endpoint;
pub mod gateway;
pub mod generation;
pub mod host;
pub mod id;
pub mod job;
pub mod migration;
pub mod name;
pub mod placement;
pub mod port;
pub mod security;

pub use clock::{Clock, SystemClock, Timestamp};
pub use generation::Generation;
pub use id::{ConnectionId, GatewayId, HostId, JobId, MigrationId, SecurityGroupId, UserId};
pub use name::Name;
pub use port::{Port, PortRange};
