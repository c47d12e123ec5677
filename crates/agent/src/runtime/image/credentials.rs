//! Credentials for registries, from the files of other container tools: `REGISTRY_AUTH_FILE`, or
//! `config.json` below `DOCKER_CONFIG` or `~/.docker`. They are read at every pull, so that a login
//! has effect at once. Credential helpers are not run.

use std::collections::HashMap;
use std::path::PathBuf;
use std::{env, fs};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use oci_client::secrets::RegistryAuth;
use serde::Deserialize;

/// The name of docker.io in these files.
const DOCKER_HUB: &str = "https://index.docker.io/v1/";

#[derive(Debug, Default, Deserialize)]
struct AuthFile {
    #[serde(default)]
    auths: HashMap<String, Entry>,
}

#[derive(Debug, Default, Deserialize)]
struct Entry {
    /// `user:password` in base64.
    #[serde(default)]
    auth: String,
}

/// Returns the credentials for a registry; anonymous access without an entry.
pub(super) fn of(registry: &str) -> RegistryAuth {
    files()
        .into_iter()
        .find_map(|file| find(&fs::read_to_string(file).ok()?, registry))
        .unwrap_or(RegistryAuth::Anonymous)
}

fn files() -> Vec<PathBuf> {
    let variable = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let docker = variable("DOCKER_CONFIG").or_else(|| Some(variable("HOME")?.join(".docker")));
    variable("REGISTRY_AUTH_FILE").into_iter().chain(docker.map(|directory| directory.join("config.json"))).collect()
}

fn find(text: &str, registry: &str) -> Option<RegistryAuth> {
    let file: AuthFile = serde_json::from_str(text)
        .inspect_err(|error| tracing::warn!("a file of registry credentials can't be read: {error}"))
        .ok()?;
    let is_hub = matches!(registry, "docker.io" | "index.docker.io");
    let bare =
        |key: &str| key.trim_start_matches("https://").trim_start_matches("http://").trim_end_matches('/').to_owned();
    let meant = |key: &&String| bare(key) == registry || is_hub && (*key == DOCKER_HUB || bare(key) == "docker.io");
    let key = file.auths.keys().find(meant)?;
    let decoded = STANDARD.decode(file.auths[key].auth.trim()).ok()?;
    let decoded = String::from_utf8(decoded).ok()?;
    let (user, password) = decoded.split_once(':')?;
    Some(RegistryAuth::Basic(user.to_owned(), password.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_is_found_by_every_way_to_write_it() {
        let file = |key: &str| format!(r#"{{"auths": {{"{key}": {{"auth": "dTpwOnc="}}}}, "credsStore": "x"}}"#);
        let known = Some(RegistryAuth::Basic("u".into(), "p:w".into()));
        assert_eq!(find(&file("r.example:5000"), "r.example:5000"), known);
        assert_eq!(find(&file("https://r.example/"), "r.example"), known);
        assert_eq!(find(&file(DOCKER_HUB), "docker.io"), known);
        assert_eq!(find(&file(DOCKER_HUB), "r.example"), None);
        assert_eq!(find(&file("r.example"), "r.example:5000"), None);
        for broken in ["", "{", r#"{"auths": {"r": {}}}"#, r#"{"auths": {"r": {"auth": "%"}}}"#] {
            assert_eq!(find(broken, "r"), None, "{broken}");
        }
    }
}
