//! What an area's flags let its entries allow.
//!
//! Linux 6.12: mm/pgprot.c and arch/x86/mm/pgprot.c (`protection_map`), mm/mmap.c (`vma_set_page_prot`, `vma_wants_writenotify`).

use object_allocator::mmu::PageKind;
use platform::{Attributes, MemoryType, Prot, TableFormat};
use units::VmFlags;

/// Whether the first write through a clean entry of a shared area has to be noticed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WriteTracking {
    /// No: the memory is its own backing store.
    None,
    /// Yes: entries become writable only by a fault (Linux: vma_wants_writenotify).
    FirstWrite,
}

impl WriteTracking {
    /// Returns what pages of a kind need in an area with `flags`: files are told of the first write, shared memory is its own backing store; but whoever
    /// watches an area for writes is told of each page's first.
    #[inline]
    pub fn of(format: impl TableFormat, flags: VmFlags, kind: PageKind) -> Self {
        match kind {
            PageKind::File => Self::FirstWrite,
            PageKind::Anon | PageKind::Shmem if is_watched(format, flags) => Self::FirstWrite,
            PageKind::Anon | PageKind::Shmem => Self::None,
        }
    }
}

/// Returns true if somebody may ask which pages of an area with `flags` were written to: not as long as the area as a whole counts as written to. An entry of a
/// watched area is writable only if it has the mark (Linux: `vma_soft_dirty_enabled`).
#[inline]
pub(crate) fn is_watched(format: impl TableFormat, flags: VmFlags) -> bool {
    format.soft_dirty() != 0 && !flags.contains(VmFlags::SOFTDIRTY)
}

/// Returns the attributes of fresh entries of an area: never writable in private areas, whose writable pages are made by faults.
///
/// No permission at all leaves an entry that user mode cannot use (Linux: PAGE_NONE).
pub fn attributes_of(flags: VmFlags, tracking: WriteTracking) -> Attributes {
    let mut prot = Prot::ACCESSED;
    prot.set(Prot::USER, flags.intersects(VmFlags::ACCESS));
    prot.set(Prot::EXECUTE, flags.contains(VmFlags::EXEC));
    let shared = VmFlags::SHARED | VmFlags::WRITE;
    prot.set(Prot::WRITE, flags.contains(shared) && tracking == WriteTracking::None);
    Attributes { prot, memory_type: MemoryType::Normal }
}

#[cfg(test)]
mod tests {
    use platform::{Arm64, X86_64};

    use super::*;

    fn prot(flags: VmFlags, tracking: WriteTracking) -> Prot {
        attributes_of(flags, tracking).prot - Prot::ACCESSED
    }

    #[test]
    fn only_shared_areas_are_writable_at_once_and_only_if_nobody_counts_writes() {
        let write = VmFlags::READ | VmFlags::WRITE;
        assert_eq!(prot(write, WriteTracking::None), Prot::USER);
        assert_eq!(prot(write | VmFlags::SHARED, WriteTracking::None), Prot::USER | Prot::WRITE);
        assert_eq!(prot(write | VmFlags::SHARED, WriteTracking::FirstWrite), Prot::USER);
    }

    #[test]
    fn files_are_always_told_and_others_where_somebody_watches() {
        use PageKind::{Anon, File, Shmem};
        let new = VmFlags::READ | VmFlags::SOFTDIRTY;
        let kinds = [File, Shmem, Anon];
        let told = |flags| kinds.map(|kind| WriteTracking::of(X86_64::<4>, flags, kind) == WriteTracking::FirstWrite);
        assert_eq!((told(new), told(VmFlags::READ)), ([true, false, false], [true; 3]));
        let unmarked = kinds.map(|kind| WriteTracking::of(Arm64::<12, 48>, VmFlags::READ, kind));
        assert_eq!(unmarked, [WriteTracking::FirstWrite, WriteTracking::None, WriteTracking::None]);
    }

    #[test]
    fn an_area_without_permissions_keeps_user_mode_out() {
        assert_eq!(prot(VmFlags::SHARED, WriteTracking::None), Prot::empty());
        assert_eq!(prot(VmFlags::EXEC, WriteTracking::None), Prot::USER | Prot::EXECUTE);
    }
}
