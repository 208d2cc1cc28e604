//! mseal.
//!
//! Linux 6.12: mm/mseal.c.

use page_allocator::Hooks;
use platform::Platform;
use units::{VirtAddr, VirtRange, VmFlags};

use crate::backing::{PageTables, Pager};
use crate::call::Call;
use crate::error::MmError;
use crate::vma::{PAGE_SIZE, Vma};

impl<P: Platform, H: Hooks, B: PageTables + Pager> Call<'_, '_, P, H, B> {
    /// Keeps the pages of `len` bytes from `start` from being unmapped, moved or changed until the process ends (Linux: `mseal`).
    ///
    /// # Errors
    /// [`MmError::Invalid`] for a bad range or any `flags`, [`MmError::NoMemory`] if part of it is not mapped; nothing is sealed then. Also
    /// [`MmError::NoMemory`] if an area cannot be split; those before it are sealed then.
    pub fn mseal(&mut self, start: VirtAddr, len: u64, flags: u64) -> Result<(), MmError> {
        if flags != 0 || !start.raw().is_multiple_of(PAGE_SIZE) {
            return Err(MmError::Invalid);
        }
        let len = len.checked_next_multiple_of(PAGE_SIZE).ok_or(MmError::Invalid)?;
        let end = start.checked_add(len).ok_or(MmError::Invalid)?;
        let mut at = start;
        while at < end {
            at = self.mm.lookup(at).ok_or(MmError::NoMemory)?.end();
        }
        at = start;
        while at < end {
            let vma = self.mm.lookup(at).ok_or(MmError::NoMemory)?;
            let part = VirtRange::new(at, vma.end().min(end));
            if vma.can_modify() {
                self.seal(&vma, part)?;
            }
            at = self.mm.lookup(at).map_or(part.end, |whole| whole.end());
        }
        Ok(())
    }

    /// Seals a part of an area. If a neighbour takes it in, the whole counts as written to if the neighbour did: only the seal is added to its flags (Linux: `mseal_fixup`).
    fn seal(&mut self, vma: &Vma, part: VirtRange) -> Result<(), MmError> {
        let before = self.mm.area_before(part.start).map(|area| area.vma.flags);
        let behind = self.mm.lookup(part.end).map(|vma| vma.flags);
        let whole = self.modify(vma, part, &Vma { flags: vma.flags | VmFlags::SEALED, ..*vma })?;
        let neighbour = match whole {
            whole if whole.start() < part.start => before,
            whole if whole.end() > part.end => behind,
            _ => None,
        };
        let mark = neighbour.unwrap_or(whole.flags) & VmFlags::SOFTDIRTY;
        let flags = (whole.flags - VmFlags::SOFTDIRTY) | mark;
        if flags != whole.flags
            && let Some(slot) = self.mm.slot(whole.start())
        {
            self.mm.start_write(&slot);
            slot.store(&Vma { flags, ..whole });
        }
        Ok(())
    }
}
