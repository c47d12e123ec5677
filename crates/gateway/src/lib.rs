//! Mooring: gateway.
