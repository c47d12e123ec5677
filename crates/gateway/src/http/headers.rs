//! The headers that are forwarded, and those that tell the job who its client is.
//!
//! Headers that concern one connection are not forwarded (RFC 9110, section 7.6.1); an upgrade is
//! requested again. Headers about the client's address are written here and nowhere else: a
//! client's own headers under such names are removed.

use std::net::IpAddr;

use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};

use super::limits::TooLarge;
pub use super::origin::Origin;
use crate::browser::{CookieNames, cookies, leftovers};
use crate::header_text::elements;

const HOP_BY_HOP: [HeaderName; 7] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("http2-settings"),
];

/// Names under which servers look for the client's address or scheme, in addition to
/// `x-forwarded-*`.
const PROXY_HEADERS: [&str; 6] =
    ["forwarded", "x-real-ip", "x-scheme", "x-original-forwarded-for", "x-client-ip", "true-client-ip"];

/// Names that a client may use, but no look-alikes of them: they frame the request.
const LOOK_ALIKES: [&str; 4] = ["content-length", "content-type", "transfer-encoding", "http2-settings"];

/// A request that is not forwarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("the request has conflicting lengths")]
    ConflictingLengths,
    #[error("{0}")]
    TooLarge(TooLarge),
    #[error("the request's transfer coding is not `chunked`")]
    TransferCoding,
    /// The request asks for a tunnel to another host.
    #[error("the method `CONNECT` is not supported")]
    Method,
    /// The request names no host, or two.
    #[error("the request needs exactly one `Host`")]
    Host,
    /// No rule admits the client behind a trusted proxy.
    #[error("no security group of this gateway admits you")]
    Client,
    #[error("too many requests of your address are being answered: try again in a moment")]
    OverBudget,
    /// The request is for a host that is not this one.
    #[error(
        "this gateway is not known by that host name; use its address, or have OpCenter started with `--gateway-host` \
         and the name"
    )]
    Misdirected,
}

/// The headers of a request for the job. `host` is the host in the request's target, if it has one.
/// The job's cookies have `names` on the wire, or are shared.
///
/// # Errors
/// The headers are contradictory or incomplete.
pub fn forward_headers(
    headers: &HeaderMap,
    host: Option<&HeaderValue>,
    origin: &Origin,
    names: Option<&CookieNames>,
) -> Result<HeaderMap, Refusal> {
    check_lengths(headers)?;
    let mut hosts = headers.get_all(header::HOST).iter();
    let host = match (host, hosts.next(), hosts.next()) {
        (_, _, Some(_)) | (None, None, _) => return Err(Refusal::Host),
        (Some(host), ..) | (None, Some(host), None) => host.clone(),
    };
    let upgrade = upgrade(headers);
    let trailers = elements(headers, &header::TE).any(|token| token.eq_ignore_ascii_case(b"trailers"));
    let mut forwarded = end_to_end(headers);
    let spoofed: Vec<HeaderName> = forwarded.keys().filter(|name| is_spoofed(name)).cloned().collect();
    for name in spoofed {
        forwarded.remove(name);
    }
    cookies::take_in(&mut forwarded, names);
    if let Some(protocol) = upgrade {
        forwarded.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        forwarded.insert(header::UPGRADE, protocol);
    } else if trailers {
        forwarded.insert(header::CONNECTION, HeaderValue::from_static("te"));
        forwarded.insert(header::TE, HeaderValue::from_static("trailers"));
    }
    add_client_headers(&mut forwarded, &host, origin);
    forwarded.insert(header::HOST, host);
    Ok(forwarded)
}

/// The headers of a response for the client; without those of an upgrade.
#[must_use]
pub fn response_headers(headers: &HeaderMap, names: Option<&CookieNames>) -> HeaderMap {
    let mut forwarded = end_to_end(headers);
    cookies::send_out(&mut forwarded, names);
    leftovers::limit_to_port(&mut forwarded);
    forwarded
}

/// The protocol that a message asks for, or agrees to, as an upgrade. It is never HTTP/2, which
/// clients speak from the first byte or not at all.
#[must_use]
pub fn upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    let asked = elements(headers, &header::CONNECTION).any(|token| token.eq_ignore_ascii_case(b"upgrade"));
    let is_http = elements(headers, &header::UPGRADE).any(|token| token.to_ascii_lowercase().starts_with(b"h2"));
    headers.get(header::UPGRADE).filter(|_| asked && !is_http).cloned()
}

