//! The capsule store: where the state of a job is kept that does not run.
//!
//! A [`CapsuleStore`] is a directory or a part of a bucket of any S3-compatible object store ([`Location`]). A capsule in it is one stream
//! of bytes, whatever its writer puts into it, and a manifest ([`Manifest`]) that makes it exist:
//!
//! ```text
//! create ─► CapsuleWriter ─ finish ─► stream stored whole ─► manifest stored: the capsule exists ─ confirm ─► the job's source may go
//!                │ abort, drop, crash
//!                ▼
//!           nothing that list shows; sweep removes what is left
//! ```
//!
//! ```text
//! <prefix>/<name>/manifest.json          written last, removed first
//! <prefix>/<name>/<attempt>.stream       of the attempt that the manifest names; others are leftovers
//! <prefix>/<name>/<attempt>.upload       the mark of an upload under way, in a bucket only
//! ```
//!
//! Two that write the same name at once can't mix: each has an attempt of its own, and whose manifest comes last wins.
//!
//! # The stream
//!
//! ```text
//! ┌────────┬────────┬────────┬───────────┬──────────────────────────────────────┐
//! │ magic  │ format │ key id │ nonce     │ data key, wrapped by the seal key    │  header, 80 bytes
//! │ 8      │ 4      │ 8      │ 12        │ 32 + tag 16                          │
//! ├────────┴────────┴─┬──────┴──────┬────┴─────┬────────────────────────┬───────┤
//! │ coding, last mark │ plain bytes │ + tag    │ sealed bytes           │ tag   │  piece 0
//! │ 1                 │ 4           │ 4        │ 0 to 1 MiB             │ 16    │
//! ├───────────────────┴─────────────┴──────────┴────────────────────────┴───────┤
//! │ …                                                                           │  one for each MiB
//! └─────────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! Numbers are little-endian; `+ tag` is how many bytes follow the head. A piece stands for 1 MiB, the last for what is left, if only for nothing.
//! Its bytes are compressed: in a directory as an LZ4 block, which takes least time, in a bucket as a zstd frame (level 1), which takes least
//! room. They are stored raw where that does not save a sixteenth, and not at all where they are zeros. Then they are sealed with AES-256-GCM under the capsule's own random data key. The nonce is the number of the piece; bound to it are that number, its head with the mark of
//! the last piece, and the capsule's name. The data key is wrapped (AES-256-GCM, random nonce) under a key derived from the [`SealKey`],
//! bound to the header, the name and the attempt. So a byte that was changed, a piece that was moved, left out or taken from elsewhere, a
//! stream that was cut off or renamed are all found, and found before a byte of the piece is given.
//!
//! The manifest has the SHA-256 of the stored stream, by which a capsule can be checked without any key (`sha256sum`), and is itself
//! authenticated with a key derived from the seal key. It is not hidden.
//!
//! A capsule may build on another ([`Base`], in its manifest): what was deferred in that one is then a part of both, and neither store nor format
//! knows more about it.
//!
//! # What can fail
//!
//! [`Error`] says whose turn it is: a store that is away is [`Error::Unreachable`] within about 15 seconds, others are sorted by what helps
//! ([`Error::hint`]). A failed writer has left nothing; the job's own state is where it was.
//!
//! | module | noun |
//! |---|---|
//! | `store` | the store: capsules by their names, where their objects lie |
//! | `writer`, `upload` | a capsule on its way into the store |
//! | `reader`, `source` | a capsule on its way out |
//! | `order` | what of it is read first, and what last |
//! | `format`, `piece` | the bytes of a stream |
//! | `manifest` | what is known without opening it |
//! | `key` | the seal key and what is derived from it |
//! | `backend`, `location` | objects in directories and buckets |
//! | `sweep` | what was never finished |

#![forbid(unsafe_code)]

mod backend;
mod error;
mod format;
mod idle;
mod key;
mod location;
mod manifest;
mod order;
mod piece;
mod reader;
mod source;
mod store;
mod sweep;
mod upload;
mod writer;

pub use error::{Cause, Damage, Error, Result};
pub use key::{InvalidKey, SealKey};
pub use location::{Location, S3Options};
pub use manifest::{Base, Facts, Manifest};
pub use order::Deferred;
pub use reader::CapsuleReader;
pub use store::CapsuleStore;
pub use sweep::Swept;
pub use writer::CapsuleWriter;
