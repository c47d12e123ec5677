//! Quotas: whether somebody may have more.
//!
//! A user has to fit in the own quota, and in that of each of its groups. What a group holds is
//! what its members hold together.

use std::collections::BTreeMap;
use std::fmt;

use mooring_types::quota::{Exceeded, Holding, Quota};

/// The quotas of all users and groups, and what all users hold.
#[derive(Debug, Clone, Default)]
pub(crate) struct Quotas {
    pub(crate) users: BTreeMap<String, Quota>,
    pub(crate) groups: Vec<GroupQuota>,
    pub(crate) holdings: BTreeMap<String, Holding>,
}

/// The quota of a group.
#[derive(Debug, Clone)]
pub(crate) struct GroupQuota {
    pub(crate) name: String,
    pub(crate) quota: Quota,
    /// The names of its members.
    pub(crate) members: Vec<String>,
}

/// The owner of a quota.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Owner {
    User(String),
    Group(String),
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(name) => write!(f, "user `{name}`"),
            Self::Group(name) => write!(f, "group `{name}`"),
        }
    }
}

/// A quota that would be exceeded.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct OverQuota {
    pub(crate) of: Owner,
    pub(crate) exceeded: Exceeded,
}

impl fmt::Display for OverQuota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the quota of {} would be exceeded: {}", self.of, self.exceeded)
    }
}

impl Quotas {
    /// Returns what a user holds.
    pub(crate) fn held_by(&self, user: &str) -> Holding {
        self.holdings.get(user).copied().unwrap_or_default()
    }

    /// Returns what users hold together.
    pub(crate) fn held_by_all<'a>(&self, users: impl IntoIterator<Item = &'a String>) -> Holding {
        users.into_iter().map(|user| self.held_by(user)).sum()
    }

    /// Checks that a user may have `more` beside what it holds.
    pub(crate) fn admit(&self, user: &str, more: Holding) -> Result<(), OverQuota> {
        if let Some(quota) = self.users.get(user) {
            let over = |exceeded| OverQuota { of: Owner::User(user.to_owned()), exceeded };
            quota.check(self.held_by(user), more).map_err(over)?;
        }
        for GroupQuota { name, quota, members } in &self.groups {
            if members.iter().any(|member| member == user) {
                let over = |exceeded| OverQuota { of: Owner::Group(name.clone()), exceeded };
                quota.check(self.held_by_all(members), more).map_err(over)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jobs(jobs: u32) -> Holding {
        Holding { jobs, ..Holding::default() }
    }

    fn at_most(jobs: u32) -> Quota {
        Quota { jobs: Some(jobs), ..Quota::default() }
    }

    fn quotas() -> Quotas {
        let group = |name: &str, quota, members: &[&str]| GroupQuota {
            name: name.into(),
            quota,
            members: members.iter().map(ToString::to_string).collect(),
        };
        Quotas {
            users: [("ada".into(), at_most(3)), ("bob".into(), Quota::default())].into(),
            groups: vec![group("lab", at_most(4), &["ada", "bob"]), group("wide", Quota::default(), &["ada", "eve"])],
            holdings: [("ada".into(), jobs(2)), ("bob".into(), jobs(1)), ("eve".into(), jobs(9))].into(),
        }
    }

    #[test]
    fn user_fits_in_the_own_quota_and_in_that_of_each_group() {
        let quotas = quotas();
        assert!(quotas.admit("ada", jobs(1)).is_ok());
        assert_eq!(quotas.admit("ada", jobs(2)).unwrap_err().of, Owner::User("ada".into()));
        assert!(quotas.admit("bob", jobs(1)).is_ok());
        let over = quotas.admit("bob", jobs(2)).unwrap_err();
        assert_eq!(over.of, Owner::Group("lab".into()));
        let text = "the quota of group `lab` would be exceeded: 3 of 4 jobs are used, and this takes 2 more";
        assert_eq!(over.to_string(), text);
        // Without a quota nothing limits, and one that is below the use stops nothing.
        assert!(quotas.admit("eve", jobs(100)).is_ok());
        assert!(quotas.admit("nobody", jobs(1)).is_ok());
        let lowered = Quotas { users: [("ada".into(), at_most(1))].into(), ..quotas };
        assert!(lowered.admit("ada", Holding::default()).is_ok());
    }
}
