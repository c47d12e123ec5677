//! Time as a parameter: code that needs the time takes a [`Clock`].
//!
//! [`Clock::now`] is the time that is stored and shown, which may be set back. [`Clock::monotonic`]
//! measures durations. [`SystemClock`] is the machine's clock. [`ManualClock`] stops until a test
//! advances it.

use std::fmt::{self, Debug};
use std::future::{self, Future};
use std::pin::Pin;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// A point on the wall clock, written in RFC 3339.
pub type Timestamp = jiff::Timestamp;

/// A future that resolves when a clock was advanced by hand.
pub type Advanced = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A source of time.
pub trait Clock: Debug + Send + Sync {
    /// The wall-clock time.
    fn now(&self) -> Timestamp;

    /// The time since a fixed moment in the past; never set back.
    fn monotonic(&self) -> Duration;

    /// Resolves when the clock is next advanced by hand; never for a clock that runs.
    fn advanced(&self) -> Advanced {
        Box::pin(future::pending())
    }
}

/// The machine's own clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

/// The moment from which [`SystemClock::monotonic`] counts.
static PROCESS_START: LazyLock<Instant> = LazyLock::new(Instant::now);

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn monotonic(&self) -> Duration {
        PROCESS_START.elapsed()
    }
}

impl<C: Clock + ?Sized> Clock for Arc<C> {
    fn now(&self) -> Timestamp {
        (**self).now()
    }

    fn monotonic(&self) -> Duration {
        (**self).monotonic()
    }

    fn advanced(&self) -> Advanced {
        (**self).advanced()
    }
}

/// A clock for tests: it stands until [`ManualClock::advance`]. Clones are the same clock.
#[derive(Clone)]
pub struct ManualClock {
    state: Arc<Mutex<Manual>>,
}

struct Manual {
    start: Timestamp,
    elapsed: Duration,
    advances: u64,
    wakers: Vec<Waker>,
}

impl ManualClock {
    /// A clock that shows `start`.
    #[must_use]
    pub fn new(start: Timestamp) -> Self {
        let manual = Manual { start, elapsed: Duration::ZERO, advances: 0, wakers: Vec::new() };
        Self { state: Arc::new(Mutex::new(manual)) }
    }

    /// Sets the clock forward and wakes all waiters.
    pub fn advance(&self, by: Duration) {
        let wakers = {
            let mut manual = self.lock();
            manual.elapsed += by;
            manual.advances += 1;
            std::mem::take(&mut manual.wakers)
        };
        wakers.into_iter().for_each(Waker::wake);
    }

    fn lock(&self) -> parking_lot::MutexGuard<'_, Manual> {
        self.state.lock()
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        let manual = self.lock();
        manual.start + manual.elapsed
    }

    fn monotonic(&self) -> Duration {
        self.lock().elapsed
    }

    fn advanced(&self) -> Advanced {
        let advances = self.lock().advances;
        Box::pin(NextAdvance { clock: self.clone(), advances })
    }
}

impl Debug for ManualClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ManualClock").field(&self.now()).finish()
    }
}

struct NextAdvance {
    clock: ManualClock,
    /// The number of advances when the wait began.
    advances: u64,
}

impl Future for NextAdvance {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut manual = self.clock.lock();
        if manual.advances != self.advances {
            return Poll::Ready(());
        }
        manual.wakers.push(context.waker().clone());
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manual_clock_stands_until_advanced() {
        let clock = ManualClock::new(Timestamp::UNIX_EPOCH);
        let mut advanced = clock.advanced();
        let mut poll = |clock: &ManualClock| {
            assert_eq!(clock.now(), Timestamp::UNIX_EPOCH + clock.monotonic());
            advanced.as_mut().poll(&mut Context::from_waker(Waker::noop()))
        };
        assert_eq!(poll(&clock), Poll::Pending);
        clock.clone().advance(Duration::from_secs(3));
        assert_eq!(clock.monotonic(), Duration::from_secs(3));
        assert_eq!(poll(&clock), Poll::Ready(()));
    }

    #[test]
    fn system_clock_runs() {
        let before = SystemClock.monotonic();
        assert!(SystemClock.monotonic() >= before);
    }
}
