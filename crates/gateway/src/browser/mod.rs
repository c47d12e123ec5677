//! The state that a browser keeps for an address, and that one job must not get from another.
//!
//! | kept by browsers | for | kept apart by |
//! |---|---|---|
//! | cookies | all ports of a host name | names of the connection's own, [`cookies`] |
//! | storage, cached pages | one port, for all of its jobs | the first answer, [`leftovers`] |
//! | service workers | as storage | the first answer, which they can't keep off, [`worker`] |
//!
//! Names keep apart the cookies that are `HttpOnly`. Those that a script may read, the scripts of
//! all ports can read: a page can look below the names that [`script`] shows it.

pub mod cookies;
pub(crate) mod leftovers;
pub(crate) mod script;
pub(crate) mod worker;

pub use self::cookies::CookieNames;
