//! Reading and writing bytes of files.
//!
//! Linux 6.12: mm/filemap.c (`filemap_read`, `generic_perform_write`), mm/shmem.c (`shmem_file_read_iter`).

use address_space::{Access, FileId, MmError, PAGE_SIZE};
use frame_table::PageRef;
use page_allocator::Hooks;
use platform::Platform;

use crate::file::{FileKind, MAX_BYTES, split};
use crate::files::FileCall;
use crate::pages::{Place, Reach};
use crate::seals::Seals;

impl<P: Platform, H: Hooks + Sync> FileCall<'_, '_, P, H> {
    /// Copies bytes from `offset` on into `to`; returns how many, which is less than asked at the end of the file.
    ///
    /// Holes read as zeros; no page is made for them, but for what a source has.
    ///
    /// # Errors
    /// [`MmError::NoMemory`], [`MmError::Io`] and [`MmError::BadFile`], if not even one byte was read.
    pub fn read(&self, file: FileId, offset: u64, to: &mut [u8]) -> Result<usize, MmError> {
        let mut done = 0;
        while let Some(rest) = to.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match self.read_part(file, offset.saturating_add(done as u64), rest) {
                Ok(0) => break,
                Ok(part) => done += part,
                Err(error) if done == 0 => return Err(error),
                Err(_) => break,
            }
        }
        Ok(done)
    }

    /// Copies from one page; returns how many bytes.
    fn read_part(&self, file: FileId, offset: u64, to: &mut [u8]) -> Result<usize, MmError> {
        let (index, at) = split(offset);
        let (size, found, has_source) = {
            let state = self.lock(file)?;
            let found = state.pages.get(index).map(|page| page.get(self.frames()));
            (state.size, found, matches!(state.kind, Some(FileKind::Backed(_))))
        };
        let left = usize::try_from(size.saturating_sub(offset)).unwrap_or(usize::MAX);
        let len = to.len().min(PAGE_SIZE as usize - at).min(left);
        let to = to.get_mut(..len).unwrap_or_default();
        let page = match found {
            Some(page) => page,
            None if has_source && len != 0 => match self.page(file, index, Access::Read) {
                // Cut off since.
                Err(MmError::BadAddress) => return Ok(0),
                page => page?,
            },
            None => {
                to.fill(0);
                return Ok(len);
            }
        };
        let read = self.bytes(&page).map(|bytes| bytes.read(at, to));
        self.put_page(page);
        read
    }

    /// Copies bytes to `offset` on, making the file longer if they go beyond its end; returns how many, which is all unless memory ended.
    ///
    /// # Errors
    /// [`MmError::NotPermitted`] for a sealed file, [`MmError::TooLarge`]; [`MmError::NoMemory`], [`MmError::NoSpace`], [`MmError::Io`] and [`MmError::BadFile`]
    /// if not even one byte was written.
    pub fn write(&self, file: FileId, offset: u64, from: &[u8]) -> Result<usize, MmError> {
        self.check_write(file, offset, from.len() as u64)?;
        let mut done = 0;
        while let Some(rest) = from.get(done..).filter(|rest| !rest.is_empty()) {
            match self.write_part(file, offset + done as u64, rest) {
                Ok(part) => done += part,
                Err(error) if done == 0 => return Err(error),
                Err(_) => break,
            }
        }
        Ok(done)
    }

    fn check_write(&self, file: FileId, offset: u64, len: u64) -> Result<(), MmError> {
        let end = offset.checked_add(len).filter(|&end| end <= MAX_BYTES).ok_or(MmError::TooLarge)?;
        let state = self.lock(file)?;
        let forbids_write = state.seals.intersects(Seals::WRITE | Seals::FUTURE_WRITE);
        let forbids_growth = state.seals.contains(Seals::GROW) && end > state.size;
        if len != 0 && (forbids_write || forbids_growth) { Err(MmError::NotPermitted) } else { Ok(()) }
    }

    /// Copies to one page; returns how many bytes.
    fn write_part(&self, file: FileId, offset: u64, from: &[u8]) -> Result<usize, MmError> {
        let (index, at) = split(offset);
        let len = from.len().min(PAGE_SIZE as usize - at);
        let page = self.find_or_make(Place { file, index, reach: Reach::Beyond }, Access::Write)?;
        let written = self.fill_page(file, offset, &page, from.get(..len).unwrap_or_default());
        self.put_page(page);
        if written.is_err() {
            self.drop_behind_end(file);
        }
        written
    }

    fn fill_page(&self, file: FileId, offset: u64, page: &PageRef, from: &[u8]) -> Result<usize, MmError> {
        let (_, at) = split(offset);
        let written = self.bytes(page)?.write(at, from);
        let mut state = self.lock(file)?;
        let end = offset + written as u64;
        if end > state.size {
            let more = state.reserved_for(end) - state.reserved_for(state.size);
            if more != 0 {
                self.commit.charge(more, self.process, self.total_vm).map_err(|_| MmError::NoSpace)?;
            }
            state.size = end;
        }
        Ok(written)
    }
}
