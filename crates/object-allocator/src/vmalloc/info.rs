//! What the areas are, for /proc/vmallocinfo and /proc/meminfo.
//!
//! Linux 6.12: `vmalloc_info_show`, `show_numa_info`, `vmalloc_nr_pages`.

use core::sync::atomic::Ordering;

use page_allocator::Hooks;
use platform::{Platform, TableFormat};
use sync::Cpu;
use units::{MAX_NODES, NodeId, PhysAddr, VirtRange};

use super::area::{AreaKind, AreaState};
use crate::ObjectAllocator;

/// One area.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AreaInfo {
    /// Addresses, the guard page included.
    pub range: VirtRange,
    /// What it is for; `None` if it was given back and waits for a purge.
    pub kind: Option<AreaKind>,
    /// Who asked for it.
    pub caller: &'static str,
    /// Memory that it maps as it lies.
    pub phys: Option<PhysAddr>,
    /// Pages of its own.
    pub nr_pages: u64,
    /// Those on each node.
    pub node_pages: [u64; MAX_NODES],
}

/// Figures of all areas.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct VmallocFigures {
    /// Bytes of addresses (Linux: VMALLOC_TOTAL).
    pub total_bytes: u64,
    /// Pages in areas of vmalloc (Linux: nr_vmalloc_pages).
    pub used_pages: u64,
    /// Pages that are page tables, the root and those of the boot apart.
    pub table_pages: u64,
    /// Bytes of addresses that wait for a purge.
    pub lazy_bytes: u64,
    /// Areas, those that wait included.
    pub areas: usize,
    /// Purges so far.
    pub purges: u64,
}

impl<P: Platform, H: Hooks> ObjectAllocator<P, H> {
    /// Calls `visit` with every area, by ascending address. Areas may come and go meanwhile.
    pub fn for_each_area(&self, cpu: &Cpu, mut visit: impl FnMut(&AreaInfo)) {
        let mut from = self.vmalloc.range.start;
        loop {
            let mut areas = self.vmalloc.areas.lock(cpu);
            let Some((_, area)) = areas.at_or_after(from) else { break };
            let mut info = AreaInfo {
                range: area.range,
                kind: (area.state == AreaState::Busy).then_some(area.kind),
                caller: area.caller,
                phys: area.phys,
                nr_pages: if area.kind == AreaKind::Vmalloc { area.nr_pages } else { 0 },
                node_pages: [0; MAX_NODES],
            };
            drop(areas);
            if info.nr_pages > 0 && info.kind.is_some() {
                self.count_nodes(cpu, &mut info);
            }
            visit(&info);
            from = info.range.end;
        }
    }

    /// Counts an area's pages by node, from the page tables.
    fn count_nodes(&self, cpu: &Cpu, info: &mut AreaInfo) {
        let page_shift = self.pages().map().geometry.page_shift;
        for page in 0..info.nr_pages {
            let Some(pfn) = self.vmalloc_to_pfn(cpu, info.range.start.saturating_add(page << page_shift)) else {
                break;
            };
            let node = self.frames().get(pfn).map_or(NodeId::ZERO, |frame| frame.place().node());
            if let Some(count) = info.node_pages.get_mut(node.index()) {
                *count += 1;
            }
        }
    }

    /// Returns figures of all areas.
    pub fn vmalloc_figures(&self, cpu: &Cpu) -> VmallocFigures {
        let areas = self.vmalloc.areas.lock(cpu);
        let (lazy_bytes, nr_areas) = (areas.lazy_bytes(), areas.len());
        drop(areas);
        // Relaxed: statistics.
        let count = |count: &core::sync::atomic::AtomicU64| count.load(Ordering::Relaxed);
        VmallocFigures {
            total_bytes: self.format().map_or(0, |format| format.vmalloc_range().len()),
            used_pages: count(&self.vmalloc.counts.pages),
            table_pages: count(&self.vmalloc.counts.tables),
            lazy_bytes,
            areas: nr_areas,
            purges: count(&self.vmalloc.counts.purges),
        }
    }

    /// Checks the laws of the tree of areas.
    pub fn vmalloc_is_sound(&self, cpu: &Cpu) -> bool {
        self.vmalloc.areas.lock(cpu).is_sound()
    }
}
