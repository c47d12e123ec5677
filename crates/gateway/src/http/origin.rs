//! The origin of a request: who has asked, and at which URL.
//!
//! In front of a gateway may stand proxies. Those that are trusted are believed:
//!
//! | | the word of a trusted proxy, the first that there is | else |
//! |---|---|---|
//! | client | the right-most address that is not trusted, of `X-Forwarded-For`, of `Forwarded`, of `X-Real-IP` | the peer |
//! | scheme | `X-Forwarded-Proto`, or that in the client's element of `Forwarded`; PROXY protocol; the external URL | TLS of the peer |
//! | host | `X-Forwarded-Host`, or that in the element; the external URL, if `Host` is the gateway's address | `Host` |
//! | port | `X-Forwarded-Port`; that of the told host; PROXY protocol; the external URL; 443 if the scheme is told to be `https` | the gateway port |
//! | prefix | `X-Forwarded-Prefix` | none |
//!
//! Of a header with one element for each proxy, the one at the client's place counts. The peer is
//! whom a PROXY line names, if there is one: headers are then believed if that is a proxy as well.
//! What others send under these names is removed.

use std::net::{IpAddr, SocketAddr};

use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use mooring_types::external::IpNet;
use mooring_types::external_url::ExternalUrl;
use mooring_types::forwarded::{self, Element, Found};

use crate::header_text::{elements, lines};
use crate::proxy_line::Told;

/// The client of a request, and the URL at which it has asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    pub client: IpAddr,
    /// The port that the client has asked.
    pub port: u16,
    /// True if the client speaks TLS, to the gateway or to a proxy.
    pub is_tls: bool,
    /// The host that the client has asked, where that is not the request's `Host`.
    pub host: Option<HeaderValue>,
    /// The beginning of the path, which a proxy has removed.
    pub prefix: Option<HeaderValue>,
    /// True if a trusted proxy has sent the request.
    pub is_behind_proxy: bool,
}

/// The other end of a connection of the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// The client, or the proxy before it.
    pub address: IpAddr,
    pub is_tls: bool,
    /// The word of a trusted proxy at the beginning of the connection.
    pub told: Option<Told>,
}

/// A gateway port, as what stands before it sees it.
#[derive(Debug, Clone, Copy)]
pub struct Front<'a> {
    pub port: u16,
    pub trusted: &'a [IpNet],
    pub external: Option<&'a ExternalUrl>,
}

/// The word of trusted proxies in headers, but for the client.
#[derive(Debug, Default)]
struct Word {
    is_tls: Option<bool>,
    host: Option<String>,
    port: Option<u16>,
}

impl Origin {
    /// The origin of a request that came through no proxy.
    #[must_use]
    pub fn direct(client: IpAddr, port: u16, is_tls: bool) -> Self {
        Self { client: client.to_canonical(), port, is_tls, host: None, prefix: None, is_behind_proxy: false }
    }

    /// Returns the origin of a request from a peer.
    #[must_use]
    pub fn of(headers: &HeaderMap, peer: Peer, front: Front<'_>) -> Self {
        let is_trusted = forwarded::is_trusted(peer.address, front.trusted);
        if !is_trusted && peer.told.is_none() {
            return Self::direct(peer.address, front.port, peer.is_tls);
        }
        let (client, word) =
            if is_trusted { word(headers, peer.address, front.trusted) } else { (peer.address, Word::default()) };
        let external = front.external;
        let named = headers.get(header::HOST).and_then(|host| host.to_str().ok());
        let own = external.filter(|_| named.is_none_or(|host| is_address_at(host, front.port)));
        let host = word.host.clone().or_else(|| own.map(|url| url.authority().to_owned()));
        let asked = host.as_deref().or(named);
        let of_url = || external.and_then(ExternalUrl::port);
        let of_host = || word.is_tls.and(asked.and_then(port_of));
        let usual = || if word.is_tls == Some(true) { 443 } else { front.port };
        Self {
            client: client.to_canonical(),
            port: word
                .port
                .or_else(|| word.host.as_deref().and_then(port_of))
                .or(peer.told.map(|told| told.port))
                .or_else(of_url)
                .or_else(of_host)
                .unwrap_or_else(usual),
            is_tls: word
                .is_tls
                .or(peer.told.filter(|told| told.is_tls).map(|told| told.is_tls))
                .or(external.map(ExternalUrl::is_https))
                .unwrap_or(peer.is_tls),
            host: host.and_then(|host| HeaderValue::try_from(host).ok()),
            prefix: is_trusted.then(|| prefix(headers)).flatten(),
            is_behind_proxy: true,
        }
    }

