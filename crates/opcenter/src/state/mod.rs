//! The state of OpCenter: desired state in the database, observed state in memory, files in the
//! state directory.

pub(crate) mod begin_migration;
pub(crate) mod context;
pub(crate) mod db_state;
pub(crate) mod departures;
pub(crate) mod job_token;
pub(crate) mod logs;
pub(crate) mod moment;
pub(crate) mod observed;
pub(crate) mod quotas;
pub(crate) mod token;
pub(crate) mod traffic;
pub(crate) mod vault;
