//! The failures of a capsule or its store, and what to do next.

use std::fmt;
use std::io;
use std::path::PathBuf;

use mooring_types::CapsuleName;

/// A failure of the capsule store or of a capsule.
///
/// [`tokio::io::AsyncRead`] and [`tokio::io::AsyncWrite`] return such a failure inside an
/// [`io::Error`], from which [`Error::inside`] takes it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store did not answer, or not in time.
    #[error("the capsule store at {at} does not answer")]
    Unreachable { at: String, source: Cause },
    /// The store asks to wait, or fails for a time.
    #[error("the capsule store at {at} is busy")]
    Busy { at: String, source: Cause },
    /// The clocks differ by more than the store takes.
    #[error("the clock of this host differs from that of the capsule store at {at}")]
    Clock { at: String, source: Cause },
    /// The store refused access.
    #[error("access to the capsule store at {at} is denied")]
    Denied { at: String, source: Cause },
    /// The bucket or the directory does not exist.
    #[error("the bucket or directory of the capsule store at {at} does not exist")]
    NoPlace { at: String, source: Cause },
    /// The store has no room left.
    #[error("the capsule store at {at} is full")]
    Full { at: String, source: Cause },
    /// Any other failure of the store.
    #[error("the capsule store at {at} failed")]
    Failed { at: String, source: Cause },
    /// The location or its options are invalid.
    #[error("invalid location `{location}` of the capsule store: {why}")]
    Location { location: String, why: String },
    /// There is no such capsule.
    #[error("there is no capsule {capsule}")]
    NotFound { capsule: CapsuleName },
    /// There is a capsule of this name already.
    #[error("capsule {capsule} exists already")]
    Exists { capsule: CapsuleName },
    /// The store returned other bytes than were written.
    #[error("capsule {capsule} is damaged: {damage}")]
    Damaged { capsule: CapsuleName, damage: Damage },
    /// The capsule was sealed with another key.
    #[error("capsule {capsule} was sealed with another key: {theirs}, not {ours}")]
    WrongKey {
        capsule: CapsuleName,
        /// The id of the key that sealed the capsule.
        theirs: String,
        /// The id of the present key.
        ours: String,
    },
    /// The capsule was made by a newer version of the program.
    #[error("capsule {capsule} has format {found}; this program reads formats up to {known}")]
    Version {
        capsule: CapsuleName,
        found: u32,
        /// The newest format that this program reads.
        known: u32,
    },
    /// The file of the capsule key is missing, readable by others or malformed.
    #[error("can't use the capsule key in {}: {why}", .path.display())]
    Key { path: PathBuf, why: &'static str, source: Option<io::Error> },
    /// The writer or reader failed before, or was dropped.
    #[error("reading or writing of capsule {capsule} stopped earlier")]
    GivenUp { capsule: CapsuleName },
}

/// The cause of a failure of the store.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

/// The damage of a capsule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Damage {
    /// The manifest is malformed or was changed.
    Manifest,
    /// The stream is missing.
    NoStream,
    /// The stream has another length than the manifest says, in bytes.
    Length { expected: u64, found: u64 },
    /// The header of the stream was changed, or belongs to another capsule.
    Header,
    /// This piece, counted from 0, was changed, moved, or belongs to another capsule.
    Piece(u64),
    /// Nothing follows this piece, which is not marked as the last.
    EndsAfter(u64),
    /// Something follows the last piece.
    Trailing,
    /// The bytes do not match the totals in the manifest.
    Totals,
    /// Another capsule builds on an earlier one of this name.
    Base,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Manifest => f.write_str("its manifest was changed or is malformed"),
            Self::NoStream => f.write_str("its stream is missing"),
            Self::Length { expected, found } => write!(f, "its stream has {found} bytes, not {expected}"),
            Self::Header => f.write_str("the header of its stream was changed"),
            Self::Piece(piece) => write!(f, "piece {piece} was changed"),
            Self::EndsAfter(piece) => write!(f, "it ends after piece {piece}, before its last piece"),
            Self::Trailing => f.write_str("something follows its last piece"),
            Self::Base => f.write_str("it replaced the capsule that another builds on"),
            Self::Totals => f.write_str("it does not match the totals in its manifest"),
        }
    }
}

impl Error {
    /// Returns what a user can do about it: a lower-case fragment for a `hint:` line.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } => "check that the store is running and that hosts can reach its address",
            Self::Busy { .. } => "try again later, or see the log of the store",
            Self::Clock { .. } => "set the clock of the host or of the store",
            Self::Denied { .. } => "check the access key and its secret, or the permissions of the directory",
            Self::NoPlace { .. } => "create the bucket or directory, or configure another one",
            Self::Full { .. } => "remove capsules that are no longer needed, or add storage",
            Self::Failed { .. } => "see the log of the store and try again",
            Self::Location { .. } => "write `dir:/path` or `s3://bucket/prefix`",
            Self::NotFound { .. } => "use another capsule of the job",
            Self::Exists { .. } => "use another name",
            Self::Damaged { .. } => "use an older capsule of the job",
            Self::WrongKey { .. } => "restore the key file with which the capsule was sealed",
            Self::Version { .. } => "update `float` on this host",
            Self::Key { .. } => "the key file has 64 hexadecimal digits and mode 0600",
            Self::GivenUp { .. } => "try again: the job is unchanged",
        }
    }

    /// Says whether a retry may succeed although nobody has changed anything.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Busy { .. } | Self::Failed { .. })
    }

    /// Returns the failure inside an [`io::Error`] of a reader or a writer.
    #[must_use]
    pub fn inside(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }

    /// Takes the failure out of an [`io::Error`] of a reader or a writer.
    /// Returns any other error unchanged.
    pub fn from_inside(error: io::Error) -> std::result::Result<Self, io::Error> {
        error.downcast::<Self>()
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        let kind = match &error {
            Error::Unreachable { .. } | Error::Busy { .. } => io::ErrorKind::TimedOut,
            Error::Denied { .. } | Error::Clock { .. } => io::ErrorKind::PermissionDenied,
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

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;
