//! The tools of tests, benchmarks and the tour: real programs, driven and observed from outside.
//!
//! | module | what it is |
//! |---|---|
//! | [`applications`] | applications of the field as jobs, each with a real client |
//! | [`world`] | a whole Mooring (`float up`) in a network namespace of its own, gone when dropped |
//! | [`jupyter`] | a client of a JupyterLab, by its Access URL |
//! | [`channels`] | the WebSocket of a kernel |
//! | [`counting`] | a kernel that counts and a client that watches: what was lost, repeated, late |
//! | [`away`] | a job that is away for long while its client keeps sending |
//! | [`streams`] | byte-exact pseudo-random streams in both directions, and the program at their other end |
//! | [`load`] | thousands of WebSockets and a steady rate of requests, and what they saw |
//! | [`echo`] | the program at the other end of a load |
//! | [`job`] | waiting for the status of a job |
//! | [`self_check`] | a job that says itself whether all is as it was |
//! | [`session`] | a job behind a gateway of its own |
//! | [`streaming`] | a streamer job behind a gateway, moved while bytes flow |
//! | [`lab_page`] | JupyterLab in a browser, with a cell that counts |
//! | [`code_server`] | VS Code in a browser, with a terminal |
//! | [`shiny`] | a Shiny app in a browser, with a counter |
//! | [`widget`] | the widget on a job's page, and its panel |
//! | [`pages`] | a web server with a test's own pages |
//! | [`notebook`] | a JupyterLab job behind a gateway |
//! | [`tools`] | runc and CRIU, with something else before a checkpoint or a restore |
//! | [`tour`] | a job moved several times while [`counting`] watches, with its table |
//! | [`browser`] | a real browser without a window, in a world or beside a test |
//! | [`appearance`] | the look of a page in the browser, and what is wrong with it |
//! | [`oci`] | OCI images made by hand |
//! | [`registry`] | a real registry of images, and a narrow way to it |
//! | [`s3`] | an S3-compatible object store, as a task or as a program |
//! | [`metadata_service`] | a cloud's word to its machines that they are taken away |
//! | [`sequence`] | which numbers of a sequence are missing or came twice |
//! | [`distribution`] | least, median, 90th percentile, most |
//! | [`wait`] | waiting for a condition |
//! | [`chaos`] | random actions for minutes, and the invariants that have to hold |
//! | [`witness`] | a job that remembers who it is and how often it was asked, and its client |
//!
//! The modules about a browser and its pages are behind the feature `browser`, the object store is
//! behind `s3`: measurements and the tour need neither.
//!
//! Nothing here knows the inside of Mooring: tests observe what a client sees. All errors are for
//! the message of a failed test.

#![forbid(unsafe_code)]

#[cfg(feature = "browser")]
pub mod appearance;
pub mod applications;
pub mod away;
#[cfg(feature = "browser")]
pub mod browser;
pub mod channels;
pub mod chaos;
#[cfg(feature = "browser")]
pub mod code_server;
pub mod counting;
pub mod distribution;
pub mod echo;
pub mod job;
pub mod jupyter;
#[cfg(feature = "browser")]
pub mod lab_page;
pub mod load;
pub mod metadata_service;
pub mod notebook;
pub mod oci;
pub mod oidc;
pub mod pages;
pub mod registry;
#[cfg(feature = "s3")]
pub mod s3;
pub mod self_check;
pub mod sequence;
pub mod session;
#[cfg(feature = "browser")]
pub mod shiny;
pub mod streaming;
pub mod streams;
pub mod tools;
pub mod tour;
pub mod wait;
#[cfg(feature = "browser")]
pub mod widget;
pub mod witness;
pub mod world;
