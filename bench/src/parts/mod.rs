//! The parts of a measurement: each runs one kind of job and reports the observations of its
//! clients.

pub(crate) mod away;
pub(crate) mod drain;
pub(crate) mod jupyter;
pub(crate) mod recovery;
pub(crate) mod soak;
pub(crate) mod streams;
pub(crate) mod suspend;

use std::io::{Write, stderr};

use serde_json::Value;

use crate::goals::Goal;

/// The result of a part.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) part: &'static str,
    /// The tables and a summary.
    pub(crate) text: String,
    pub(crate) json: Value,
    pub(crate) goals: Vec<Goal>,
    /// `true` if clients noticed nothing.
    pub(crate) clean: bool,
}

/// Prints a line of progress.
fn progress(text: &str) {
    // Progress without a reader is lost on purpose.
    let _ = writeln!(stderr(), "{text}");
}
