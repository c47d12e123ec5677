//! The body of a job's response, as it is sent to the client.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};

use super::pool::{Pool, PooledConnection};
use super::{Aborted, headers};
use crate::upstream::Upstream;

type Wait = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The body. At its end its connection goes back to the pool.
pub(crate) struct JobBody {
    body: Incoming,
    upstream: Upstream,
    /// Ready when the job has ended, or is replaced and ready: the body can't continue.
    end: Wait,
    /// Set when the job's side broke; ready when the job is back or has ended.
    broken: Option<Wait>,
    ended: bool,
    pooled: Option<PooledConnection>,
    pool: Arc<Pool>,
}

impl JobBody {
    pub(crate) fn new(body: Incoming, upstream: &Upstream, pooled: PooledConnection, pool: &Arc<Pool>) -> Self {
        let (waits, epoch) = (upstream.clone(), pooled.epoch);
        Self {
            body,
            upstream: upstream.clone(),
            end: Box::pin(async move {
                waits.end(epoch).await;
            }),
            broken: None,
            ended: false,
            pooled: Some(pooled),
            pool: pool.clone(),
        }
    }
}

impl Body for JobBody {
    type Data = Bytes;
    type Error = Aborted;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if let Some(broken) = &mut self.broken {
            ready!(broken.as_mut().poll(context));
            return Poll::Ready(Some(Err(Aborted::JobBroke)));
        }
        if self.end.as_mut().poll(context).is_ready() {
            return Poll::Ready(Some(Err(Aborted::JobReplaced)));
        }
        match ready!(Pin::new(&mut self.body).poll_frame(context)) {
            Some(Ok(frame)) => Poll::Ready(Some(Ok(match frame.into_trailers() {
                Ok(trailers) => {
                    let route = self.upstream.routes.now();
                    Frame::trailers(headers::response_headers(&trailers, route.own_names()))
                }
                Err(frame) => frame,
            }))),
            None => {
                self.ended = true;
                Poll::Ready(None)
            }
            Some(Err(error)) => {
                tracing::debug!(%error, "a response broke");
                let upstream = self.upstream.clone();
                self.broken = Some(Box::pin(async move { upstream.job_settled().await }));
                self.poll_frame(context)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for JobBody {
    fn drop(&mut self) {
        if (self.ended || self.body.is_end_stream())
            && let Some(pooled) = self.pooled.take()
        {
            self.pool.give_back(pooled);
        }
    }
}
