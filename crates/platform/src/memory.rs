//! Access to the machine's physical memory, its kernel page tables, and barriers and flushes on its CPUs.

use core::ptr::NonNull;

use sync::Cpu;
use units::{Pfn, PhysAddr, PhysRange, VirtRange};

use crate::TableFormat;

/// Physical memory as the kernel sees it.
///
/// # Safety
/// Implementers promise that a pointer returned by [`PhysMemory::direct_map`] or [`PhysMemory::memmap`] stays valid for
/// reads and writes of the whole range until the implementing value is dropped, that disjoint ranges never share bytes, and that
/// [`PhysMemory::direct_map`] of a range is [`PhysMemory::direct_map_base`] plus the range's start.
/// The pointers say nothing about who owns the bytes; that is settled by memblock at boot and by the page allocator after it.
pub unsafe trait PhysMemory: Sync {
    /// Returns where the kernel sees `range`, or `None` if part of it is no memory or is not mapped permanently (HighMem).
    fn direct_map(&self, range: PhysRange) -> Option<NonNull<u8>>;

    /// Returns where physical address 0 would be in the direct map, whether or not there is memory. Never changes.
    ///
    /// Physical addresses below 64 KiB keep their alignment, so what is aligned physically is aligned for the kernel.
    /// Linux: PAGE_OFFSET, `__va`, `__pa`.
    fn direct_map_base(&self) -> *mut u8;

    /// Returns zeroed, virtually contiguous room of `bytes` for the descriptors of all frames from `start` up, aligned to 64.
    ///
    /// Called once, at boot. The room may be backed lazily. `None` if the machine has no address space left.
    /// Linux: vmemmap (SPARSEMEM_VMEMMAP) or node_mem_map (FLATMEM).
    fn memmap(&self, start: Pfn, bytes: u64) -> Option<NonNull<u8>>;

    /// Makes `range` of the room that [`PhysMemory::memmap`] returned usable, with `backing`, memory that the caller took from
    /// memblock, behind it.
    ///
    /// Offsets are bytes from the start of the room. A hosted machine whose host backs the room lazily has nothing to do.
    fn populate_memmap(&self, offset: u64, backing: PhysRange) -> bool;
}

/// The kernel's page tables, as the machine's boot left them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KernelTables<F> {
    /// The root table: a page of memory in the direct map, valid as long as the machine.
    pub root: PhysAddr,
    /// How its entries are encoded.
    pub format: F,
}

/// A machine that may know which of its CPUs runs the calling code.
///
/// Asked only where the language gives no way to pass a CPU's token: when a handle is dropped, and by a global allocator.
pub trait CurrentCpu {
    /// Runs `f` with the token of the CPU that runs this; `None`, without calling it, if the machine cannot tell.
    ///
    /// Linux: smp_processor_id() with preemption off.
    #[inline]
    fn with_current_cpu<R>(&self, f: impl FnOnce(&Cpu) -> R) -> Option<R> {
        let _ = f;
        None
    }
}

/// A machine: its memory and what its CPUs can do to each other.
pub trait Platform: PhysMemory + CurrentCpu {
    /// Format of the machine's page tables.
    type Format: TableFormat;

    /// Makes every other CPU of the machine execute a full memory barrier before this call returns.
    ///
    /// Linux: membarrier(2) or an inter-processor interrupt. The rare side of an asymmetric protocol calls it, so that the
    /// frequent side needs no barrier (`sync::OwnerCell`).
    fn fence_other_cpus(&self);

    /// Returns the page tables through which every CPU sees the kernel's addresses; `None` on a machine that translates nothing.
    fn kernel_tables(&self) -> Option<KernelTables<Self::Format>>;

    /// Makes every CPU of the machine, the calling one included, forget what it remembers of the kernel's translations of `range`,
    /// tables above the leaves included, before this call returns.
    ///
    /// Like a fence, it must not wait for a CPU that has interrupts off: the caller may hold a lock that such a CPU waits for.
    /// Linux: flush_tlb_kernel_range.
    fn flush_kernel_range(&self, range: VirtRange);

    /// Makes every CPU that runs, or may still remember, the address space whose root table is at `root` forget what it remembers of `range`, tables
    /// above the leaves included, before this call returns. As a flush of the kernel's range, it must not wait for a CPU that has interrupts off.
    ///
    /// A machine that does not tell address spaces apart flushes the range in all of them, which is what this does unless it is overridden.
    /// Linux: flush_tlb_mm_range.
    fn flush_user_range(&self, root: PhysAddr, range: VirtRange) {
        let _ = root;
        self.flush_kernel_range(range);
    }
}
