//! Errors of the agent.

use std::io;
use std::process::ExitStatus;

use mooring_api::ClientError;

use crate::network::NetworkError;

/// A result of this crate.
pub(crate) type Result<T> = std::result::Result<T, Error>;

/// Why the agent, or something that it attempted, failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file, a socket or a process.
    #[error("can't {attempt}")]
    System {
        /// The attempt with its subject.
        attempt: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Namespaces, mounts, links, control groups.
    #[error(transparent)]
    Linux(#[from] mooring_linux::Error),
    /// The overlay network.
    #[error("can't make the overlay network so")]
    Network(#[from] NetworkError),
    /// OpCenter.
    #[error("OpCenter did not answer as hoped")]
    OpCenter(#[from] ClientError),
    /// A tool that ran and failed.
    #[error("`{tool}` failed ({status}): {said}")]
    Tool {
        /// The tool with what it did.
        tool: String,
        /// How it ended.
        status: ExitStatus,
        /// The last lines of its log or of what it wrote to stderr.
        said: String,
    },
    /// An image that can't be used.
    #[error("can't use image {image}: {reason}")]
    Image {
        /// The image.
        image: String,
        /// Why, with what to do.
        reason: String,
    },
    /// Data that a job asks for and this host can't give it.
    #[error("can't mount volume {volume}: {reason}")]
    Volume {
        /// The volume.
        volume: String,
        /// Why.
        reason: String,
    },
    /// The capsule store, or a capsule in it.
    #[error("can't use the capsule store")]
    Capsule(#[from] mooring_capsule::Error),
    /// OpCenter has named none.
    #[error("there is no capsule store")]
    NoStore,
    /// A certificate or a TLS connection.
    #[error("can't {attempt}: {reason}")]
    Secure {
        /// The attempt.
        attempt: &'static str,
        /// Why.
        reason: String,
    },
    /// The other host said no, or something that makes no sense.
    #[error("the other host {0}")]
    Peer(String),
    /// What was under way when something else was ordered, or the agent was stopped.
    #[error("it is no longer wanted")]
    Unwanted,
    /// Something took too long.
    #[error("{0} took too long")]
    TimedOut(String),
    /// Jobs that should stand still when the agent is gone.
    #[error("these jobs could not be parked: {0}")]
    NotParked(String),
    /// A test's doing.
    #[error(transparent)]
    Injected(#[from] mooring_ops::failpoint::Injected),
}

impl Error {
    pub(crate) fn system(attempt: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let attempt = attempt.into();
        move |source| Self::System { attempt, source }
    }

    /// The whole chain of causes as one line, for a job's record. Some libraries' errors have their causes in their own text, and an
    /// [`io::Error`] speaks as what is inside it does: nothing is said twice.
    pub(crate) fn told(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            let more = error.to_string();
            if !text.contains(&more) {
                text.push_str(": ");
                text.push_str(&more);
            }
            cause = error.source();
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_cause_says_is_told_once() {
        let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
        let at = "http://127.0.0.1:9000".to_owned();
        let away = mooring_capsule::Error::Unreachable { at, source: Box::new(io::Error::other(refused())) };
        let through_a_stream: io::Error = away.into();
        let error = Error::system("send the capsule")(io::Error::other(through_a_stream));
        let wanted = "can't send the capsule: reach the capsule store at http://127.0.0.1:9000: connection refused";
        assert_eq!(error.told(), wanted);
        let capsule =
            Error::Capsule(mooring_capsule::Error::NotFound { capsule: "uqaj8l6a407u88v0106ol-2-1".parse().unwrap() });
        assert_eq!(capsule.told(), "can't use the capsule store: there is no capsule uqaj8l6a407u88v0106ol-2-1");
    }
}
