//! One error: what was attempted, on what, and why it failed.

use std::io;

/// A result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// An attempt that failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A system call or a file.
    #[error("can't {attempt}")]
    System {
        /// The attempt, with its subject.
        attempt: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A tool that ran and said no.
    #[error("`{tool}` failed: {said}")]
    Tool {
        /// The tool with its arguments or its first line of input.
        tool: String,
        /// The last lines that it wrote to stderr.
        said: String,
    },
    /// What would have gone beyond what was meant, or could not be undone.
    #[error("refusing to {attempt}: {reason}")]
    Refused {
        /// The attempt.
        attempt: String,
        /// Why.
        reason: String,
    },
}

impl Error {
    pub(crate) fn system(attempt: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let attempt = attempt.into();
        move |source| Self::System { attempt, source }
    }

    pub(crate) fn errno(attempt: impl Into<String>) -> impl FnOnce(nix::Error) -> Self {
        let attempt = attempt.into();
        move |source| Self::System { attempt, source: source.into() }
    }
}
