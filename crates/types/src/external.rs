//! The addresses that endpoints of external jobs may have.
//!
//! A gateway connects to them from its host, and reaches more there than its users do. That are
//! services of the host, unpublished ports of other jobs, and the cloud's metadata with
//! credentials. So those addresses are refused, unless an admin allows them by a range. Names are
//! checked by the addresses that they resolve to, when a connection is made.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A range of addresses.
pub use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::address::Overlay;

/// The addresses at which clouds serve metadata, beside link-local ones.
const METADATA: [IpAddr; 4] = [
    // Amazon, by IPv6.
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    // Azure's wire server.
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    // Alibaba and Oracle.
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
];
/// The prefix under which IPv4 addresses are reached by translation (RFC 6052).
const TRANSLATED: [u16; 6] = [0x64, 0xff9b, 0, 0, 0, 0];

/// The addresses that endpoints may have.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointRules {
    /// The addresses of hosts and jobs.
    pub overlay: Overlay,
    /// The ranges that an admin allows.
    #[serde(default)]
    pub allowed: Vec<IpNet>,
}

/// The kind of an address that no endpoint may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Forbidden {
    #[error("an address of the gateway's own host")]
    Own,
    #[error("a link-local address")]
    LinkLocal,
    #[error("an address of cloud metadata")]
    Metadata,
    #[error("an address of a job or a host in the overlay")]
    Overlay,
    #[error("no address of one machine")]
    NotOne,
}

impl EndpointRules {
    /// Checks an address. `is_own` tells whether the gateway's host has it.
    ///
    /// # Errors
    /// No endpoint may have the address.
    pub fn check(&self, address: IpAddr, is_own: impl FnOnce(IpAddr) -> bool) -> Result<(), Forbidden> {
        let address = plain(address);
        let is_allowed = self.allowed.iter().any(|range| range.contains(&address));
        match self.kind(address).or_else(|| is_own(address).then_some(Forbidden::Own)) {
            Some(forbidden) if !is_allowed => Err(forbidden),
            _ => Ok(()),
        }
    }

    fn kind(&self, address: IpAddr) -> Option<Forbidden> {
        if METADATA.contains(&address) {
            return Some(Forbidden::Metadata);
        }
        match address {
            _ if address.is_loopback() => Some(Forbidden::Own),
            _ if address.is_unspecified() || address.is_multicast() => Some(Forbidden::NotOne),
            IpAddr::V4(address) if address.octets()[0] == 0 || address.is_broadcast() => Some(Forbidden::NotOne),
            IpAddr::V4(address) if address.is_link_local() => Some(Forbidden::LinkLocal),
            IpAddr::V4(address) => self.overlay.range().contains(&address).then_some(Forbidden::Overlay),
            IpAddr::V6(address) => address.is_unicast_link_local().then_some(Forbidden::LinkLocal),
        }
    }
}

/// Returns the IPv4 address to which an IPv6 address leads, if it does.
fn plain(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) if v6.segments()[..6] == TRANSLATED => {
            let [.., high, low] = v6.segments();
            IpAddr::V4(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)))
        }
        // Addresses of a form that is not used any more (RFC 4291, section 2.5.5.1).
        IpAddr::V6(v6) if v6.segments()[..6] == [0; 6] && !v6.is_loopback() && !v6.is_unspecified() => {
            v6.to_ipv4().map_or(IpAddr::V6(v6), IpAddr::V4)
        }
        plain => plain,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(address: &str, allowed: &[&str]) -> Result<(), Forbidden> {
        let allowed = allowed.iter().map(|range| range.parse().unwrap()).collect();
        let rules = EndpointRules { allowed, ..EndpointRules::default() };
        rules.check(address.parse().unwrap(), |address| address == IpAddr::from([192, 168, 1, 5]))
    }

    #[test]
    fn addresses_of_the_host_and_the_cloud_are_refused() {
        for (address, expected) in [
            ("10.0.0.1", Ok(())),
            ("203.0.113.7", Ok(())),
            ("2001:db8::7", Ok(())),
            ("fd00::7", Ok(())),
            ("127.0.0.1", Err(Forbidden::Own)),
            ("127.9.9.9", Err(Forbidden::Own)),
            ("::1", Err(Forbidden::Own)),
            ("::ffff:127.0.0.1", Err(Forbidden::Own)),
            ("::127.0.0.1", Err(Forbidden::Own)),
            ("64:ff9b::7f00:1", Err(Forbidden::Own)),
            ("192.168.1.5", Err(Forbidden::Own)),
            ("::ffff:192.168.1.5", Err(Forbidden::Own)),
            ("0.0.0.0", Err(Forbidden::NotOne)),
            ("0.0.0.7", Err(Forbidden::NotOne)),
            ("::", Err(Forbidden::NotOne)),
            ("224.0.0.1", Err(Forbidden::NotOne)),
            ("ff02::1", Err(Forbidden::NotOne)),
            ("255.255.255.255", Err(Forbidden::NotOne)),
            ("169.254.169.254", Err(Forbidden::LinkLocal)),
            ("64:ff9b::a9fe:a9fe", Err(Forbidden::LinkLocal)),
            ("fe80::1", Err(Forbidden::LinkLocal)),
            ("fd00:ec2::254", Err(Forbidden::Metadata)),
            ("168.63.129.16", Err(Forbidden::Metadata)),
            ("100.100.100.200", Err(Forbidden::Metadata)),
            ("100.64.1.7", Err(Forbidden::Overlay)),
            ("100.127.0.1", Err(Forbidden::Overlay)),
        ] {
            assert_eq!(check(address, &[]), expected, "{address}");
            assert_eq!(check(address, &["0.0.0.0/0", "::/0"]), Ok(()), "{address}");
        }
        assert_eq!(check("::ffff:127.0.0.1", &["127.0.0.0/8"]), Ok(()));
        assert_eq!(check("169.254.169.254", &["127.0.0.0/8"]), Err(Forbidden::LinkLocal));
    }

    proptest! {
        #[test]
        fn form_of_an_address_is_no_way_out(bits: u32) {
            let rules = EndpointRules::default();
            let v4 = Ipv4Addr::from_bits(bits);
            let told = rules.check(v4.into(), |_| false);
            prop_assert_eq!(rules.check(v4.to_ipv6_mapped().into(), |_| false), told);
            let [a, b, c, d] = v4.octets().map(u16::from);
            let translated = Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, a << 8 | b, c << 8 | d);
            prop_assert_eq!(rules.check(translated.into(), |_| false), told);
        }
    }
}
