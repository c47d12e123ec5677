//! What can go wrong with a capsule or its store, and what to do next.

use std::fmt;
use std::io;
use std::path::PathBuf;

use mooring_types::CapsuleName;

/// A failure of the capsule store or of a capsule.
///
/// Reading and writing through [`tokio::io::AsyncRead`] and [`tokio::io::AsyncWrite`] gives it inside an [`io::Error`], where
/// [`Error::inside`] finds it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store did not answer, or not in time.
    #[error("reach the capsule store at {at}")]
    Unreachable {
        /// Where the store is.
        at: String,
        /// What was seen of it.
        source: Cause,
    },
    /// The store answers, and does not let us in.
    #[error("access to the capsule store at {at} is denied")]
    Denied {
        /// Where the store is.
        at: String,
        /// What it said.
        source: Cause,
    },
    /// The bucket or the directory does not exist.
    #[error("the place of the capsule store at {at} does not exist")]
    NoPlace {
        /// Where the store should be.
        at: String,
        /// What was said.
        source: Cause,
    },
    /// The store has no room left.
    #[error("the capsule store at {at} is full")]
    Full {
        /// Where the store is.
        at: String,
        /// What was said.
        source: Cause,
    },
    /// The store failed in another way.
    #[error("the capsule store at {at} failed")]
    Failed {
        /// Where the store is.
        at: String,
        /// What was said.
        source: Cause,
    },
    /// The location or its options make no sense.
    #[error("the capsule store's location {location} is not usable: {why}")]
    Location {
        /// The location as it was given.
        location: String,
        /// What is wrong with it.
        why: String,
    },
    /// There is no such capsule.
    #[error("there is no capsule {capsule}")]
    NotFound {
        /// The capsule that was asked for.
        capsule: CapsuleName,
    },
    /// There is a capsule of this name already.
    #[error("there is a capsule {capsule} already")]
    Exists {
        /// The capsule that was to be made.
        capsule: CapsuleName,
    },
    /// What the store gives back is not what was written.
    #[error("capsule {capsule} is damaged: {damage}")]
    Damaged {
        /// The capsule.
        capsule: CapsuleName,
        /// What was found.
        damage: Damage,
    },
    /// The capsule was sealed with another key.
    #[error("capsule {capsule} was sealed with another key: {theirs}, not {ours}")]
    WrongKey {
        /// The capsule.
        capsule: CapsuleName,
        /// The id of the key that it names.
        theirs: String,
        /// The id of the key at hand.
        ours: String,
    },
    /// The capsule was made by a newer version of the program.
    #[error("capsule {capsule} has format {found}; this program reads formats up to {known}")]
    Version {
        /// The capsule.
        capsule: CapsuleName,
        /// The format that it has.
        found: u32,
        /// The newest format that is known here.
        known: u32,
    },
    /// The file of the seal key can't be used.
    #[error("use the seal key in {}: {why}", .path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
        /// What the system said, when it did.
        source: Option<io::Error>,
    },
    /// The writer has failed before, or what it had begun is gone.
    #[error("the writing of capsule {capsule} was given up")]
    GivenUp {
        /// The capsule.
        capsule: CapsuleName,
    },
}

/// What lies below a failure of the store.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

/// What is wrong with a damaged capsule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Damage {
    /// Its manifest can't be read, or was changed.
    Manifest,
    /// Its stream is not in the store.
    NoStream,
    /// Its stream does not have the length that the manifest says, both in bytes.
    Length {
        /// What the manifest says.
        expected: u64,
        /// What is there.
        found: u64,
    },
    /// The header of its stream was changed, or is another capsule's.
    Header,
    /// This piece, counted from 0, was changed, moved, or is another capsule's.
    Piece(u64),
    /// After this piece, which says that it is not the last, nothing follows.
    EndsAfter(u64),
    /// After its last piece something follows.
    Trailing,
    /// What was read does not add up to the totals in the manifest.
    Totals,
    /// A capsule builds on another one that had its name.
    Base,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Manifest => f.write_str("its manifest was changed or is not one"),
            Self::NoStream => f.write_str("its manifest is there, its stream is not"),
            Self::Length { expected, found } => write!(f, "its stream has {found} bytes, not {expected}"),
            Self::Header => f.write_str("the header of its stream was changed"),
            Self::Piece(piece) => write!(f, "piece {piece} was changed"),
            Self::EndsAfter(piece) => write!(f, "it ends after piece {piece}, which is not its last"),
            Self::Trailing => f.write_str("something follows its last piece"),
            Self::Base => f.write_str("another capsule builds on one that had its name"),
            Self::Totals => f.write_str("it does not add up to what its manifest says"),
        }
    }
}

impl Error {
    /// What a user can do about it: a lower-case fragment for a `hint:` line.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } => "check that the store runs and that this host reaches its address",
            Self::Denied { .. } => "check the access key and its secret, or who may write to the directory",
            Self::NoPlace { .. } => "make the bucket or the directory, or name another one",
            Self::Full { .. } => "remove capsules that nobody needs, or give the store more room",
            Self::Failed { .. } => "look at what the store says and try again",
            Self::Location { .. } => "give `dir:/path` or `s3://bucket/prefix`",
            Self::NotFound { .. } => "list the capsules that there are",
            Self::Exists { .. } => "take another name",
            Self::Damaged { .. } => "resume from an older capsule; this one can't be used",
            Self::WrongKey { .. } => "give this host the key file with which the capsule was sealed",
            Self::Version { .. } => "update the program on this host",
            Self::Key { .. } => "give the key file 64 hexadecimal digits and mode 0600, or another place",
            Self::GivenUp { .. } => "make the capsule again under another name",
        }
    }

    /// Whether the same may succeed later without anybody doing anything.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Failed { .. })
    }

    /// The failure inside an [`io::Error`] of a reader or a writer.
    #[must_use]
    pub fn inside(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }

    /// Takes the failure out of an [`io::Error`] of a reader or a writer.
    ///
    /// # Errors
    /// The error is not one of ours; it is given back.
    pub fn from_inside(error: io::Error) -> std::result::Result<Self, io::Error> {
        error.downcast::<Self>()
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        let kind = match &error {
            Error::Unreachable { .. } => io::ErrorKind::TimedOut,
            Error::Denied { .. } => io::ErrorKind::PermissionDenied,
            Error::NoPlace { .. } | Error::NotFound { .. } => io::ErrorKind::NotFound,
            Error::Full { .. } => io::ErrorKind::StorageFull,
            Error::Exists { .. } => io::ErrorKind::AlreadyExists,
            Error::Damaged { .. } | Error::WrongKey { .. } | Error::Version { .. } => io::ErrorKind::InvalidData,
            Error::Failed { .. } | Error::Location { .. } | Error::Key { .. } | Error::GivenUp { .. } => {
                io::ErrorKind::Other
            }
        };
        Self::new(kind, error)
    }
}

/// What operations of the store give.
pub type Result<T> = std::result::Result<T, Error>;
