//! Mooring: testkit.
