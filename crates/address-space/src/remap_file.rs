//! remap_file_pages: other pages of a file at the same addresses.
//!
//! Linux 6.12: mm/mmap.c (`remap_file_pages`), which maps the file anew there.

use page_allocator::Hooks;
use platform::Platform;
use units::{VirtAddr, VirtRange, VmFlags};

use crate::backing::{FileTraits, PageTables, Pager};
use crate::call::Call;
use crate::error::MmError;
use crate::flags::{MapFlags, Prot};
use crate::map::MapRequest;
use crate::vma::{PAGE_SHIFT, PAGE_SIZE, Vma};

impl<P: Platform, H: Hooks, B: PageTables + Pager> Call<'_, '_, P, H, B> {
    /// Shows the file's pages from `pgoff` on in a shared mapping's range, whole pages of it (Linux: `remap_file_pages`).
    ///
    /// # Errors
    /// [`MmError::Invalid`] for a bad range, any `prot`, or where not one shared mapping of a file, perhaps in several areas with the same flags, covers the
    /// range; also what [`Call::mmap`] fails with.
    pub fn remap_file_pages(
        &mut self,
        start: VirtAddr,
        len: u64,
        prot: Prot,
        pgoff: u64,
        flags: MapFlags,
    ) -> Result<(), MmError> {
        let (start, len) = (start.align_down(PAGE_SIZE), len & !(PAGE_SIZE - 1));
        let end = start.checked_add(len).filter(|&end| end > start).ok_or(MmError::Invalid)?;
        if !prot.is_empty() {
            return Err(MmError::Invalid);
        }
        pgoff.checked_add(len >> PAGE_SHIFT).ok_or(MmError::Invalid)?;
        let vma = self.shared_run(VirtRange::new(start, end))?;
        let mut remap = (flags & MapFlags::NONBLOCK) | MapFlags::SHARED | MapFlags::FIXED | MapFlags::POPULATE;
        remap.set(MapFlags::LOCKED, vma.flags.contains(VmFlags::LOCKED));
        let prot = Prot::from_bits_truncate((vma.flags & VmFlags::ACCESS).bits() as u32);
        let request = MapRequest { addr: start, len, prot, flags: remap, file: vma.file, offset: 0 };
        self.map_pages(&request, (vma.file, FileTraits::all()), pgoff).map(drop)
    }

    /// Returns the first area of a range that one file's shared areas cover, with the same flags and without a gap.
    fn shared_run(&self, range: VirtRange) -> Result<Vma, MmError> {
        let first = self.mm.lookup(range.start).ok_or(MmError::Invalid)?;
        if !first.flags.contains(VmFlags::SHARED) {
            return Err(MmError::Invalid);
        }
        let mut end = first.end();
        while end < range.end {
            let next = self.mm.lookup(end).ok_or(MmError::Invalid)?;
            if next.file != first.file || next.flags != first.flags {
                return Err(MmError::Invalid);
            }
            end = next.end();
        }
        Ok(first)
    }
}
