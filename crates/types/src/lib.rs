//! The language of Mooring: ids, names, specs, statuses and the rules between them.
//!
//! Everything here is pure: no IO, no async, no clock and no randomness of its own (both are passed
//! in as [`Clock`] and [`rand::Rng`]). What users and other processes send is parsed into these
//! types once, at the edge. From there on a value of such a type is known to be valid.
//!
//! | module | noun |
//! |---|---|
//! | [`id`] | the ids of all objects, one list |
//! | [`name`] | names that people choose |
//! | [`mod@reference`] | objects by id or name |
//! | [`port`] | ports, port ranges and the pool a gateway assigns from |
//! | [`address`] | the overlay addresses that belong to jobs and hosts |
//! | [`endpoint`] | where a job listens that somebody else runs |
//! | [`job`] | what a job is, its 19 statuses, and who may do what when |
//! | [`capsule`] | the names of capsules |
//! | [`migration`] | the phases of a move and its outcome |
//! | [`host`] | machines, their capacity and readiness |
//! | [`gateway`] | gateways and connections |
//! | [`security`] | security groups and what their rules allow |
//! | [`user`] | the roles of users |
//! | [`quota`] | the most that users and groups may have |
//! | [`api_token`] | the scopes of API tokens |
//! | [`secret`] | references to secrets |
//! | [`template`] | the names of templates |
//! | [`placement`] | which host a job goes to |
//! | [`generation`] | the number that makes stale actors harmless |
//! | [`external`] | the addresses that endpoints of external jobs may have |
//! | [`host_name`] | the names by which browsers may reach gateways |
//! | [`clock`] | time as a parameter |
//! | [`duration`] | durations as users write and read them |
//! | [`event`] | the events of a job |
//! | [`filter`] | which jobs are meant |
//! | [`finding`] | what hinders a migration of a running job |
//! | [`size`] | how much a job asks for |
//! | [`usage`] | what a job uses |
//! | [`policy`] | the automatic behaviour of a job |

#![forbid(unsafe_code)]

pub mod address;
pub mod api_token;
pub mod audit;
pub mod capsule;
pub mod clock;
pub mod duration;
pub mod endpoint;
pub mod event;
pub mod external;
pub mod external_url;
pub mod filter;
pub mod finding;
pub mod forwarded;
pub mod gateway;
pub mod generation;
pub mod host;
pub mod host_name;
pub mod id;
pub mod job;
pub mod migration;
pub mod mounts;
pub mod name;
mod nearest;
pub mod network;
pub mod placement;
pub mod policy;
pub mod port;
pub mod quota;
pub mod reference;
pub mod secret;
pub mod security;
pub mod size;
pub mod template;
pub mod usage;
pub mod user;

pub use capsule::CapsuleName;
pub use clock::{Clock, ManualClock, SystemClock, Timestamp};
pub use event::Event;
pub use generation::Generation;
pub use id::{
    ApiTokenId, ConnectionId, GatewayId, HostId, JobId, JoinTokenId, MigrationId, SecurityGroupId, SessionId, UserId,
};
pub use name::Name;
pub use nearest::nearest;
pub use port::{Port, PortRange};
pub use reference::Reference;
pub use template::TemplateName;
pub use user::Role;
