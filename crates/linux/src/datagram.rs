//! The state of UDP sockets that CRIU does not restore: options, group memberships and waiting
//! datagrams.
//!
//! They are read through descriptors of the processes that have the sockets. Options and groups are
//! set in the same way. A group is one of an interface, which is known by its name. Datagrams
//! arrive once more, as packets: see [`inlet`].
//!
//! * [`queue`]: the datagrams that wait in a socket.
//! * [`packet`]: the packets of a datagram.
//! * [`inlet`]: the way of packets into a job's sockets.

#![expect(unsafe_code, reason = "addresses are read and written as the kernel lays them out")]

pub mod inlet;
mod packet;
pub mod queue;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::mem;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{OwnedFd, RawFd};

use nix::sys::stat::fstat;
use serde::{Deserialize, Serialize};

use crate::connections::{Integers, get, pidfd_getfd, pidfd_open, set, update};
use crate::process_tree::own_pid;

/// The options that are kept, by level: all are integers.
const OPTIONS: [(libc::c_int, &[libc::c_int]); 4] = [
    (
        libc::SOL_SOCKET,
        &[
            libc::SO_DONTROUTE,
            libc::SO_BROADCAST,
            libc::SO_NO_CHECK,
            libc::SO_PRIORITY,
            libc::SO_RCVLOWAT,
            libc::SO_TIMESTAMP,
            libc::SO_TIMESTAMPNS,
            libc::SO_TIMESTAMPING,
            libc::SO_MARK,
            libc::SO_RXQ_OVFL,
        ],
    ),
    (
        libc::IPPROTO_IP,
        &[
            libc::IP_TOS,
            libc::IP_TTL,
            libc::IP_PKTINFO,
            libc::IP_MTU_DISCOVER,
            libc::IP_RECVERR,
            libc::IP_RECVTTL,
            libc::IP_RECVTOS,
            libc::IP_FREEBIND,
            libc::IP_TRANSPARENT,
            libc::IP_RECVORIGDSTADDR,
            libc::IP_MINTTL,
            libc::IP_MULTICAST_TTL,
            libc::IP_MULTICAST_LOOP,
            IP_MULTICAST_ALL,
        ],
    ),
    (
        libc::IPPROTO_IPV6,
        &[
            libc::IPV6_UNICAST_HOPS,
            libc::IPV6_MULTICAST_HOPS,
            libc::IPV6_MULTICAST_LOOP,
            libc::IPV6_MTU_DISCOVER,
            libc::IPV6_RECVERR,
            IPV6_MULTICAST_ALL,
            libc::IPV6_RECVPKTINFO,
            libc::IPV6_RECVHOPLIMIT,
            libc::IPV6_DONTFRAG,
            libc::IPV6_RECVTCLASS,
            libc::IPV6_TCLASS,
        ],
    ),
    (libc::IPPROTO_UDP, &[UDP_NO_CHECK6_TX, UDP_NO_CHECK6_RX, libc::UDP_SEGMENT, libc::UDP_GRO]),
];
// Of linux/in.h, linux/in6.h and linux/udp.h.
const IP_MULTICAST_ALL: libc::c_int = 49;
const IPV6_MULTICAST_ALL: libc::c_int = 29;
const UDP_NO_CHECK6_TX: libc::c_int = 101;
const UDP_NO_CHECK6_RX: libc::c_int = 102;
const MCAST_JOIN_GROUP: libc::c_int = 42;
const MCAST_MSFILTER: libc::c_int = 48;
/// The most sources of a membership that are kept: the kernel's default limit is 10.
const SOURCES_MAX: usize = 64;

/// A UDP socket of a process.
#[derive(Debug)]
pub struct DatagramSocket {
    /// The id of a process that has it, as that process sees it.
    pub own_pid: i32,
    pub descriptor: RawFd,
    /// The kernel's id of that process.
    pid: i32,
    socket: OwnedFd,
}

/// All of a UDP socket that CRIU does not restore, but what waits in it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatagramSettings {
    /// Level, name and value.
    options: Vec<(i32, i32, i32)>,
    /// The interface by which multicast packets of IPv6 leave.
    multicast_interface: Option<String>,
    memberships: Vec<Membership>,
}

/// A group that a socket has joined.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Membership {
    group: IpAddr,
    interface: String,
    /// The kernel's mode of the filter: 0 lets all but the sources pass, 1 only them.
    mode: u32,
    sources: Vec<IpAddr>,
}

/// `group_req` of linux/in.h.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
struct GroupRequest {
    interface: u32,
    group: Address,
}

/// `group_filter` of linux/in.h, with room for sources.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
struct GroupFilter {
    interface: u32,
    group: Address,
    mode: u32,
    sources_count: u32,
    sources: [Address; SOURCES_MAX],
}

/// `sockaddr_storage` as words.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(8))]
struct Address([u8; 128]);

