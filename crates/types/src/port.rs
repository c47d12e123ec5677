//! Ports, port ranges, and the pool of a gateway.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::num::NonZeroU16;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The lowest gateway port.
pub const GATEWAY_PORT_MIN: u16 = 1000;

/// A TCP port, never 0.
pub type Port = NonZeroU16;

/// A text that is no port.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid port `{text}`: a port is a number from 1 to 65535")]
pub struct InvalidPort {
    text: String,
}

/// Parses a port.
pub fn parse_port(text: &str) -> Result<Port, InvalidPort> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let port = if digits { text.parse().ok() } else { None };
    port.ok_or_else(|| InvalidPort { text: text.chars().take(40).collect() })
}

/// An inclusive range of gateway ports, written `min:max`, within 1000 to 65535.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PortRange {
    min: u16,
    max: u16,
}

/// A text that is no port range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPortRange {
    /// It does not have the form `min:max`.
    #[error(
        "invalid port range `{text}`: write it as `<min>:<max>`, like 10000:10500; gateway ports lie within {GATEWAY_PORT_MIN} and 65535"
    )]
    Form { text: String },
    #[error("invalid port range {min}:{max}: its first port is above its last")]
    Reversed { min: u16, max: u16 },
    #[error("invalid port range {min}:{max}: gateway ports lie within {GATEWAY_PORT_MIN} and 65535")]
    Below { min: u16, max: u16 },
}

impl PortRange {
    /// The default range of a gateway.
    pub const DEFAULT: Self = Self { min: 10_000, max: 10_500 };

    /// Makes a range.
    pub fn new(min: u16, max: u16) -> Result<Self, InvalidPortRange> {
        if min > max {
            Err(InvalidPortRange::Reversed { min, max })
        } else if min < GATEWAY_PORT_MIN {
            Err(InvalidPortRange::Below { min, max })
        } else {
            Ok(Self { min, max })
        }
    }

    /// The first port.
    #[must_use]
    pub fn first(self) -> u16 {
        self.min
    }

    /// Says whether a port lies in the range.
    #[must_use]
    pub fn contains(self, port: Port) -> bool {
        (self.min..=self.max).contains(&port.get())
    }

    /// Says whether two ranges share a port.
    #[must_use]
    pub fn overlaps(self, other: Self) -> bool {
        self.min <= other.max && other.min <= self.max
    }

    /// Returns the number of ports in the range.
    #[must_use]
    pub fn size(self) -> usize {
        usize::from(self.max - self.min) + 1
    }
}

/// The last use of a gateway port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortUse {
    /// `true` if the port was of the user who asks now.
    pub is_own: bool,
    /// Grows with each assignment.
    pub number: u64,
}

impl PortRange {
    /// Returns `count` ports that are not in `used`, or `None` when fewer are free.
    ///
    /// A browser keeps the storage of a job for the next one at its port. So ports that were never
    /// of another user come first, the lowest ones. Then come those of others, the longest unused
    /// first.
    #[must_use]
    pub fn assign(self, used: &BTreeSet<Port>, last: &BTreeMap<Port, PortUse>, count: usize) -> Option<Vec<Port>> {
        let free = (self.min..=self.max).filter_map(Port::new).filter(|port| !used.contains(port));
        let mut free: Vec<Port> = free.collect();
        // Sorting is stable: ports without another user stay in their order.
        free.sort_by_key(|port| last.get(port).filter(|last| !last.is_own).map(|last| last.number));
        free.truncate(count);
        (free.len() == count).then_some(free)
    }

    /// Returns the lowest port above another that is not in `used`.
    #[must_use]
    pub fn first_above(self, port: Port, used: &BTreeSet<Port>) -> Option<Port> {
        let above = port.get().saturating_add(1).max(self.min);
        (above..=self.max).filter_map(Port::new).find(|port| !used.contains(port))
    }
}

impl FromStr for PortRange {
    type Err = InvalidPortRange;

    fn from_str(text: &str) -> Result<Self, InvalidPortRange> {
        let form = || InvalidPortRange::Form { text: text.chars().take(40).collect() };
        let (min, max) = text.split_once(':').ok_or_else(form)?;
        let port = |part: &str| parse_port(part).map(Port::get).map_err(|_| form());
        Self::new(port(min)?, port(max)?)
    }
}

impl TryFrom<String> for PortRange {
    type Error = InvalidPortRange;

    fn try_from(text: String) -> Result<Self, InvalidPortRange> {
        text.parse()
    }
}

impl From<PortRange> for String {
    fn from(range: PortRange) -> Self {
        range.to_string()
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.min, self.max)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_range_reads_back(min in 1000_u16.., length in 0_u16..2000) {
            let range = PortRange::new(min, min.saturating_add(length)).unwrap();
            prop_assert_eq!(range.to_string().parse::<PortRange>(), Ok(range));
        }

        #[test]
        fn ports_of_others_are_assigned_last(
            min in 1000_u16..60000,
            length in 0_u16..40,
            used in prop::collection::btree_set(0_u16..60, 0..40),
            last in prop::collection::btree_map(0_u16..60, (any::<bool>(), 0_u64..9), 0..40),
            count in 0_usize..50,
        ) {
            let range = PortRange::new(min, min + length).unwrap();
            let port = |offset: u16| Port::new(min + offset).unwrap();
            let used: BTreeSet<Port> = used.into_iter().map(port).collect();
            let last: BTreeMap<Port, PortUse> =
                last.into_iter().map(|(at, (is_own, number))| (port(at), PortUse { is_own, number })).collect();
            let free: Vec<Port> = (0..=length).map(port).filter(|port| !used.contains(port)).collect();
            let of_other = |port: &Port| last.get(port).filter(|last| !last.is_own).map(|last| last.number);
            match range.assign(&used, &last, count) {
                None => prop_assert!(free.len() < count),
                Some(given) => {
                    prop_assert_eq!(given.len(), count);
                    prop_assert!(given.iter().all(|port| free.contains(port)));
                    let order = |port: &Port| (of_other(port), *port);
                    prop_assert!(given.is_sorted_by_key(order));
                    // No port that is left would have been better.
                    if let Some(worst) = given.iter().map(order).max() {
                        prop_assert!(free.iter().filter(|port| !given.contains(port)).all(|port| order(port) > worst));
                    }
                }
            }
        }

        #[test]
        fn two_ranges_overlap_when_they_share_a_port(a in 1000_u16..1100, b in 0_u16..50, c in 1000_u16..1100, d in 0_u16..50) {
            let (first, second) = (PortRange::new(a, a + b).unwrap(), PortRange::new(c, c + d).unwrap());
            let shared = (a..=a + b).any(|port| (c..=c + d).contains(&port));
            prop_assert_eq!(first.overlaps(second), shared);
        }
    }

    #[test]
    fn what_is_no_range_is_refused() {
        for bad in [
            "",
            "10000",
            "10000:",
            ":1",
            "a:b",
            "10000:70000",
            "+1000:2000",
            "1000:2000:3000",
            "999:2000",
            "2000:1000",
            "0:0",
        ] {
            assert!(bad.parse::<PortRange>().is_err(), "{bad}");
        }
    }
}
