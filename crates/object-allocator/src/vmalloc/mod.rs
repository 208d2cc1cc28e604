//! Memory that is contiguous for the kernel only: areas of addresses, and pages mapped there in the kernel's page tables.
//!
//! `areas` says which addresses are taken, in one tree whose gaps are what is free; `tables` changes the page tables. An area goes in
//! three steps: `free` clears its entries and gives its pages back, and keeps the addresses; once enough of them wait, `purge` makes
//! every CPU forget them by one flush over all; then tables without entries are freed and the addresses can be taken again.
//! Which pages an area has is kept in the page tables alone: there is no array of pages beside them, as Linux has.
//! Locking: `rank::VMAP_AREAS` guards the tree, the descriptors of areas and the list of those that wait; `rank::KERNEL_TABLES` guards
//! the page tables. They are not held together, nor while pages are allocated or freed; nodes of the tree are, from the slab.
//! Linux 6.12: mm/vmalloc.c, include/linux/vmalloc.h.

mod access;
mod alloc;
mod area;
mod areas;
mod block;
mod error;
mod free;
mod info;
mod kvmalloc;
mod purge;
mod start;
mod tables;
mod vmap;

use core::ptr;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering};

use boot_memory::page_tables::PageTables;
use platform::{Platform, TableFormat};
use sync::{OwnerCell, SpinLock, rank};
use units::{VirtAddr, VirtRange};

use crate::slab::CacheSlot;

pub use access::OutOfReach;
pub use alloc::{HugeMappings, VmallocRequest};
pub use area::{AreaKind, VmallocArea, VmapArea};
pub use block::RamMapping;
pub use error::{BadVfree, VmallocError};
pub use info::{AreaInfo, VmallocFigures};
pub use kvmalloc::KvMemory;
pub use vmap::Mapped;

use areas::Areas;
use block::Front;

/// State of the areas of one machine.
#[derive(Debug)]
pub(crate) struct Vmalloc<F: TableFormat> {
    /// `None` on a machine that translates nothing.
    tables: Option<SpinLock<{ rank::KERNEL_TABLES }, PageTables<F>>>,
    /// Addresses for areas, whole pages; empty without tables.
    range: VirtRange,
    areas: SpinLock<{ rank::VMAP_AREAS }, Areas>,
    area_cache: CacheSlot,
    node_cache: CacheSlot,
    /// Someone purges.
    purging: AtomicBool,
    /// Tables were detached that some CPU may remember; no other table may take their place. Changes under the lock of the tables.
    tables_frozen: AtomicBool,
    /// Pages of addresses that may wait for a purge (Linux: lazy_max_pages).
    lazy_max_pages: u64,
    counts: Counts,
    /// Each CPU's block of short mappings; null before the start.
    fronts: AtomicPtr<OwnerCell<Front>>,
    nr_cpus: usize,
    /// Bytes of a block of short mappings (Linux: VMAP_BLOCK_SIZE).
    block_bytes: u64,
}

/// Statistics; every access is Relaxed.
#[derive(Debug, Default)]
struct Counts {
    /// Pages in areas of vmalloc (Linux: nr_vmalloc_pages).
    pages: AtomicU64,
    /// Pages that are tables, the root apart.
    tables: AtomicU64,
    /// Purges that had something to do.
    purges: AtomicU64,
}

fn add(count: &AtomicU64, pages: u64) {
    count.fetch_add(pages, Ordering::Relaxed);
}

fn subtract(count: &AtomicU64, pages: u64) {
    count.fetch_sub(pages, Ordering::Relaxed);
}

/// Bytes of addresses that may wait for a purge, for each binary digit of the number of CPUs.
const LAZY_BYTES: u64 = 32 << 20;

impl<F: TableFormat> Vmalloc<F> {
    pub(crate) fn new<P: Platform<Format = F>>(platform: &P, nr_cpus: usize) -> Self {
        let tables = platform.kernel_tables();
        let range = tables.map_or(VirtRange::default(), |tables| {
            let (range, page) = (tables.format.vmalloc_range(), 1 << tables.format.page_shift());
            VirtRange::new(range.start.align_up(page), range.end.align_down(page))
        });
        let page_shift = tables.map_or(12, |tables| tables.format.page_shift());
        let digits = u64::from(usize::BITS - nr_cpus.leading_zeros());
        Self {
            tables: tables.map(|tables| SpinLock::new(PageTables::of(tables))),
            range,
            areas: SpinLock::new(Areas::default()),
            area_cache: CacheSlot::empty(),
            node_cache: CacheSlot::empty(),
            purging: AtomicBool::new(false),
            tables_frozen: AtomicBool::new(false),
            lazy_max_pages: digits * (LAZY_BYTES >> page_shift),
            counts: Counts::default(),
            fronts: AtomicPtr::new(ptr::null_mut()),
            nr_cpus,
            block_bytes: block::block_pages(range.len() >> page_shift, nr_cpus) << page_shift,
        }
    }

    /// Returns true if `virt` is one of the addresses for areas (Linux: is_vmalloc_addr).
    pub(crate) const fn contains(&self, virt: VirtAddr) -> bool {
        self.range.contains(virt)
    }
}
