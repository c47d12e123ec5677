//! A request whose client asks before it sends the body (`Expect: 100-continue`; RFC 9110, section 10.1.1).
//!
//! ```text
//!  the head goes to the job ─► waiting ─► the job says 100, or nothing for a while ─► wanted: the client is asked for the body
//!                                    └─► the job answers, or can't be asked ─────────► refused: nobody asks for it any more
//! ```
//!
//! hyper asks the client for the body, by a 100 of its own, when the body is first polled; so it is not polled before the job wants it. A
//! job that knows nothing of expectations says nothing and waits for the body: it gets it after [`CONTINUE_TIMEOUT`]. The time that it is away does
//! not count. Once it is refused, the rest of the job's answer still has to come over the connection that waits for the body; with the
//! answer's end that connection is closed, since what goes over it next would be taken for the body. So is the client's.
//!
//! Clients of HTTP/1.0 expect nothing. To those of HTTP/2 no 100 can be said; they send the body when they have waited for long enough
//! themselves.

use std::error::Error;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::header::{self, HeaderMap};
use hyper::{Request, Version};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::gate::Gate;

/// For how long a job may say nothing: as long as curl and Go's client wait themselves.
pub(crate) const CONTINUE_TIMEOUT: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BodyState {
    Waiting,
    Wanted,
    Refused,
    /// Refused, and the answer has ended.
    Over,
}

/// Whether the body of a request is wanted.
#[derive(Debug, Clone)]
pub(crate) struct Expectation(Arc<watch::Sender<BodyState>>);

/// An answer to a request whose body nobody wants; the connection to the job ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Unasked(Expectation);

impl Expectation {
    /// What the client of a request expects, where it does.
    pub(crate) fn of<B: Body>(request: &Request<B>) -> Option<Self> {
        let expects = is_expected(request.headers()) && request.version() >= Version::HTTP_11;
        (expects && !request.body().is_end_stream()).then(|| Self(Arc::new(watch::Sender::new(BodyState::Waiting))))
    }

    /// The job wants the body.
    pub(crate) fn want(&self) {
        self.change(BodyState::Waiting, BodyState::Wanted);
    }

    /// There is an answer: whether it came without the body, which is refused by that.
    pub(crate) fn refuse(&self) -> Option<Unasked> {
        self.change(BodyState::Waiting, BodyState::Refused).then(|| Unasked(self.clone()))
    }

    /// Whether the client was not asked for the body.
    pub(crate) fn is_unasked(&self) -> bool {
        *self.0.borrow() != BodyState::Wanted
    }

    fn change(&self, from: BodyState, to: BodyState) -> bool {
        self.0.send_if_modified(|word| {
            let changes = *word == from;
            if changes {
                *word = to;
            }
            changes
        })
    }

    /// Resolves when it is known whether the body may be sent.
    async fn decided(self, gate: Arc<Gate>) -> bool {
        let mut word = self.0.subscribe();
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
            _ = word.wait_for(|word| *word != BodyState::Waiting) => {}
            () = silence => self.want(),
        }
        word.wait_for(|word| matches!(word, BodyState::Wanted | BodyState::Over))
            .await
            .is_ok_and(|word| *word == BodyState::Wanted)
    }
}

impl Drop for Unasked {
    fn drop(&mut self) {
        self.0.change(BodyState::Refused, BodyState::Over);
    }
}

/// Whether a request's client expects a word before it sends the body.
pub(crate) fn is_expected(headers: &HeaderMap) -> bool {
    headers.get(header::EXPECT).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

/// The body of a client's request on its way to the job, which is not asked for before it is wanted.
pub(crate) struct ClientBody {
    body: Incoming,
    decided: Option<Pin<Box<dyn Future<Output = bool> + Send>>>,
}

impl ClientBody {
    pub(crate) fn new(body: Incoming, expectation: Option<&Expectation>, gate: &Arc<Gate>) -> Self {
        let decided = expectation.map(|expectation| Box::pin(expectation.clone().decided(gate.clone())) as _);
        Self { body, decided }
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
        Pin::new(&mut self.body).poll_frame(context).map_err(Into::into)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
