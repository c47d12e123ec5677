//! The location of a capsule store.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::Error;

/// The location of a capsule store: `dir:/path`, an absolute path, or `s3://bucket/prefix`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// A directory of this host, or of a file system that hosts share.
    Dir(PathBuf),
    /// A part of a bucket.
    S3 {
        bucket: String,
        /// The prefix of all objects; empty, or without slashes at its ends.
        prefix: String,
        /// Address and key of the service. Not part of the printed location.
        options: S3Options,
    },
}

/// Address and key of an S3-compatible object store.
///
/// Missing options come from where Amazon's own tools look: the environment (`AWS_ACCESS_KEY_ID`,
/// `AWS_REGION`, …), then the metadata service of the machine.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct S3Options {
    /// The address of the service, `https://…`; Amazon's by default. `http://…` is possible as
    /// well: capsules are sealed, and the secret key only signs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// The region; `us-east-1` by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// The access key; both keys are given, or none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access_key: Option<String>,
    /// The secret of the access key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_key: Option<String>,
}

impl S3Options {
    /// Makes options of texts of which empty ones are absent.
    #[must_use]
    pub fn given(endpoint: &str, region: &str, access_key: &str, secret_key: &str) -> Self {
        let given = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        Self {
            endpoint: given(endpoint),
            region: given(region),
            access_key: given(access_key),
            secret_key: given(secret_key),
        }
    }
}

impl Location {
    /// Returns the location with these options, which a directory ignores.
    #[must_use]
    pub fn with_s3(self, options: S3Options) -> Self {
        match self {
            Self::Dir(path) => Self::Dir(path),
            Self::S3 { bucket, prefix, .. } => Self::S3 { bucket, prefix, options },
        }
    }
}

impl FromStr for Location {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let refuse = |why: &str| Error::Location { location: text.to_owned(), why: why.to_owned() };
        if let Some(rest) = text.strip_prefix("s3://") {
            let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
            // The names that all S3-compatible stores allow.
            let fits = (3..=63).contains(&bucket.len())
                && bucket
                    .bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-".contains(&byte));
            if !fits {
                return Err(refuse("a bucket has 3 to 63 lower-case letters, digits, `.` or `-`"));
            }
            let prefix = prefix.trim_matches('/');
            if object_store::path::Path::parse(prefix).is_err() {
                return Err(refuse("its prefix has an empty or a forbidden part"));
            }
            return Ok(Self::S3 {
                bucket: bucket.to_owned(),
                prefix: prefix.to_owned(),
                options: S3Options::default(),
            });
        }
        let path = PathBuf::from(text.strip_prefix("dir:").unwrap_or(text));
        if path.is_absolute() { Ok(Self::Dir(path)) } else { Err(refuse("a directory is given by an absolute path")) }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dir(path) => write!(f, "dir:{}", path.display()),
            Self::S3 { bucket, prefix, .. } if prefix.is_empty() => write!(f, "s3://{bucket}"),
            Self::S3 { bucket, prefix, .. } => write!(f, "s3://{bucket}/{prefix}"),
        }
    }
}

impl fmt::Debug for S3Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hidden = self.secret_key.as_ref().map(|_| "…");
        f.debug_struct("S3Options")
            .field("endpoint", &self.endpoint)
            .field("region", &self.region)
            .field("access_key", &self.access_key)
            .field("secret_key", &hidden)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn location_reads_back() {
        for text in ["dir:/var/lib/capsules", "s3://capsules", "s3://my-bucket/a/b"] {
            assert_eq!(text.parse::<Location>().unwrap().to_string(), text);
        }
        assert_eq!("/srv/c".parse::<Location>().unwrap().to_string(), "dir:/srv/c");
        assert_eq!("s3://bucket/".parse::<Location>().unwrap().to_string(), "s3://bucket");
    }

    #[test]
    fn malformed_location_is_refused() {
        for text in
            ["", "dir:relative", "relative", "s3://", "s3:///x", "s3://Bucket", "s3://bucket/a//b", "s3://bucket/../x"]
        {
            assert!(matches!(text.parse::<Location>(), Err(Error::Location { .. })), "{text}");
        }
    }

    #[test]
    fn debug_hides_the_secret_key() {
        let options = S3Options { secret_key: Some("hush".to_owned()), ..S3Options::default() };
        let location = "s3://bucket".parse::<Location>().unwrap().with_s3(options.clone());
        assert!(!format!("{location:?}").contains("hush"));
        assert_eq!(serde_json::from_str::<S3Options>(&serde_json::to_string(&options).unwrap()).unwrap(), options);
    }
}
