//! For how long the port of a job that has ended says so.

use std::time::Duration;

use mooring_store::StoreError;
use mooring_types::Timestamp;

use super::{Round, elapsed};
use crate::snapshot::Snapshot;

/// Who left a page open comes back to it within that time, or finds nobody at its address. The port can be had by a connection all the while.
const FAREWELL: Duration = Duration::from_secs(600);

impl Round {
    /// Ends the farewells that have been said for long enough.
    pub(super) async fn forget_farewells(&mut self, all: &Snapshot) -> Result<(), StoreError> {
        for row in all.farewells.iter().filter(|row| is_said(row.end_time, self.now)) {
            self.changed = true;
            self.tx.farewell_delete(&row.connection).await?;
        }
        Ok(())
    }
}

/// Whether the end of a job at that time has been told for long enough.
fn is_said(end_time: Timestamp, now: Timestamp) -> bool {
    elapsed(end_time, now) >= FAREWELL
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_farewell_is_said_for_ten_minutes() {
        let at = |text: &str| format!("2026-01-01T{text}Z").parse::<Timestamp>().unwrap();
        for (now, said) in [("12:00:00", false), ("12:09:59", false), ("12:10:00", true), ("11:00:00", false)] {
            assert_eq!(is_said(at("12:00:00"), at(now)), said, "{now}");
        }
    }
}
