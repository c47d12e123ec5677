//! The wire: version 1 of OpCenter's HTTP API, and the typed client that the CLI, agents, gateways and tests share.
//!
//! * [`error`]: the error codes and the body that carries one.
//! * [`paths`]: every path, once.
//! * [`view`]: what users ask for and read.
//! * [`watch`]: what agents and gateways are told (desired state, a whole slice at a time) and report (observed state).
//! * [`client`]: the typed client.
//! * [`tls`]: whom the client trusts.
//!
//! Keys are camelCase and stable: users' scripts read them.

#![forbid(unsafe_code)]

pub mod client;
pub mod error;
pub mod paths;
pub mod tls;
pub mod view;
pub mod watch;

pub use client::{Client, ClientError};
pub use error::{ErrorBody, ErrorCode};
