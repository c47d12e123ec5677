//! The actions of a run with their times, for the analysis of a failure.

use std::fmt::{self, Write as _};
use std::io::Write as _;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;

/// Lines with their times. Clones share them.
#[derive(Debug, Clone)]
pub(super) struct Log {
    began: Instant,
    to_stderr: bool,
    lines: Arc<Mutex<Vec<(f64, String)>>>,
}

impl Log {
    /// Begins an empty log.
    pub(super) fn begin(to_stderr: bool) -> Self {
        Self { began: Instant::now(), to_stderr, lines: Arc::default() }
    }

    pub(super) fn note(&self, line: impl Into<String>) {
        let (at, line) = (self.began.elapsed().as_secs_f64(), line.into());
        if self.to_stderr {
            // A closed stderr is no failure.
            let _ = writeln!(std::io::stderr(), "{at:8.2} {line}");
        }
        self.lines.lock().push((at, line));
    }
}

impl fmt::Display for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        for (at, line) in self.lines.lock().iter() {
            writeln!(text, "{at:8.2} {line}")?;
        }
        f.write_str(&text)
    }
}
