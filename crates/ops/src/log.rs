//! The log: human-readable lines to stderr, filtered by `MOORING_LOG` (`info,mooring_agent=debug`).

use std::error::Error;
use std::fmt;
use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// The environment variable that filters the log.
pub const FILTER_VARIABLE: &str = "MOORING_LOG";

/// Sends the log to stderr; called once, by `main`. `default` applies where `MOORING_LOG` is not
/// set.
pub fn init(default: &str) {
    let filter = EnvFilter::try_from_env(FILTER_VARIABLE).unwrap_or_else(|_| EnvFilter::new(default));
    let coloured = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(coloured)
        .with_target(false)
        .init();
}

/// Returns an error with its causes, as one line: `can't send the capsule: connection refused`.
///
/// A cause whose text the line already has is left out, since some libraries repeat it.
///
/// ```
/// # let error = std::io::Error::from(std::io::ErrorKind::NotFound);
/// tracing::warn!(error = %mooring_ops::log::chain(&error), "the report did not arrive");
/// ```
pub fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl fmt::Display + 'a {
    Chain(error)
}

struct Chain<'a>(&'a (dyn Error + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = self.0.to_string();
        let mut source = self.0.source();
        while let Some(cause) = source {
            let text = cause.to_string();
            if !line.contains(&text) {
                line.push_str(": ");
                line.push_str(&text);
            }
            source = cause.source();
        }
        formatter.write_str(&line)
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Failure {
        text: &'static str,
        #[source]
        source: io::Error,
    }

    #[test]
    fn chain_has_each_cause_once() {
        let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
        let failure = Failure { text: "can't send", source: io::Error::other(io::Error::other(refused())) };
        assert_eq!(chain(&failure).to_string(), "can't send: connection refused");
        let repeating = Failure { text: "can't send: connection refused", source: refused() };
        assert_eq!(chain(&repeating).to_string(), "can't send: connection refused");
        assert_eq!(chain(&refused()).to_string(), "connection refused");
    }
}
