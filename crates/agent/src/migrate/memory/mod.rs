//! A job's memory in a capsule: which pages are sent, and where in CRIU's images they belong.
//!
//! * [`page_index`]: the pages that are in the store already, known by their tags.
//! * [`encoder`]: turns CRIU's memory images into frames.
//! * [`repeats`]: pages that several processes share, sent to another host once.
//! * [`page_map`]: where in the images the pages of a capsule belong.
//! * [`write_queue`]: the thread that writes pages at the destination.

pub(crate) mod encoder;
pub(crate) mod page_index;
pub(crate) mod page_map;
pub(crate) mod repeats;
pub(crate) mod write_queue;
