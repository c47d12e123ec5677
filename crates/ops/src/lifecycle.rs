//! The two stages of a stop.

use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::Tasks;

/// The duration of a soft stop before it becomes a hard one.
pub const GRACE: Duration = Duration::from_secs(20);

/// When to stop, and what still runs.
#[derive(Debug, Clone)]
pub struct Lifecycle {
    hard: CancellationToken,
    soft: CancellationToken,
    tasks: Tasks,
}

impl Default for Lifecycle {
    fn default() -> Self {
        Self::new()
    }
}

impl Lifecycle {
    /// A lifecycle that nothing has asked to stop.
    #[must_use]
    pub fn new() -> Self {
        let hard = CancellationToken::new();
        let soft = hard.child_token();
        let tasks = Tasks::new(soft.clone());
        Self { hard, soft, tasks }
    }

    /// Cancelled when everything should finish what it does.
    #[must_use]
    pub fn soft(&self) -> &CancellationToken {
        &self.soft
    }

    /// Cancelled when everything should be dropped.
    #[must_use]
    pub fn hard(&self) -> &CancellationToken {
        &self.hard
    }

    /// The tasks of this process.
    #[must_use]
    pub fn tasks(&self) -> &Tasks {
        &self.tasks
    }

    /// Asks for a soft stop.
    pub fn stop(&self) {
        self.soft.cancel();
    }

    /// Waits for SIGINT, SIGTERM or a soft stop from inside, then for the tasks to end: at most
    /// [`GRACE`], less on a second signal. Gives back whether every task ended without a panic.
    ///
    /// # Errors
    /// Signal handlers could not be installed.
    pub async fn run_until_stopped(&self) -> std::io::Result<bool> {
        let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            () = self.soft.cancelled() => {}
        }
        self.stop();
        tokio::select! {
            () = self.tasks.ended() => {}
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            () = tokio::time::sleep(GRACE) => tracing::warn!("tasks did not end within {} s: stopping hard", GRACE.as_secs()),
        }
        self.hard.cancel();
        Ok(!self.tasks.panicked())
    }
}
