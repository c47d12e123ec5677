//! OpCenter's own certificate.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use mooring_ops::log::chain;
use mooring_tls::ServerCertificate;
use mooring_types::{Clock, SystemClock};
use tokio_util::sync::CancellationToken;

use crate::error::Error;
use crate::state::context::Context;

/// The interval between two looks at the certificate's age and files.
const LOOK_INTERVAL: Duration = Duration::from_secs(60);

/// Makes the certificate for the addresses that OpCenter serves at and the names that it is given.
pub(crate) fn certificate(context: &Context, addresses: &[SocketAddr]) -> Result<ServerCertificate, Error> {
    let config = &context.config;
    let names = names(addresses, config.external_url.as_deref(), &config.tls_names);
    let (authority, files) = (Arc::clone(&context.authority), config.tls_files.clone());
    // Browsers check it by the machine's clock.
    Ok(ServerCertificate::new(authority, names, files, SystemClock.now())?)
}

/// Keeps the certificate fresh until asked to stop.
pub(crate) async fn keep(certificate: Arc<ServerCertificate>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(LOOK_INTERVAL) => {}
        }
        if let Err(error) = certificate.refresh(SystemClock.now()) {
            tracing::error!(error = %chain(&error), "the new certificate can't be used: the old one stays");
        }
    }
}

/// Returns the names and addresses by which browsers may reach OpCenter.
fn names(addresses: &[SocketAddr], external_url: Option<&str>, given: &[String]) -> Vec<String> {
    let loopback = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
    let listening = addresses.iter().map(|address| address.ip().to_canonical()).filter(|ip| !ip.is_unspecified());
    let mut names: BTreeSet<String> = listening.chain(loopback).map(|ip| ip.to_string()).collect();
    names.insert("localhost".to_owned());
    names.extend(external_url.and_then(host_of).map(str::to_owned));
    names.extend(given.iter().cloned());
    names.into_iter().collect()
}

/// Returns the host in a URL.
fn host_of(url: &str) -> Option<&str> {
    let authority = url.split_once("://")?.1.split('/').next()?;
    match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next(),
        None => authority.split(':').next(),
    }
    .filter(|host| !host.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_browsers_can_use() {
        let addresses = ["0.0.0.0:8443".parse().unwrap(), "10.0.0.5:8443".parse().unwrap()];
        let given = ["float.lab".to_owned()];
        let names = names(&addresses, Some("https://float.example.org:444/under"), &given);
        let expected = ["10.0.0.5", "127.0.0.1", "::1", "float.example.org", "float.lab", "localhost"];
        assert_eq!(names, expected);
        assert_eq!(host_of("https://[fd00::5]:8443"), Some("fd00::5"));
        assert_eq!(host_of("https://"), None);
    }
}
