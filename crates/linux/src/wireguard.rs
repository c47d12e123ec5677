//! The kernel's WireGuard, configured with `wg` of wireguard-tools.

use crate::{Error, Result, ip};

/// Makes the WireGuard device `name`. Fails where the kernel has no WireGuard or `wg` is not
/// installed.
pub async fn create(name: &str) -> Result<()> {
    ip::batch(None, &[format!("link add dev {name} type wireguard")]).await?;
    let usable = configure(name, &["[Interface]".to_owned()]).await;
    if usable.is_err() {
        ip::link_delete(None, name).await?;
    }
    usable
}

/// Replaces the configuration of the device, in the format of wg(8). Sessions of peers in the new
/// configuration continue.
///
/// # Errors
/// The tool failed. The error omits the configuration, which has a private key.
pub async fn configure(name: &str, configuration: &[String]) -> Result<()> {
    let configured = ip::run(None, "wg", &["syncconf", name, "/dev/stdin"], configuration).await;
    configured.map_err(|error| match error {
        Error::Tool { .. } => {
            Error::Tool { tool: format!("wg syncconf {name}"), said: "the configuration was refused".into() }
        }
        other => other,
    })
}
