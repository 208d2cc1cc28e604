//! Changes of the kernel's page tables.
//!
//! The lock of the tables is held for one table of entries at a time, and never while memory is allocated: mapping stops where a table is
//! missing, takes a page without the lock, and goes on. From when tables were detached until all CPUs have forgotten them, no table is
//! added: a CPU that remembers the old table would not see what is mapped through the new one. Linux keeps its tables, so it has no
//! such rule. Linux 6.12: `vmap_pages_range_noflush`, `vunmap_range_noflush`.

use core::ops::ControlFlow;
use core::sync::atomic::{AtomicU64, Ordering};

use boot_memory::page_tables::{MapError, PageTables, TableMemory, Translation};
use frame_table::{FrameList, PageType};
use page_allocator::Hooks;
use platform::{Attributes, Level, Platform, TableFormat};
use sync::{Cpu, SpinLock, rank};
use units::{Gfp, Order, Pfn, PhysAddr, PhysRange, VirtAddr, VirtRange};

use super::{VmallocError, add, subtract};
use crate::ObjectAllocator;
use crate::direct_map::DirectMap;

/// Leaves that are cleared in one hold of the lock.
pub(super) const BATCH: usize = 64;

/// A leaf that was cleared.
#[derive(Clone, Copy, Default)]
pub(super) struct Cleared {
    pub(super) pfn: Pfn,
    pub(super) order: Order,
}

/// Tables in the direct map, and a page that may become one.
struct View<'a> {
    map: &'a DirectMap,
    spare: Option<Pfn>,
    used: u64,
    /// No table may be added.
    is_frozen: bool,
    page_shift: u32,
}

impl View<'_> {
    fn entry(&self, table: PhysAddr, index: usize) -> &AtomicU64 {
        let address = self.map.at(table).cast::<u64>().wrapping_add(index);
        // SAFETY: tables come from the boot or from the page allocator and lie in the direct map; an index is below the entries of a
        // page. Entries are reached as atomics only, by the kernel and by what walks the tables.
        unsafe { AtomicU64::from_ptr(address) }
    }
}

impl TableMemory for View<'_> {
    fn alloc_table(&mut self) -> Option<PhysAddr> {
        let page = self.spare.take_if(|_| !self.is_frozen)?;
        self.used += 1;
        Some(page.phys(self.page_shift))
    }

    #[inline]
    fn read_entry(&self, table: PhysAddr, index: usize) -> u64 {
        // Relaxed: entries change under the lock that is held.
        self.entry(table, index).load(Ordering::Relaxed)
    }

    #[inline]
    fn write_entry(&mut self, table: PhysAddr, index: usize, entry: u64) {
        // Release: whoever walks to a table or page through the entry sees it zeroed or filled.
        self.entry(table, index).store(entry, Ordering::Release);
    }
}

type TablesLock<F> = SpinLock<{ rank::KERNEL_TABLES }, PageTables<F>>;

impl<P: Platform, H: Hooks> ObjectAllocator<P, H> {
    pub(super) fn tables(&self) -> Result<&TablesLock<P::Format>, VmallocError> {
        self.vmalloc.tables.as_ref().ok_or(VmallocError::NoTables)
    }

    pub(super) fn format(&self) -> Result<P::Format, VmallocError> {
        self.pages().platform().kernel_tables().map(|tables| tables.format).ok_or(VmallocError::NoTables)
    }

