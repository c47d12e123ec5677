//! Mooring: linux.
