//! What Mooring asks of Linux: the only crate with `unsafe` and system calls of its own.
//!
//! Links, routes and neighbours are set with iproute2 and packets are held with nftables, each as one batch through a short-lived
//! process; what has no tool or lies on a path where a millisecond counts is a system call here.
//!
//! | module | what it is for |
//! |---|---|
//! | [`netns`] | network namespaces that live as files, and running things inside them |
//! | [`ip`] | batches of iproute2 commands |
//! | [`nft`] | holding packets towards a job, and translating what leaves the overlay |
//! | [`job_net`] | the interface of a job, the same on every host |
//! | [`cgroup`] | freezing, killing and reading control groups of both versions |
//! | [`memory`] | giving back what nothing uses any more |
//! | [`mount`] | overlay mounts, and removing trees without ever crossing into another mount |
//! | [`private_run`] | a `/run` in memory for a program |
//! | [`pages`] | the memory of another process |
//! | [`splice`] | bytes from socket to socket |
//! | [`tcp`] | what is not acknowledged yet |
//! | [`fds`] | messages that carry open descriptors between processes |
//! | [`connections`] | restored connections: those that go on, and those that can't |
//! | [`file_handle`] | where the file lies that a handle names |
//! | [`process`] | processes by id and start time |
//! | [`terminal`] | whether somebody is in the foreground of a terminal |
//! | [`usage`] | what a control group uses, and what an interface has carried |
//! | [`tun`] | devices whose packets a process reads and writes |
//! | [`wireguard`] | the kernel's WireGuard |
//!
//! Everything that changes the machine is idempotent: made twice it is the same, and removing what is not there is no error.

pub mod cgroup;
pub mod connections;
mod error;
pub mod fds;
pub mod file_handle;
pub mod ip;
pub mod job_net;
pub mod memory;
pub mod mount;
pub mod netns;
pub mod nft;
pub mod pages;
pub mod private_run;
pub mod process;
pub mod splice;
pub mod tcp;
pub mod terminal;
pub mod tun;
pub mod usage;
pub mod wireguard;

pub use error::{Error, Result};
