//! Which numbers of a sequence are missing or came twice.
//!
//! A sender counts up by one. A number beyond the expected one leaves those between as missing. A
//! missing number that comes later is out of order, not lost.

use std::collections::BTreeMap;

/// The received part of a sequence.
#[derive(Debug, Clone, Default)]
pub struct Sequence {
    next: u64,
    /// Missing numbers as ranges: first to one past the last.
    missing: BTreeMap<u64, u64>,
    repeated: u64,
    late: u64,
}

impl Sequence {
    /// A sequence whose first number is `first`.
    #[must_use]
    pub fn starting_at(first: u64) -> Self {
        Self { next: first, ..Self::default() }
    }

    /// Notes that `number` has arrived.
    pub fn note(&mut self, number: u64) {
        if number >= self.next {
            if number > self.next {
                self.missing.insert(self.next, number);
            }
            self.next = number + 1;
            return;
        }
        match self.missing.range(..=number).next_back().map(|(first, end)| (*first, *end)) {
            Some((first, end)) if number < end => {
                self.missing.remove(&first);
                if first < number {
                    self.missing.insert(first, number);
                }
                if number + 1 < end {
                    self.missing.insert(number + 1, end);
                }
                self.late += 1;
            }
            _ => self.repeated += 1,
        }
    }

    /// The number that is expected next: one more than the highest that arrived.
    #[must_use]
    pub fn next(&self) -> u64 {
        self.next
    }

    /// Returns the number of missing numbers below the highest.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.missing.iter().map(|(first, end)| end - first).sum()
    }

    /// Returns the number of repetitions.
    #[must_use]
    pub fn repeated(&self) -> u64 {
        self.repeated
    }

    /// Returns the number of numbers that came after a higher one.
    #[must_use]
    pub fn late(&self) -> u64 {
        self.late
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_knows_what_is_missing_and_what_came_twice(numbers in prop::collection::vec(0_u64..60, 0..120)) {
            let mut sequence = Sequence::default();
            let mut seen = BTreeSet::new();
            let (mut repeated, mut late) = (0, 0);
            for number in numbers {
                let highest = seen.last().copied();
                if !seen.insert(number) {
                    repeated += 1;
                } else if highest.is_some_and(|highest| number < highest) {
                    late += 1;
                }
                sequence.note(number);
            }
            let next = seen.last().map_or(0, |highest| highest + 1);
            prop_assert_eq!(sequence.next(), next);
            prop_assert_eq!(sequence.lost(), next - seen.len() as u64);
            prop_assert_eq!((sequence.repeated(), sequence.late()), (repeated, late));
        }
    }

    #[test]
    fn what_lies_before_the_first_number_is_not_missing() {
        let mut sequence = Sequence::starting_at(5);
        sequence.note(5);
        sequence.note(8);
        assert_eq!((sequence.lost(), sequence.next()), (2, 9));
    }
}
