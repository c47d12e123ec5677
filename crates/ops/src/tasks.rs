//! Owned tasks.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

/// The tasks of a process or of a part of it.
#[derive(Debug, Clone)]
pub struct Tasks {
    tracker: TaskTracker,
    stop: CancellationToken,
    panicked: Arc<AtomicBool>,
}

impl Tasks {
    /// An owner of tasks; a panic in one of them cancels `stop`.
    #[must_use]
    pub fn new(stop: CancellationToken) -> Self {
        Self { tracker: TaskTracker::new(), stop, panicked: Arc::default() }
    }

    /// Runs a task under a name. The task has to end when the process is asked to stop.
    pub fn spawn<F>(&self, name: &'static str, task: F) -> JoinHandle<Option<F::Output>>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let (stop, panicked) = (self.stop.clone(), self.panicked.clone());
        let span = tracing::info_span!("task", name);
        let guarded = async move {
            let outcome = futures_guard::catch(task).await;
            if outcome.is_none() {
                panicked.store(true, Ordering::Relaxed);
                tracing::error!(task = name, "task {name} panicked: stopping");
                stop.cancel();
            }
            outcome
        };
        self.tracker.spawn(guarded.instrument(span))
    }

    /// Resolves when no task runs any more.
    pub async fn ended(&self) {
        self.tracker.close();
        self.tracker.wait().await;
    }

    /// Returns `true` if a task has panicked.
    #[must_use]
    pub fn panicked(&self) -> bool {
        self.panicked.load(Ordering::Relaxed)
    }
}

mod futures_guard {
    //! Turns a panic inside a future into `None`; the panic hook has reported it by then.

    use std::future::Future;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::pin::pin;
    use std::task::Poll;

    pub(super) async fn catch<F: Future>(task: F) -> Option<F::Output> {
        let mut task = pin!(task);
        std::future::poll_fn(move |context| match catch_unwind(AssertUnwindSafe(|| task.as_mut().poll(context))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(output)) => Poll::Ready(Some(output)),
            Err(_) => Poll::Ready(None),
        })
        .await
    }
}
