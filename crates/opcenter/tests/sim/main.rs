//! OpCenter with its real database and API, simulated hosts and gateways, and a clock that the
//! test sets: no root, no containers, no waiting.
//!
//! One module per concern: `cargo nextest run -p mooring-opcenter --test sim migration::`.

#[cfg(test)]
mod capsules;
#[cfg(test)]
mod drain;
#[cfg(test)]
mod join;
#[cfg(test)]
mod lab;
#[cfg(test)]
mod migration;
#[cfg(test)]
mod policy;
#[cfg(test)]
mod random;
#[cfg(test)]
mod reconcile;
#[cfg(test)]
mod recovery;
#[cfg(test)]
mod usecases;
#[cfg(test)]
mod watch;
