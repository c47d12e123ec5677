//! The script of a job's service worker, as a browser gets it: behind statements of the gateway.
//!
//! Browsers ask for it with `Service-Worker: script` (Service Workers), in secure contexts alone.
//!
//! The imports of a module would run before the gateway's statements. So the first of these is one
//! that no module may have. A service worker of a job is a classic script therefore, and not in
//! strict mode.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::StatusCode;
use hyper::body::{Body, Frame, SizeHint};
use hyper::header::{self, HeaderMap, HeaderValue};

use super::{CookieNames, script};
use crate::http::Aborted;
use crate::page::{OF_BYTES, is_coded};

/// The statement that no module has.
const CLASSIC: &str = "with({});";

/// Returns whether a browser asks for the script of a service worker.
pub(crate) fn is_asked_for(request: &HeaderMap) -> bool {
    request.get("service-worker").is_some_and(|value| value == "script")
}

/// Makes a request ask for the whole script, uncompressed.
pub(crate) fn ask_for_script(request: &mut HeaderMap) {
    request.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    for name in [header::IF_NONE_MATCH, header::IF_MODIFIED_SINCE, header::RANGE] {
        request.remove(name);
    }
}

/// The statements in front of a script; `None` if the response is none, and needs no statements.
///
/// # Errors
/// The response can't be given: it is compressed, although the request asked for none that is.
pub(crate) fn plan(
    status: StatusCode,
    headers: &mut HeaderMap,
    names: Option<&CookieNames>,
) -> Result<Option<Bytes>, Compressed> {
    if !status.is_success() {
        return Ok(None);
    }
    if is_coded(headers) || status == StatusCode::PARTIAL_CONTENT {
        return Err(Compressed);
    }
    for name in OF_BYTES {
        headers.remove(name);
    }
    let cookies = names.map(script::cookies).unwrap_or_default();
    Ok(Some(format!("{CLASSIC}{}\n{cookies}\n", script::worker()).into()))
}

/// The script of a service worker that nothing can be put in front of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the job compresses the script of its service worker, or sends a part of it")]
pub(crate) struct Compressed;

/// A script behind the gateway's statements.
pub(crate) struct WorkerBody<B> {
    before: Option<Bytes>,
    script: B,
}

impl<B> WorkerBody<B> {
    pub(crate) fn new(before: Bytes, script: B) -> Self {
        Self { before: Some(before), script }
    }
}

impl<B: Body<Data = Bytes, Error = Aborted> + Unpin> Body for WorkerBody<B> {
    type Data = Bytes;
    type Error = Aborted;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match self.before.take() {
            Some(before) => Poll::Ready(Some(Ok(Frame::data(before)))),
            None => Pin::new(&mut self.script).poll_frame(context),
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        lines.iter().map(|(name, value)| (name.parse().expect("a name"), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn only_whole_scripts_are_given() {
        let script = ("content-type", "text/javascript");
        for (status, lines, expected) in [
            (200, vec![script], Ok(true)),
            (404, vec![script], Ok(false)),
            (304, vec![], Ok(false)),
            (200, vec![script, ("content-encoding", "identity")], Ok(true)),
            (200, vec![script, ("content-encoding", "gzip")], Err(Compressed)),
            (206, vec![script], Err(Compressed)),
        ] {
            let planned = plan(StatusCode::from_u16(status).unwrap(), &mut headers(&lines), None);
            assert_eq!(planned.map(|before| before.is_some()), expected, "{status} {lines:?}");
        }
    }
}