    fn view(&self, spare: Option<Pfn>) -> View<'_> {
        View { map: self.map(), spare, used: 0, is_frozen: false, page_shift: self.pages().map().geometry.page_shift }
    }

    /// Maps single pages from `virt` up. Returns how many, and why not all.
    pub(super) fn map_pages(
        &self,
        cpu: &Cpu,
        virt: VirtAddr,
        pages: &[Pfn],
        attributes: Attributes,
        gfp: Gfp,
    ) -> (usize, Result<(), VmallocError>) {
        let page_shift = self.pages().map().geometry.page_shift;
        let mut done = 0;
        let result = self.with_spare(cpu, gfp, |tables, view| {
            let at = virt.saturating_add((done as u64) << page_shift);
            let (mapped, result) = tables.map_pages(view, at, pages.get(done..).unwrap_or_default(), attributes);
            done += mapped;
            result
        });
        (done, result)
    }

    /// Maps `range` as it lies, with leaves as large as fit, up to `largest`. What was mapped before an error stays.
    pub(super) fn map_range(
        &self,
        cpu: &Cpu,
        virt: VirtAddr,
        range: PhysRange,
        attributes: Attributes,
        (largest, gfp): (Level, Gfp),
    ) -> Result<(), VmallocError> {
        let mut done = 0;
        while done < range.len() {
            let (at, from) = (virt.saturating_add(done), range.start.saturating_add(done));
            // One leaf at a time: after an error, mapping could not go on inside of a longer part.
            self.with_spare(cpu, gfp, |tables, view| {
                let level = tables.largest_fit(at, from, range.len() - done, largest);
                let leaf = PhysRange::with_len(from, tables.format().leaf_bytes(level));
                tables.map(view, at, leaf, attributes, level)?;
                done += leaf.len();
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Calls `step` under the lock until it needs no further page for a table.
    fn with_spare(
        &self,
        cpu: &Cpu,
        gfp: Gfp,
        mut step: impl FnMut(&mut PageTables<P::Format>, &mut View<'_>) -> Result<(), MapError>,
    ) -> Result<(), VmallocError> {
        let tables = self.tables()?;
        let mut spare = None;
        loop {
            let mut view = self.view(spare.take());
            let mut locked = tables.lock(cpu);
            // Relaxed: changes under the lock.
            let is_frozen = self.vmalloc.tables_frozen.load(Ordering::Relaxed);
            view.is_frozen = is_frozen;
            let result = step(&mut locked, &mut view);
            drop(locked);
            add(&self.vmalloc.counts.tables, view.used);
            spare = view.spare;
            match result {
                Err(MapError::OutOfMemory) if is_frozen => self.wait_for_table_flush(),
                // Without a page at hand the error says that one is needed, with one that it is of no use.
                Err(MapError::OutOfMemory) if spare.is_none() => spare = Some(self.alloc_table_page(cpu, gfp)?),
                result => {
                    if let Some(page) = spare {
                        self.free_pages(cpu, page, Order::ZERO);
                    }
                    return Ok(result?);
                }
            }
        }
    }

    /// Waits until tables may be added. The CPU that flushes holds no lock and waits for nobody but for answers to the flush.
    fn wait_for_table_flush(&self) {
        // Relaxed: only a hint for when to try again.
        while self.vmalloc.tables_frozen.load(Ordering::Relaxed) {
            core::hint::spin_loop();
        }
    }

    fn alloc_table_page(&self, cpu: &Cpu, gfp: Gfp) -> Result<Pfn, VmallocError> {
        let kind = Gfp::RECLAIM | Gfp::IO | Gfp::FS | Gfp::HIGH | Gfp::NOWARN | Gfp::NORETRY | Gfp::RETRY_MAYFAIL;
        let page = self.pages().alloc_zeroed(cpu, gfp & kind).map_err(crate::ObjectError::from)?;
        Ok(page.into_raw(self.frames()))
    }

    /// Frees a block that is known by number.
    pub(super) fn free_pages(&self, cpu: &Cpu, pfn: Pfn, order: Order) {
        let freed = self.pages().free_raw(cpu, pfn, order);
        debug_assert!(freed.is_ok(), "pages of areas and tables are raw pages until they are freed");
    }

    /// Clears up to [`BATCH`] leaves of `range`. Returns how many, and the address to go on from.
    pub(super) fn clear_batch(&self, cpu: &Cpu, range: VirtRange, cleared: &mut [Cleared; BATCH]) -> (usize, VirtAddr) {
        let (Ok(tables), Ok(format)) = (self.tables(), self.format()) else { return (0, range.end) };
        let mut count = 0;
        let next = tables.lock(cpu).unmap(&mut self.view(None), range, |_, leaf| {
            if let Some(slot) = cleared.get_mut(count) {
                let order = (format.index_bits() * u32::from(leaf.level.raw())) as u8;
                *slot = Cleared { pfn: leaf.phys.pfn_down(format.page_shift()), order: Order::new_truncate(order) };
            }
            count += 1;
            if count < BATCH { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        (count, next)
    }

    /// Takes tables without entries that translate part of one of `ranges` out of the tree, and puts them on `detached`.
    ///
    /// No table is added anywhere until [`ObjectAllocator::free_tables`]; whose turn it is to purge calls both.
    pub(super) fn detach_tables(&self, cpu: &Cpu, ranges: impl Iterator<Item = VirtRange>, detached: &mut FrameList) {
        let (Ok(tables), frames) = (self.tables(), self.frames()) else { return };
        let page_shift = self.pages().map().geometry.page_shift;
        let mut locked = tables.lock(cpu);
        let view = &mut self.view(None);
        for range in ranges {
            locked.detach_empty(view, range, &mut |table| {
                let adopted = frames.adopt_raw(table.pfn_down(page_shift), Order::ZERO);
                debug_assert!(adopted.is_ok(), "a table under the vmalloc area is a raw page");
                if let Ok(page) = adopted {
                    // Relaxed: changes under the lock.
                    self.vmalloc.tables_frozen.store(true, Ordering::Relaxed);
                    detached.push_back(frames, page.into_free(frames), PageType::Detached);
                }
            });
        }
    }

    /// Frees tables that no CPU remembers any more, all that were detached.
    pub(super) fn free_tables(&self, cpu: &Cpu, mut detached: FrameList) {
        if let Ok(tables) = self.tables() {
            let _locked = tables.lock(cpu);
            // Relaxed: changes under the lock.
            self.vmalloc.tables_frozen.store(false, Ordering::Relaxed);
        }
        while let Some(page) = detached.pop_front(self.frames(), PageType::Detached, Order::ZERO) {
            subtract(&self.vmalloc.counts.tables, 1);
            self.pages().free(cpu, page.into_owned(self.frames()));
        }
    }

    /// Translates an address by the tables (Linux: the walk of vmalloc_to_page).
    pub(super) fn translate(&self, cpu: &Cpu, virt: VirtAddr) -> Option<Translation> {
        self.tables().ok()?.lock(cpu).walk(&self.view(None), virt)
    }
}
