//! The reasons for which an image can't be pulled, with advice for the user.

use std::error::Error;
use std::io;

use oci_client::Reference;
use oci_client::errors::{OciDistributionError, OciErrorCode};

/// The reason for which an image can't be pulled.
#[derive(Debug)]
pub(super) enum Refusal {
    /// The registry does not answer, or closes the connection.
    Unreachable(String),
    /// The registry requires credentials, or rejects them.
    Unauthorized,
    /// The registry does not have the image.
    Unknown,
    /// The registry's data does not have this digest.
    Damaged(String),
    /// Anything else.
    Other(String),
}

impl Refusal {
    /// The reason and advice, as one text.
    pub(super) fn told(&self, image: &Reference, insecure: bool) -> String {
        let registry = image.registry();
        match self {
            Self::Unreachable(cause) => {
                let hint = if insecure {
                    "is its address right, and may this host connect to it?".to_owned()
                } else {
                    format!(
                        "may this host connect to it? If it speaks plain HTTP, start the agent with `--insecure-registry {registry}`"
                    )
                };
                format!("registry {registry} can't be reached: {cause}; {hint}")
            }
            Self::Unauthorized => format!(
                "registry {registry} does not let this host pull it: is its name right? If it needs a login, `docker login {registry}` as the agent's user keeps one in ~/.docker/config.json; REGISTRY_AUTH_FILE names another file"
            ),
            Self::Unknown => {
                let what = match (image.digest(), image.tag()) {
                    (Some(digest), _) => format!("with the digest {digest}"),
                    (None, tag) => format!("with the tag `{}`", tag.unwrap_or("latest")),
                };
                format!("registry {registry} has no `{}` {what}: check name and tag", image.repository())
            }
            Self::Damaged(digest) => format!(
                "what registry {registry} sent as {digest} does not have its digest: its copy is damaged, or something on the way changes it; push the image again"
            ),
            Self::Other(reason) => reason.clone(),
        }
    }
}

impl From<OciDistributionError> for Refusal {
    fn from(error: OciDistributionError) -> Self {
        use OciDistributionError as E;
        match &error {
            E::RequestError(cause) => Self::Unreachable(innermost(cause)),
            E::IoError(cause) => Self::Unreachable(innermost(cause)),
            E::UnauthorizedError { .. } | E::AuthenticationFailure(_) => Self::Unauthorized,
            E::ImageManifestNotFoundError(_) | E::ServerError { code: 404, .. } => Self::Unknown,
            E::ServerError { code: 401 | 403, .. } => Self::Unauthorized,
            E::ServerError { code: code @ 500.., .. } => {
                Self::Unreachable(format!("it answers with HTTP status {code}"))
            }
            E::DigestError(cause) => Self::Other(format!("its registry's answer does not match: {cause}")),
            E::RegistryError { envelope, .. } => {
                let has = |codes: &[OciErrorCode]| envelope.errors.iter().any(|error| codes.contains(&error.code));
                let unknown = [
                    OciErrorCode::ManifestUnknown,
                    OciErrorCode::NameUnknown,
                    OciErrorCode::NotFound,
                    OciErrorCode::BlobUnknown,
                    OciErrorCode::ManifestBlobUnknown,
                ];
                if has(&[OciErrorCode::Unauthorized, OciErrorCode::Denied]) {
                    Self::Unauthorized
                } else if has(&unknown) {
                    Self::Unknown
                } else {
                    Self::Other(format!("its registry refuses: {envelope}"))
                }
            }
            _ => Self::Other(error.to_string()),
        }
    }
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Self::Other(format!("it can't be kept on this host: {error}"))
    }
}

impl From<String> for Refusal {
    fn from(reason: String) -> Self {
        Self::Other(reason)
    }
}

/// The innermost cause: the outer ones repeat addresses that the user knows.
fn innermost(error: &(dyn Error + 'static)) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_names_the_registry_and_says_what_to_do() {
        let image: Reference = "r.example:5000/team/app:1".parse().unwrap();
        for (refusal, wanted) in [
            (Refusal::Unreachable("connection refused".into()), "--insecure-registry r.example:5000"),
            (Refusal::Unauthorized, "docker login r.example:5000"),
            (Refusal::Unknown, "no `team/app` with the tag `1`"),
            (Refusal::Damaged("sha256:aa".into()), "does not have its digest"),
        ] {
            let told = refusal.told(&image, false);
            assert!(told.contains(wanted) && told.contains("r.example:5000"), "{told}");
        }
    }
}
