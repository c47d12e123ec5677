//! The gate at which a restore waits for memory.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::error::{CriuError, Result};

/// Creates a closed gate and its opener.
pub(crate) fn closed() -> (Opener, MemoryGate) {
    let (opener, opened) = watch::channel(false);
    (Opener(opener), MemoryGate { opened, waited: Arc::default() })
}

/// Opens a gate. A gate whose opener was dropped never opens.
#[derive(Debug)]
pub(crate) struct Opener(watch::Sender<bool>);

/// The waiting side; all clones are the same gate.
#[derive(Debug, Clone)]
pub(crate) struct MemoryGate {
    opened: watch::Receiver<bool>,
    waited: Arc<Mutex<Option<Duration>>>,
}

impl Opener {
    pub(crate) fn open(self) {
        self.0.send_replace(true);
    }
}

impl MemoryGate {
    /// Waits until the gate is open.
    ///
    /// # Errors
    /// The opener was dropped: the memory does not arrive.
    pub(crate) async fn pass(&self) -> Result<()> {
        let came = Instant::now();
        let opened = self.opened.clone().wait_for(|opened| *opened).await.map(drop);
        opened.map_err(|_| CriuError::NoMemory)?;
        *self.waited.lock() = Some(came.elapsed());
        Ok(())
    }

    /// The time that a restore waited here; `None` until one has passed.
    pub(crate) fn waited(&self) -> Option<Duration> {
        *self.waited.lock()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nobody_passes_before_it_is_open_and_nobody_when_it_never_will_be() {
        let (opener, gate) = closed();
        let moment = Duration::from_millis(20);
        assert!(tokio::time::timeout(moment, gate.pass()).await.is_err());
        assert_eq!(gate.waited(), None);
        let later = async {
            tokio::time::sleep(moment).await;
            opener.open();
        };
        let (passed, ()) = tokio::join!(gate.pass(), later);
        passed.unwrap();
        assert!(gate.waited().is_some_and(|waited| waited >= moment));

        let (opener, gate) = closed();
        drop(opener);
        assert!(gate.pass().await.is_err());
        assert_eq!(gate.waited(), None);
    }
}