fn check_lengths(headers: &HeaderMap) -> Result<(), Refusal> {
    let lengths = headers.get_all(header::CONTENT_LENGTH).iter().count();
    let mut codings = elements(headers, &header::TRANSFER_ENCODING);
    match (lengths, codings.next(), codings.next()) {
        (2.., ..) | (1, Some(_), _) => Err(Refusal::ConflictingLengths),
        (_, Some(_), Some(_)) => Err(Refusal::TransferCoding),
        (_, Some(coding), None) if !coding.eq_ignore_ascii_case(b"chunked") => Err(Refusal::TransferCoding),
        _ if headers.contains_key(header::TRANSFER_ENCODING) && lengths > 0 => Err(Refusal::ConflictingLengths),
        _ => Ok(()),
    }
}

fn end_to_end(headers: &HeaderMap) -> HeaderMap {
    let named = elements(headers, &header::CONNECTION).filter_map(|token| HeaderName::from_bytes(token).ok());
    let named: Vec<HeaderName> = named.collect();
    let goes_on = |name: &HeaderName| !HOP_BY_HOP.contains(name) && !named.contains(name);
    headers.iter().filter(|(name, _)| goes_on(name)).map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// Returns whether a header may be taken for one that only the gateway writes. Servers make
/// variables of names, in which `x_forwarded_for` is the same as `x-forwarded-for`.
fn is_spoofed(name: &HeaderName) -> bool {
    let read: String =
        name.as_str().chars().map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '-' }).collect();
    let is_look_alike = read != name.as_str() && LOOK_ALIKES.contains(&read.as_str());
    read.starts_with("x-forwarded") || PROXY_HEADERS.contains(&read.as_str()) || is_look_alike
}

