//! Data volumes: data that a job finds at a path. Module `text` has their written form.
//!
//! All forms are parsed. [`Volume::unsupported`] names those that no host can mount, and
//! [`Scheme::needs`] the requirements on a host.

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
/// The options with secret values.
const SECRET_OPTIONS: [&str; 4] = ["accessKey", "secret", "secretKey", "token"];

/// A data volume.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Volume {
    /// The source of the data.
    pub source: VolumeSource,
    /// The path inside the job: absolute and not `/`.
    pub mount: PathBuf,
    /// The job's access.
    pub mode: VolumeMode,
    /// Further options, for the mount.
    pub options: BTreeMap<String, String>,
}

/// The source of a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VolumeSource {
    /// A path of the host.
    HostPath(PathBuf),
    /// A new, empty volume.
    Fresh { size_gb: u32 },
    /// An existing volume, by its id.
    Existing(String),
    /// An address, `nfs://…`, `s3://…` or `jfs://…`.
    Remote {
        scheme: Scheme,
        /// The part after `://`.
        location: String,
    },
}

/// The access of a job to a volume.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum VolumeMode {
    #[default]
    ReadWrite,
    ReadOnly,
}

impl Volume {
    /// Returns why no host can mount the volume, if so.
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

    /// Returns the kind of a remote file system.
    #[must_use]
    pub fn scheme(&self) -> Option<Scheme> {
        match self.source {
            VolumeSource::Remote { scheme, .. } => Some(scheme),
            _ => None,
        }
    }

    /// Returns the volume with its secret options masked.
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
    /// Masks secret options.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Volume({})", self.redacted())
    }
}
