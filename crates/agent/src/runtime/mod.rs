//! Containers: a job's root file system, its OCI bundle, and runc.
//!
//! * [`place`]: where everything of one generation of a job lies.
//! * [`image`]: root file systems from directories and OCI image layouts.
//! * [`bundle`]: the container's configuration, the same on every host but for paths.
//! * [`container`]: making, starting, ending and removing it.
//!
//! A job's own output goes to [`LOG`] and its exit code to [`EXIT_CODE`], both in its own root file system: they move with it, and no
//! descriptor of the host is left open in it, which a second checkpoint would stumble over.

pub(crate) mod bundle;
pub(crate) mod container;
pub(crate) mod image;
pub(crate) mod place;

/// The job's output, inside the container.
pub(crate) const LOG: &str = ".mooring/job.log";
/// The job's exit code, inside the container, once it has ended.
pub(crate) const EXIT_CODE: &str = ".mooring/rc";
