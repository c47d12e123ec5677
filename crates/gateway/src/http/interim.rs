//! Interim responses of a job (1xx; RFC 9110, section 15.2) to a client of HTTP/1.1.
//!
//! hyper's server sends no interim response but its own 100. So the client's connection writes them
//! between the bytes of hyper, at a flush of hyper. It does so while their request has no response.
//! The response waits until the interim responses before it are written.
//!
//! A client of HTTP/1.0 knows no interim responses, and hyper can't send one over HTTP/2: such a
//! client gets the response alone.

use std::future;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::{self, HeaderMap};
use parking_lot::{Mutex, MutexGuard};

use super::headers;
use super::limits::HEAD_BYTES;
use crate::browser::CookieNames;

/// The most bytes of interim responses that wait for a client that does not read.
const WAITING_BYTES: usize = 2 * HEAD_BYTES;

/// The interim responses of one connection.
#[derive(Debug, Clone, Default)]
pub(crate) struct Interim(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// The number of the request that has no response yet.
    request: Option<u64>,
    waiting: Vec<u8>,
    /// The task that writes the connection.
    task: Option<Waker>,
    /// A response that waits until nothing is waiting.
    answer: Option<Waker>,
}

/// A request without a response, until it is dropped.
#[derive(Debug)]
pub(crate) struct Unanswered(Interim);

impl Interim {
    /// Records that the request of this number has no response yet.
    pub(crate) fn begin(&self, request: u64) -> Unanswered {
        self.state().request = Some(request);
        Unanswered(self.clone())
    }

    /// Sends an interim response, if its request has no response yet.
    pub(crate) fn send(&self, request: u64, status: StatusCode, headers: &HeaderMap, names: Option<&CookieNames>) {
        let answer = written(status, headers, names);
        let mut state = self.state();
        if state.request == Some(request) && state.waiting.len() + answer.len() <= WAITING_BYTES {
            state.waiting.extend(answer);
            if let Some(task) = state.task.take() {
                task.wake();
            }
        }
    }

    /// The bytes to write now. If there are none, the task is woken when there are.
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
        self.0.lock()
    }
}

impl Unanswered {
    /// Records that there is a response; returns when it may be written.
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

/// An interim response as bytes.
fn written(status: StatusCode, headers: &HeaderMap, names: Option<&CookieNames>) -> Vec<u8> {
    let mut answer =
        format!("HTTP/1.1 {} {}\r\n", status.as_u16(), status.canonical_reason().unwrap_or_default()).into_bytes();
    let mut headers = headers::response_headers(headers, names);
    // An interim response has no content.
    headers.remove(header::CONTENT_LENGTH);
    for (name, value) in &headers {
        for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            answer.extend(part);
        }
    }
    answer.extend(b"\r\n");
    answer
}
