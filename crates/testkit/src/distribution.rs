//! Least, median, 90th percentile and most of a set of measurements.

use serde::Serialize;

/// The distribution of measurements. Percentiles are by nearest rank: each figure was measured.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Distribution {
    /// The least.
    pub min: f64,
    /// Half of the measurements are at most this.
    pub median: f64,
    /// Nine in ten are at most this.
    pub p90: f64,
    /// 99 in a hundred are at most this.
    pub p99: f64,
    /// The most.
    pub max: f64,
}

impl Distribution {
    /// The distribution of `values`; `None` of an empty set.
    #[must_use]
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = values.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let rank = |percent: usize| sorted.get((sorted.len() * percent).div_ceil(100).saturating_sub(1)).copied();
        Some(Self { min: rank(0)?, median: rank(50)?, p90: rank(90)?, p99: rank(99)?, max: rank(100)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_by_nearest_rank() {
        let hundred = Distribution::of((1..=100).rev().map(f64::from)).unwrap();
        assert_eq!(hundred, Distribution { min: 1.0, median: 50.0, p90: 90.0, p99: 99.0, max: 100.0 });
        let three = Distribution::of([3.0, 1.0, 2.0]).unwrap();
        assert_eq!(three, Distribution { min: 1.0, median: 2.0, p90: 3.0, p99: 3.0, max: 3.0 });
        assert_eq!(Distribution::of([]), None);
    }
}
