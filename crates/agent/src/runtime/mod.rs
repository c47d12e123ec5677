//! Containers: a job's root file system, its OCI bundle, and runc.
//!
//! * [`place`]: where everything of one generation of a job lies.
//! * [`image`]: root file systems from directories and OCI image layouts.
//! * [`bundle`]: the container's configuration, the same on every host but for paths.
//! * [`checkpoint`]: where CRIU writes what it finds.
//! * [`container`]: making, starting, ending and removing it.
//! * [`watched`]: where the files lie that it watches.
//! * [`inodes`]: the numbers that its open files keep where it goes.
//! * [`volume`]: the data that it finds under paths of its own.
//! * [`tool`]: programs of the system that make and mount file systems.
//! * [`own`]: what the job finds of ours inside: its output, its exit code, its script.

pub(crate) mod bundle;
pub(crate) mod checkpoint;
pub(crate) mod container;
pub(crate) mod image;
pub(crate) mod inodes;
pub(crate) mod own;
pub(crate) mod place;
mod tool;
pub(crate) mod volume;
mod watched;
