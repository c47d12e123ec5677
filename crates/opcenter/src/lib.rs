//! Mooring: opcenter.
