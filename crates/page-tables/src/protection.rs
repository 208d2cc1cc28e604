//! What an area's flags let its entries allow.
//!
//! Linux 6.12: mm/pgprot.c and arch/x86/mm/pgprot.c (`protection_map`), mm/mmap.c (`vma_set_page_prot`, `vma_wants_writenotify`).

use object_allocator::mmu::PageKind;
use platform::{Attributes, MemoryType, Prot};
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
    /// Returns what pages of a kind need: files are told of the first write, shared memory is its own backing store.
    #[inline]
    pub const fn of(kind: PageKind) -> Self {
        match kind {
            PageKind::File => Self::FirstWrite,
            PageKind::Anon | PageKind::Shmem => Self::None,
        }
    }
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
    fn an_area_without_permissions_keeps_user_mode_out() {
        assert_eq!(prot(VmFlags::SHARED, WriteTracking::None), Prot::empty());
        assert_eq!(prot(VmFlags::EXEC, WriteTracking::None), Prot::USER | Prot::EXECUTE);
    }
}
