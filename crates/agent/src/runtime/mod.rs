//! Containers: a job's root file system, its OCI bundle, and runc.
//!
//! * [`job_dir`]: the directory of one generation of a job.
//! * [`image`]: root file systems from directories and OCI image layouts.
//! * [`bundle`]: the container's configuration, the same on every host but for paths.
//! * [`checkpoint`]: where CRIU writes what it finds.
//! * [`container`]: making, starting, ending and removing it.
//! * [`inotify`]: the paths of the files that it watches.
//! * [`inode_list`]: the inode numbers that its open files keep.
//! * [`volume`]: the data that it finds under paths of its own.
//! * [`tool`]: programs of the system that make and mount file systems.
//! * [`user`]: the user that a container runs as.
//! * [`own`]: what the job finds of ours inside: its output, its exit code, its script.

pub(crate) mod bundle;
pub(crate) mod checkpoint;
pub(crate) mod container;
pub(crate) mod image;
pub(crate) mod inode_list;
mod inotify;
pub(crate) mod job_dir;
pub(crate) mod own;
mod tool;
pub(crate) mod user;
pub(crate) mod volume;
