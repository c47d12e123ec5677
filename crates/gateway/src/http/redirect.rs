//! The answer to a client of plain HTTP at a port that speaks TLS: the same URL with `https://`.
//!
//! The status 308 keeps the method and the body (RFC 9110, section 15.4.9). The body is not read:
//! the connection ends after the answer.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use mooring_types::{forwarded, host_name};
use tokio::sync::watch;

use super::client_io::{ClientIo, Requests};
use super::interim::Interim;
use super::limits::{HEAD_BYTES, HEAD_LINES};
use super::origin::is_host;
use super::response;
use super::trailers::Trailers;
use crate::budget::HeadShare;
use crate::client_socket::ClientSocket;
use crate::route::GatewayRules;

/// A client of plain HTTP, at a port that speaks TLS.
pub(crate) struct PlainClient {
    pub(crate) socket: Arc<ClientSocket>,
    pub(crate) address: std::net::IpAddr,
    pub(crate) rules: Arc<GatewayRules>,
}

impl PlainClient {
    /// Answers one request.
    ///
    /// # Errors
    /// The client's connection broke, or it violates the protocol.
    pub(crate) async fn redirect(self, heads: HeadShare) -> io::Result<()> {
        let (_idle, busy) = watch::channel(0);
        let requests = Requests::default();
        let io =
            ClientIo::new(self.socket.clone(), Some(requests), Interim::default(), heads, busy, Trailers::default());
        let answer = service_fn(|request: Request<Incoming>| {
            let answer = self.answer(&request);
            async move { Ok::<_, Infallible>(answer) }
        });
        let served = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(None)
            .keep_alive(false)
            .half_close(true)
            .max_buf_size(HEAD_BYTES)
            .max_header_size(HEAD_BYTES)
            .max_headers(HEAD_LINES)
            .serve_connection(TokioIo::new(io), answer)
            .await;
        match served {
            Err(error) if !error.is_parse() => Err(io::Error::other(error)),
            _ => self.socket.close_gracefully().await,
        }
    }

    fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        let named = request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).map(str::to_owned);
        let host = named.or_else(|| self.socket.local_addr().ok().map(|address| address.to_string()));
        let Some(host) = host.filter(|host| is_host(host)) else {
            return response::refused(StatusCode::BAD_REQUEST, "the request names no host");
        };
        if !host_name::may_name(&host, &self.rules.host_names) {
            return response::refused(
                StatusCode::MISDIRECTED_REQUEST,
                &super::headers::Refusal::Misdirected.to_string(),
            );
        }
        let is_of_terminator = forwarded::is_trusted(self.address, &self.rules.trusted_proxies)
            && request.headers().get("x-forwarded-proto").is_some_and(|scheme| scheme == "https");
        if is_of_terminator {
            // It would send the client here again, without end.
            let reason =
                "this port speaks TLS: have the proxy before it connect with https, or the gateway use `--tls off`";
            return response::refused(StatusCode::BAD_GATEWAY, reason);
        }
        let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
        let path = if path.starts_with('/') { path } else { "/" };
        let url = format!("https://{host}{path}");
        let mut answer = response::refused(StatusCode::PERMANENT_REDIRECT, &format!("this port speaks TLS: {url}"));
        if let Ok(url) = HeaderValue::try_from(url) {
            answer.headers_mut().insert(header::LOCATION, url);
        }
        answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_hosts_are_redirected_to() {
        for (text, expected) in [
            ("lab.example.org:10000", true),
            ("[2001:db8::1]:10000", true),
            ("lab", true),
            ("", false),
            ("lab@evil.example", false),
            ("evil.example/", false),
            ("a b", false),
        ] {
            assert_eq!(is_host(text), expected, "{text}");
        }
    }
}
