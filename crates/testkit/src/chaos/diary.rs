//! What was done when, for whoever has to find out why it ended badly.

use std::fmt::{self, Write as _};
use std::io::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// Lines with their times; its clones are the same diary.
#[derive(Debug, Clone)]
pub(super) struct Diary {
    began: Instant,
    is_read: bool,
    lines: Arc<Mutex<Vec<(f64, String)>>>,
}

impl Diary {
    /// An empty one. What is read along goes to stderr as well.
    pub(super) fn begin(is_read: bool) -> Self {
        Self { began: Instant::now(), is_read, lines: Arc::default() }
    }

    pub(super) fn note(&self, line: impl Into<String>) {
        let (at, line) = (self.began.elapsed().as_secs_f64(), line.into());
        if self.is_read {
            // Nobody has to listen.
            let _ = writeln!(std::io::stderr(), "{at:8.2} {line}");
        }
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).push((at, line));
    }
}

impl fmt::Display for Diary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        for (at, line) in self.lines.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            writeln!(text, "{at:8.2} {line}")?;
        }
        f.write_str(&text)
    }
}
