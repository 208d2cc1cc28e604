//! The laws of a file, for tests.

use core::ops::ControlFlow;

use address_space::{FileId, MmError};
use collections::xarray::Mark;
use frame_table::PageFlags;
use page_allocator::Hooks;
use platform::Platform;

use crate::file::FileKind;
use crate::files::FileCall;

impl<P: Platform, H: Hooks + Sync> FileCall<'_, '_, P, H> {
    /// Checks the laws of a file that nobody is changing.
    ///
    /// # Errors
    /// The first law that is broken, or [`MmError::BadFile`] as text.
    pub fn check_invariants(&self, file: FileId) -> Result<(), &'static str> {
        let state = self.lock(file).map_err(|_: MmError| "the file is in use")?;
        state.pages.check_invariants().map_err(|law| law.0)?;
        let is_backed = matches!(state.kind, Some(FileKind::Backed(_)));
        if !is_backed && Mark::ALL.into_iter().any(|mark| state.pages.is_marked(mark)) {
            return Err("only pages with a source are marked");
        }
        let broken = state.pages.visit(0..=u64::MAX, |index, page| {
            let frame = self.frames().at(page.pfn());
            let law = if index >= state.end_of_pages() {
                "no page is behind the end"
            } else if frame.mapping() != (Self::number(file), index) {
                "a frame knows its file and index"
            } else if frame.count() < 1 || frame.page_type().is_some() {
                "a page of a file is counted"
            } else if !frame.flags().contains(PageFlags::UPTODATE) && !state.is_shmem() {
                "a page of a file is up to date, or was set aside"
            } else {
                return ControlFlow::Continue(());
            };
            ControlFlow::Break(law)
        });
        broken.map_or(Ok(()), Err)
    }
}
