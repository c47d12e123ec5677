//! The system calls and system tools of Mooring: the only crate with `unsafe` code.
//!
//! Links, routes and neighbours are set with iproute2, and packets are dropped with nftables. Each
//! batch is one short-lived process. Sets of nftables that change in a migration's pause change by
//! netlink. Operations without a tool, and those where a millisecond counts, are system calls.
//!
//! | module | noun |
//! |---|---|
//! | [`netns`] | network namespaces that exist as files, and code and programs inside them |
//! | [`ip`] | batches of iproute2 commands |
//! | [`nft`] | held packets of a job, and address translation at the border of the overlay |
//! | [`job_net`] | the interface of a job, the same on every host |
//! | [`cgroup`] | control groups of both versions |
//! | [`injection`] | system calls that another, frozen process makes |
//! | [`nft_jobs`] | the addresses that jobs reach |
//! | [`inotify`] | inotify instances of other processes, and their watches |
//! | [`epoll`] | targets of epoll sets that only another process has open |
//! | [`kernel_log`] | processes that the kernel has killed for lack of memory |
//! | [`memory`] | unused memory of this process |
//! | [`host_path`] | paths of users, opened once and without following links |
//! | [`mount_copy`] | copies of mounts |
//! | [`mount`] | overlays, temporary file systems and bind mounts |
//! | [`private_run`] | a `/run` in memory for a program |
//! | [`pages`] | the memory of another process |
//! | [`reaper`] | descendants that have lost their parents, and how they end |
//! | [`record_locks`] | `fcntl` locks of other processes |
//! | [`splice`] | bytes from socket to socket |
//! | [`tree`] | removal of directory trees that never crosses a mount |
//! | [`tcp_table`] | the TCP and UDP sockets of a namespace, also those without a process |
//! | [`tcp`] | unacknowledged and unread bytes of a TCP socket |
//! | [`fds`] | messages that carry open descriptors between processes |
//! | [`datagram`] | options and group memberships of UDP sockets |
//! | [`attributes`] | extended attributes of files |
//! | [`directory_changes`] | the names that change in directories |
//! | [`connections`] | TCP connections of restored processes |
//! | [`file_handle`] | files by the kernel's file handles |
//! | [`process`] | processes by id and start time |
//! | [`process_tree`] | the processes of a job, and what they hold |
//! | [`terminal`] | the foreground of terminals |
//! | [`terminal_queue`] | the bytes that wait in terminals |
//! | [`unix_sockets`] | unix sockets that are bound to files, and connections that wait there |
//! | [`timerfd`] | timers of other processes |
//! | [`usage`] | resource usage of control groups, and traffic of interfaces |
//! | [`tun`] | devices whose packets a process reads and writes |
//! | [`vfork`] | parents that wait in vfork |
//! | [`wireguard`] | the kernel's WireGuard |
//!
//! Every operation that changes the machine is idempotent: it may be repeated, and removing
//! something that does not exist succeeds.
//!
//! An [`Error`] names the attempt with its subject. Its source is the error of the system.

pub mod attributes;
pub mod cgroup;
pub mod connections;
pub mod datagram;
pub mod directory_changes;
pub mod epoll;
mod error;
pub mod fds;
pub mod file_handle;
pub mod host_path;
pub mod injection;
pub mod inotify;
pub mod ip;
pub mod job_net;
pub mod kernel_log;
pub mod memory;
pub mod mount;
pub mod mount_copy;
pub mod netns;
pub mod nft;
pub mod nft_jobs;
mod nft_set;
pub mod occupation;
pub mod pages;
pub mod private_run;
pub mod process;
pub mod process_tree;
pub mod reaper;
pub mod record_locks;
pub mod splice;
pub mod tcp;
pub mod tcp_table;
pub mod tcp_talk;
pub mod terminal;
pub mod terminal_queue;
pub mod timerfd;
pub mod tree;
pub mod tun;
pub mod unix_sockets;
pub mod usage;
pub mod vfork;
pub mod wireguard;

pub use error::{Error, Result};
