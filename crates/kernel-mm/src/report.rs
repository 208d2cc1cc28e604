//! Figures of the Mem-Info report.

use page_allocator::{Hooks, Watermark, Zone};
use platform::Platform;
use proc_files::MemorySource;
use proc_files::show_mem::{FreeBlocks, HugePages, Summary, TypeSet};
use units::{MigrateType, NodeId, Order, ZoneType};

use crate::proc_view::ProcView;

/// Node counters, in pages, by their names in the report.
const NODE_COUNTERS: [(&str, &str); 22] = [
    ("active_anon", "nr_active_anon"),
    ("inactive_anon", "nr_inactive_anon"),
    ("isolated_anon", "nr_isolated_anon"),
    ("isolated(anon)", "nr_isolated_anon"),
    ("active_file", "nr_active_file"),
    ("inactive_file", "nr_inactive_file"),
    ("isolated_file", "nr_isolated_file"),
    ("isolated(file)", "nr_isolated_file"),
    ("unevictable", "nr_unevictable"),
    ("dirty", "nr_dirty"),
    ("writeback", "nr_writeback"),
    ("writeback_tmp", "nr_writeback_temp"),
    ("slab_reclaimable", "nr_slab_reclaimable"),
    ("slab_unreclaimable", "nr_slab_unreclaimable"),
    ("mapped", "nr_mapped"),
    ("shmem", "nr_shmem"),
    ("shmem_thp", "nr_shmem_hugepages"),
    ("shmem_pmdmapped", "nr_shmem_pmdmapped"),
    ("anon_thp", "nr_anon_transparent_hugepages"),
    ("pagetables", "nr_page_table_pages"),
    ("sec_pagetables", "nr_sec_page_table_pages"),
    ("kernel_misc_reclaimable", "nr_kernel_misc_reclaimable"),
];

fn node_counter(name: &str) -> Option<&'static str> {
    NODE_COUNTERS.iter().find(|counter| counter.0 == name).map(|counter| counter.1)
}

/// A machine as `show_mem` reads it.
pub(crate) struct ReportSource<'a, 'b, P: Platform, H: Hooks> {
    pub(crate) view: &'a ProcView<'b, P, H>,
}

impl<P: Platform, H: Hooks> ReportSource<'_, '_, P, H> {
    fn zones(&self) -> &[Zone] {
        self.view.kernel.pages().zones()
    }

    fn find(&self, node: NodeId, zone: ZoneType) -> Option<&Zone> {
        self.view.kernel.pages().zone(node, zone)
    }

    fn pages_of(&self, zone: &Zone, name: &str) -> u64 {
        let pages = self.view.kernel.pages();
        match name {
            "free" => zone.free_pages(),
            "boost" => zone.boost(),
            "min" => zone.watermark(Watermark::Min),
            "low" => zone.watermark(Watermark::Low),
            "high" => zone.watermark(Watermark::High),
            "reserved_highatomic" => zone.reserved_highatomic(),
            "free_highatomic" => zone.free_highatomic(),
            "present" => zone.present(),
            "managed" => zone.managed(),
            "free_pcp" => pages.pcp_pages(self.view.cpu, zone),
            "local_pcp" => pages
                .pcp_counters(self.view.cpu, zone, self.view.cpu.id())
                .map_or(0, |counters| counters.count().into()),
            "free_cma" => zone.free_cma(),
            _ => 0,
        }
    }

    fn sum(&self, of: impl Fn(&Zone) -> u64) -> u64 {
        self.zones().iter().map(of).sum()
    }
}

impl<P: Platform, H: Hooks> MemorySource for ReportSource<'_, '_, P, H> {
    fn total(&self, name: &str) -> u64 {
        match name {
            "free" => self.sum(Zone::free_pages),
            "free_pcp" => self.sum(|zone| self.view.kernel.pages().pcp_pages(self.view.cpu, zone)),
            "free_cma" => self.sum(Zone::free_cma),
            _ => node_counter(name).map_or(0, |counter| self.view.all_nodes_stat(counter)),
        }
    }

    fn node(&self, index: usize) -> Option<NodeId> {
        let mut with_memory = self.view.kernel.nodes().iter().filter(|layout| !layout.span.is_empty());
        with_memory.nth(index).map(|layout| layout.node)
    }

    fn node_kb(&self, node: NodeId, name: &str) -> u64 {
        let shift = self.view.kernel.pages().map().geometry.page_shift - 10;
        match name {
            // Counted in kB.
            "kernel_stack" => self.view.node_stat(node, "nr_kernel_stack"),
            _ => node_counter(name).map_or(0, |counter| self.view.node_stat(node, counter) << shift),
        }
    }

    fn all_unreclaimable(&self, _node: NodeId) -> u64 {
        0
    }

    fn zone(&self, index: usize) -> Option<(NodeId, ZoneType)> {
        self.zones().get(index).map(|zone| (zone.node(), zone.kind()))
    }

    fn zone_kb(&self, node: NodeId, zone: ZoneType, name: &str) -> u64 {
        let shift = self.view.kernel.pages().map().geometry.page_shift - 10;
        self.find(node, zone).map_or(0, |zone| self.pages_of(zone, name) << shift)
    }

    fn lowmem_reserve(&self, node: NodeId, zone: ZoneType, index: usize) -> Option<u64> {
        let kind = self.view.kernel.configured().iter().nth(index)?;
        Some(self.find(node, zone)?.lowmem_reserve(kind))
    }

    fn free_blocks(&self, node: NodeId, zone: ZoneType, order: Order) -> Option<FreeBlocks> {
        let pages = self.view.kernel.pages();
        if order > pages.map().geometry.max_order {
            return None;
        }
        let counts = pages.free_counts(self.view.cpu, self.find(node, zone)?);
        let by_type = counts[order.index()];
        let types = MigrateType::ALL.into_iter().filter(|migratetype| by_type[migratetype.index()] > 0);
        let types = types.fold(TypeSet::default(), TypeSet::with);
        Some(FreeBlocks { nr_free: by_type.iter().map(|&count| u64::from(count)).sum(), types })
    }

    fn huge_pages(&self, _index: usize) -> Option<HugePages> {
        None
    }

    fn summary(&self) -> Summary {
        let is_high = |zone: &Zone| matches!(zone.kind(), ZoneType::HighMem | ZoneType::Movable);
        Summary {
            ram: self.sum(Zone::present),
            highmem: self.sum(|zone| if is_high(zone) { zone.present() } else { 0 }),
            reserved: self.sum(|zone| zone.present().saturating_sub(zone.managed())),
            hwpoisoned: 0,
            ..Summary::default()
        }
    }
}
