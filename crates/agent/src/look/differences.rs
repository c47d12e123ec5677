//! The differences between a job before its checkpoint and after its restore.
//!
//! A pure function of two inventories. A difference is *state* where the job would go on without
//! something that it had: a process, a descriptor, a socket. Such a migration is rolled back. All
//! other differences are told.

use std::collections::BTreeSet;
use std::fmt;

use super::inventory::{Inventory, Listed};

/// The most differences that are told, each with a text of its own.
const TOLD_MAX: usize = 10;

/// The differences of a restored job.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Differences {
    /// The things that the job has lost, a sentence each.
    pub(crate) lost: Vec<String>,
    /// The things that are otherwise than before, a sentence each.
    pub(crate) changed: Vec<String>,
}

impl Differences {
    /// Compares a restored job with what it was.
    pub(crate) fn between(before: &Inventory, after: &Inventory) -> Self {
        let mut found = Self::default();
        for (pid, was) in &before.processes {
            let who = format!("process {pid} ({})", was.name);
            match after.processes.get(pid) {
                None => found.lost.push(format!("{who} is gone")),
                Some(_) if was.is_zombie => {}
                Some(is) => found.compare(&who, was, is),
            }
        }
        for bound in before.bound.difference(&after.bound) {
            found.lost.push(format!("nobody is at {bound} any more"));
        }
        for connection in before.connections.difference(&after.connections) {
            found.lost.push(format!("the connection from {connection} is gone"));
        }
        let differing: BTreeSet<&String> = before.mounts.symmetric_difference(&after.mounts).collect();
        for mount in differing {
            let is = if before.mounts.contains(mount) { "no longer" } else { "now" };
            found.changed.push(format!("{mount} is {is} mounted"));
        }
        found
    }

    fn compare(&mut self, who: &str, was: &Listed, is: &Listed) {
        for (number, before) in &was.descriptors {
            match is.descriptors.get(number) {
                None => self.lost.push(format!("{who} has lost its descriptor {number} ({before})")),
                Some(after) if after != before => {
                    self.changed.push(format!("{who} has {after} as descriptor {number}, which was {before}"));
                }
                Some(_) => {}
            }
        }
        let mut differs = |what: &str, was: &dyn fmt::Display, is: &dyn fmt::Display| {
            let (was, is) = (was.to_string(), is.to_string());
            if was != is {
                self.changed.push(format!("{who} has {what} {is}, before {was}"));
            }
        };
        let ids = |ids: [u32; 3]| ids.map(|id| id.to_string()).join(", ");
        differs("users", &ids(was.users), &ids(is.users));
        differs("groups", &ids(was.groups), &ids(is.groups));
        differs("further threads:", &was.threads, &is.threads);
        differs("the current directory", &was.directory, &is.directory);
        let absent = String::new();
        for (name, before) in &was.limits {
            differs(&format!("the limit of {name}"), before, is.limits.get(name).unwrap_or(&absent));
        }
        for (number, before) in &was.watches {
            differs(&format!("watches at descriptor {number}:"), before, is.watches.get(number).unwrap_or(&0));
        }
        match (was.is_stopped, is.is_stopped) {
            (Some(true), Some(false)) => self.changed.push(format!("{who} was stopped and goes on")),
            (Some(false), Some(true)) => self.changed.push(format!("{who} is stopped")),
            _ => {}
        }
    }

    /// Returns the first of some differences as one text; the number of the others follows.
    pub(crate) fn told(texts: &[String]) -> String {
        let named = texts.iter().take(TOLD_MAX).cloned().collect::<Vec<_>>().join("; ");
        match texts.len().saturating_sub(TOLD_MAX) {
            0 => named,
            more => format!("{named}; and {more} more"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn inventory() -> Inventory {
        let descriptors = BTreeMap::from([(3, "/var/log/a".to_owned()), (4, "socket of TCP".to_owned())]);
        let process = |name: &str| Listed {
            name: name.into(),
            is_stopped: Some(false),
            descriptors: descriptors.clone(),
            ..Listed::default()
        };
        let set = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        Inventory {
            processes: BTreeMap::from([(1, process("sh")), (7, process("python3"))]),
            bound: set(&["TCP port 0.0.0.0:8080", "unix socket /run/x"]),
            connections: set(&["10.0.0.1:8080 to 10.0.0.2:4000"]),
            mounts: set(&["/"]),
        }
    }

    /// Compares a job with one to which `change` has happened.
    fn after(change: impl FnOnce(&mut Inventory)) -> Differences {
        let mut changed = inventory();
        change(&mut changed);
        Differences::between(&inventory(), &changed)
    }

    fn process(inventory: &mut Inventory) -> &mut Listed {
        inventory.processes.get_mut(&7).unwrap()
    }

    #[test]
    fn what_is_gone_is_lost() {
        let lost = |change: fn(&mut Inventory)| {
            let found = after(change);
            assert_eq!(found.changed, Vec::<String>::new());
            found.lost
        };
        assert_eq!(lost(|_| {}), Vec::<String>::new());
        assert_eq!(lost(|job| drop(job.processes.remove(&7))), ["process 7 (python3) is gone"]);
        assert_eq!(
            lost(|job| drop(process(job).descriptors.remove(&4))),
            ["process 7 (python3) has lost its descriptor 4 (socket of TCP)"]
        );
        assert_eq!(
            lost(|job| job.bound.retain(|name| name != "unix socket /run/x")),
            ["nobody is at unix socket /run/x any more"]
        );
        assert_eq!(lost(|job| job.connections.clear()), ["the connection from 10.0.0.1:8080 to 10.0.0.2:4000 is gone"]);
    }

    #[test]
    fn what_is_otherwise_is_changed() {
        let changed = |change: fn(&mut Inventory)| {
            let found = after(change);
            assert_eq!(found.lost, Vec::<String>::new());
            found.changed
        };
        assert_eq!(
            changed(|job| process(job).users = [5, 0, 0]),
            ["process 7 (python3) has users 5, 0, 0, before 0, 0, 0"]
        );
        assert_eq!(
            changed(|job| drop(process(job).descriptors.insert(3, "/var/log/b".into()))),
            ["process 7 (python3) has /var/log/b as descriptor 3, which was /var/log/a"]
        );
        assert_eq!(changed(|job| process(job).is_stopped = Some(true)), ["process 7 (python3) is stopped"]);
        assert_eq!(changed(|job| job.mounts.extend(["/x".to_owned()])), ["/x is now mounted"]);
        // What is new is no difference.
        assert_eq!(changed(|job| drop(job.processes.insert(9, Listed::default()))), Vec::<String>::new());
    }

    #[test]
    fn many_differences_are_told_as_a_number() {
        let texts: Vec<String> = (0..TOLD_MAX + 2).map(|n| format!("{n}")).collect();
        assert_eq!(Differences::told(&texts[..2]), "0; 1");
        assert!(Differences::told(&texts).ends_with("; 9; and 2 more"));
    }
}
