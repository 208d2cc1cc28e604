//! What of a file is in memory, without making anything. Pages that are only set aside do not count: they are not up to date.
//!
//! Linux 6.12: mm/filemap.c (`filemap_get_folio`, `next_uptodate_folio` of fault-around, `mapping_seek_hole_data`), mm/mincore.c (`mincore_page`).

use core::ops::{ControlFlow, Range};

use address_space::{FileId, MmError, PAGE_SHIFT};
use frame_table::{PageFlags, PageRef};
use page_allocator::Hooks;
use platform::Platform;

use crate::file::{FileState, pages_of};
use crate::files::FileCall;

impl<P: Platform, H: Hooks + Sync> FileCall<'_, '_, P, H> {
    /// Returns the page at `index` with a reference if it is in memory and not behind the end of the file.
    ///
    /// # Errors
    /// [`MmError::BadFile`].
    pub fn resident_page(&self, file: FileId, index: u64) -> Result<Option<PageRef>, MmError> {
        let state = self.lock(file)?;
        let is_inside = index < pages_of(state.size);
        Ok(state
            .pages
            .get(index)
            .filter(|page| is_inside && self.is_up_to_date(&state, page))
            .map(|page| page.get(self.frames())))
    }

    /// Takes a reference to each page in memory from index `first` on, in one walk: that of `first + n` goes to `found[n]`. Returns how many there are.
    ///
    /// `found` comes empty: what it holds is overwritten, and then lost. Pages behind the end of the file are not found.
    ///
    /// # Errors
    /// [`MmError::BadFile`].
    pub fn resident_pages(&self, file: FileId, first: u64, found: &mut [Option<PageRef>]) -> Result<usize, MmError> {
        debug_assert!(found.iter().all(Option::is_none), "references that are overwritten are lost");
        let mut count = 0;
        self.each_resident(file, first, found.len() as u64, |at, page| {
            if let Some(slot) = found.get_mut(at) {
                *slot = Some(page.get(self.frames()));
                count += 1;
            }
        })?;
        Ok(count)
    }

    /// Writes 1 for each page in memory and 0 for each other from index `first` on (Linux: `mincore_page`).
    ///
    /// # Errors
    /// [`MmError::BadFile`].
    pub fn residency(&self, file: FileId, first: u64, resident: &mut [u8]) -> Result<(), MmError> {
        resident.fill(0);
        self.each_resident(file, first, resident.len() as u64, |at, _| {
            if let Some(byte) = resident.get_mut(at) {
                *byte = 1;
            }
        })
    }

    fn each_resident(
        &self,
        file: FileId,
        first: u64,
        count: u64,
        mut f: impl FnMut(usize, &PageRef),
    ) -> Result<(), MmError> {
        let state = self.lock(file)?;
        let end = first.saturating_add(count).min(pages_of(state.size));
        if first < end {
            if state.has_set_aside {
                self.each_up_to_date(&state, first..end, &mut f);
                return Ok(());
            }
            state.pages.visit(first..=end - 1, |index, page| {
                f((index - first) as usize, page);
                ControlFlow::<()>::Continue(())
            });
        }
        Ok(())
    }

    /// Visits what is up to date in a range that is not empty.
    #[cold]
    fn each_up_to_date(&self, state: &FileState<'_>, range: Range<u64>, f: &mut dyn FnMut(usize, &PageRef)) {
        state.pages.visit(range.start..=range.end - 1, |index, page| {
            if self.is_up_to_date(state, page) {
                f((index - range.start) as usize, page);
            }
            ControlFlow::<()>::Continue(())
        });
    }

    /// Returns false for a page that was set aside and that nobody has asked for.
    #[inline]
    pub(crate) fn is_up_to_date(&self, state: &FileState<'_>, page: &PageRef) -> bool {
        !state.has_set_aside || self.frames().at(page.pfn()).flags().contains(PageFlags::UPTODATE)
    }

    /// Returns the first page of `range` that was set aside and that nobody has asked for.
    pub(crate) fn first_set_aside(&self, state: &FileState<'_>, range: Range<u64>) -> Option<u64> {
        if range.is_empty() || !state.has_set_aside {
            return None;
        }
        state.pages.visit(range.start..=range.end - 1, |index, page| {
            if self.is_up_to_date(state, page) { ControlFlow::Continue(()) } else { ControlFlow::Break(index) }
        })
    }

    /// Returns the first offset from `offset` on where the file has data (Linux: SEEK_DATA); `None` at or behind the end, or if only a hole follows.
    ///
    /// Holes are what no page was made for, or was only set aside, in a file of kind shmem or regular.
    ///
    /// # Errors
    /// [`MmError::BadFile`].
    pub fn seek_data(&self, file: FileId, offset: u64) -> Result<Option<u64>, MmError> {
        let state = self.lock(file)?;
        if offset >= state.size || offset < state.backed {
            return Ok((offset < state.size).then_some(offset));
        }
        let data = state.pages.visit(offset >> PAGE_SHIFT..=(state.size - 1) >> PAGE_SHIFT, |index, page| {
            if self.is_up_to_date(&state, page) { ControlFlow::Break(index) } else { ControlFlow::Continue(()) }
        });
        Ok(data.map(|index| (index << PAGE_SHIFT).max(offset)))
    }

    /// Returns the first offset from `offset` on where the file has a hole, which it has at its end (Linux: SEEK_HOLE); `None` at or behind the end.
    ///
    /// # Errors
    /// [`MmError::BadFile`].
    pub fn seek_hole(&self, file: FileId, offset: u64) -> Result<Option<u64>, MmError> {
        let state = self.lock(file)?;
        if offset >= state.size {
            return Ok(None);
        }
        let from = offset.max(state.backed);
        let first = from >> PAGE_SHIFT;
        let absent = state.pages.first_absent(first).unwrap_or(u64::MAX >> PAGE_SHIFT);
        let hole = self.first_set_aside(&state, first..absent).unwrap_or(absent);
        Ok(Some((hole << PAGE_SHIFT).clamp(from, state.size)))
    }
}
