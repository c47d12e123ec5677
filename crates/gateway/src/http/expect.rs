//! Requests with `Expect: 100-continue`: the client waits to be asked for the body (RFC 9110,
//! section 10.1.1).
//!
//! ```text
//!  head goes to the job ─► Waiting ─► 100 from the job, or silence ──► Wanted: the client is asked
//!                            └─► response, or no connection to the job ► Refused: nobody asks
//! ```
//!
//! hyper asks the client for the body, by a 100 of its own, when the body is first polled. So the
//! body is not polled before the job wants it. A job that does not know expectations waits for the
//! body in silence, and gets it after [`CONTINUE_TIMEOUT`]. The time of a closed gate does not
//! count.
//!
//! Once the body is refused, the rest of the response still comes over the connection on which the
//! job expects the body. That connection is closed at the end of the response, since the job would
//! take the next request for the body. The client's connection is closed for the same reason.
//!
//! A client of HTTP/1.0 expects nothing. A client of HTTP/2 can't be sent a 100, and sends the body
//! after a time limit of its own.

use std::error::Error;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::header::{self, HeaderMap};
use hyper::{Request, Version};
use tokio::sync::watch;
use tokio::time::timeout;

use super::trailers::Trailers;
use crate::gate::Gate;

/// Time limit of a job's silence: as long as curl and Go's client wait themselves.
pub(crate) const CONTINUE_TIMEOUT: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BodyState {
    Waiting,
    Wanted,
    Refused,
    /// Refused, and the response has ended.
    Over,
}

/// The state of a request's body, shared by the request and the body.
#[derive(Debug, Clone)]
pub(crate) struct Expectation(Arc<watch::Sender<BodyState>>);

/// A response to a request without its body. Its connection to the job ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Unasked(Expectation);

impl Expectation {
    /// The expectation of a request's client, if it has one.
    pub(crate) fn of<B: Body>(request: &Request<B>) -> Option<Self> {
        let expects = is_expected(request.headers()) && request.version() >= Version::HTTP_11;
        (expects && !request.body().is_end_stream()).then(|| Self(Arc::new(watch::Sender::new(BodyState::Waiting))))
    }

    /// Records that the job wants the body.
    pub(crate) fn want(&self) {
        self.change(BodyState::Waiting, BodyState::Wanted);
    }

    /// Records that a response has come; refuses the body unless the job wants it.
    pub(crate) fn refuse(&self) -> Option<Unasked> {
        self.change(BodyState::Waiting, BodyState::Refused).then(|| Unasked(self.clone()))
    }

    /// Returns whether the client was not asked for the body.
    pub(crate) fn is_unasked(&self) -> bool {
        *self.0.borrow() != BodyState::Wanted
    }

    fn change(&self, from: BodyState, to: BodyState) -> bool {
        self.0.send_if_modified(|state| {
            let changes = *state == from;
            if changes {
                *state = to;
            }
            changes
        })
    }

    /// Waits until the job wants the body or the response has ended; returns whether it wants the
    /// body.
    async fn decided(self, gate: Arc<Gate>) -> bool {
        let mut state = self.0.subscribe();
        let silence = async {
            loop {
                gate.opened().await;
                if timeout(CONTINUE_TIMEOUT, gate.closed()).await.is_err() {
                    return;
                }
            }
        };
        tokio::select! {
            biased;
            _ = state.wait_for(|state| *state != BodyState::Waiting) => {}
            () = silence => self.want(),
        }
        state
            .wait_for(|state| matches!(state, BodyState::Wanted | BodyState::Over))
            .await
            .is_ok_and(|state| *state == BodyState::Wanted)
    }
}

impl Drop for Unasked {
    fn drop(&mut self) {
        self.0.change(BodyState::Refused, BodyState::Over);
    }
}

/// Returns whether a request's client waits to be asked for the body.
pub(crate) fn is_expected(headers: &HeaderMap) -> bool {
    headers.get(header::EXPECT).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

/// The body of a client's request. The client is not asked for it before the job wants it.
pub(crate) struct ClientBody {
    body: Incoming,
    decided: Option<Pin<Box<dyn Future<Output = bool> + Send>>>,
    cut_off: CutOff,
    /// The receiver of trailers that HTTP/1 does not take with the body.
    trailers: Option<Trailers>,
}

/// Tells whether a client has broken off its request.
#[derive(Debug, Clone, Default)]
pub(crate) struct CutOff(Arc<AtomicBool>);

impl CutOff {
    pub(crate) fn is_cut_off(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl ClientBody {
    pub(crate) fn new(body: Incoming, expectation: Option<&Expectation>, gate: &Arc<Gate>, cut_off: CutOff) -> Self {
        let decided = expectation.map(|expectation| Box::pin(expectation.clone().decided(gate.clone())) as _);
        Self { body, decided, cut_off, trailers: None }
    }

    /// Gives the trailers to a connection of HTTP/1, or leaves them with the body.
    pub(crate) fn give_trailers(&mut self, to: Option<Trailers>) {
        self.trailers = to;
    }
}

impl std::fmt::Debug for ClientBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientBody").field("body", &self.body).finish_non_exhaustive()
    }
}

impl Body for ClientBody {
    type Data = Bytes;
    type Error = Box<dyn Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if let Some(decided) = &mut self.decided {
            if !ready!(decided.as_mut().poll(context)) {
                return Poll::Ready(Some(Err("the job answered without the body".into())));
            }
            self.decided = None;
        }
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        let frame = match frame {
            Some(Err(error)) => {
                self.cut_off.0.store(true, Ordering::Relaxed);
                return Poll::Ready(Some(Err(error.into())));
            }
            Some(Ok(frame)) => frame,
            None => return Poll::Ready(None),
        };
        match (frame.into_trailers(), &self.trailers) {
            (Ok(trailers), Some(to)) => {
                to.put(trailers);
                Poll::Ready(None)
            }
            (Ok(trailers), None) => Poll::Ready(Some(Ok(Frame::trailers(trailers)))),
            (Err(frame), _) => Poll::Ready(Some(Ok(frame))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
