//! Physical memory on the host's heap, for tests of the crates above (feature `heap-memory`).
//!
//! Small machines only: every byte is allocated at once. The hosted machine proper is `machines/sim`.

extern crate std;

use std::alloc::{Layout, alloc_zeroed};
use std::ptr::NonNull;

use platform::{CurrentCpu, KernelTables, PageTableFormat, PhysMemory, Platform, X86_64};
use units::{Pfn, PhysAddr, PhysRange, VirtRange};

/// Zeroed memory for one physical range, kept until the process ends.
#[derive(Debug)]
pub struct HeapMemory<F = X86_64<4>> {
    range: PhysRange,
    start: NonNull<u8>,
    /// A page behind the range: the root of the kernel's page tables.
    root: Option<PhysAddr>,
    format: F,
}

// SAFETY: the pointer names bytes that nobody but the holders of blocks and boot slices touch.
unsafe impl<F: Send> Send for HeapMemory<F> {}

// SAFETY: as for `Send`; the value itself is never changed.
unsafe impl<F: Sync> Sync for HeapMemory<F> {}

/// Alignment that addresses share with physical addresses.
const ALIGN: u64 = 1 << 16;

impl HeapMemory {
    /// Allocates the memory; `None` if the host has none, or for an empty range.
    pub fn new(range: PhysRange) -> Option<Self> {
        if range.is_empty() {
            return None;
        }
        let lead = range.start.raw() % ALIGN;
        let start = zeroed(range.len() + lead)?;
        // SAFETY: `lead` is less than the allocation's size.
        Some(Self { range, start: unsafe { start.add(lead as usize) }, root: None, format: X86_64 })
    }

    /// As [`HeapMemory::new`], with an empty root table of the kernel, so that address spaces can be made.
    pub fn with_tables(range: PhysRange) -> Option<Self> {
        Self::with_format(range, X86_64)
    }
}

impl<F: PageTableFormat> HeapMemory<F> {
    /// As [`HeapMemory::with_tables`], with tables of `format`.
    pub fn with_format(range: PhysRange, format: F) -> Option<Self> {
        let behind = PhysRange::new(range.start, range.end.checked_add(1 << F::PAGE_SHIFT)?);
        let start = HeapMemory::new(behind)?.start;
        Some(Self { range, start, root: Some(range.end), format })
    }
}

fn zeroed(bytes: u64) -> Option<NonNull<u8>> {
    // Aligned here and not by the layout: the host then takes fresh pages for large allocations, and those that nobody touches cost nothing.
    let align = ALIGN as usize;
    let layout = Layout::from_size_align(usize::try_from(bytes).ok()?.checked_add(align)?, 16).ok()?;
    // SAFETY: the layout is not empty.
    let start = NonNull::new(unsafe { alloc_zeroed(layout) })?;
    // SAFETY: less than `align` bytes ahead, which were added to what is needed.
    Some(unsafe { start.add(start.align_offset(align)) })
}

// SAFETY: the allocation covers the whole range, lives until the process ends, and offsets map disjoint ranges to disjoint bytes.
unsafe impl<F: PageTableFormat> PhysMemory for HeapMemory<F> {
    fn direct_map(&self, range: PhysRange) -> Option<NonNull<u8>> {
        if range.is_empty() || range.intersection(self.range) != range {
            return None;
        }
        let offset = usize::try_from(range.start.since(self.range.start)).ok()?;
        // SAFETY: the range lies inside the allocation, so the offset does.
        Some(unsafe { self.start.add(offset) })
    }

    fn direct_map_base(&self) -> *mut u8 {
        self.start.as_ptr().wrapping_sub(self.range.start.raw() as usize)
    }

    fn memmap(&self, _start: Pfn, bytes: u64) -> Option<NonNull<u8>> {
        zeroed(bytes)
    }

    fn populate_memmap(&self, _offset: u64, _backing: PhysRange) -> bool {
        true
    }
}

impl<F: PageTableFormat> CurrentCpu for HeapMemory<F> {}

impl<F: PageTableFormat> Platform for HeapMemory<F> {
    type Format = F;

    fn fence_other_cpus(&self) {
        std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
    }

    fn kernel_tables(&self) -> Option<KernelTables<F>> {
        self.root.map(|root| KernelTables { root, format: self.format })
    }

    fn flush_kernel_range(&self, _range: VirtRange) {}
}
