//! A bounded FIFO of blocking jobs, run on one background thread.
//!
//! `push` waits only while the queue is full, and reports an earlier failure. One blocking task per
//! job took longer than the writes themselves on a busy machine.

use std::io;

use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// The capacity of the queue.
const QUEUED_WRITES: usize = 8;

type Work = Box<dyn FnOnce() -> io::Result<()> + Send>;

/// The queue; its thread starts with the first job.
#[derive(Debug, Default)]
pub(crate) struct WriteQueue {
    hand: Option<mpsc::Sender<Work>>,
    thread: JoinSet<io::Result<()>>,
}

impl WriteQueue {
    /// Queues a job. After a failure no further job runs.
    ///
    /// # Errors
    /// An earlier job failed.
    pub(crate) async fn push(&mut self, work: impl FnOnce() -> io::Result<()> + Send + 'static) -> io::Result<()> {
        if self.hand.is_none() {
            let (hand, take) = mpsc::channel(QUEUED_WRITES);
            self.thread.spawn_blocking(move || do_all(take));
            self.hand = Some(hand);
        }
        let Some(hand) = &self.hand else { return Ok(()) };
        match hand.send(Box::new(work)).await {
            Ok(()) => Ok(()),
            Err(_) => self.finish().await,
        }
    }

    /// Waits until all jobs have run.
    ///
    /// # Errors
    /// A job failed.
    pub(crate) async fn finish(&mut self) -> io::Result<()> {
        self.hand = None;
        match self.thread.join_next().await {
            Some(ended) => ended.map_err(io::Error::other).flatten(),
            None => Ok(()),
        }
    }
}

fn do_all(mut take: mpsc::Receiver<Work>) -> io::Result<()> {
    while let Some(work) = take.blocking_recv() {
        work()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parking_lot::Mutex;

    use super::*;

    #[tokio::test]
    async fn everything_is_done_in_order_and_a_failure_is_heard_of() {
        let mut queue = WriteQueue::default();
        queue.finish().await.unwrap();
        let done = Arc::new(Mutex::new(Vec::new()));
        for number in 0..100 {
            let done = done.clone();
            let work = move || {
                done.lock().push(number);
                Ok(())
            };
            queue.push(work).await.unwrap();
        }
        queue.finish().await.unwrap();
        assert_eq!(*done.lock(), (0..100).collect::<Vec<_>>());

        queue.push(|| Err(io::Error::other("no room"))).await.unwrap();
        let later = done.clone();
        let work = move || {
            later.lock().clear();
            Ok(())
        };
        // It is taken or not, as the thread has ended or not; it is not done in either case.
        let heard = queue.push(work).await.and(queue.finish().await);
        assert_eq!(heard.unwrap_err().to_string(), "no room");
        assert_eq!(done.lock().len(), 100);
    }
}
