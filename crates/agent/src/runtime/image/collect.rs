//! Which unused parts of images are removed, as a pure function.
//!
//! | last needed | removed |
//! |---|---|
//! | longer ago than [`Limits::age`] | always |
//! | more than [`UNUSED_AGE_MIN`] ago | the longest unused first, from when the disk is [`Limits::high`] full until it is [`Limits::low`] full |
//! | since | never |
//!
//! The two thresholds and the minimum age are those of the kubelet's image collection.

use std::time::Duration;

use mooring_types::Timestamp;

use crate::disk::Disk;

/// A part that was needed this recently is kept: a job may be retried, or return from its
/// destination.
const UNUSED_AGE_MIN: Duration = Duration::from_secs(120);

/// The limits of unused images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The age from which unused parts are removed.
    pub age: Duration,
    /// The use of the disk at which removal starts, in percent.
    pub high: u8,
    /// The use of the disk at which removal stops, in percent.
    pub low: u8,
}

/// A part of an image that no job needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unused {
    pub(super) name: String,
    pub(super) bytes: u64,
    /// The time at which the part was last needed.
    pub(super) last: Timestamp,
}

/// The bytes to remove when the disk is too full.
pub(super) fn excess(disk: Disk, limits: &Limits) -> Option<u64> {
    let used = disk.bytes.saturating_sub(disk.free);
    let share = |percent: u8| (disk.bytes as f64 * f64::from(percent) / 100.0) as u64;
    (used > share(limits.high)).then(|| used.saturating_sub(share(limits.low)))
}

/// Returns the parts to remove.
pub(super) fn choose(mut unused: Vec<Unused>, disk: Disk, limits: &Limits, now: Timestamp) -> Vec<Unused> {
    // A clock that was set back gives no age.
    let age = |part: &Unused| Duration::try_from(now.duration_since(part.last)).unwrap_or_default();
    unused.sort_by(|a, b| a.last.cmp(&b.last).then_with(|| a.name.cmp(&b.name)));
    let (mut left, mut chosen) = (excess(disk, limits).unwrap_or(0), Vec::new());
    for part in unused {
        if age(&part) > limits.age || (left > 0 && age(&part) > UNUSED_AGE_MIN) {
            left = left.saturating_sub(part.bytes);
            chosen.push(part);
        }
    }
    chosen
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: i64 = 1_000_000;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).expect("a time")
    }

    proptest! {
        #[test]
        fn what_is_old_goes_and_no_more_than_the_disk_asks_for(
            parts in prop::collection::vec((0_u64..100, -10_i64..2000), 0..12), age in 1_u64..1500,
            (low, more) in (0_u8..90, 0_u8..10), free in 0_u64..1000,
        ) {
            let limits = Limits { age: Duration::from_secs(age), high: low + more, low };
            let disk = Disk { bytes: 1000, free };
            let part = |(index, (bytes, age)): (usize, &(u64, i64))| {
                Unused { name: index.to_string(), bytes: *bytes, last: at(NOW - age) }
            };
            let all: Vec<Unused> = parts.iter().enumerate().map(part).collect();
            let chosen = choose(all.clone(), disk, &limits, at(NOW));
            let age = |part: &Unused| u64::try_from(NOW - part.last.as_second()).unwrap_or(0);
            let is_old = |part: &Unused| age(part) > limits.age.as_secs();
            let may_go = |part: &Unused| is_old(part) || age(part) > UNUSED_AGE_MIN.as_secs();
            prop_assert!(chosen.iter().all(may_go));
            prop_assert!(all.iter().filter(|part| is_old(part)).all(|part| chosen.contains(part)));
            let (used, gone) = (1000 - free, chosen.iter().map(|part| part.bytes).sum::<u64>());
            let is_full = used * 100 > u64::from(limits.high) * 1000;
            let share = u64::from(low) * 10;
            if let Some(last) = chosen.last().filter(|last| !is_old(last)) {
                prop_assert!(is_full && used - (gone - last.bytes).min(used) > share, "it was enough before the last");
            }
            if is_full && used.saturating_sub(gone) > share {
                prop_assert!(all.iter().filter(|part| may_go(part)).all(|part| chosen.contains(part)));
            }
            for kept in all.iter().filter(|part| may_go(part) && !chosen.contains(part)) {
                prop_assert!(chosen.iter().all(|gone| gone.last <= kept.last), "a longer unused one stays");
            }
        }
    }
}
