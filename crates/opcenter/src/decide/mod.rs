//! The decisions: pure functions of plain data, without clock, database or network.

pub(crate) mod access;
pub(crate) mod drain;
pub(crate) mod farewell;
pub(crate) mod idle;
pub(crate) mod migration;
pub(crate) mod port_names;
pub(crate) mod quota;
pub(crate) mod resize;
pub(crate) mod slices;
