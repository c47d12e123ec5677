//! The gate before which a restore waits for the memory that it is about to read.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::error::{CriuError, Result};

/// A gate that is closed, and what opens it.
pub(crate) fn closed() -> (Opener, MemoryGate) {
    let (opener, opened) = watch::channel(false);
    (Opener(opener), MemoryGate { opened, waited: Arc::default() })
}

/// Opens a gate; dropped before, it stays closed for good.
#[derive(Debug)]
pub(crate) struct Opener(watch::Sender<bool>);

/// The side of those who wait. Its clones are the same gate.
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
    /// Waits until it is open.
    ///
    /// # Errors
    /// It stays closed: what was to come does not.
    pub(crate) async fn pass(&self) -> Result<()> {
        let came = Instant::now();
        let opened = self.opened.clone().wait_for(|opened| *opened).await.map(drop);
        opened.map_err(|_| CriuError::NoMemory)?;
        *self.waited.lock().unwrap_or_else(PoisonError::into_inner) = Some(came.elapsed());
        Ok(())
    }

    /// How long was waited for it, if somebody came to it and passed.
    pub(crate) fn waited(&self) -> Option<Duration> {
        *self.waited.lock().unwrap_or_else(PoisonError::into_inner)
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
