//! Physical memory on the host's heap, for tests of the crates above (feature `heap-memory`).
//!
//! Small machines only: every byte is allocated at once. The hosted machine proper is `machines/sim`.

extern crate std;

use std::alloc::{Layout, alloc_zeroed};
use std::ptr::NonNull;

use platform::{CurrentCpu, KernelTables, PhysMemory, Platform, X86_64};
use units::{Pfn, PhysAddr, PhysRange, VirtRange};

/// Zeroed memory for one physical range, kept until the process ends.
#[derive(Debug)]
pub struct HeapMemory {
    range: PhysRange,
    start: NonNull<u8>,
    /// A page behind the range: the root of the kernel's page tables.
    root: Option<PhysAddr>,
}

// SAFETY: the pointer names bytes that nobody but the holders of blocks and boot slices touch.
unsafe impl Send for HeapMemory {}

// SAFETY: as for `Send`; the value itself is never changed.
unsafe impl Sync for HeapMemory {}

/// Bytes of a root table.
const ROOT_BYTES: u64 = 4096;
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
        Some(Self { range, start: unsafe { start.add(lead as usize) }, root: None })
    }

    /// As [`HeapMemory::new`], with an empty root table of the kernel, so that address spaces can be made.
    pub fn with_tables(range: PhysRange) -> Option<Self> {
        let behind = PhysRange::new(range.start, range.end.checked_add(ROOT_BYTES)?);
        Some(Self { range, root: Some(range.end), ..Self::new(behind)? })
    }
}

fn zeroed(bytes: u64) -> Option<NonNull<u8>> {
    let layout = Layout::from_size_align(usize::try_from(bytes).ok()?, ALIGN as usize).ok()?;
    if layout.size() == 0 {
        return None;
    }
    // SAFETY: the layout is not empty.
    NonNull::new(unsafe { alloc_zeroed(layout) })
}

// SAFETY: the allocation covers the whole range, lives until the process ends, and offsets map disjoint ranges to disjoint bytes.
unsafe impl PhysMemory for HeapMemory {
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

impl CurrentCpu for HeapMemory {}

impl Platform for HeapMemory {
    type Format = X86_64<4>;

    fn fence_other_cpus(&self) {
        std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
    }

    fn kernel_tables(&self) -> Option<KernelTables<X86_64<4>>> {
        self.root.map(|root| KernelTables { root, format: X86_64 })
    }

    fn flush_kernel_range(&self, _range: VirtRange) {}
}