// SAFETY: C structs of integers and bytes.
unsafe impl Integers for GroupRequest {}
// SAFETY: as above.
unsafe impl Integers for GroupFilter {}

/// Finds the bound UDP sockets of the processes with these ids, each once.
#[must_use]
pub fn find(pids: &[i32]) -> Vec<DatagramSocket> {
    let mut inodes = pids.iter().find_map(|pid| inodes(*pid).ok()).unwrap_or_default();
    let mut found = Vec::new();
    for pid in pids {
        if inodes.is_empty() {
            break;
        }
        // The process may end at any time.
        let _ = find_in(*pid, &mut inodes, &mut found);
    }
    found
}

fn find_in(pid: i32, inodes: &mut BTreeSet<String>, found: &mut Vec<DatagramSocket>) -> io::Result<()> {
    let Some(own_pid) = own_pid(pid) else { return Ok(()) };
    let process = pidfd_open(pid)?;
    for entry in fs::read_dir(format!("/proc/{pid}/fd"))?.flatten() {
        let target = fs::read_link(entry.path()).unwrap_or_default().to_string_lossy().into_owned();
        let Some(descriptor) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        if let Some(inode) = target.strip_prefix("socket:[").and_then(|rest| rest.strip_suffix(']'))
            && inodes.remove(inode)
        {
            found.push(DatagramSocket { own_pid, descriptor, pid, socket: pidfd_getfd(&process, descriptor)? });
        }
    }
    Ok(())
}

/// The UDP sockets of a process's network namespace.
fn inodes(pid: i32) -> io::Result<BTreeSet<String>> {
    let mut inodes = BTreeSet::new();
    for table in ["udp", "udp6", "udplite", "udplite6"] {
        let text = fs::read_to_string(format!("/proc/{pid}/net/{table}")).unwrap_or_default();
        inodes.extend(text.lines().skip(1).filter_map(|line| line.split_whitespace().nth(9)).map(str::to_owned));
    }
    Ok(inodes)
}

impl DatagramSocket {
    /// Opens the socket that a process with this id of its own has as a descriptor.
    ///
    /// # Errors
    /// The process has ended, or has no such descriptor.
    pub fn open(pid: i32, own_pid: i32, descriptor: RawFd) -> io::Result<Self> {
        Ok(Self { own_pid, descriptor, pid, socket: pidfd_getfd(&pidfd_open(pid)?, descriptor)? })
    }

    /// The kernel's id of the process.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Says whether another descriptor is of the same socket.
    fn is_same(&self, other: &Self) -> bool {
        let number = |socket: &Self| fstat(&socket.socket).ok().map(|found| found.st_ino);
        number(self) == number(other)
    }

    /// Reads options and memberships.
    #[must_use]
    pub fn settings(&self) -> DatagramSettings {
        let groups = groups(self.pid);
        let interfaces = interfaces(&groups);
        let name = |index: u32| interfaces.get(&index).cloned();
        let multicast = get::<libc::c_int>(&self.socket, libc::IPPROTO_IPV6, libc::IPV6_MULTICAST_IF).unwrap_or(0);
        let memberships = groups.iter().filter_map(|group| self.membership(group));
        DatagramSettings {
            options: self.options().collect(),
            multicast_interface: u32::try_from(multicast).ok().and_then(name),
            memberships: memberships.collect(),
        }
    }

    /// Sets what differs. Returns the number of settings that could not be set.
    #[must_use]
    pub fn restore(&self, settings: &DatagramSettings) -> usize {
        let present: BTreeSet<(i32, i32, i32)> = self.options().collect();
        let options = settings.options.iter().filter(|option| !present.contains(option));
        let options = options.map(|(level, name, value)| set(&self.socket, *level, *name, value));
        let interfaces = interfaces(&groups(self.pid));
        let index = |name: &str| interfaces.iter().find_map(|(index, known)| (known == name).then_some(*index));
        let gone = || io::Error::from(io::ErrorKind::NotFound);
        let interface = settings.multicast_interface.iter().map(|name| {
            let index = index(name).ok_or_else(gone)?.cast_signed();
            set(&self.socket, libc::IPPROTO_IPV6, libc::IPV6_MULTICAST_IF, &index)
        });
        let memberships = settings
            .memberships
            .iter()
            .map(|membership| self.join(membership, index(&membership.interface).ok_or_else(gone)?));
        options.chain(interface).chain(memberships).filter(Result::is_err).count()
    }

    fn options(&self) -> impl Iterator<Item = (i32, i32, i32)> {
        let names = OPTIONS.iter().flat_map(|(level, names)| names.iter().map(move |name| (*level, *name)));
        names.filter_map(|(level, name)| Some((level, name, get(&self.socket, level, name).ok()?)))
    }

