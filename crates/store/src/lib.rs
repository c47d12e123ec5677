//! Mooring: store.
