//! The log: human-readable lines to stderr, filtered by `MOORING_LOG` (like `info`, `mooring_agent=debug`).

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// The environment variable that filters the log.
pub const FILTER_VARIABLE: &str = "MOORING_LOG";

/// Sends the log to stderr; called once, by `main`. `default` holds where `MOORING_LOG` is not set.
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
