//! The body of a response that writes the access log: after its last byte, or when it is dropped.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use hyper::body::{Body, Frame, SizeHint};
use hyper::{Request, Version};
use tokio::time::Instant;

use super::aborted::Aborted;
use super::origin::Origin;
use super::proxy::Busy;
use super::trailers::Trailers;
use crate::access::{Access, Ended};
use crate::budget::AddressShare;
use crate::client::ClientConnection;
use crate::clients::ClientRecord;
use crate::route::Routes;

/// A request in progress; it is logged when this is dropped.
#[derive(Debug)]
pub(crate) struct Entry {
    access: Access,
    record: Arc<ClientRecord>,
    began: Instant,
    /// The length of the request's body, if the request declares it.
    declared: Option<u64>,
    before: u64,
    status: Option<u16>,
    _busy: Busy,
    _share: Option<AddressShare>,
}

impl Entry {
    /// The entry of a request that begins.
    pub(crate) fn new<B: Body>(
        client: &ClientConnection,
        request: &Request<B>,
        origin: &Origin,
        busy: Busy,
        share: Option<AddressShare>,
    ) -> Self {
        let record = client.upstream.record.clone();
        let protocol = if request.version() == Version::HTTP_2 { "http/2" } else { "http/1.1" };
        let address = SocketAddr::new(origin.client, client.address.port());
        if origin.is_behind_proxy {
            record.name(address);
        }
        let port = client.upstream.routes.now().port;
        Self {
            access: Access::new(address, port, &client.job, protocol),
            began: Instant::now(),
            declared: request.body().size_hint().exact(),
            before: record.bytes_in.load(Ordering::Relaxed),
            record,
            status: None,
            _busy: busy,
            _share: share,
        }
    }

    /// Records the status of the response.
    pub(crate) fn answered(&mut self, status: u16) {
        self.status = Some(status);
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        // A chunked body has no declared length: the bytes that the job got meanwhile are its
        // length.
        let carried = || self.record.bytes_in.load(Ordering::Relaxed).saturating_sub(self.before);
        self.access.bytes_in = self.declared.unwrap_or_else(carried);
        self.access.duration = self.began.elapsed();
        self.access.log(self.status.map_or(Ended::Aborted, |status| Ended::Request { status }));
    }
}

/// The end of a response whose client no rule admits any more.
pub(crate) struct Guard(Pin<Box<dyn Future<Output = ()> + Send>>);

impl Guard {
    /// The guard of a response for a client behind a proxy. That of others is their connection's.
    pub(crate) fn of(routes: &Routes, origin: &Origin) -> Option<Self> {
        let (routes, client) = (routes.clone(), origin.client);
        origin.is_behind_proxy.then(|| Self(Box::pin(async move { routes.refuses(client).await })))
    }

    /// Waits until the client is refused.
    pub(crate) async fn refused(guard: Option<&mut Self>) {
        match guard {
            Some(guard) => guard.0.as_mut().await,
            None => std::future::pending().await,
        }
    }
}

impl std::fmt::Debug for Guard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Guard").finish_non_exhaustive()
    }
}

/// A body whose request is logged.
#[derive(Debug)]
pub(crate) struct Logged<B> {
    body: B,
    entry: Entry,
    guard: Option<Guard>,
    /// The receiver of trailers that HTTP/1 does not take with the body.
    trailers: Option<Trailers>,
}

impl<B> Logged<B> {
    pub(crate) fn new(body: B, entry: Entry, guard: Option<Guard>, trailers: Option<Trailers>) -> Self {
        Self { body, entry, guard, trailers }
    }
}

impl<B> Body for Logged<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: From<Aborted>,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if let Some(guard) = &mut self.guard
            && guard.0.as_mut().poll(context).is_ready()
        {
            return Poll::Ready(Some(Err(Aborted::Refused.into())));
        }
        let mut frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        if let Some(Ok(last)) = &frame
            && let (Some(trailers), Some(to)) = (last.trailers_ref(), &self.trailers)
        {
            to.put(trailers.clone());
            frame = None;
        }
        if let Some(Ok(frame)) = &frame {
            self.entry.access.bytes_out += frame.data_ref().map_or(0, |data| data.remaining() as u64);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
