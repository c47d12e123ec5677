//! Containers: a job's root file system, its OCI bundle, and runc.
//!
//! * [`job_dir`]: the directory of one generation of a job.
//! * [`image`]: root file systems from directories and OCI image layouts.
//! * [`bundle`]: the container's configuration, the same on every host but for paths.
//! * [`checkpoint`]: the directories of CRIU's images.
//! * [`container`]: starts, checkpoints, restores, stops and removes a container.
//! * [`fence`]: the freeze of a job whose host can't renew its lease.
//! * [`hidden`]: the paths of this host that no job sees.
//! * [`inotify`]: the paths of the files that a job watches.
//! * [`inode_list`]: the inode numbers that a job's open files keep.
//! * [`monitor`]: the process that learns how a container ends.
//! * [`name_servers`]: the name servers of a job.
//! * [`program`]: the program `float` inside jobs.
//! * [`removed_names`]: CRIU's links to open files whose name was removed.
//! * [`seccomp`]: the system calls of a container.
//! * [`volume`]: the volumes of a job.
//! * [`thaw`]: the end of a freeze.
//! * [`tool`]: system programs that create and mount file systems.
//! * [`user`]: the user that a container runs as.
//! * [`own_image`]: the agent's own images in a checkpoint.
//! * [`own`]: `/.mooring` inside a container: output, exit code, script, results.

pub(crate) mod bundle;
pub(crate) mod checkpoint;
pub(crate) mod container;
pub(crate) mod fence;
pub(crate) mod hidden;
pub(crate) mod image;
pub(crate) mod inode_list;
pub(crate) mod inotify;
pub(crate) mod job_dir;
pub(crate) mod monitor;
pub(crate) mod name_servers;
pub(crate) mod own;
pub(crate) mod own_image;
pub(crate) mod program;
pub(crate) mod removed_names;
mod seccomp;
pub(crate) mod seize;
pub(crate) mod thaw;
mod tool;
pub(crate) mod user;
pub(crate) mod volume;
