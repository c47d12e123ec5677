//! The source of a job's root file system.

use std::fmt;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

use oci_spec::distribution::Reference;
use serde::{Deserialize, Serialize};

/// The source of a job's root file system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Image {
    /// `dir:/path`: a directory of the host, read-only under the job's upper layer.
    Directory(PathBuf),
    /// `oci:/path`: an OCI image layout in a directory of the host.
    Layout(PathBuf),
    /// `oci-archive:/path`: an OCI image layout in a tar file of the host.
    Archive(PathBuf),
    /// `[docker://][registry/]repository[:tag][@digest]`: an image of an OCI registry.
    ///
    /// Missing parts get the defaults that container tools have: `ubuntu` is
    /// `docker.io/library/ubuntu:latest`. A repository whose name is one of the other schemes is
    /// written with its registry.
    Registry(Reference),
    /// `external`: the image of an external job, unknown to Mooring.
    External,
}

/// The text of [`Image::External`].
const EXTERNAL: &str = "external";
/// The optional scheme of an image of a registry.
const TRANSPORT: &str = "docker://";
/// The longest part of a refused text that an error repeats, in characters.
const SHOWN_CHARS: usize = 200;

/// A text that names no image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid image `{text}`: {problem}")]
pub struct InvalidImage {
    text: String,
    problem: Problem,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum Problem {
    #[error("write it as name:tag, host:port/name:tag, name@sha256:…, dir:/path, oci:/path or oci-archive:/path.tar")]
    Form,
    #[error("the path of a host has to be absolute, without `..`")]
    Path,
    /// A line break in a path would begin a line of its own in logs and tables.
    #[error("its path contains the control character `{}`: rename the directory", .0.escape_debug())]
    Character(char),
}

impl Image {
    /// Returns the image with the digest that its tag had when it was looked up. A job keeps that
    /// image for its whole life, on every host. An image from elsewhere than a registry is
    /// unchanged.
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

    /// The path of an image on its host; `None` for images from elsewhere.
    #[must_use]
    pub fn host_path(&self) -> Option<&Path> {
        match self {
            Self::Directory(path) | Self::Layout(path) | Self::Archive(path) => Some(path),
            Self::Registry(_) | Self::External => None,
        }
    }

    /// The digest in the image's name.
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
        let image = read(text).map_err(|problem| refused(text, problem))?;
        match &image {
            Self::Directory(path) | Self::Layout(path) | Self::Archive(path) => {
                match path.to_string_lossy().chars().find(|char| char.is_control()) {
                    Some(char) => Err(refused(text, Problem::Character(char))),
                    None => Ok(image),
                }
            }
            Self::Registry(_) | Self::External => Ok(image),
        }
    }
}

impl TryFrom<String> for Image {
    type Error = InvalidImage;

    /// Reads an image that was accepted before. Paths with control characters were accepted once,
    /// so jobs with such images are on record.
    fn try_from(text: String) -> Result<Self, InvalidImage> {
        read(&text).map_err(|problem| refused(&text, problem))
    }
}

fn read(text: &str) -> Result<Image, Problem> {
    if text == EXTERNAL {
        return Ok(Image::External);
    }
    let (of_path, path): (fn(PathBuf) -> Image, &str) = match text.split_once(':') {
        Some(("dir", path)) => (Image::Directory, path),
        Some(("oci", path)) => (Image::Layout, path),
        Some(("oci-archive", path)) => (Image::Archive, path),
        _ => return read_reference(text.strip_prefix(TRANSPORT).unwrap_or(text)),
    };
    let path = PathBuf::from(path);
    let is_plain = path.is_absolute() && !path.components().any(|part| part == Component::ParentDir);
    if is_plain { Ok(of_path(path)) } else { Err(Problem::Path) }
}

fn read_reference(name: &str) -> Result<Image, Problem> {
    let reference: Reference = name.parse().map_err(|_| Problem::Form)?;
    // SHA-256 is the one algorithm that all registries have.
    let is_sha256 = |digest: &str| {
        let hash = digest.strip_prefix("sha256:").unwrap_or_default();
        !hash.is_empty() && hash.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    if reference.digest().is_none_or(is_sha256) { Ok(Image::Registry(reference)) } else { Err(Problem::Form) }
}

fn refused(text: &str, problem: Problem) -> InvalidImage {
    let shown = text.chars().take(SHOWN_CHARS).filter(|char| !char.is_control()).collect();
    InvalidImage { text: shown, problem }
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
    fn malformed_images_are_refused() {
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
    fn path_with_a_control_character_is_refused() {
        let refusal = |text: &str| text.parse::<Image>().unwrap_err().to_string();
        assert_eq!(
            refusal("dir:/a\nb"),
            "invalid image `dir:/ab`: its path contains the control character `\\n`: rename the directory"
        );
        for scheme in ["dir", "oci", "oci-archive"] {
            for special in ["\n", "\t", "\0", "\u{7f}", "\u{1b}[2J", "\u{85}"] {
                let text = format!("{scheme}:/a{special}b");
                assert!(refusal(&text).contains("its path contains"), "{text:?}");
                assert!(!refusal(&text).contains(char::is_control), "{text:?}");
                assert!(Image::try_from(text).is_ok(), "what is on record stays readable");
            }
            assert!(refusal(&format!("{scheme}:a:b")).contains("absolute"));
            assert!(refusal(&format!("{scheme}:/a/../b,c")).contains("absolute"));
        }
        // In the path of a layer they are characters like all others.
        for path in ["/srv/my image (2)", "/a:/var/lib/mooring", "/a,b=c", r"/a\b"] {
            assert_eq!(read(&format!("dir:{path}")), format!("dir:{path}"));
        }
    }

    #[test]
    fn registry_names_get_defaults() {
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
    fn pinned_image_has_a_digest() {
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
