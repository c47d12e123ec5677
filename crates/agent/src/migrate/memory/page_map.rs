//! The image ranges that pages of a capsule belong to.
//!
//! Memory is read last from the store. When pages arrive, their ranges are known, and each page is
//! written at once.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;

use crate::migrate::stream::frame::{PAGE_RUN_MAX_PAGES, PageRun};

/// A part of some bytes, and its offset in a file.
#[derive(Debug)]
pub(crate) struct PageWrite {
    pub(crate) source: Range<usize>,
    pub(crate) file: Arc<File>,
    pub(crate) offset: u64,
}

/// Page counts by first page number, image and index in the image.
#[derive(Debug, Default)]
pub(crate) struct PageMap(BTreeMap<(u64, u32, u64), u32>);

impl PageMap {
    pub(crate) fn add(&mut self, run: PageRun) {
        self.0.insert((run.number, run.image, run.at), run.pages);
    }

    /// The runs that need some of `pages`, each cut to them.
    pub(crate) fn runs_within(&self, pages: Range<u64>) -> impl Iterator<Item = PageRun> {
        let earliest = pages.start.saturating_sub(PAGE_RUN_MAX_PAGES);
        self.0.range((earliest, 0, 0)..(pages.end, 0, 0)).filter_map(move |(&(first, image, at), &length)| {
            let (from, to) = (first.max(pages.start), (first + u64::from(length)).min(pages.end));
            let wanted = u32::try_from(to.checked_sub(from)?).ok().filter(|wanted| *wanted > 0)?;
            Some(PageRun { image, pages: wanted, at: at + (from - first), number: from })
        })
    }
}

/// Writes parts of `bytes` to their files.
pub(crate) fn write(bytes: &Bytes, writes: &[PageWrite]) -> io::Result<()> {
    writes.iter().try_for_each(|write| write.file.write_all_at(&bytes[write.source.clone()], write.offset))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_page_is_wanted_where_a_run_wants_it_however_they_come(
            runs in prop::collection::vec((0..3_u32, 1..=64_u32, 0..500_u64), 0..20),
            cuts in prop::collection::btree_set(1..600_u64, 0..20),
        ) {
            let mut page_map = PageMap::default();
            let (mut expected, mut at) = (Vec::new(), 0);
            for (image, pages, number) in runs {
                page_map.add(PageRun { image, pages, at, number });
                expected.extend((0..u64::from(pages)).map(|page| (image, at + page, number + page)));
                at += u64::from(pages);
            }
            let mut found = Vec::new();
            let ends = cuts.into_iter().chain([600]);
            let mut start = 0;
            for end in ends {
                for run in page_map.runs_within(start..end) {
                    prop_assert!(run.number >= start && run.number + u64::from(run.pages) <= end);
                    found.extend((0..u64::from(run.pages)).map(|page| (run.image, run.at + page, run.number + page)));
                }
                start = end;
            }
            found.sort_unstable();
            expected.sort_unstable();
            prop_assert_eq!(found, expected);
        }
    }
}
