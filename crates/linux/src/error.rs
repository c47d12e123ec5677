//! The error of this crate: the attempt, its subject and the cause.

use std::io;

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An attempt that failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A system call or a file operation failed.
    #[error("can't {attempt}")]
    System {
        /// The attempt, with its subject.
        attempt: String,
        #[source]
        source: io::Error,
    },
    /// A tool ran and failed.
    #[error("`{tool}` failed: {said}")]
    Tool {
        /// The tool, with its arguments or the first line of its input.
        tool: String,
        /// The last lines of its stderr.
        said: String,
    },
    /// The operation would affect more than it should, or could not be undone.
    #[error("refusing to {attempt}: {reason}")]
    Refused { attempt: String, reason: String },
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
