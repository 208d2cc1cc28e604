//! msync, mincore.
//!
//! Linux 6.12: mm/msync.c, mm/mincore.c.

use page_allocator::Hooks;
use platform::Platform;
use units::{VirtAddr, VirtRange, VmFlags};

use crate::backing::{PageTables, Pager};
use crate::call::Call;
use crate::error::MmError;
use crate::flags::SyncFlags;
use crate::vma::{PAGE_SHIFT, PAGE_SIZE, Vma};

impl<P: Platform, H: Hooks, B: PageTables + Pager> Call<'_, '_, P, H, B> {
    /// Writes shared file mappings in the pages of `len` bytes from `start` back (Linux: `msync`).
    ///
    /// # Errors
    /// [`MmError::Invalid`], [`MmError::Busy`] for a locked area with `INVALIDATE`, [`MmError::Io`]; [`MmError::NoMemory`] at the end if part of the range
    /// is not mapped.
    pub fn msync(&mut self, start: VirtAddr, len: u64, flags: SyncFlags) -> Result<(), MmError> {
        let known = SyncFlags::ASYNC | SyncFlags::INVALIDATE | SyncFlags::SYNC;
        let both = SyncFlags::ASYNC | SyncFlags::SYNC;
        if !known.contains(flags) || !start.raw().is_multiple_of(PAGE_SIZE) || flags.contains(both) {
            return Err(MmError::Invalid);
        }
        // A length in the last page wraps to an empty range, as in Linux.
        let len = len.wrapping_add(PAGE_SIZE - 1) & !(PAGE_SIZE - 1);
        let end = start.checked_add(len).ok_or(MmError::NoMemory)?;
        let mut at = start;
        let mut result = Ok(());
        while at < end {
            let vma = self.mm.find(at).ok_or(MmError::NoMemory)?;
            if at < vma.start() {
                result = Err(MmError::NoMemory);
                at = vma.start();
                if flags == SyncFlags::ASYNC || at >= end {
                    return result;
                }
            }
            if flags.contains(SyncFlags::INVALIDATE) && vma.flags.contains(VmFlags::LOCKED) {
                return Err(MmError::Busy);
            }
            if flags.contains(SyncFlags::SYNC) {
                self.sync_area(&vma, VirtRange::new(at, vma.end().min(end)))?;
            }
            at = vma.end();
        }
        result
    }

    fn sync_area(&mut self, vma: &Vma, part: VirtRange) -> Result<(), MmError> {
        match vma.file {
            Some(file) if vma.flags.contains(VmFlags::SHARED) => {
                self.backing.sync(file, vma.pgoff_at(part.start) << PAGE_SHIFT, part.len())
            }
            _ => Ok(()),
        }
    }

    /// Tells for each page of `len` bytes from `start` whether it is in memory (Linux: `mincore`).
    ///
    /// # Errors
    /// [`MmError::Invalid`] for an unaligned start, [`MmError::NoMemory`] if part of the range is not mapped; pages before it are told then.
    /// [`MmError::BadAddress`] if `resident` has less room than one byte a page.
    pub fn mincore(&mut self, start: VirtAddr, len: u64, resident: &mut [u8]) -> Result<(), MmError> {
        if !start.raw().is_multiple_of(PAGE_SIZE) {
            return Err(MmError::Invalid);
        }
        let top = self.spaces.settings.task_size;
        let end = start.checked_add(len).filter(|&end| end <= top).ok_or(MmError::NoMemory)?.align_up(PAGE_SIZE);
        let mut resident = resident;
        let mut at = start;
        while at < end {
            let vma = self.mm.lookup(at).ok_or(MmError::NoMemory)?;
            let part = VirtRange::new(at, vma.end().min(end));
            let nr_pages = usize::try_from(part.len() >> PAGE_SHIFT).map_err(|_| MmError::NoMemory)?;
            let (here, rest) = resident.split_at_mut_checked(nr_pages).ok_or(MmError::BadAddress)?;
            self.backing.residency(&vma, part, here);
            resident = rest;
            at = part.end;
        }
        Ok(())
    }
}
