//! The parts of a measurement: each runs one kind of job and says what its clients saw.

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

/// What a part measured.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) part: &'static str,
    /// Tables and a summary.
    pub(crate) text: String,
    pub(crate) json: Value,
    pub(crate) goals: Vec<Goal>,
    /// Whether clients never noticed.
    pub(crate) clean: bool,
}

/// A line for whoever waits.
fn progress(text: &str) {
    // Nobody has to listen.
    let _ = writeln!(stderr(), "{text}");
}
