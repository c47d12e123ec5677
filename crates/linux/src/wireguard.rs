//! The kernel's WireGuard, configured with `wg` of wireguard-tools.

use crate::{Error, Result, ip};

/// Makes the WireGuard device `name`. It fails where the kernel has none, or `wg` is not installed.
///
/// # Errors
/// The kernel or the tool is not there, or the name is taken.
pub async fn create(name: &str) -> Result<()> {
    ip::batch(None, &[format!("link add dev {name} type wireguard")]).await?;
    let usable = configure(name, &["[Interface]".to_owned()]).await;
    if usable.is_err() {
        ip::link_delete(None, name).await?;
    }
    usable
}

/// Gives the device this configuration, in the form of wg(8)'s configuration files; sessions of peers that stay go on.
///
/// # Errors
/// The tool could not be run or refused the configuration. The error's text holds none of it, as there is a private key in it.
pub async fn configure(name: &str, configuration: &[String]) -> Result<()> {
    let configured = ip::run(None, "wg", &["syncconf", name, "/dev/stdin"], configuration).await;
    configured.map_err(|error| match error {
        Error::Tool { .. } => {
            Error::Tool { tool: format!("wg syncconf {name}"), said: "the configuration was refused".into() }
        }
        other => other,
    })
}
