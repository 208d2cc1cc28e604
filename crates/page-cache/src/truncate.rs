//! Making files shorter or longer, and holes in them.
//!
//! Linux 6.12: mm/truncate.c (`truncate_setsize`, `truncate_inode_pages_range`), mm/shmem.c (`shmem_setattr`, `shmem_undo_range`, `shmem_fallocate`).

use core::array;
use core::ops::{Range, RangeInclusive};

use address_space::{Access, FileId, MmError, PAGE_SHIFT, PAGE_SIZE};
use frame_table::PageRef;
use page_allocator::Hooks;
use platform::Platform;

use crate::file::{FileState, MAX_BYTES, SpareNodes, pages_of, split};
use crate::files::FileCall;
use crate::pages::{Place, Reach};
use crate::seals::Seals;

/// Pages that leave a file at a time under its lock (Linux: PAGEVEC_SIZE).
const BATCH: usize = 15;

/// What becomes of the end of a file when pages are put behind it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EndRule {
    /// It moves there.
    Moves,
    /// It stays (FALLOC_FL_KEEP_SIZE).
    Stays,
}

/// Pages that have left a file, to be freed.
type Batch = [Option<PageRef>; BATCH];

impl<'k, P: Platform, H: Hooks + Sync> FileCall<'_, 'k, P, H> {
    /// Sets the size of a file (Linux: `truncate_setsize` and what goes with it).
    ///
    /// Of a file that gets shorter, whole pages behind the end go and the rest of the last one is zeroed. The caller takes the pages behind the end out of
    /// all page tables first, and again afterwards, since a fault may have been under way; a page that is still mapped stays alive but is no longer the
    /// file's.
    ///
    /// # Errors
    /// [`MmError::NotPermitted`] for a sealed file, [`MmError::TooLarge`], [`MmError::NoMemory`] where the new size may not be promised,
    /// [`MmError::BadFile`]; the file is as before then.
    pub fn set_size(&self, file: FileId, size: u64) -> Result<(), MmError> {
        if size > MAX_BYTES {
            return Err(MmError::TooLarge);
        }
        let mut state = self.lock(file)?;
        let sealed = (size < state.size && state.seals.contains(Seals::SHRINK))
            || (size > state.size && state.seals.contains(Seals::GROW));
        if sealed {
            return Err(MmError::NotPermitted);
        }
        let (before, after) = (state.reserved_for(state.size), state.reserved_for(size));
        if after > before {
            self.commit.charge(after - before, self.process, self.total_vm)?;
        } else {
            self.commit.uncharge(before - after);
        }
        // What was put behind the end goes as soon as somebody sets an end that is no farther, as in Linux.
        let is_cut = size < state.size || (size == state.size && state.kept > 0);
        if is_cut {
            state.kept = 0;
        }
        state.size = size;
        state.backed = state.backed.min(size);
        if is_cut {
            self.zero_part(&mut state, size, PAGE_SIZE);
        }
        drop(state);
        if is_cut {
            self.drop_behind_end(file);
        }
        Ok(())
    }

    /// Removes what lies behind the end of a file and was not put there to stay.
    pub(crate) fn drop_behind_end(&self, file: FileId) {
        let Ok(first) = self.lock(file).map(|state| state.end_of_pages()) else { return };
        self.drop_pages(Self::number(file), first..=u64::MAX);
    }

    /// Frees `bytes` bytes from `offset` on, which read as zeros afterwards: whole pages go, parts are zeroed (Linux: `shmem_fallocate` with
    /// FALLOC_FL_PUNCH_HOLE).
    ///
    /// The caller unmaps the pages first, as for [`FileCall::set_size`]. The size stays.
    ///
    /// # Errors
    /// [`MmError::NotSupported`] for files that are not shmem; [`MmError::NotPermitted`] for a file sealed against writing, [`MmError::Invalid`] for no bytes,
    /// [`MmError::TooLarge`], [`MmError::BadFile`].
    pub fn punch_hole(&self, file: FileId, offset: u64, bytes: u64) -> Result<(), MmError> {
        let end = offset.checked_add(bytes).filter(|&end| end <= MAX_BYTES).ok_or(MmError::TooLarge)?;
        let mut state = self.lock(file)?;
        if !state.is_shmem() {
            return Err(MmError::NotSupported);
        }
        if bytes == 0 {
            return Err(MmError::Invalid);
        }
        if state.seals.intersects(Seals::WRITE | Seals::FUTURE_WRITE) {
            return Err(MmError::NotPermitted);
        }
        let (first, past) = (pages_of(offset), end >> PAGE_SHIFT);
        if first > past {
            self.zero_part(&mut state, offset, bytes);
            return Ok(());
        }
        self.zero_part(&mut state, offset, (first << PAGE_SHIFT) - offset);
        self.zero_part(&mut state, past << PAGE_SHIFT, end - (past << PAGE_SHIFT));
        drop(state);
        if let Some(last) = past.checked_sub(1) {
            self.drop_pages(Self::number(file), first..=last);
        }
        Ok(())
    }

    /// Puts pages where a file has none in `bytes` bytes from `offset` on (Linux: `shmem_fallocate`).
    ///
    /// # Errors
    /// As [`FileCall::punch_hole`] and [`FileCall::set_size`], and [`MmError::NoMemory`] and [`MmError::NoSpace`]; the size is as before then, and the pages are
    /// gone that were set aside and that nobody has asked for. [`MmError::NotSupported`] for pages behind an end that is to stay of a file that is promised whole.
    pub fn allocate(&self, file: FileId, offset: u64, bytes: u64, end_rule: EndRule) -> Result<(), MmError> {
        let end = offset.checked_add(bytes).filter(|&end| end <= MAX_BYTES).ok_or(MmError::TooLarge)?;
        let (is_behind, kept) = {
            let mut state = self.lock(file)?;
            let is_promised = state.reserved_for(end) > state.reserved_for(state.size);
            if !state.is_shmem() || (is_promised && end_rule == EndRule::Stays) {
                return Err(MmError::NotSupported);
            }
            if bytes == 0 {
                return Err(MmError::Invalid);
            }
            if end > state.size && state.seals.contains(Seals::GROW) {
                return Err(MmError::NotPermitted);
            }
            let kept = state.kept;
            if end_rule == EndRule::Stays && end > state.size {
                state.kept = kept.max(pages_of(end));
            }
            state.has_set_aside = true;
            (end > state.size, kept)
        };
        let mut pages = offset >> PAGE_SHIFT..pages_of(end);
        let made = pages.try_for_each(|index| {
            let place = Place { file, index, reach: Reach::Unseen };
            self.find_or_make(place, Access::Write).map(|page| self.put_page(page))
        });
        let ended = made.and_then(|()| match end_rule {
            EndRule::Moves if is_behind => self.set_size(file, end),
            EndRule::Moves | EndRule::Stays => Ok(()),
        });
        if ended.is_err() {
            if let Ok(mut state) = self.lock(file) {
                state.kept = kept;
            }
            self.drop_set_aside(file, offset >> PAGE_SHIFT..pages.start);
            self.drop_behind_end(file);
        }
        ended
    }

    /// Removes the pages of `range` that were set aside and that nobody has asked for (Linux: `shmem_undo_range` with `unfalloc`).
    fn drop_set_aside(&self, file: FileId, range: Range<u64>) {
        let mut from = range.start;
        while let Ok(state) = self.lock(file) {
            let Some(index) = self.first_set_aside(&state, from..range.end) else { return };
            drop(state);
            self.drop_pages(Self::number(file), index..=index);
            from = index + 1;
        }
    }

    /// Zeros bytes of one page if it is in memory. None at a page's beginning, where the page goes as a whole.
    fn zero_part(&self, state: &mut FileState<'_>, offset: u64, bytes: u64) {
        let (index, at) = split(offset);
        if bytes == 0 || (at == 0 && bytes >= PAGE_SIZE) {
            return;
        }
        let Some(page) = state.pages.get(index) else { return };
        let pfn = page.pfn();
        if let Ok(shown) = self.bytes(page) {
            shown.zero(at, usize::try_from(bytes).unwrap_or(usize::MAX));
        }
        self.note_dirty(state, index, pfn);
    }

    /// Removes the pages of `range`, of a file in use or not; returns when all are gone.
    pub(crate) fn drop_pages(&self, number: u32, range: RangeInclusive<u64>) {
        loop {
            let mut batch: Batch = array::from_fn(|_| None);
            let mut spare = SpareNodes::new();
            let Some(mut state) = self.lock_any(number) else { return };
            self.detach(&mut state, &range, &mut batch, &mut spare);
            drop(state);
            self.free_nodes(spare);
            let is_full = batch.iter().all(Option::is_some);
            batch.into_iter().flatten().for_each(|page| self.put_page(page));
            if !is_full {
                return;
            }
        }
    }

    /// Takes pages out of a file until the batch is full.
    fn detach(
        &self,
        state: &mut FileState<'k>,
        range: &RangeInclusive<u64>,
        batch: &mut Batch,
        spare: &mut SpareNodes<'k>,
    ) {
        for slot in batch {
            let Some(index) = state.pages.find(range.clone()).map(|(index, _)| index) else { return };
            if let Some(pfn) = state.pages.get(index).map(PageRef::pfn) {
                self.note_clean(state, index, pfn);
            }
            let Some(page) = state.pages.remove(index, spare) else { return };
            // No longer the file's, even if somebody still maps it. Its flags stay: by them it is counted where it is mapped.
            self.frames().at(page.pfn()).set_mapping(0, 0);
            self.commit.uncharge(state.charge_per_page());
            self.count(page.pfn(), state.page_kind(), -1);
            *slot = Some(page);
        }
    }
}
