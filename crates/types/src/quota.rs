//! Quotas: the most that a user or a group may have at one time.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::host::Resources;

/// The amounts that count against quotas.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Holding {
    pub jobs: u32,
    /// The cores of jobs and gateways.
    pub cores: u32,
    /// The memory of jobs and gateways in GB.
    pub mem_gb: f64,
    pub gateways: u32,
}

impl Holding {
    /// A job of that size.
    #[must_use]
    pub fn job(size: Resources) -> Self {
        Self { jobs: 1, ..Self::size(size) }
    }

    /// A gateway of that size.
    #[must_use]
    pub fn gateway(size: Resources) -> Self {
        Self { gateways: 1, ..Self::size(size) }
    }

    /// Cores and memory alone.
    #[must_use]
    pub fn size(size: Resources) -> Self {
        Self { cores: size.cpu, mem_gb: size.mem_gb, ..Self::default() }
    }

    /// The growth from one size to another; what shrinks counts as nothing.
    #[must_use]
    pub fn growth(from: Resources, to: Resources) -> Self {
        Self::size(Resources { cpu: to.cpu.saturating_sub(from.cpu), mem_gb: (to.mem_gb - from.mem_gb).max(0.0) })
    }
}

impl std::ops::Add for Holding {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            jobs: self.jobs.saturating_add(other.jobs),
            cores: self.cores.saturating_add(other.cores),
            mem_gb: self.mem_gb + other.mem_gb,
            gateways: self.gateways.saturating_add(other.gateways),
        }
    }
}

impl std::iter::Sum for Holding {
    fn sum<I: Iterator<Item = Self>>(items: I) -> Self {
        items.fold(Self::default(), |sum, item| sum + item)
    }
}

/// The limits of a user or a group; an absent one does not limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Quota {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jobs: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cores: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mem_gb: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gateways: Option<u32>,
}

/// A limit of a quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limited {
    Jobs,
    Cores,
    Memory,
    Gateways,
}

impl Limited {
    /// Writes an amount with its unit.
    fn amount(self, amount: f64) -> String {
        match self {
            Self::Jobs => format!("{amount} job{}", if amount == 1.0 { "" } else { "s" }),
            Self::Cores => format!("{amount} core{}", if amount == 1.0 { "" } else { "s" }),
            Self::Memory => format!("{amount} GB of memory"),
            Self::Gateways => format!("{amount} gateway{}", if amount == 1.0 { "" } else { "s" }),
        }
    }
}

/// A limit that would be exceeded.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Exceeded {
    pub what: Limited,
    /// The amount that is held already.
    pub used: f64,
    /// The amount that is asked for beside it.
    pub more: f64,
    pub limit: f64,
}

impl fmt::Display for Exceeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, used, more, limit } = *self;
        let of = what.amount(limit);
        write!(f, "{} of {of} are used, and this takes {} more", rounded(used), rounded(more))
    }
}

/// Rounds away what sums of fractions leave behind.
fn rounded(amount: f64) -> f64 {
    (amount * 1000.0).round() / 1000.0
}

impl Quota {
    /// Checks that `more` may be added to what is held. What does not grow is never refused.
    pub fn check(&self, used: Holding, more: Holding) -> Result<(), Exceeded> {
        let count = |count: Option<u32>| count.map(f64::from);
        for (what, limit, used, more) in [
            (Limited::Jobs, count(self.jobs), f64::from(used.jobs), f64::from(more.jobs)),
            (Limited::Gateways, count(self.gateways), f64::from(used.gateways), f64::from(more.gateways)),
            (Limited::Cores, count(self.cores), f64::from(used.cores), f64::from(more.cores)),
            (Limited::Memory, self.mem_gb, used.mem_gb, more.mem_gb),
        ] {
            if let Some(limit) = limit.filter(|limit| more > 0.0 && rounded(used + more) > *limit) {
                return Err(Exceeded { what, used, more, limit });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn holding() -> impl Strategy<Value = Holding> {
        (0..9_u32, 0..9_u32, 0..90_u32, 0..9_u32).prop_map(|(jobs, cores, tenths, gateways)| Holding {
            jobs,
            cores,
            mem_gb: f64::from(tenths) / 10.0,
            gateways,
        })
    }

    fn quota() -> impl Strategy<Value = Quota> {
        let limit = || proptest::option::of(0..12_u32);
        (limit(), limit(), limit(), limit()).prop_map(|(jobs, cores, mem_gb, gateways)| Quota {
            jobs,
            cores,
            mem_gb: mem_gb.map(f64::from),
            gateways,
        })
    }

    proptest! {
        #[test]
        fn what_is_admitted_fits_where_it_grows(quota in quota(), used in holding(), more in holding()) {
            let sum = used + more;
            let fits = |limit: Option<f64>, sum: f64, more: f64| more == 0.0 || limit.is_none_or(|limit| sum <= limit + 1e-6);
            let all = fits(quota.jobs.map(f64::from), sum.jobs.into(), more.jobs.into())
                && fits(quota.cores.map(f64::from), sum.cores.into(), more.cores.into())
                && fits(quota.mem_gb, sum.mem_gb, more.mem_gb)
                && fits(quota.gateways.map(f64::from), sum.gateways.into(), more.gateways.into());
            prop_assert_eq!(quota.check(used, more).is_ok(), all);
        }

        #[test]
        fn nothing_more_is_never_refused(quota in quota(), used in holding()) {
            prop_assert!(quota.check(used, Holding::default()).is_ok());
        }

        #[test]
        fn a_quota_reads_back(quota in quota()) {
            let text = serde_json::to_string(&quota).unwrap();
            prop_assert_eq!(serde_json::from_str::<Quota>(&text).unwrap(), quota);
        }
    }

    #[test]
    fn refusal_names_limit_use_and_request() {
        let quota = Quota { cores: Some(8), mem_gb: Some(0.3), ..Quota::default() };
        let size = |cpu, mem_gb| Holding::size(Resources { cpu, mem_gb });
        let text = |used, more| quota.check(used, more).unwrap_err().to_string();
        assert_eq!(text(size(7, 0.0), size(2, 0.0)), "7 of 8 cores are used, and this takes 2 more");
        assert_eq!(text(size(0, 0.2), size(0, 0.2)), "0.2 of 0.3 GB of memory are used, and this takes 0.2 more");
        // 0.1 + 0.2 is 0.30000000000000004.
        assert!(quota.check(size(0, 0.1), size(0, 0.2)).is_ok());
        let one = Quota { jobs: Some(1), ..Quota::default() };
        let job = Holding::job(Resources { cpu: 1, mem_gb: 1.0 });
        assert_eq!(one.check(job, job).unwrap_err().to_string(), "1 of 1 job are used, and this takes 1 more");
        let growth = Holding::growth(Resources { cpu: 4, mem_gb: 1.0 }, Resources { cpu: 2, mem_gb: 3.0 });
        assert_eq!((growth.cores, growth.mem_gb), (0, 2.0));
    }
}
