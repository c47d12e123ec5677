//! Remote file systems: the kinds that jobs name in their volumes and that hosts can mount.

use serde::{Deserialize, Serialize};

/// A kind of remote file system, by the scheme of its addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Scheme {
    /// `nfs://server/export`.
    Nfs,
    /// `s3://bucket/prefix`.
    S3,
    /// `jfs://…`: JuiceFS.
    Jfs,
}

impl Scheme {
    /// All kinds.
    pub const ALL: [Self; 3] = [Self::Nfs, Self::S3, Self::Jfs];

    /// The scheme as addresses have it, before `://`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Nfs => "nfs",
            Self::S3 => "s3",
            Self::Jfs => "jfs",
        }
    }

    /// The user's term for such file systems, and the software that a host needs to mount one.
    #[must_use]
    pub fn needs(self) -> (&'static str, &'static str) {
        match self {
            Self::Nfs => ("NFS exports", "the package `nfs-common` and a kernel with an NFS client"),
            Self::S3 => ("S3 buckets", "the package `s3fs` and `/dev/fuse`"),
            Self::Jfs => ("JuiceFS file systems", "support for JuiceFS, which no host has"),
        }
    }
}

/// A set of [`Scheme`]s.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Schemes(u8);

impl Schemes {
    /// Returns each scheme of the set.
    pub fn iter(self) -> impl Iterator<Item = Scheme> {
        Scheme::ALL.into_iter().filter(move |scheme| self.0 & 1 << *scheme as u8 != 0)
    }
}

impl FromIterator<Scheme> for Schemes {
    fn from_iter<I: IntoIterator<Item = Scheme>>(schemes: I) -> Self {
        Self(schemes.into_iter().fold(0, |set, scheme| set | 1 << scheme as u8))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn set_has_each_scheme_once() {
        let schemes: Schemes = [Scheme::Jfs, Scheme::Nfs, Scheme::Jfs].into_iter().collect();
        assert_eq!(schemes.iter().collect::<Vec<_>>(), [Scheme::Nfs, Scheme::Jfs]);
        assert_eq!(Schemes::default().iter().count(), 0);
    }
}
