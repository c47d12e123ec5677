//! The names and addresses in the authority's certificate for a gateway's ports.
//!
//! They are its address, the name of its host, that of its external URL, and the host names that
//! are declared for gateways. On the loopback `localhost` is one. A host chooses its own name when
//! it joins. So that name counts only without a dot, and not if OpCenter is known by it.

use std::collections::BTreeSet;
use std::net::IpAddr;

use mooring_store::GatewayRow;
use mooring_types::external_url::ExternalUrl;

use crate::config::Config;
use crate::state::db_state::DbState;

/// The domain of the names by which OpCenter and daemons believe each other.
const INTERNAL: &str = "mooring.internal";

/// Returns them, the address first; `None` for a gateway without an address.
pub(crate) fn of(config: &Config, state: &DbState, gateway: &GatewayRow) -> Option<Vec<String>> {
    let address = state.gateway_address(&gateway.host, gateway.spec.exposure)?;
    let host = state.host(&gateway.host).map(|host| host.name.to_string());
    let external = gateway.spec.external_url.as_ref().and_then(ExternalUrl::host_pattern);
    let declared = config.gateway_hosts.iter().chain(&external).map(ToString::to_string);
    Some(names(address, host.as_deref(), declared, &config.tls_names))
}

fn names(
    address: IpAddr,
    host: Option<&str>,
    declared: impl Iterator<Item = String>,
    of_opcenter: &[String],
) -> Vec<String> {
    let is_label =
        |name: &&str| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') && !name.starts_with('-');
    let host = host
        .filter(is_label)
        .map(str::to_ascii_lowercase)
        .filter(|name| name != "localhost" && !of_opcenter.iter().any(|own| own.eq_ignore_ascii_case(name)));
    let local = address.is_loopback().then(|| "localhost".to_owned());
    let declared = declared.filter(|name| name != "*" && name != INTERNAL && !name.ends_with(&format!(".{INTERNAL}")));
    let others: BTreeSet<String> = host.into_iter().chain(local).chain(declared).collect();
    std::iter::once(address.to_string()).chain(others).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_gateway_alone() {
        let of = |address: &str, host: &str, declared: &[&str]| {
            let own = ["float".to_owned()];
            names(address.parse().unwrap(), Some(host), declared.iter().map(|&name| name.to_owned()), &own)
        };
        let declared = ["lab.example.org", "*.example.org", "*", "*.mooring.internal", "mooring.internal"];
        assert_eq!(of("192.0.2.1", "One", &declared), ["192.0.2.1", "*.example.org", "lab.example.org", "one"]);
        assert_eq!(of("127.0.0.1", "one", &[]), ["127.0.0.1", "localhost", "one"]);
        for taken in ["float", "FLOAT", "localhost", "opcenter.mooring.internal", "float.example.org", "a_b"] {
            assert_eq!(of("2001:db8::1", taken, &[]), ["2001:db8::1"], "{taken}");
        }
    }
}
