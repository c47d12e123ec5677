//! What tests, measurements and the tour are made with: real programs, driven and watched from outside.
//!
//! | module | what it is |
//! |---|---|
//! | [`world`] | a whole Mooring (`float up`) in a network namespace of its own, gone when dropped |
//! | [`jupyter`] | a client of a JupyterLab, by its Access URL |
//! | [`channels`] | the WebSocket of a kernel |
//! | [`counting`] | a kernel that counts and a client that watches: what was lost, repeated, late |
//! | [`away`] | a job that is away for long while its client keeps sending |
//! | [`streams`] | byte-exact pseudo-random streams in both directions, and the program at their other end |
//! | [`load`] | thousands of WebSockets and a steady rate of requests, and what they saw |
//! | [`echo`] | the program at the other end of a load |
//! | [`session`] | a job behind a gateway of its own |
//! | [`streaming`] | a streamer job behind a gateway, moved while bytes flow |
//! | [`lab_page`] | JupyterLab in a browser, with a cell that counts |
//! | [`notebook`] | a JupyterLab job behind a gateway |
//! | [`tour`] | a job moved several times while [`counting`] watches, with its table |
//! | [`browser`] | a real browser without a window, in a world |
//! | [`oci`] | OCI images made by hand |
//! | [`sequence`] | which numbers of a sequence are missing or came twice |
//! | [`distribution`] | least, median, 90th percentile, most |
//! | [`wait`] | waiting for a condition |
//! | [`witness`] | a job that remembers who it is and how often it was asked, and its client |
//!
//! Nothing here knows how Mooring works inside: what is watched is what a client sees.

#![forbid(unsafe_code)]

pub mod away;
pub mod browser;
pub mod channels;
pub mod counting;
pub mod distribution;
pub mod echo;
pub mod jupyter;
pub mod lab_page;
pub mod load;
pub mod notebook;
pub mod oci;
pub mod sequence;
pub mod session;
pub mod streaming;
pub mod streams;
pub mod tour;
pub mod wait;
pub mod witness;
pub mod world;
