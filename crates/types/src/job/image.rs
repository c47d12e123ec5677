//! Where a job's root file system comes from.

use std::fmt;
use std::path::{Component, PathBuf};
use std::str::FromStr;

use oci_spec::distribution::Reference;
use serde::{Deserialize, Serialize};

/// Where a root file system comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Image {
    /// `dir:/path`: a directory of the host, read-only under the job's own upper layer.
    Directory(PathBuf),
    /// `oci:/path`: an OCI image layout in a directory.
    Layout(PathBuf),
    /// `oci-archive:/path`: an OCI image layout in a tar file.
    Archive(PathBuf),
    /// `[docker://][registry/]repository[:tag][@digest]`: an image of an OCI registry. What is left out is what users of containers
    /// expect: `ubuntu` is `docker.io/library/ubuntu:latest`. A repository called like one of the schemes is written with its registry.
    Registry(Reference),
    /// `external`: somebody else's, whom the job belongs to.
    External,
}

/// How [`Image::External`] is written.
const EXTERNAL: &str = "external";
/// What may stand before an image of a registry.
const TRANSPORT: &str = "docker://";

/// A text that names no image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "invalid image `{text}`: write it as name:tag, host:port/name:tag, name@sha256:…, dir:/path, oci:/path or oci-archive:/path.tar"
)]
pub struct InvalidImage {
    text: String,
}

impl Image {
    /// The image that is meant once its tag has been looked up: the same one for as long as a job lives, wherever it is. An image that is not
    /// a registry's stays as it is.
    #[must_use]
    pub fn pinned(&self, digest: &str) -> Self {
        match self {
            Self::Registry(reference) => {
                let (registry, repository) = (reference.registry().to_owned(), reference.repository().to_owned());
                Self::Registry(match reference.tag() {
                    Some(tag) => Reference::with_tag_and_digest(registry, repository, tag.into(), digest.into()),
                    None => Reference::with_digest(registry, repository, digest.into()),
                })
            }
            other => other.clone(),
        }
    }

    /// The digest that is part of its name.
    #[must_use]
    pub fn digest(&self) -> Option<&str> {
        match self {
            Self::Registry(reference) => reference.digest(),
            _ => None,
        }
    }
}

impl FromStr for Image {
    type Err = InvalidImage;

    fn from_str(text: &str) -> Result<Self, InvalidImage> {
        let refused = || InvalidImage { text: text.chars().take(200).collect() };
        if text == EXTERNAL {
            return Ok(Self::External);
        }
        let made: fn(PathBuf) -> Self = match text.split_once(':').map(|(scheme, _)| scheme) {
            Some("dir") => Self::Directory,
            Some("oci") => Self::Layout,
            Some("oci-archive") => Self::Archive,
            _ => {
                let name = text.strip_prefix(TRANSPORT).unwrap_or(text);
                let reference: Reference = name.parse().map_err(|_| refused())?;
                // The one algorithm that registries have in common.
                let usual = |digest: &str| {
                    let hash = digest.strip_prefix("sha256:").unwrap_or_default();
                    !hash.is_empty() && hash.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
                };
                return if reference.digest().is_none_or(usual) {
                    Ok(Self::Registry(reference))
                } else {
                    Err(refused())
                };
            }
        };
        let path = text.split_once(':').map(|(_, path)| PathBuf::from(path)).unwrap_or_default();
        let stays = !path.components().any(|part| part == Component::ParentDir);
        if path.is_absolute() && stays { Ok(made(path)) } else { Err(refused()) }
    }
}

impl TryFrom<String> for Image {
    type Error = InvalidImage;

    fn try_from(text: String) -> Result<Self, InvalidImage> {
        text.parse()
    }
}

impl From<Image> for String {
    fn from(image: Image) -> Self {
        image.to_string()
    }
}

impl fmt::Display for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(path) => write!(f, "dir:{}", path.display()),
            Self::Layout(path) => write!(f, "oci:{}", path.display()),
            Self::Archive(path) => write!(f, "oci-archive:{}", path.display()),
            Self::Registry(reference) => write!(f, "{reference}"),
            Self::External => f.write_str(EXTERNAL),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:6c3c624b58dbbcd3c0dd82b4c53f04194d1247c6eebdaab7c610cf7d66709b3b";

    fn read(text: &str) -> String {
        text.parse::<Image>().unwrap().to_string()
    }

    #[test]
    fn images_are_checked() {
        for good in ["dir:/", "oci:/images/x", "oci-archive:/x.tar", "external"] {
            assert_eq!(read(good), good);
        }
        let upper = format!("x@{}", DIGEST.to_uppercase());
        for bad in [
            "",
            "dir:",
            "dir:relative",
            "oci:relative",
            "dir:/a/../b",
            "docker://",
            "Ubuntu",
            "a b",
            "x:",
            "x@sha256:12",
            &upper,
        ] {
            assert!(bad.parse::<Image>().is_err(), "{bad}");
        }
    }

    #[test]
    fn what_a_name_of_a_registry_leaves_out_is_filled_in() {
        for (short, long) in [
            ("ubuntu", "docker.io/library/ubuntu:latest".to_owned()),
            ("ubuntu:22.04", "docker.io/library/ubuntu:22.04".into()),
            ("jupyter/base-notebook", "docker.io/jupyter/base-notebook:latest".into()),
            ("docker://quay.io/a/b/c:1", "quay.io/a/b/c:1".into()),
            ("127.0.0.1:5000/x:1", "127.0.0.1:5000/x:1".into()),
            ("localhost/x", "localhost/x:latest".into()),
            ("docker.io/library/dir:1", "docker.io/library/dir:1".into()),
            (&format!("r.example/x@{DIGEST}"), format!("r.example/x@{DIGEST}")),
            (&format!("r.example/x:1@{DIGEST}"), format!("r.example/x:1@{DIGEST}")),
        ] {
            assert_eq!(read(short), long);
            assert_eq!(read(&long), long);
        }
    }

    #[test]
    fn a_pinned_image_keeps_its_name_and_has_a_digest() {
        let image: Image = "ubuntu:22.04".parse().unwrap();
        assert_eq!(image.digest(), None);
        let pinned = image.pinned(DIGEST);
        assert_eq!(pinned.digest(), Some(DIGEST));
        assert_eq!(pinned.to_string(), format!("docker.io/library/ubuntu:22.04@{DIGEST}"));
        assert_eq!(read(&pinned.to_string()), pinned.to_string());
        let other: Image = "dir:/".parse().unwrap();
        assert_eq!(other.pinned(DIGEST), other);
    }
}