    /// The path below which a browser finds the gateway's own paths: what proxies have removed, or
    /// the path of the external URL. Empty, or it begins with `/`.
    #[must_use]
    pub fn base(&self, external: Option<&ExternalUrl>) -> String {
        let told = self.prefix.as_ref().and_then(|prefix| prefix.to_str().ok());
        let of_url = external.filter(|_| self.is_behind_proxy).map(ExternalUrl::path);
        told.or(of_url).unwrap_or_default().to_owned()
    }

    /// The host and the port that the client has asked, as browsers name them in an origin. `named`
    /// is the request's `Host`.
    #[must_use]
    pub fn authority(&self, named: &str) -> String {
        let host = self.host.as_ref().and_then(|host| host.to_str().ok()).unwrap_or(named).to_ascii_lowercase();
        if !self.is_behind_proxy || port_of(&host).is_some() {
            return host;
        }
        match (self.is_tls, self.port) {
            (true, 443) | (false, 80) => host,
            (_, port) => format!("{host}:{port}"),
        }
    }
}

/// Returns the client behind a trusted peer, and what else the proxies have said.
fn word(headers: &HeaderMap, peer: IpAddr, trusted: &[IpNet]) -> (IpAddr, Word) {
    let list = |name: &'static str| {
        // What is no text is no address either, and counts as one that is unknown.
        let of_name = HeaderName::from_static(name);
        elements(headers, &of_name)
            .map(|element| std::str::from_utf8(element).unwrap_or("unknown"))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let of_forwarded = if headers.contains_key("x-forwarded-for") { Vec::new() } else { all_elements(headers) };
    let mut nodes = list("x-forwarded-for");
    if nodes.is_empty() {
        nodes = of_forwarded.iter().map(|element| element.node.clone()).collect();
    }
    if nodes.is_empty() {
        nodes = list("x-real-ip");
    }
    let Found { client, hops } = forwarded::find(peer, nodes.iter().map(String::as_str), trusted);
    let place = nodes.len().saturating_sub(hops.max(1));
    let at_place = |name| {
        let all = list(name);
        if all.len() == nodes.len() { all.get(place).cloned() } else { all.last().cloned() }
    };
    let element = of_forwarded.get(place);
    let scheme = match element {
        Some(element) => element.proto.clone(),
        None => at_place("x-forwarded-proto"),
    };
    let host = match element {
        Some(element) => element.host.clone(),
        None => at_place("x-forwarded-host"),
    };
    let word = Word {
        is_tls: scheme.as_deref().and_then(is_tls),
        host: host.filter(|host| is_host(host)),
        port: at_place("x-forwarded-port").and_then(|port| port.parse().ok()),
    };
    (client, word)
}

fn all_elements(headers: &HeaderMap) -> Vec<Element> {
    lines(headers, &header::FORWARDED).flat_map(|line| forwarded::elements(&line)).collect()
}

/// Returns whether a scheme is one with TLS; proxies name those of WebSockets as well.
fn is_tls(scheme: &str) -> Option<bool> {
    match scheme.to_ascii_lowercase().as_str() {
        "https" | "wss" => Some(true),
        "http" | "ws" => Some(false),
        _ => None,
    }
}

/// Returns whether a text is a host, with or without a port, and nothing else.
pub(super) fn is_host(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte))
}

/// Returns the port in a host.
fn port_of(host: &str) -> Option<u16> {
    let (_, port) = host.rsplit_once(':')?;
    port.parse().ok()
}

