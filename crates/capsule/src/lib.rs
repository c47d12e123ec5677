//! The capsule store: keeps the state of jobs that do not execute, and snapshots of jobs that do.
//!
//! A [`CapsuleStore`] is a directory or a part of a bucket of any S3-compatible object store
//! ([`Location`]). A capsule in the store is one stream of bytes, whose content is its writer's
//! affair, and a [`Manifest`] that makes it exist:
//!
//! ```text
//! create ─► CapsuleWriter ─ finish ─► stream stored ─► manifest stored: the capsule exists
//!                │                                     │ confirm
//!                │ abort, drop, crash                  ▼
//!                ▼                                     the source may be removed
//!           nothing that `list` shows; `sweep` removes the remains
//! ```
//!
//! ```text
//! <prefix>/<name>/manifest.json        written last, removed first
//! <prefix>/<name>/<attempt>.stream     those of other attempts than the manifest names are remains
//! <prefix>/<name>/<attempt>.upload     the mark of an upload under way, in a bucket only
//! ```
//!
//! Two writers of one name never mix: each has an attempt of its own, and the last manifest wins.
//!
//! # The stream
//!
//! ```text
//! ┌────────┬────────┬────────┬───────────┬──────────────────────────────────────┐
//! │ magic  │ format │ key id │ nonce     │ data key, wrapped by the capsule key │  header: 80 B
//! │ 8      │ 4      │ 8      │ 12        │ 32 + tag 16                          │
//! ├────────┴────────┴─┬──────┴──────┬────┴─────┬────────────────────────┬───────┤
//! │ coding, last mark │ plain bytes │ + tag    │ sealed bytes           │ tag   │  piece 0
//! │ 1                 │ 4           │ 4        │ 0 to 1 MiB             │ 16    │
//! ├───────────────────┴─────────────┴──────────┴────────────────────────┴───────┤
//! │ …                                                                           │  one per MiB
//! └─────────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! Numbers are little-endian. `+ tag` is the number of bytes after the head of the piece. Each
//! piece stands for 1 MiB of plain bytes. The last one stands for the rest, which may be empty.
//!
//! A piece is compressed, then sealed:
//!
//! - In a directory it is an LZ4 block, which is fastest; in a bucket a zstd frame (level 1), which
//!   is smallest. It is raw where compression saves less than a sixteenth, and absent where it is
//!   zeros.
//! - The seal is AES-256-GCM under the capsule's own random data key. The nonce is the number of
//!   the piece. Authenticated with it are that number, the head with the last mark, and the
//!   capsule's name.
//! - The data key is wrapped (AES-256-GCM, random nonce) under a key derived from the
//!   [`CapsuleKey`], and authenticated with the header, the name and the attempt.
//!
//! So a reader notices each changed byte, each piece that was moved, left out or replaced, and a
//! stream that was cut off or renamed. It notices before it gives out a byte of the piece
//! concerned.
//!
//! The manifest has the SHA-256 of the stored stream, so that `sha256sum` can check a capsule
//! without a key. The manifest is authenticated with a key derived from the capsule key. It is not
//! encrypted.
//!
//! A capsule may build on another ([`Base`], in its manifest). The deferred part of that base is
//! then part of both capsules. Store and format treat the two alike otherwise.
//!
//! # Failures
//!
//! Each [`Error`] names one cause and has a [hint](Error::hint) for the user. An object store may
//! be away for [`PATIENCE`] without an error; [`CapsuleStore::away`] tells of it. A failed writer
//! leaves no capsule, and the job's own state is untouched.
//!
//! | module | noun |
//! |---|---|
//! | `store` | the store: capsules by name, and the paths of their objects |
//! | `writer`, `upload` | a capsule that is being written |
//! | `reader`, `piece_source` | a capsule that is being read |
//! | `read_plan` | the order in which a capsule's parts are read |
//! | `format`, `piece` | the bytes of a stream |
//! | `manifest` | the facts that are known without opening a capsule |
//! | `key` | the capsule key and the keys derived from it |
//! | `backend`, `location` | objects in directories and buckets |
//! | `patience` | requests that are repeated while an object store is away |
//! | `pool` | buffers between two uses |
//! | `sweep` | remains of uploads that never ended |

#![forbid(unsafe_code)]

mod backend;
mod error;
mod format;
mod key;
mod location;
mod manifest;
mod patience;
mod piece;
mod piece_source;
mod pool;
mod read_plan;
mod reader;
mod store;
mod sweep;
mod upload;
mod writer;

pub use error::{Cause, Damage, Error, Result};
pub use key::{CapsuleKey, InvalidKey};
pub use location::{Location, S3Options};
pub use manifest::{Base, Deferred, Facts, Manifest};
pub use patience::PATIENCE;
pub use reader::CapsuleReader;
pub use store::CapsuleStore;
pub use sweep::Swept;
pub use writer::{CapsuleWriter, Position};
