//! Datagrams as the IP packets in which they arrive.

use std::net::{IpAddr, SocketAddr};

use super::queue::Datagram;

/// The size of a packet: the least that IPv6 has, which every link takes.
const PACKET_MAX: usize = 1280;
const V4_HEADER: usize = 20;
const V6_HEADER: usize = 40;
const V6_FRAGMENT_HEADER: usize = 8;
const UDP_HEADER: usize = 8;
const UDP: u8 = 17;
const V6_FRAGMENT: u8 = 44;
/// Offsets of fragments count units of this many bytes.
const FRAGMENT_UNIT: usize = 8;
const MORE_FRAGMENTS_V4: u16 = 0x2000;
const MORE_FRAGMENTS_V6: u16 = 1;

/// Returns the packets of a datagram to a port. Those of one datagram are told from others by
/// `number`. Returns `None` where its addresses are of two families, or it is too long.
pub(super) fn packets(datagram: &Datagram, port: u16, number: u16) -> Option<Vec<Vec<u8>>> {
    let Datagram { source, destination, hops, class, bytes } = datagram;
    let whole = udp(source, *destination, port, bytes)?;
    match (source.ip(), destination) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let fragment = |at: usize, part: &[u8], more: bool| {
                let mut packet = vec![0x45, *class];
                packet.extend(u16::try_from(V4_HEADER + part.len()).ok()?.to_be_bytes());
                packet.extend(number.to_be_bytes());
                let more = if more { MORE_FRAGMENTS_V4 } else { 0 };
                packet.extend((u16::try_from(at / FRAGMENT_UNIT).ok()? | more).to_be_bytes());
                packet.extend([*hops, UDP, 0, 0]);
                packet.extend(from.octets());
                packet.extend(to.octets());
                let checksum = checksum(&[&packet]).to_be_bytes();
                packet[10..12].copy_from_slice(&checksum);
                packet.extend(part);
                Some(packet)
            };
            fragments(&whole, PACKET_MAX - V4_HEADER, fragment)
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let header = |next: u8, length: usize| {
                let class = u32::from(*class) << 20;
                let mut packet = (6 << 28 | class).to_be_bytes().to_vec();
                packet.extend(u16::try_from(length).ok()?.to_be_bytes());
                packet.extend([next, *hops]);
                packet.extend(from.octets());
                packet.extend(to.octets());
                Some(packet)
            };
            if whole.len() <= PACKET_MAX - V6_HEADER {
                let mut packet = header(UDP, whole.len())?;
                packet.extend(whole);
                return Some(vec![packet]);
            }
            let fragment = |at: usize, part: &[u8], more: bool| {
                let mut packet = header(V6_FRAGMENT, V6_FRAGMENT_HEADER + part.len())?;
                let more = if more { MORE_FRAGMENTS_V6 } else { 0 };
                packet.extend([UDP, 0]);
                packet.extend((u16::try_from(at).ok()? | more).to_be_bytes());
                packet.extend(u32::from(number).to_be_bytes());
                packet.extend(part);
                Some(packet)
            };
            fragments(&whole, PACKET_MAX - V6_HEADER - V6_FRAGMENT_HEADER, fragment)
        }
        _ => None,
    }
}

/// Cuts a datagram with its header into parts of whole units, which `make` makes packets of.
fn fragments(whole: &[u8], room: usize, make: impl Fn(usize, &[u8], bool) -> Option<Vec<u8>>) -> Option<Vec<Vec<u8>>> {
    let step = room / FRAGMENT_UNIT * FRAGMENT_UNIT;
    let parts = whole.chunks(step).enumerate();
    parts.map(|(index, part)| make(index * step, part, index * step + part.len() < whole.len())).collect()
}

/// The datagram behind its header, with its checksum.
fn udp(source: &SocketAddr, destination: IpAddr, port: u16, bytes: &[u8]) -> Option<Vec<u8>> {
    let length = u16::try_from(UDP_HEADER + bytes.len()).ok()?;
    let mut whole = Vec::with_capacity(usize::from(length));
    whole.extend(source.port().to_be_bytes());
    whole.extend(port.to_be_bytes());
    whole.extend(length.to_be_bytes());
    whole.extend([0, 0]);
    whole.extend(bytes);
    let checksum = checksum(&[&octets(source.ip()), &octets(destination), &[0, UDP], &length.to_be_bytes(), &whole]);
    // Zero would say that there is none.
    let checksum = if checksum == 0 { u16::MAX } else { checksum };
    whole[6..8].copy_from_slice(&checksum.to_be_bytes());
    Some(whole)
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// The checksum of IP and UDP (RFC 1071). All parts but the last have an even length.
fn checksum(parts: &[&[u8]]) -> u16 {
    let mut sum: u32 = 0;
    for part in parts {
        for pair in part.chunks(2) {
            sum += u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
            sum = (sum & 0xffff) + (sum >> 16);
        }
    }
    !u16::try_from(sum).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn datagram(source: &str, destination: &str, bytes: usize) -> Datagram {
        let bytes = (0..bytes).map(|at| u8::try_from(at % 251).unwrap()).collect();
        let (source, destination) = (source.parse().unwrap(), destination.parse().unwrap());
        Datagram { source, destination, hops: 9, class: 4, bytes }
    }

    #[test]
    fn a_small_datagram_is_one_packet_that_checks() {
        let packets = packets(&datagram("192.0.2.9:77", "10.77.0.5", 5), 5000, 1).unwrap();
        let [packet] = &packets[..] else { panic!("{packets:?}") };
        assert_eq!(packet.len(), V4_HEADER + UDP_HEADER + 5);
        assert_eq!((packet[1], packet[8]), (4, 9));
        assert_eq!(checksum(&[&packet[..V4_HEADER]]), 0);
        let udp = &packet[V4_HEADER..];
        assert_eq!(checksum(&[&packet[12..20], &[0, UDP, 0, 13], udp]), 0);
        assert_eq!(udp[..4], [0, 77, 0x13, 0x88]);
        assert_eq!(udp[UDP_HEADER..], [0, 1, 2, 3, 4]);
    }

    #[test]
    fn a_large_datagram_is_cut_and_can_be_joined() {
        for (source, destination, header) in [
            ("192.0.2.9:77", "10.77.0.5", V4_HEADER),
            ("[2001:db8::1]:77", "2001:db8::2", V6_HEADER + V6_FRAGMENT_HEADER),
        ] {
            let datagram = datagram(source, destination, 65_507 - V6_HEADER);
            let packets = packets(&datagram, 5000, 1).unwrap();
            assert!(packets.iter().all(|packet| packet.len() <= PACKET_MAX));
            let (last, others) = packets.split_last().unwrap();
            assert!(others.iter().all(|packet| (packet.len() - header) % FRAGMENT_UNIT == 0));
            assert!(last.len() > header);
            let joined: Vec<u8> = packets.iter().flat_map(|packet| packet[header..].to_vec()).collect();
            assert_eq!(joined[UDP_HEADER..], datagram.bytes);
        }
    }

    #[test]
    fn no_packet_is_of_two_families() {
        assert_eq!(packets(&datagram("192.0.2.9:77", "::1", 5), 5000, 1), None);
    }
}
