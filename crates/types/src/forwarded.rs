//! The client of a request that came through proxies.
//!
//! A proxy adds the address that it was reached from to the end of `X-Forwarded-For`, or an element
//! to that of `Forwarded` (RFC 7239). What is before that is as good as the proxy's own client. So
//! the list is read from its end, as long as those who wrote it are trusted.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

/// The client of a request, and the place in the list where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    pub client: IpAddr,
    /// The number of elements from the end of the list to the client, with it; 0 if no element is
    /// believed.
    pub hops: usize,
}

/// Returns the client of a request from `peer`. `nodes` has the elements of all lines of
/// `X-Forwarded-For`, or the nodes of `Forwarded`, in their order.
///
/// An element that is no address ends the list: the proxy that wrote it is the client.
#[must_use]
pub fn find<'a>(peer: IpAddr, nodes: impl DoubleEndedIterator<Item = &'a str>, trusted: &[IpNet]) -> Found {
    let mut found = Found { client: peer.to_canonical(), hops: 0 };
    let mut elements = nodes.rev();
    while is_trusted(found.client, trusted) {
        let Some(before) = elements.next().and_then(address) else { break };
        found = Found { client: before.to_canonical(), hops: found.hops + 1 };
    }
    found
}

/// Returns the client alone; see [`find`].
#[must_use]
pub fn client<'a>(peer: IpAddr, nodes: impl DoubleEndedIterator<Item = &'a str>, trusted: &[IpNet]) -> IpAddr {
    find(peer, nodes, trusted).client
}

/// Returns whether an address is of a trusted proxy.
#[must_use]
pub fn is_trusted(address: IpAddr, trusted: &[IpNet]) -> bool {
    let address = address.to_canonical();
    trusted.iter().any(|range| range.contains(&address))
}

/// Returns the address of an element: with a port or without, and IPv6 in brackets or not.
fn address(element: &str) -> Option<IpAddr> {
    let element = element.trim();
    let in_brackets = || element.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    let with_port = || element.parse::<SocketAddr>().ok().map(|address| address.ip());
    element.parse().ok().or_else(in_brackets).or_else(with_port)
}

/// One element of `Forwarded`: what one proxy has said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Element {
    /// The node that the proxy was reached from; empty if it does not say.
    pub node: String,
    pub host: Option<String>,
    pub proto: Option<String>,
}

/// Returns the elements of a line of `Forwarded`. What can't be read is an element without a node,
/// at which the list ends.
#[must_use]
pub fn elements(line: &str) -> Vec<Element> {
    split(line, ',').into_iter().map(element).collect()
}

fn element(text: &str) -> Element {
    let mut element = Element::default();
    for pair in split(text, ';') {
        let Some((name, value)) = pair.split_once('=') else { continue };
        let (name, value) = (name.trim(), unquoted(value.trim()));
        if name.eq_ignore_ascii_case("for") {
            element.node = value;
        } else if name.eq_ignore_ascii_case("host") {
            element.host = Some(value);
        } else if name.eq_ignore_ascii_case("proto") {
            element.proto = Some(value);
        }
    }
    element
}

/// Splits a text at a separator outside of quotes.
fn split(text: &str, separator: char) -> Vec<&str> {
    let (mut parts, mut begin, mut in_quotes, mut is_escaped) = (Vec::new(), 0, false, false);
    for (at, letter) in text.char_indices() {
        match letter {
            _ if is_escaped => is_escaped = false,
            '\\' if in_quotes => is_escaped = true,
            '"' => in_quotes = !in_quotes,
            _ if letter == separator && !in_quotes => {
                parts.push(&text[begin..at]);
                begin = at + letter.len_utf8();
            }
            _ => {}
        }
    }
    parts.push(&text[begin..]);
    parts
}

