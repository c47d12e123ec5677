//! The client of a request that came through proxies.
//!
//! A proxy adds the address that it was reached from to the end of `X-Forwarded-For`. What is
//! before that is as good as the proxy's own client. So the list is read from its end, as long as
//! those who wrote it are trusted.

use std::net::IpAddr;

use ipnet::IpNet;

/// Returns the client of a request from `peer`. `forwarded_for` has the elements of all lines of
/// `X-Forwarded-For`, in their order.
///
/// An element that is no address ends the list: the proxy that wrote it is the client.
#[must_use]
pub fn client<'a>(peer: IpAddr, forwarded_for: impl DoubleEndedIterator<Item = &'a str>, trusted: &[IpNet]) -> IpAddr {
    let mut client = peer.to_canonical();
    let mut elements = forwarded_for.rev();
    while is_trusted(client, trusted) {
        let Some(before) = elements.next().and_then(|element| element.trim().parse::<IpAddr>().ok()) else { break };
        client = before.to_canonical();
    }
    client
}

/// Returns whether an address is of a trusted proxy.
#[must_use]
pub fn is_trusted(address: IpAddr, trusted: &[IpNet]) -> bool {
    let address = address.to_canonical();
    trusted.iter().any(|range| range.contains(&address))
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
        ] {
            assert_eq!(of(peer, list, trusted), expected, "{peer} {list}");
        }
    }

    proptest! {
        #[test]
        fn stranger_is_always_itself(list in "[0-9a-f.:, ]{0,60}") {
            prop_assert_eq!(of("192.0.2.9", &list, &["10.0.0.0/8"]), "192.0.2.9");
        }
    }
}
