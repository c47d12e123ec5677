//! Version 1 of OpCenter's HTTP API, and the typed client of the CLI, agents, gateways and tests.
//!
//! * [`error`]: the error codes and the body of an error answer.
//! * [`paths`]: the paths of the API.
//! * [`submission`]: the submission of a job, from which flags, job files and JSON follow.
//! * [`view`]: the requests and answers of users.
//! * [`watch`]: the slices (desired state) and reports (observed state) of agents and gateways.
//! * [`client`]: the typed client.
//!
//! Keys are camelCase and stable, because users' scripts read them.

#![forbid(unsafe_code)]

pub mod client;
pub mod error;
pub mod paths;
pub mod submission;
pub mod view;
pub mod watch;

pub use client::{Client, ClientError, Watch};
pub use error::{ErrorBody, ErrorCode};
pub use submission::Submission;

/// The names of the cookie with a session of OpCenter's web interface: over plain HTTP, and over
/// TLS. Gateways keep it from jobs.
pub const SESSION_COOKIES: [&str; 2] = ["mooring-session", "__Host-mooring-session"];

/// The cookies of a sign-in under way at an OpenID provider: over plain HTTP, and over TLS.
pub const SIGN_IN_COOKIES: [&str; 2] = ["mooring-sign-in", "__Host-mooring-sign-in"];
