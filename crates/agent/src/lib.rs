//! Mooring: agent.
