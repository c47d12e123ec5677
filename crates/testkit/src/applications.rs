//! Applications of the field as jobs, each with a real client of its own.
//!
//! ```text
//!   apps/rows/*.yaml     one row an application: packages, command, protocol, client
//!   apps/programs/       programs that run in jobs
//!   apps/clients/        programs that run outside of any job, and count
//! ```
//!
//! A run of a row: its job executes behind a gateway and its client counts. The job migrates three
//! times, is suspended, resumes, and leaves its host in a drain. Then the client makes its last
//! check. Its client has to advance between any two of these steps.
//!
//! | module | what it is |
//! |---|---|
//! | [`row`] | the rows, as their files have them |
//! | [`packages`] | the packages of rows, installed once below the prefix |
//! | [`watching`] | a client's program, and its record |
//! | [`run`] | one row from its start to its last check |

pub mod packages;
pub mod row;
pub mod run;
pub mod watching;

use std::path::{Path, PathBuf};

/// The directory with rows, programs and clients.
#[must_use]
pub fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../apps")
}
