//! The web interface in a real browser, before a real OpCenter with simulated hosts.
//!
//! The walk through the whole system, with real jobs, is `crates/float/tests/web.rs`.

#[cfg(test)]
mod choices;
#[cfg(test)]
mod disk;
#[cfg(test)]
mod empty;
#[cfg(test)]
mod forms;
#[cfg(test)]
mod live;
#[cfg(test)]
mod markup;
#[cfg(test)]
mod meanwhile;
#[cfg(test)]
mod oidc;
#[cfg(test)]
mod pages;
#[cfg(test)]
mod readonly;
#[cfg(test)]
mod site;
#[cfg(test)]
mod slow;
#[cfg(test)]
mod tags;
