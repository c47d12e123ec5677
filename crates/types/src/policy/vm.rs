//! The kind of host for a job, and retries while no host has room:
//! `[spotFirst=true,retryLimit=3,retryInterval=600s]`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::list::{InvalidPolicy, entries};
use crate::duration::{self, format_duration};
use crate::host::Purchase;

const POLICY: &str = "VM";
const KEYS: [&str; 5] = ["spotOnly", "spotFirst", "onDemand", "retryLimit", "retryInterval"];
const RETRY_LIMIT_MAX: u32 = 1000;

/// The kind of host for a job, by how it is [paid for](Purchase).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Wanted {
    /// Only spot hosts.
    SpotOnly,
    /// Spot hosts, and other hosts where none has room.
    #[default]
    SpotFirst,
    /// Only on-demand hosts.
    OnDemand,
}

impl Wanted {
    /// Says whether the job may be on such a host.
    #[must_use]
    pub fn admits(self, purchase: Purchase) -> bool {
        self.alone().is_none_or(|alone| alone == purchase)
    }

    /// Returns the rank of a kind of host; the lower one is preferred.
    #[must_use]
    pub fn rank(self, purchase: Purchase) -> u8 {
        match (self, purchase) {
            (Self::OnDemand, Purchase::OnDemand) | (Self::SpotOnly | Self::SpotFirst, Purchase::Spot) => 0,
            (Self::OnDemand, Purchase::Spot) | (Self::SpotOnly | Self::SpotFirst, Purchase::OnDemand) => 1,
        }
    }

    /// Returns the only kind that is allowed, if it is only one.
    #[must_use]
    pub fn alone(self) -> Option<Purchase> {
        match self {
            Self::SpotOnly => Some(Purchase::Spot),
            Self::SpotFirst => None,
            Self::OnDemand => Some(Purchase::OnDemand),
        }
    }
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SpotOnly => "spotOnly",
            Self::SpotFirst => "spotFirst",
            Self::OnDemand => "onDemand",
        })
    }
}

/// The kind of host for a job, and retries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct VmPolicy {
    /// The kind of host.
    pub policy: Wanted,
    /// The number of retries after the first attempt to find a host.
    pub retry_limit: u32,
    /// The time between two attempts.
    #[serde(with = "duration::text")]
    pub retry_interval: Duration,
}

impl Default for VmPolicy {
    fn default() -> Self {
        Self { policy: Wanted::default(), retry_limit: 3, retry_interval: Duration::from_secs(600) }
    }
}

impl VmPolicy {
    /// Returns how long a job waits for a host before it is NoAvailableHost.
    #[must_use]
    pub fn wait_limit(&self) -> Duration {
        self.retry_interval.saturating_mul(self.retry_limit)
    }

    /// Says whether a job that has waited for this time is NoAvailableHost.
    #[must_use]
    pub fn gives_up(&self, waited: Duration) -> bool {
        waited >= self.wait_limit()
    }
}

impl FromStr for VmPolicy {
    type Err = InvalidPolicy;

    fn from_str(text: &str) -> Result<Self, InvalidPolicy> {
        let mut read = Self::default();
        let mut chosen = None;
        for entry in entries(POLICY, text, &KEYS)? {
            let wanted = match entry.key {
                "retryLimit" => {
                    read.retry_limit = entry.number(0, RETRY_LIMIT_MAX)?;
                    continue;
                }
                "retryInterval" => {
                    read.retry_interval = entry.duration()?;
                    continue;
                }
                "spotOnly" => Wanted::SpotOnly,
                "spotFirst" => Wanted::SpotFirst,
                _ => Wanted::OnDemand,
            };
            if !entry.truth()? {
                continue;
            }
            if let Some(other) = chosen.replace(wanted) {
                let contradiction = format!("`{other}` and `{wanted}` exclude each other");
                return Err(InvalidPolicy::Contradiction { policy: POLICY, contradiction });
            }
        }
        read.policy = chosen.unwrap_or_default();
        Ok(read)
    }
}

impl fmt::Display for VmPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let interval = format_duration(self.retry_interval);
        write!(f, "[{}=true,retryLimit={},retryInterval={interval}]", self.policy, self.retry_limit)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_scripts_write_is_read() {
        let read = |text: &str| text.parse::<VmPolicy>().unwrap();
        assert_eq!(read(""), VmPolicy::default());
        assert_eq!(read("[onDemand=true]"), VmPolicy { policy: Wanted::OnDemand, ..VmPolicy::default() });
        assert_eq!(
            read("[spotOnly=true,retryLimit=10,retryInterval=300s]"),
            VmPolicy { policy: Wanted::SpotOnly, retry_limit: 10, retry_interval: Duration::from_secs(300) }
        );
        assert_eq!(read("spotFirst=true, onDemand=false"), VmPolicy::default());
        assert_eq!(VmPolicy::default().to_string(), "[spotFirst=true,retryLimit=3,retryInterval=10m0s]");
        assert_eq!(VmPolicy::default().wait_limit(), Duration::from_secs(1800));
        assert!(VmPolicy::default().gives_up(Duration::from_secs(1800)));
        assert!(!VmPolicy::default().gives_up(Duration::from_secs(1799)));
        assert!(read("[retryLimit=0]").gives_up(Duration::ZERO));
    }

    #[test]
    fn what_is_no_vm_policy_is_refused_with_what_it_may_be() {
        for (bad, sentence, hint) in [
            ("[spot]", "invalid VM policy: `spot` is not key=value", "write [key=value,key=value]"),
            ("[spotonly=true]", "invalid VM policy: it has no key `spotonly`", "did you mean `spotOnly`?"),
            ("[onDemand=yes]", "invalid VM policy: `onDemand=yes`: `true` or `false`", "give `true` or `false`"),
            ("[retryLimit=-1]", "invalid VM policy: `retryLimit=-1`: a number from 0 to 1000", "give a number"),
            ("[retryInterval=600]", "invalid VM policy: `retryInterval=600`: a duration like 30s or 10m", "give a"),
            ("[retryLimit=1,retryLimit=2]", "invalid VM policy: `retryLimit` is given twice", "give every key once"),
            (
                "[spotOnly=true,onDemand=true]",
                "invalid VM policy: `spotOnly` and `onDemand` exclude each other",
                "change one of the two",
            ),
        ] {
            let error = bad.parse::<VmPolicy>().unwrap_err();
            assert_eq!(error.to_string(), sentence);
            assert!(error.hint().starts_with(hint), "{}", error.hint());
        }
    }

    proptest! {
        #[test]
        fn a_vm_policy_reads_back(purchase in 0_usize..3, retry_limit in 0..=RETRY_LIMIT_MAX, seconds in 0_u64..1_000_000) {
            let policy = [Wanted::SpotOnly, Wanted::SpotFirst, Wanted::OnDemand][purchase];
            let whole = VmPolicy { policy, retry_limit, retry_interval: Duration::from_secs(seconds) };
            prop_assert_eq!(whole.to_string().parse::<VmPolicy>(), Ok(whole));
            let json = serde_json::to_string(&whole).unwrap();
            prop_assert_eq!(serde_json::from_str::<VmPolicy>(&json).unwrap(), whole);
        }

        #[test]
        fn no_text_makes_it_panic(text in ".{0,40}|\\[[a-zA-Z=,0-9]{0,40}\\]") {
            let _ = text.parse::<VmPolicy>();
        }
    }
}
