//! Data that a job finds under a path of its own. [`text`] has the written form.
//!
//! Every form is parsed. [`Volume::unsupported`] says which no host can mount, and
//! [`Scheme::needs`] what a host needs for one.

mod text;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use text::InvalidVolume;

use super::remote::{Bucket, Export};
use crate::mounts::Scheme;

/// The largest fresh volume, in GB.
const SIZE_GB_MAX: u32 = 65_536;
/// Options whose values are never shown.
const SECRET_OPTIONS: [&str; 4] = ["accessKey", "secret", "secretKey", "token"];

/// Data under a path of the job.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Volume {
    /// Where it comes from.
    pub source: VolumeSource,
    /// Where the job finds it: an absolute path other than `/`.
    pub mount: PathBuf,
    /// What the job may do with it.
    pub mode: VolumeMode,
    /// What else was said, for whoever mounts it.
    pub options: BTreeMap<String, String>,
}

/// Where a volume comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VolumeSource {
    /// A path of the host.
    HostPath(PathBuf),
    /// A fresh one.
    Fresh {
        /// Its size in GB.
        size_gb: u32,
    },
    /// A volume that exists already.
    Existing(String),
    /// An address, `nfs://…`, `s3://…` or `jfs://…`.
    Remote {
        /// Its kind.
        scheme: Scheme,
        /// What follows `://`.
        location: String,
    },
}

/// What a job may do with a volume.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum VolumeMode {
    /// Read and write.
    #[default]
    ReadWrite,
    /// Read.
    ReadOnly,
}

impl Volume {
    /// Why no host can mount it, if none can.
    #[must_use]
    pub fn unsupported(&self) -> Option<&'static str> {
        match &self.source {
            VolumeSource::HostPath(_) | VolumeSource::Fresh { .. } => None,
            VolumeSource::Existing(_) => Some("hosts have no volumes that exist apart from jobs"),
            VolumeSource::Remote { scheme: Scheme::Nfs, .. } => Export::of(self).err(),
            VolumeSource::Remote { scheme: Scheme::S3, .. } => Bucket::of(self).err(),
            VolumeSource::Remote { scheme: Scheme::Jfs, .. } => Some("hosts don't mount JuiceFS file systems"),
        }
    }

    /// What kind of remote file system it is, if it is one.
    #[must_use]
    pub fn scheme(&self) -> Option<Scheme> {
        match self.source {
            VolumeSource::Remote { scheme, .. } => Some(scheme),
            _ => None,
        }
    }

    /// It as it was written, without what is secret in it.
    #[must_use]
    pub fn redacted(&self) -> Self {
        let mut shown = self.clone();
        for (key, value) in &mut shown.options {
            if SECRET_OPTIONS.iter().any(|secret| secret.eq_ignore_ascii_case(key)) {
                "********".clone_into(value);
            }
        }
        shown
    }
}

impl fmt::Debug for Volume {
    /// Without what is secret in it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Volume({})", self.redacted())
    }
}
