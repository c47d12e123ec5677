//! Interim answers of a job (1xx; RFC 9110, section 15.2), on their way to a client of HTTP/1.1.
//!
//! hyper's server knows none but the 100 that it says itself, so the client's side of the connection writes them between what hyper
//! writes: while the request that they belong to is the one that is waited for, and everything that hyper has written is out, which is
//! so when hyper flushes. An answer waits until those before it are written.
//!
//! Clients of HTTP/1.0 know no interim answers, and for those of HTTP/2 there is no way to send one: they get the answer alone.

use std::future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::{self, HeaderMap};

use super::headers;

/// As many bytes of interim answers may wait for a client that does not read.
const WAITING_BYTES: usize = 64 * 1024;

/// The interim answers of one connection.
#[derive(Debug, Clone, Default)]
pub(crate) struct Interim(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// The request that is waited for.
    request: Option<u64>,
    waiting: Vec<u8>,
    /// The connection's task, which writes.
    task: Option<Waker>,
    /// An answer that waits until nothing is waiting.
    answer: Option<Waker>,
}

/// A request that is waited for; it is not any more when this is dropped.
#[derive(Debug)]
pub(crate) struct Unanswered(Interim);

impl Interim {
    /// The request of this number is waited for from now on.
    pub(crate) fn begin(&self, request: u64) -> Unanswered {
        self.state().request = Some(request);
        Unanswered(self.clone())
    }

    /// Sends an interim answer to the request of this number, if that is still waited for.
    pub(crate) fn send(&self, request: u64, status: StatusCode, headers: &HeaderMap) {
        let answer = written(status, headers);
        let mut state = self.state();
        if state.request == Some(request) && state.waiting.len() + answer.len() <= WAITING_BYTES {
            state.waiting.extend(answer);
            if let Some(task) = state.task.take() {
                task.wake();
            }
        }
    }

    /// What is to be written now. The task is woken as soon as there is something, if there is nothing.
    pub(crate) fn take(&self, context: &Context<'_>) -> Option<Bytes> {
        let mut state = self.state();
        if state.waiting.is_empty() {
            state.task = Some(context.waker().clone());
            return None;
        }
        if let Some(answer) = state.answer.take() {
            answer.wake();
        }
        Some(std::mem::take(&mut state.waiting).into())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Unanswered {
    /// There is an answer: resolves when it may follow.
    pub(crate) async fn end(self) {
        self.0.state().request = None;
        future::poll_fn(|context| {
            let mut state = self.0.state();
            if state.waiting.is_empty() {
                return Poll::Ready(());
            }
            state.answer = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

impl Drop for Unanswered {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.request = None;
        state.waiting.clear();
    }
}

/// An interim answer as it is on the wire.
fn written(status: StatusCode, headers: &HeaderMap) -> Vec<u8> {
    let mut answer =
        format!("HTTP/1.1 {} {}\r\n", status.as_u16(), status.canonical_reason().unwrap_or_default()).into_bytes();
    let mut headers = headers::response_headers(headers);
    // It has no content.
    headers.remove(header::CONTENT_LENGTH);
    for (name, value) in &headers {
        for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            answer.extend(part);
        }
    }
    answer.extend(b"\r\n");
    answer
}