/// Returns the value of a token or of a quoted string (RFC 9110, section 5.6.4).
fn unquoted(text: &str) -> String {
    let Some(quoted) = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else { return text.to_owned() };
    let mut is_escaped = false;
    let kept = |letter: &char| {
        is_escaped = !is_escaped && *letter == '\\';
        !is_escaped
    };
    quoted.chars().filter(kept).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(peer: &str, list: &str, trusted: &[&str]) -> String {
        let trusted: Vec<IpNet> = trusted.iter().map(|range| range.parse().unwrap()).collect();
        client(peer.parse().unwrap(), list.split(',').filter(|part| !part.is_empty()), &trusted).to_string()
    }

    #[test]
    fn list_is_believed_as_far_as_proxies_are_trusted() {
        for (peer, list, trusted, expected) in [
            ("10.0.0.1", "", &["10.0.0.1/32"][..], "10.0.0.1"),
            ("10.0.0.1", "192.0.2.7", &["10.0.0.1/32"], "192.0.2.7"),
            ("::ffff:10.0.0.1", " 192.0.2.7", &["10.0.0.1/32"], "192.0.2.7"),
            // What a client has written itself is before what the proxy has.
            ("10.0.0.1", "127.0.0.1, 192.0.2.7", &["10.0.0.1/32"], "192.0.2.7"),
            ("10.0.0.1", "192.0.2.7, 10.0.0.2", &["10.0.0.0/24"], "192.0.2.7"),
            ("10.0.0.1", "192.0.2.7, unknown", &["10.0.0.0/24"], "10.0.0.1"),
            ("192.0.2.9", "10.1.1.1", &["10.0.0.1/32"], "192.0.2.9"),
            ("192.0.2.9", "10.1.1.1", &[], "192.0.2.9"),
            ("fd00::1", "2001:db8::7", &["fd00::/8"], "2001:db8::7"),
            ("10.0.0.1", "192.0.2.7:4711", &["10.0.0.1/32"], "192.0.2.7"),
            ("10.0.0.1", "[2001:db8::7]:80", &["10.0.0.1/32"], "2001:db8::7"),
            ("10.0.0.1", "[2001:db8::7]", &["10.0.0.1/32"], "2001:db8::7"),
        ] {
            assert_eq!(of(peer, list, trusted), expected, "{peer} {list}");
        }
    }

    #[test]
    fn elements_are_read_as_they_are_written() {
        let read = |line: &str| {
            let pair =
                |element: Element| (element.node, element.proto.unwrap_or_default(), element.host.unwrap_or_default());
            elements(line).into_iter().map(pair).collect::<Vec<_>>()
        };
        let owned = |all: &[(&str, &str, &str)]| {
            all.iter().map(|(a, b, c)| ((*a).to_owned(), (*b).to_owned(), (*c).to_owned())).collect::<Vec<_>>()
        };
        for (line, expected) in [
            ("for=192.0.2.7", &[("192.0.2.7", "", "")][..]),
            (
                "For=\"[2001:db8::7]:47\" ; Proto=https;by=_a, for=10.0.0.2;host=\"lab.example:9443\"",
                &[("[2001:db8::7]:47", "https", ""), ("10.0.0.2", "", "lab.example:9443")],
            ),
            ("for=\"a\\\",b\";x=\"for=c\"", &[("a\",b", "", "")]),
            ("proto=https", &[("", "https", "")]),
            ("", &[("", "", "")]),
            ("for=\"192.0.2.7", &[("\"192.0.2.7", "", "")]),
        ] {
            assert_eq!(read(line), owned(expected), "{line}");
        }
    }

    proptest! {
        #[test]
        fn stranger_is_always_itself(list in "[0-9a-f.:, ]{0,60}") {
            prop_assert_eq!(of("192.0.2.9", &list, &["10.0.0.0/8"]), "192.0.2.9");
        }

        #[test]
        fn any_line_is_read(line in "\\PC{0,60}") {
            prop_assert!(!elements(&line).is_empty());
        }
    }
}
