//! The bare machine as the memory manager sees it: its RAM through the direct map, its CPUs through NMIs.
//!
//! Made once on the boot CPU, after the switch to the kernel's own page tables.
//! Locking: the page tables are inside a lock of `sync`'s highest rank, since descriptors may be mapped from anywhere.

use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicBool, Ordering};

use platform::{Attributes, CurrentCpu, KernelTables, PhysMemory, Platform, X86_64};
use sync::{Cpu, SpinLock, rank};
use units::{Pfn, PhysAddr, PhysRange, VirtRange};

use crate::cpu_area::this_cpu;
use crate::paging::{self, BootTables, TABLE_SIZE};
use crate::ram::RamRanges;
use crate::{fence, tlb};

/// The machine.
///
/// # Invariants
/// The direct map shows all of `ram` on every CPU, and nothing that boot mapped is ever unmapped. `root` is the root of `tables`.
pub(crate) struct Machine {
    ram: RamRanges,
    root: PhysAddr,
    tables: SpinLock<{ rank::LEAF }, BootTables>,
    has_memmap: AtomicBool,
}

impl Machine {
    /// Puts the machine together.
    ///
    /// # Safety
    /// `tables` are the active page tables of every CPU that runs from here on; their direct map shows all of `ram`.
    pub(crate) unsafe fn new(ram: RamRanges, tables: BootTables) -> Self {
        // INVARIANT: the caller's contract; what boot mapped stays.
        Self { ram, root: tables.root(), tables: SpinLock::new(tables), has_memmap: AtomicBool::new(false) }
    }

    /// Zeroes `backing` and maps it at `offset` of the room for descriptors.
    fn back_memmap(&self, offset: u64, backing: PhysRange) -> Option<()> {
        let end = offset.checked_add(backing.len())?;
        if end > paging::VMEMMAP_SIZE || !offset.is_multiple_of(TABLE_SIZE) {
            return None;
        }
        let bytes = usize::try_from(backing.len()).ok()?;
        let start = self.direct_map(backing)?;
        // SAFETY: the direct map shows the whole range, and the caller took it from memblock for this.
        unsafe { start.write_bytes(0, bytes) };
        let virt = paging::VMEMMAP.saturating_add(offset);
        self.tables.lock(this_cpu()).map(virt, backing, Attributes::KERNEL_DATA).ok()
    }
}

// SAFETY: by the type invariant what `direct_map` and `memmap` return is mapped for good; the direct map shows each physical
// byte once, and the room for descriptors shows memory that its taker uses for nothing else.
unsafe impl PhysMemory for Machine {
    fn direct_map(&self, range: PhysRange) -> Option<NonNull<u8>> {
        self.ram.contains(range).then(|| paging::direct_pointer(range.start))
    }

    fn direct_map_base(&self) -> *mut u8 {
        paging::direct_pointer(PhysAddr::ZERO).as_ptr()
    }

    fn memmap(&self, _start: Pfn, bytes: u64) -> Option<NonNull<u8>> {
        // Relaxed: called at boot, by one CPU; guards against a second caller only.
        if bytes > paging::VMEMMAP_SIZE || self.has_memmap.swap(true, Ordering::Relaxed) {
            return None;
        }
        NonNull::new(ptr::with_exposed_provenance_mut(paging::VMEMMAP.raw() as usize))
    }

    fn populate_memmap(&self, offset: u64, backing: PhysRange) -> bool {
        self.back_memmap(offset, backing).is_some()
    }
}

impl CurrentCpu for Machine {
    #[inline]
    fn with_current_cpu<R>(&self, f: impl FnOnce(&Cpu) -> R) -> Option<R> {
        Some(f(this_cpu()))
    }
}

impl Platform for Machine {
    type Format = paging::Format;

    fn kernel_tables(&self) -> Option<KernelTables<paging::Format>> {
        Some(KernelTables { root: self.root, format: X86_64 })
    }

    fn flush_kernel_range(&self, range: VirtRange) {
        tlb::flush_kernel_range(range);
    }

    fn flush_user_range(&self, root: PhysAddr, range: VirtRange) {
        tlb::flush_user_range(root, range);
    }

    fn fence_other_cpus(&self) {
        fence::fence_other_cpus();
    }
}