fn add_client_headers(headers: &mut HeaderMap, host: &HeaderValue, origin: &Origin) {
    let client = origin.client;
    let asked = origin.host.as_ref().unwrap_or(host);
    let scheme = if origin.is_tls { "https" } else { "http" };
    let node = match client {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("\"[{address}]\""),
    };
    let mut element = format!("for={node};proto={scheme}");
    // A host with a port would have to be quoted (RFC 7239, section 4). code-server takes the
    // quotes for a part of the host, and refuses the WebSockets of its own page. `X-Forwarded-Host`
    // has the host in any case.
    let is_plain = |host: &&str| {
        !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(&byte))
    };
    if let Some(host) = asked.to_str().ok().filter(is_plain) {
        element.push_str(&format!(";host={host}"));
    }
    let added = [
        ("x-forwarded-for", client.to_string()),
        ("x-real-ip", client.to_string()),
        ("x-forwarded-proto", scheme.to_owned()),
        ("x-forwarded-port", origin.port.to_string()),
        ("forwarded", element),
    ];
    for (name, value) in added {
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(name, value);
        }
    }
    headers.insert("x-forwarded-host", asked.clone());
    if let Some(prefix) = &origin.prefix {
        headers.insert("x-forwarded-prefix", prefix.clone());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CLIENT: &str = "192.0.2.7";

    fn origin() -> Origin {
        Origin::direct(CLIENT.parse().expect("an address"), 10_007, false)
    }

    fn headers() -> impl Strategy<Value = HeaderMap> {
        let special = prop::sample::select(vec![
            "connection",
            "keep-alive",
            "te",
            "transfer-encoding",
            "upgrade",
            "content-length",
            "host",
            "trailer",
            "x-forwarded-for",
            "x-forwarded-proto",
            "x-forwarded-anything",
            "x_forwarded_for",
            "x_forwarded-proto",
            "x.real.ip",
            "content_length",
            "forwarded",
            "x-real-ip",
            "x-scheme",
            "proxy-connection",
            "http2-settings",
            "cookie",
            "expect",
            "x-hop",
        ])
        .prop_map(str::to_owned);
        let name = prop_oneof![4 => special, 1 => "[a-z][a-z0-9-]{0,12}"];
        let value = prop_oneof![
            "[ -~]{0,30}",
            "(close|upgrade|x-hop|keep-alive|chunked|trailers|websocket|h2c|host|cookie|[0-9]{1,3})(, ?(Upgrade|x-hop|chunked))?",
        ];
        prop::collection::vec((name, value), 0..12).prop_map(|lines| {
            let parsed = lines.iter().filter_map(|(name, value)| {
                Some((name.parse::<HeaderName>().ok()?, HeaderValue::try_from(value.trim()).ok()?))
            });
            let mut headers = HeaderMap::new();
            parsed.for_each(|(name, value)| {
                headers.append(name, value);
            });
            headers
        })
    }

    proptest! {
        #[test]
        fn job_learns_real_client(sent in headers(), host in prop::option::of(Just("lab.example"))) {
            let named = host.map(HeaderValue::from_static);
            let Ok(got) = forward_headers(&sent, named.as_ref(), &origin(), None) else { return Ok(()) };
            for (name, truth) in [
                ("x-forwarded-for", "192.0.2.7"),
                ("x-real-ip", "192.0.2.7"),
                ("x-forwarded-proto", "http"),
                ("x-forwarded-port", "10007"),
            ] {
                let all: Vec<_> = got.get_all(name).iter().collect();
                prop_assert_eq!(all, vec![truth]);
            }
            prop_assert!(got["forwarded"].as_bytes().starts_with(b"for=192.0.2.7;proto=http"));
            for name in
                ["x-scheme", "x-forwarded-anything", "x_forwarded_for", "x_forwarded-proto", "x.real.ip", "content_length"]
            {
                prop_assert!(!got.contains_key(name));
            }
            let hosts: Vec<_> = got.get_all("host").iter().collect();
            prop_assert_eq!(hosts, vec![named.as_ref().or(sent.get("host")).expect("one of the two")]);
            prop_assert_eq!(&got["x-forwarded-host"], &got["host"]);
        }

        #[test]
        fn hop_by_hop_headers_stay(sent in headers()) {
            let host = HeaderValue::from_static("lab.example");
            let Ok(got) = forward_headers(&sent, Some(&host), &origin(), None) else { return Ok(()) };
            for name in ["keep-alive", "proxy-connection", "transfer-encoding", "http2-settings"] {
                prop_assert!(!got.contains_key(name));
            }
            prop_assert!(got.get_all("content-length").iter().count() <= 1);
            match got.get("connection").map(HeaderValue::as_bytes) {
                None => prop_assert!(!got.contains_key("upgrade") && !got.contains_key("te")),
                Some(b"upgrade") => prop_assert_eq!(got.get("upgrade").cloned(), upgrade(&sent)),
                Some(b"te") => prop_assert_eq!(&got["te"], "trailers"),
                Some(other) => prop_assert!(false, "{:?}", other),
            }
            let names_hop = elements(&sent, &header::CONNECTION).any(|token| token.eq_ignore_ascii_case(b"x-hop"));
            prop_assert!(!(names_hop && got.contains_key("x-hop")));
        }

        #[test]
        fn conflicting_lengths_are_refused(sent in headers()) {
            let lengths = sent.get_all("content-length").iter().count();
            if lengths > 1 || lengths == 1 && sent.contains_key("transfer-encoding") {
                let host = HeaderValue::from_static("lab.example");
                prop_assert_eq!(forward_headers(&sent, Some(&host), &origin(), None), Err(Refusal::ConflictingLengths));
            }
        }
    }

    #[test]
    fn lists_with_any_bytes_are_read() {
        let host = HeaderValue::from_static("lab.example");
        let line = |value: &[u8]| HeaderValue::from_bytes(value).unwrap();
        let mut sent = HeaderMap::new();
        sent.insert("connection", line(b"x-hop, te, \xFC"));
        sent.insert("te", line(b"\xFC, trailers"));
        sent.insert("x-hop", line(b"1"));
        sent.insert("referer", line(b"/\xFC"));
        let got = forward_headers(&sent, Some(&host), &origin(), None).unwrap();
        assert_eq!(
            (&got["connection"], &got["te"], &got["referer"]),
            (&line(b"te"), &line(b"trailers"), &line(b"/\xFC"))
        );
        assert!(!got.contains_key("x-hop"));
        sent.insert("transfer-encoding", line(b"chunked, \xFC"));
        assert_eq!(forward_headers(&sent, Some(&host), &origin(), None), Err(Refusal::TransferCoding));
    }

    #[test]
    fn upgrade_is_forwarded_but_not_h2c() {
        let host = HeaderValue::from_static("lab.example");
        let sent = |protocol: &'static str| {
            let lines = [("connection", "keep-alive, Upgrade"), ("upgrade", protocol), ("keep-alive", "5")];
            lines
                .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
                .into_iter()
                .collect()
        };
        let got = forward_headers(&sent("websocket"), Some(&host), &origin(), None).unwrap();
        assert_eq!((&got["connection"], &got["upgrade"]), (&"upgrade".parse().unwrap(), &"websocket".parse().unwrap()));
        let got = forward_headers(&sent("h2c"), Some(&host), &origin(), None).unwrap();
        assert!(!got.contains_key("connection") && !got.contains_key("upgrade"));
    }
}
