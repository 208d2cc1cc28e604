//! Giving areas back: entries are cleared and pages freed at once, addresses wait for a purge.
//!
//! Linux frees the pages before the flush as well: whoever gives an area back may not use it any more, on any CPU.
//! Linux 6.12: `vfree`, `vunmap`, `remove_vm_area`, `free_vmap_area_noflush`.

use page_allocator::Hooks;
use platform::Platform;
use sync::Cpu;
use units::{VirtAddr, VirtRange};

use super::area::{AreaKind, AreaPtr, AreaState, VmallocArea, VmapArea};
use super::error::BadVfree;
use super::subtract;
use super::tables::{BATCH, Cleared};
use crate::ObjectAllocator;

/// Whose the pages of an area are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Pages {
    /// The area's own: they are freed with it.
    Owned,
    /// Someone else's.
    Foreign,
}

impl<P: Platform, H: Hooks> ObjectAllocator<P, H> {
    /// Frees an area and its pages (Linux: vfree).
    pub fn vfree(&self, cpu: &Cpu, area: VmallocArea) {
        self.free_owned(cpu, area.area, area.range());
    }

    /// Takes an area's mappings away; the pages are as before (Linux: vunmap, iounmap).
    pub fn vunmap(&self, cpu: &Cpu, area: VmapArea) {
        self.release_area(cpu, area.area, area.range(), Pages::Foreign);
    }

    /// Forgets who owns an area: it is known by its first address until [`ObjectAllocator::vfree_raw`].
    pub fn vmalloc_into_raw(&self, area: VmallocArea) -> VirtAddr {
        area.start
    }

    /// Frees the area that starts at `start`, as kernels do that keep addresses only.
    ///
    /// # Errors
    /// [`BadVfree`] if no area of vmalloc starts there: it was freed already, or never allocated. Nothing changes then.
    ///
    /// # Safety
    /// The address came from [`ObjectAllocator::vmalloc_into_raw`], and nobody uses the area any more.
    pub unsafe fn vfree_raw(&self, cpu: &Cpu, start: VirtAddr) -> Result<(), BadVfree> {
        let mut areas = self.vmalloc.areas.lock(cpu);
        let found = areas.find(start).filter(|(_, area)| {
            area.range.start == start && area.kind == AreaKind::Vmalloc && area.state == AreaState::Busy
        });
        let (pointer, nr_pages) = found.map(|(pointer, area)| (pointer, area.nr_pages)).ok_or(BadVfree(start))?;
        drop(areas);
        let bytes = nr_pages * self.map().page_size() as u64;
        self.free_owned(cpu, pointer, VirtRange::with_len(start, bytes));
        Ok(())
    }

    fn free_owned(&self, cpu: &Cpu, area: AreaPtr, range: VirtRange) {
        subtract(&self.vmalloc.counts.pages, range.len() / self.map().page_size() as u64);
        self.release_area(cpu, area, range, Pages::Owned);
    }

    /// Clears the entries of `range`, which `area` has, frees what they mapped if it is the area's own, and lets the area wait.
    pub(super) fn release_area(&self, cpu: &Cpu, area: AreaPtr, range: VirtRange, pages: Pages) {
        self.clear_range(cpu, range, pages);
        // SAFETY: the caller owned the area, of which nothing is mapped any more.
        let waiting = unsafe { self.vmalloc.areas.lock(cpu).push_lazy(area) };
        self.purge_if_due(cpu, waiting);
    }

    /// Clears the entries of `range` and frees what they mapped if `pages` says so.
    pub(super) fn clear_range(&self, cpu: &Cpu, range: VirtRange, pages: Pages) {
        let mut cleared = [Cleared::default(); BATCH];
        let mut at = range.start;
        while at < range.end {
            let (count, next) = self.clear_batch(cpu, VirtRange::new(at, range.end), &mut cleared);
            if pages == Pages::Owned {
                for block in cleared.iter().take(count) {
                    self.free_pages(cpu, block.pfn, block.order);
                }
            }
            at = next;
        }
    }
}
