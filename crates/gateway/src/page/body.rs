//! The body of a page: its beginning is read before the response's head is sent, and scripts are
//! added on its way to the client.

use std::collections::VecDeque;
use std::future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use lol_html::send::{HtmlRewriter, Settings};
use lol_html::{MemorySettings, OutputSink, element};
use parking_lot::Mutex;

use super::beginning::{Beginning, Found, Place};
use super::{Injection, csp};
use crate::http::Aborted;

/// The memory limit of the rewriter: a tag is kept until its end is seen.
const REWRITER_BYTES: usize = 256 << 10;

/// A body whose first frames were read already.
pub(crate) struct BegunBody<B> {
    first: VecDeque<Result<Frame<Bytes>, Aborted>>,
    rest: B,
}

impl<B: Body<Data = Bytes, Error = Aborted> + Unpin> BegunBody<B> {
    /// Reads a body until its kind is known, at the latest until its end.
    pub(super) async fn begin(body: B) -> (Beginning, Self) {
        let (mut bytes, mut begun) = (Vec::new(), Self { first: VecDeque::new(), rest: body });
        loop {
            let ends = begun.rest.is_end_stream();
            if let Some(beginning) = Beginning::of(&bytes, ends) {
                return (beginning, begun);
            }
            let frame = future::poll_fn(|context| Pin::new(&mut begun.rest).poll_frame(context)).await;
            let data = match &frame {
                Some(Ok(frame)) => frame.data_ref(),
                Some(Err(_)) | None => None,
            };
            let is_last = data.is_none();
            bytes.extend_from_slice(data.map_or(&[][..], |data| data));
            begun.first.extend(frame);
            if is_last {
                let beginning = Beginning::of(&bytes, true).unwrap_or(Beginning::Other);
                return (beginning, begun);
            }
        }
    }
}

impl<B: Body<Data = Bytes, Error = Aborted> + Unpin> Body for BegunBody<B> {
    type Data = Bytes;
    type Error = Aborted;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match self.first.pop_front() {
            Some(frame) => Poll::Ready(Some(frame)),
            None => Pin::new(&mut self.rest).poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_empty() && self.rest.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let read = self.first.iter().flatten().filter_map(Frame::data_ref).map(|data| data.len() as u64).sum::<u64>();
        let (rest, mut whole) = (self.rest.size_hint(), SizeHint::new());
        whole.set_lower(rest.lower() + read);
        if let Some(upper) = rest.upper() {
            whole.set_upper(upper + read);
        }
        whole
    }
}

/// A page with the additions in it.
pub(crate) struct PageBody<B> {
    page: B,
    /// The place of the additions, until they are in.
    place: Option<(Place, String)>,
    /// `None` once the page's last byte has been read.
    rewriter: Option<Box<HtmlRewriter<'static, Output>>>,
    output: Output,
    trailers: Option<Frame<Bytes>>,
}

impl<B> PageBody<B> {
    pub(super) fn new(page: B, injection: Injection) -> Self {
        let output = Output::default();
        let place = Some((Place::default(), injection.elements()));
        let rewriter = Box::new(rewriter(injection, output.clone()));
        Self { page, place, rewriter: Some(rewriter), output, trailers: None }
    }

    fn read(&mut self, frame: Option<Frame<Bytes>>) -> Result<(), Aborted> {
        let data = match frame.map(Frame::into_data) {
            Some(Ok(data)) => Some(data),
            Some(Err(trailers)) => {
                self.trailers = Some(trailers);
                None
            }
            None => None,
        };
        let outcome = match data {
            Some(data) => {
                let data = self.with_additions(data);
                self.rewriter.as_mut().map_or(Ok(()), |rewriter| rewriter.write(&data))
            }
            None => {
                // A page without a place for them gets them at its end.
                let last = self.place.take().map(|(mut place, script)| [place.end(), script.into()].concat());
                match self.rewriter.take() {
                    Some(mut rewriter) => rewriter.write(&last.unwrap_or_default()).and_then(|()| rewriter.end()),
                    None => Ok(()),
                }
            }
        };
        outcome.map_err(|error| {
            tracing::warn!(%error, "can't add scripts to a page, the response is aborted");
            Aborted::Page
        })
    }

    fn with_additions(&mut self, data: Bytes) -> Bytes {
        let Some((mut place, script)) = self.place.take() else { return data };
        match place.find(&data) {
            Found::Later(before) => {
                self.place = Some((place, script));
                before.into()
            }
            Found::Here { before, after } => [before, script.into(), after].concat().into(),
        }
    }
}

impl<B: Body<Data = Bytes, Error = Aborted> + Unpin> Body for PageBody<B> {
    type Data = Bytes;
    type Error = Aborted;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        loop {
            if let Some(data) = self.output.take() {
                return Poll::Ready(Some(Ok(Frame::data(data))));
            }
            if self.rewriter.is_none() {
                return Poll::Ready(self.trailers.take().map(Ok));
            }
            let frame = ready!(Pin::new(&mut self.page).poll_frame(context)).transpose()?;
            self.read(frame)?;
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

/// Makes the policies in a page's elements allow the additions.
fn rewriter(injection: Injection, output: Output) -> HtmlRewriter<'static, Output> {
    let Injection { encoding, additions, nonce, .. } = injection;
    let memory = MemorySettings::new()
        .with_max_allowed_memory_usage(REWRITER_BYTES)
        .with_graceful_bail_out_on_memory_limit_exceeded(true);
    let settings = Settings::new_send()
        .with_encoding(encoding)
        .with_memory_settings(memory)
        .with_strict(false)
        .append_element_content_handler(element!("meta[http-equiv][content]", move |meta| {
            let is_policy = meta
                .get_attribute("http-equiv")
                .is_some_and(|name| name.trim().eq_ignore_ascii_case("content-security-policy"));
            if let Some(policy) = meta.get_attribute("content").filter(|_| is_policy) {
                meta.set_attribute("content", &csp::allow(&policy, &nonce, additions.widget))?;
            }
            Ok(())
        }));
    HtmlRewriter::new(settings, output)
}

/// The output of the rewriter, until it is sent.
#[derive(Debug, Clone, Default)]
struct Output(Arc<Mutex<Vec<u8>>>);

impl Output {
    fn take(&self) -> Option<Bytes> {
        let mut gathered = self.0.lock();
        (!gathered.is_empty()).then(|| Bytes::from(std::mem::take(&mut *gathered)))
    }
}

impl OutputSink for Output {
    fn handle_chunk(&mut self, chunk: &[u8]) {
        self.0.lock().extend_from_slice(chunk);
    }
}