/// Returns whether a host is an address with the gateway's own port. A proxy names that if it does
/// not pass on its client's `Host`.
fn is_address_at(host: &str, port: u16) -> bool {
    host.parse::<SocketAddr>().is_ok_and(|address| address.port() == port)
}

/// Returns the beginning of the path that a trusted proxy has removed. It stands in pages.
fn prefix(headers: &HeaderMap) -> Option<HeaderValue> {
    let told = headers.get("x-forwarded-prefix")?;
    let path = told.to_str().ok()?.trim_end_matches('/');
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~%".contains(&byte);
    let is_path = path.starts_with('/') && !path.starts_with("//") && path.bytes().all(is_plain);
    if is_path { HeaderValue::try_from(path).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROXY: &str = "10.0.0.1";
    const CLIENT: &str = "192.0.2.7";

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        headers
    }

    fn origin(lines: &[(&'static str, &str)], external: Option<&str>, peer: Peer) -> Origin {
        let trusted = ["10.0.0.0/24".parse().unwrap()];
        let external = external.map(|url| url.parse().unwrap());
        Origin::of(&headers(lines), peer, Front { port: 10_007, trusted: &trusted, external: external.as_ref() })
    }

    fn peer(address: &str) -> Peer {
        Peer { address: address.parse().unwrap(), is_tls: false, told: None }
    }

    #[test]
    fn word_of_a_trusted_proxy_is_believed() {
        let host = ("host", "lab.example:9443");
        let external = Some("https://lab.example:9443");
        let of_proxy = ("host", "10.0.0.9:10007");
        for (lines, external, client, is_tls, port, asked) in [
            (&[host][..], None, PROXY, false, 10_007, "lab.example:9443"),
            (&[host, ("x-forwarded-for", CLIENT)], None, CLIENT, false, 10_007, "lab.example:9443"),
            (
                &[host, ("x-forwarded-for", "127.0.0.1, 192.0.2.7"), ("x-forwarded-proto", "https")],
                None,
                CLIENT,
                true,
                9443,
                "lab.example:9443",
            ),
            (
                &[
                    ("host", "lab"),
                    ("x-forwarded-for", CLIENT),
                    ("x-forwarded-proto", "HTTPS"),
                    ("x-forwarded-port", "9443"),
                ],
                None,
                CLIENT,
                true,
                9443,
                "lab:9443",
            ),
            (&[("host", "lab"), ("x-forwarded-proto", "wss")], None, PROXY, true, 443, "lab"),
            (
                &[host, ("x-real-ip", CLIENT), ("x-forwarded-proto", "https")],
                None,
                CLIENT,
                true,
                9443,
                "lab.example:9443",
            ),
            // `X-Real-IP` is of whom the list names.
            (
                &[host, ("x-forwarded-for", CLIENT), ("x-real-ip", "127.0.0.1")],
                None,
                CLIENT,
                false,
                10_007,
                "lab.example:9443",
            ),
            // Two proxies in a row, each with its own word.
            (
                &[
                    host,
                    ("x-forwarded-for", "192.0.2.7, 10.0.0.2"),
                    ("x-forwarded-proto", "https, http"),
                    ("x-forwarded-port", "9443, 80"),
                ],
                None,
                CLIENT,
                true,
                9443,
                "lab.example:9443",
            ),
            (
                &[
                    host,
                    ("forwarded", "for=127.0.0.1;proto=http, for=192.0.2.7;proto=https;host=\"b:1\""),
                    ("forwarded", "for=\"10.0.0.2:1\";proto=http"),
                ],
                None,
                CLIENT,
                true,
                1,
                "b:1",
            ),
            (
                &[host, ("forwarded", "for=\"[2001:db8::7]:4711\"")],
                None,
                "2001:db8::7",
                false,
                10_007,
                "lab.example:9443",
            ),
            // What a client may have sent counts no more where the proxy has its own header.
            (
                &[host, ("x-forwarded-for", CLIENT), ("forwarded", "for=127.0.0.1;proto=https")],
                None,
                CLIENT,
                false,
                10_007,
                "lab.example:9443",
            ),
            (&[host, ("forwarded", "for=unknown")], None, PROXY, false, 10_007, "lab.example:9443"),
            // The external URL says what the proxy does not.
            (&[of_proxy, ("x-forwarded-for", CLIENT)], external, CLIENT, true, 9443, "lab.example:9443"),
            (&[("x-forwarded-for", CLIENT)], external, CLIENT, true, 9443, "lab.example:9443"),
            (&[("host", "lab.example")], external, PROXY, true, 9443, "lab.example:9443"),
            (&[of_proxy, ("x-forwarded-host", "b.example")], external, PROXY, true, 9443, "b.example:9443"),
            (
                &[of_proxy, ("x-forwarded-proto", "http"), ("x-forwarded-port", "80")],
                external,
                PROXY,
                false,
                80,
                "lab.example:9443",
            ),
        ] {
            let origin = origin(lines, external, peer(PROXY));
            let named = lines.iter().find(|(name, _)| *name == "host").map_or("", |(_, host)| host);
            assert_eq!(
                (origin.client.to_string().as_str(), origin.is_tls, origin.port, origin.authority(named).as_str()),
                (client, is_tls, port, asked),
                "{lines:?}"
            );
        }
    }

    #[test]
    fn word_of_anybody_else_is_not() {
        let lines = [
            ("host", "lab"),
            ("x-forwarded-for", "127.0.0.1"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "evil.example"),
            ("x-forwarded-prefix", "/x"),
            ("x-real-ip", "127.0.0.1"),
            ("forwarded", "for=127.0.0.1;proto=https"),
        ];
        let got = origin(&lines, Some("https://lab.example:9443"), peer(CLIENT));
        assert_eq!(got, Origin::direct(CLIENT.parse().unwrap(), 10_007, false));
        // Nor where a proxy has said who it is, and not that it is a proxy.
        let told = Told { port: 9443, is_tls: true };
        let got = origin(&lines, None, Peer { told: Some(told), ..peer(CLIENT) });
        let expected = Origin { is_behind_proxy: true, ..Origin::direct(CLIENT.parse().unwrap(), 9443, true) };
        assert_eq!(got, expected);
        let got = origin(&lines, None, Peer { told: Some(told), ..peer("10.0.0.2") });
        assert_eq!(
            (got.client.to_string().as_str(), got.prefix.unwrap()),
            ("127.0.0.1", HeaderValue::from_static("/x"))
        );
    }

    #[test]
    fn bytes_that_are_no_text_are_unknown() {
        let mut lines = headers(&[("host", "lab")]);
        lines.insert("x-forwarded-for", HeaderValue::from_bytes(b"127.0.0.1, \xFC").unwrap());
        let trusted = ["10.0.0.0/24".parse().unwrap()];
        let got = Origin::of(&lines, peer(PROXY), Front { port: 1, trusted: &trusted, external: None });
        assert_eq!(got.client.to_string(), PROXY);
    }

    #[test]
    fn prefix_is_a_path() {
        for (told, expected) in [
            ("/jobs/", Some("/jobs")),
            ("/a/b-c", Some("/a/b-c")),
            ("/", None),
            ("//evil.example", None),
            ("jobs", None),
            ("/\"><script>", None),
        ] {
            let got = origin(&[("x-forwarded-prefix", told)], None, peer(PROXY)).prefix;
            assert_eq!(got, expected.map(HeaderValue::from_static), "{told}");
        }
    }

    #[test]
    fn tls_of_the_gateway_counts_unless_a_trusted_proxy_says_otherwise() {
        let with_tls = Peer { is_tls: true, ..peer(PROXY) };
        for (told, trusted, expected) in
            [(None, false, true), (Some("http"), false, true), (None, true, true), (Some("http"), true, false)]
        {
            let lines: Vec<_> = told.map(|told| ("x-forwarded-proto", told)).into_iter().collect();
            let peer = if trusted { with_tls } else { Peer { address: CLIENT.parse().unwrap(), ..with_tls } };
            let origin = origin(&lines, None, peer);
            assert_eq!((origin.is_tls, origin.port), (expected, 10_007), "{told:?}");
        }
    }
}
