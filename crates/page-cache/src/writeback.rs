//! Dirty pages, and writing them back.
//!
//! Only pages of files with a source can be written anywhere; for the others being dirty is a flag of the frame, as in Linux (`noop_dirty_folio`).
//! Linux 6.12: mm/page-writeback.c (`filemap_dirty_folio`, `tag_pages_for_writeback`, `write_cache_pages`).

use address_space::{FileId, MmError, PAGE_SHIFT};
use frame_table::{PageFlags, PageRef};
use object_allocator::vmstat::NodeItem;
use page_allocator::Hooks;
use platform::Platform;
use units::Pfn;

use crate::file::{DIRTY, FileKind, FileState, TOWRITE, WRITEBACK};
use crate::files::FileCall;
use crate::source::PageSource;

impl<'k, P: Platform, H: Hooks + Sync> FileCall<'_, 'k, P, H> {
    /// Notes that a page differs from its source (Linux: `filemap_dirty_folio`). Does nothing if it is not in memory.
    ///
    /// # Errors
    /// [`MmError::BadFile`].
    pub fn mark_dirty(&self, file: FileId, index: u64) -> Result<(), MmError> {
        let mut state = self.lock(file)?;
        if let Some(pfn) = state.pages.get(index).map(PageRef::pfn) {
            self.note_dirty(&mut state, index, pfn);
        }
        Ok(())
    }

    pub(crate) fn note_dirty(&self, state: &mut FileState<'_>, index: u64, pfn: Pfn) {
        let frame = self.frames().at(pfn);
        if !frame.flags().contains(PageFlags::DIRTY) {
            frame.set_flags(PageFlags::DIRTY);
        }
        if matches!(state.kind, Some(FileKind::Backed(_))) && !state.pages.has_mark(index, DIRTY) {
            state.pages.set_mark(index, DIRTY);
            self.count_item(pfn, NodeItem::NrDirty, 1);
            self.count_item(pfn, NodeItem::NrDirtied, 1);
        }
    }

    /// Forgets that a page is dirty (Linux: `folio_clear_dirty_for_io`, `folio_cancel_dirty`).
    pub(crate) fn note_clean(&self, state: &mut FileState<'_>, index: u64, pfn: Pfn) {
        self.frames().at(pfn).clear_flags(PageFlags::DIRTY);
        if state.pages.clear_mark(index, DIRTY) {
            self.count_item(pfn, NodeItem::NrDirty, -1);
        }
    }

    /// Writes the pages back that are dirty now in `bytes` bytes from `offset` on (Linux: `filemap_write_and_wait_range`).
    ///
    /// Files without a source have nothing to write to. A page that is written to meanwhile is dirty again afterwards.
    ///
    /// # Errors
    /// [`MmError::Io`], after all pages were tried; those that failed stay dirty. [`MmError::BadFile`].
    pub fn sync_range(&self, file: FileId, offset: u64, bytes: u64) -> Result<(), MmError> {
        let Some(last) = bytes.checked_sub(1) else { return Ok(()) };
        let range = offset >> PAGE_SHIFT..=offset.saturating_add(last) >> PAGE_SHIFT;
        let mut from = *range.start();
        // Marked first, so that a process that goes on writing does not keep this call busy.
        loop {
            let mut state = self.lock(file)?;
            let Some(index) = state.pages.find_marked(from..=*range.end(), DIRTY).map(|(index, _)| index) else {
                break;
            };
            state.pages.set_mark(index, TOWRITE);
            from = index + 1;
        }
        let mut result = Ok(());
        from = *range.start();
        while let Some((index, page, source)) = self.begin_write(file, from..=*range.end())? {
            let written = self.bytes(&page).and_then(|bytes| source.write_page(self.cpu, index, &bytes));
            self.end_write(file, index, page, written)?;
            result = result.and(written);
            from = index + 1;
        }
        result
    }

    /// Takes the next page to write.
    fn begin_write(
        &self,
        file: FileId,
        range: core::ops::RangeInclusive<u64>,
    ) -> Result<Option<(u64, PageRef, &'k dyn PageSource)>, MmError> {
        let mut state = self.lock(file)?;
        let (Some(FileKind::Backed(source)), false) = (state.kind, range.is_empty()) else { return Ok(None) };
        let Some((index, page)) = state.pages.find_marked(range, TOWRITE) else { return Ok(None) };
        let page = page.get(self.frames());
        state.pages.clear_mark(index, TOWRITE);
        self.note_clean(&mut state, index, page.pfn());
        state.pages.set_mark(index, WRITEBACK);
        self.frames().at(page.pfn()).set_flags(PageFlags::WRITEBACK);
        self.count_item(page.pfn(), NodeItem::NrWriteback, 1);
        Ok(Some((index, page, source)))
    }

    /// Ends the writing of a page, which may have left the file since.
    fn end_write(&self, file: FileId, index: u64, page: PageRef, written: Result<(), MmError>) -> Result<(), MmError> {
        let state = self.lock(file);
        self.frames().at(page.pfn()).clear_flags(PageFlags::WRITEBACK);
        self.count_item(page.pfn(), NodeItem::NrWriteback, -1);
        let outcome = state.map(|mut state| {
            if state.pages.get(index).is_some_and(|there| there.pfn() == page.pfn()) {
                state.pages.clear_mark(index, WRITEBACK);
                match written {
                    Ok(()) => self.count_item(page.pfn(), NodeItem::NrWritten, 1),
                    Err(_) => self.note_dirty(&mut state, index, page.pfn()),
                }
            }
        });
        self.put_page(page);
        outcome
    }
}
