//! OpCenter with its real database and API, simulated hosts and gateways, and a clock that the
//! test sets: no root, no containers, no waiting.
//!
//! One module per concern: `cargo nextest run -p mooring-opcenter --test sim migration::`.

#[cfg(test)]
mod administration;
#[cfg(test)]
mod adoption;
#[cfg(test)]
mod api_tokens;
#[cfg(test)]
mod audit;
#[cfg(test)]
mod authorization;
#[cfg(test)]
mod authorization_web;
#[cfg(test)]
mod capsules;
#[cfg(test)]
mod drain;
#[cfg(test)]
mod job_pages;
#[cfg(test)]
mod job_sign_in;
#[cfg(test)]
mod join;
#[cfg(test)]
mod key;
#[cfg(test)]
mod lab;
#[cfg(test)]
mod migration;
#[cfg(test)]
mod names;
#[cfg(test)]
mod oidc;
#[cfg(test)]
mod oidc_forged;
#[cfg(test)]
mod policy;
#[cfg(test)]
mod port_tls;
#[cfg(test)]
mod provider;
#[cfg(test)]
mod quotas;
#[cfg(test)]
mod random;
#[cfg(test)]
mod reconcile;
#[cfg(test)]
mod recovery;
#[cfg(test)]
mod scale;
#[cfg(test)]
mod scale_pages;
#[cfg(test)]
mod session_requests;
#[cfg(test)]
mod sessions;
#[cfg(test)]
mod unserved;
#[cfg(test)]
mod untrusted_host;
#[cfg(test)]
mod usecases;
#[cfg(test)]
mod viewer;
#[cfg(test)]
mod visit;
#[cfg(test)]
mod visits;
#[cfg(test)]
mod watch;
#[cfg(test)]
mod web;
#[cfg(test)]
mod web_dialogs;
#[cfg(test)]
mod web_gateways;
#[cfg(test)]
mod web_job;
#[cfg(test)]
mod web_jobs;
#[cfg(test)]
mod web_refusals;
#[cfg(test)]
mod web_submit;