    /// Reads the membership in a group, if the socket has joined it.
    fn membership(&self, Group { index, interface, address }: &Group) -> Option<Membership> {
        let mut filter = GroupFilter { interface: *index, group: Address::from(*address), ..GroupFilter::default() };
        filter.sources_count = u32::try_from(SOURCES_MAX).ok()?;
        update(&self.socket, level(*address), MCAST_MSFILTER, &mut filter).ok()?;
        let count = usize::try_from(filter.sources_count).ok()?.min(SOURCES_MAX);
        let sources = filter.sources[..count].iter().filter_map(Address::ip).collect();
        Some(Membership { group: *address, interface: interface.clone(), mode: filter.mode, sources })
    }

    fn join(&self, membership: &Membership, interface: u32) -> io::Result<()> {
        let Membership { group, mode, sources, .. } = membership;
        let request = GroupRequest { interface, group: Address::from(*group) };
        match set(&self.socket, level(*group), MCAST_JOIN_GROUP, &request) {
            Err(error) if error.raw_os_error() != Some(libc::EADDRINUSE) => return Err(error),
            _ => {}
        }
        if *mode == 0 && sources.is_empty() {
            return Ok(());
        }
        let mut filter = GroupFilter { interface, group: Address::from(*group), mode: *mode, ..GroupFilter::default() };
        for (place, source) in filter.sources.iter_mut().zip(sources) {
            *place = Address::from(*source);
            filter.sources_count += 1;
        }
        set(&self.socket, level(*group), MCAST_MSFILTER, &filter)
    }
}

fn level(address: IpAddr) -> libc::c_int {
    if address.is_ipv4() { libc::IPPROTO_IP } else { libc::IPPROTO_IPV6 }
}

/// A group that an interface has joined.
#[derive(Debug, PartialEq, Eq)]
struct Group {
    index: u32,
    interface: String,
    address: IpAddr,
}

/// The groups of all interfaces of a process's network namespace.
fn groups(pid: i32) -> Vec<Group> {
    let read = |name: &str| fs::read_to_string(format!("/proc/{pid}/net/{name}")).unwrap_or_default();
    let mut groups = v4_groups(&read("igmp"));
    groups.extend(read("igmp6").lines().filter_map(v6_group));
    groups
}

fn v4_groups(text: &str) -> Vec<Group> {
    let (mut groups, mut of) = (Vec::new(), None);
    for line in text.lines().skip(1) {
        let mut fields = line.split_whitespace();
        let Some(first) = fields.next() else { continue };
        if !line.starts_with(char::is_whitespace) {
            of = first.parse().ok().zip(fields.next().map(str::to_owned));
        } else if let (Some((index, interface)), Ok(group)) = (&of, u32::from_str_radix(first, 16)) {
            let address = Ipv4Addr::from(group.to_ne_bytes()).into();
            groups.push(Group { index: *index, interface: interface.clone(), address });
        }
    }
    groups
}

fn v6_group(line: &str) -> Option<Group> {
    let mut fields = line.split_whitespace();
    let (index, interface) = (fields.next()?.parse().ok()?, fields.next()?.to_owned());
    let address = u128::from_str_radix(fields.next()?, 16).ok()?;
    Some(Group { index, interface, address: Ipv6Addr::from(address).into() })
}

/// The names of the interfaces with groups: all that are up.
fn interfaces(groups: &[Group]) -> BTreeMap<u32, String> {
    groups.iter().map(|group| (group.index, group.interface.clone())).collect()
}

impl From<IpAddr> for Address {
    fn from(ip: IpAddr) -> Self {
        let mut bytes = [0; 128];
        match ip {
            IpAddr::V4(ip) => {
                bytes[..2].copy_from_slice(&(libc::AF_INET as u16).to_ne_bytes());
                bytes[4..8].copy_from_slice(&ip.octets());
            }
            IpAddr::V6(ip) => {
                bytes[..2].copy_from_slice(&(libc::AF_INET6 as u16).to_ne_bytes());
                bytes[8..24].copy_from_slice(&ip.octets());
            }
        }
        Self(bytes)
    }
}

impl Address {
    fn ip(&self) -> Option<IpAddr> {
        match libc::c_int::from(u16::from_ne_bytes([self.0[0], self.0[1]])) {
            libc::AF_INET => Some(Ipv4Addr::from(<[u8; 4]>::try_from(&self.0[4..8]).ok()?).into()),
            libc::AF_INET6 => Some(Ipv6Addr::from(<[u8; 16]>::try_from(&self.0[8..24]).ok()?).into()),
            _ => None,
        }
    }
}

impl Default for GroupFilter {
    fn default() -> Self {
        // SAFETY: a C struct of integers and bytes, for which all zeros is a value.
        unsafe { mem::zeroed() }
    }
}

impl Default for GroupRequest {
    fn default() -> Self {
        // SAFETY: a C struct of integers and bytes, for which all zeros is a value.
        unsafe { mem::zeroed() }
    }
}
