//! What /proc shows of a machine: feeds the writers of `proc-files` from the allocator's state.
//!
//! Counters of parts that do not exist yet (page cache, anonymous memory) are 0, which is what they hold.
//! Locking: takes zone locks and per-CPU sets one at a time, so a file is no atomic picture, as in Linux.

use core::fmt;

use object_allocator::vmstat::{NodeItem, VmEvent, ZoneItem};
use page_allocator::layout::{ZoneLayout, normal_threshold};
use page_allocator::{AllocRequest, Hooks, Watermark, Zone};
use platform::Platform;
use proc_files::buddyinfo::FreeBlocks;
use proc_files::meminfo::MemInfo;
use proc_files::pagetypeinfo::{BlocksHeading, BlocksRow, FreeCount, FreeRow, Heading};
use proc_files::vmstat::VmStat;
use proc_files::zoneinfo::{PageSet, PopulatedZone, ZoneInfo, ZonePages};
use proc_files::{AllocationFailure, GfpText, Profile, ShowMem};
use sync::Cpu;
use units::{CpuId, MigrateType, NodeId, Order, ZoneType};

use crate::kernel::Kernel;
use crate::report::ReportSource;

/// Fields of /proc/meminfo that are a node counter, in pages.
const NODE_FIELDS: [(&str, &str); 15] = [
    ("Active(anon)", "nr_active_anon"),
    ("Inactive(anon)", "nr_inactive_anon"),
    ("Active(file)", "nr_active_file"),
    ("Inactive(file)", "nr_inactive_file"),
    ("Unevictable", "nr_unevictable"),
    ("SwapCached", "nr_swapcached"),
    ("Cached", "nr_file_pages"),
    ("Dirty", "nr_dirty"),
    ("Writeback", "nr_writeback"),
    ("WritebackTmp", "nr_writeback_temp"),
    ("AnonPages", "nr_anon_pages"),
    ("Mapped", "nr_mapped"),
    ("Shmem", "nr_shmem"),
    ("PageTables", "nr_page_table_pages"),
    ("SecPageTables", "nr_sec_page_table_pages"),
];

/// A machine as its /proc files show it, in the words of one kernel release.
pub struct ProcView<'a, P: Platform, H: Hooks> {
    pub(crate) kernel: &'a Kernel<P, H>,
    pub(crate) cpu: &'a Cpu,
    profile: Profile,
}

impl<P: Platform, H: Hooks> fmt::Debug for ProcView<'_, P, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProcView").field("profile", &self.profile).finish_non_exhaustive()
    }
}

impl<P: Platform, H: Hooks> Kernel<P, H> {
    /// Looks at the machine through its /proc files, reading from `cpu`.
    pub const fn proc<'a>(&'a self, cpu: &'a Cpu, profile: Profile) -> ProcView<'a, P, H> {
        ProcView { kernel: self, cpu, profile }
    }
}

impl<P: Platform, H: Hooks> ProcView<'_, P, H> {
    fn zones(&self) -> &[Zone] {
        self.kernel.pages().zones()
    }

    fn max_order(&self) -> Order {
        self.kernel.pages().map().geometry.max_order
    }

    /// Writes /proc/buddyinfo.
    ///
    /// # Errors
    /// Only what `out` returns; so for all writers here.
    pub fn write_buddyinfo(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        for zone in self.zones() {
            let counts = self.kernel.pages().free_counts(self.cpu, zone);
            let mut by_order = [0; Order::COUNT];
            for (sum, types) in by_order.iter_mut().zip(counts) {
                *sum = types.iter().map(|&count| u64::from(count)).sum();
            }
            let nr_free = &by_order[..=self.max_order().index()];
            writeln!(out, "{}", FreeBlocks { node: zone.node(), zone: zone.kind(), nr_free })?;
        }
        Ok(())
    }

    /// Writes /proc/pagetypeinfo.
    ///
    /// # Errors
    /// As [`ProcView::write_buddyinfo`].
    pub fn write_pagetypeinfo(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        let geometry = &self.kernel.pages().map().geometry;
        for layout in self.kernel.nodes().iter().filter(|layout| !layout.span.is_empty()) {
            write!(out, "{}", Heading { pageblock_order: geometry.pageblock_order, max_order: geometry.max_order })?;
            for zone in self.zones().iter().filter(|zone| zone.node() == layout.node) {
                self.write_free_rows(out, zone)?;
            }
            write!(out, "{}", BlocksHeading { types: self.migrate_types() })?;
            for zone in self.zones().iter().filter(|zone| zone.node() == layout.node) {
                let counts = self.kernel.pages().pageblock_counts(zone);
                let mut shown = [0; MigrateType::COUNT];
                for (slot, &migratetype) in shown.iter_mut().zip(self.migrate_types()) {
                    *slot = counts[migratetype.index()];
                }
                let nr_blocks = &shown[..self.migrate_types().len()];
                writeln!(out, "{}", BlocksRow { node: zone.node(), zone: zone.kind(), nr_blocks })?;
            }
        }
        Ok(())
    }

    /// Migratetypes of the kernel's configuration.
    const fn migrate_types(&self) -> &'static [MigrateType] {
        const WITHOUT_CMA: [MigrateType; 5] = [
            MigrateType::Unmovable,
            MigrateType::Movable,
            MigrateType::Reclaimable,
            MigrateType::HighAtomic,
            MigrateType::Isolate,
        ];
        if self.profile.config.contains(proc_files::Config::CMA) { &MigrateType::ALL } else { &WITHOUT_CMA }
    }

    fn write_free_rows(&self, out: &mut dyn fmt::Write, zone: &Zone) -> fmt::Result {
        let counts = self.kernel.pages().free_counts(self.cpu, zone);
        for &migrate_type in self.migrate_types() {
            let mut column = [FreeCount::Exact(0); Order::COUNT];
            for (slot, types) in column.iter_mut().zip(counts) {
                *slot = FreeCount::capped(u64::from(types[migrate_type.index()]));
            }
            let nr_free = &column[..=self.max_order().index()];
            writeln!(out, "{}", FreeRow { node: zone.node(), zone: zone.kind(), migrate_type, nr_free })?;
        }
        Ok(())
    }

    /// Writes /proc/zoneinfo, zones without memory included.
    ///
    /// # Errors
    /// As [`ProcView::write_buddyinfo`].
    pub fn write_zoneinfo(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        let kinds = self.kernel.configured();
        for layout in self.kernel.nodes() {
            let node_stat = |name: &str| self.node_stat(layout.node, name);
            let mut node_stats: Option<proc_files::Counters<'_>> = Some(&node_stat);
            for kind in kinds.iter() {
                match self.kernel.pages().zone(layout.node, kind) {
                    Some(zone) => self.write_zone(out, zone, node_stats.take())?,
                    None => self.write_empty_zone(out, layout.node, kind, layout.zone(kind))?,
                }
            }
        }
        Ok(())
    }

    fn write_zone(
        &self,
        out: &mut dyn fmt::Write,
        zone: &Zone,
        node_stats: Option<proc_files::Counters<'_>>,
    ) -> fmt::Result {
        let pages = self.kernel.pages();
        let mut protection = [0; ZoneType::COUNT];
        let shown = self.protection(zone, &mut protection);
        let shift = pages.map().geometry.page_shift;
        let stat_threshold = normal_threshold(zone.managed(), pages.nr_cpus() as u64, shift);
        let pageset = |index: usize| {
            let id = CpuId::try_new(index as u64).filter(|id| id.index() < pages.nr_cpus())?;
            let counters = pages.pcp_counters(self.cpu, zone, id)?;
            Some(PageSet {
                cpu: id,
                count: counters.count().into(),
                high: counters.high().into(),
                batch: counters.limits.batch.into(),
                high_min: counters.limits.high_min.into(),
                high_max: counters.limits.high_max.into(),
                stat_threshold,
            })
        };
        let populated = PopulatedZone {
            stats: &|name| self.zone_stat(zone, name),
            pagesets: &pageset,
            node_unreclaimable: 0,
            start_pfn: zone.span().start,
        };
        let info = ZoneInfo {
            profile: self.profile,
            node: zone.node(),
            zone: zone.kind(),
            node_stats,
            pages: ZonePages {
                free: zone.free_pages(),
                boost: zone.boost(),
                min: zone.watermark(Watermark::Min),
                low: zone.watermark(Watermark::Low),
                high: zone.watermark(Watermark::High),
                promo: zone.watermark(Watermark::Promo),
                spanned: zone.span().nr_pages(),
                present: zone.present(),
                managed: zone.managed(),
                cma: 0,
            },
            protection: shown,
            populated: Some(populated),
        };
        write!(out, "{info}")
    }

    fn write_empty_zone(
        &self,
        out: &mut dyn fmt::Write,
        node: NodeId,
        kind: ZoneType,
        layout: &ZoneLayout,
    ) -> fmt::Result {
        let pages = ZonePages { spanned: layout.span.nr_pages(), present: layout.present, ..ZonePages::default() };
        let zeroes = [0; ZoneType::COUNT];
        let protection = &zeroes[..self.kernel.configured().iter().count()];
        let info =
            ZoneInfo { profile: self.profile, node, zone: kind, node_stats: None, pages, protection, populated: None };
        write!(out, "{info}")
    }

    /// Fills in the reserve against each kind of zone that the machine has.
    pub(crate) fn protection<'b>(&self, zone: &Zone, room: &'b mut [u64; ZoneType::COUNT]) -> &'b [u64] {
        let mut used = 0;
        for (slot, kind) in room.iter_mut().zip(self.kernel.configured().iter()) {
            *slot = zone.lowmem_reserve(kind);
            used += 1;
        }
        &room[..used]
    }

    /// Value of a counter of a node by its name in /proc/vmstat; 0 for what does not exist on this machine.
    pub(crate) fn node_stat(&self, node: NodeId, name: &str) -> u64 {
        NodeItem::from_name(name).map_or(0, |item| self.kernel.objects().vmstat().node(node, item))
    }

    /// Sum of a counter over all nodes.
    pub(crate) fn all_nodes_stat(&self, name: &str) -> u64 {
        self.kernel.pages().nodes().iter().map(|node| self.node_stat(node, name)).sum()
    }

    /// Value of a counter of /proc/zoneinfo for one zone; 0 for what does not exist on this machine.
    fn zone_stat(&self, zone: &Zone, name: &str) -> u64 {
        let events = || self.kernel.pages().zone_events(self.cpu, zone);
        match name {
            "nr_free_pages" => zone.free_pages(),
            "nr_free_pages_blocks" => self.pages_in_whole_pageblocks(zone),
            "nr_free_cma" => zone.free_cma(),
            "numa_hit" => events().numa_hit,
            "numa_miss" => events().numa_miss,
            "numa_foreign" => events().numa_foreign,
            "numa_local" => events().numa_local,
            "numa_other" => events().numa_other,
            _ => {
                let place = (zone.node(), zone.kind());
                ZoneItem::from_name(name).map_or(0, |item| self.kernel.objects().vmstat().zone(place, item))
            }
        }
    }

    /// Free pages in blocks of the pageblock order and above.
    fn pages_in_whole_pageblocks(&self, zone: &Zone) -> u64 {
        let counts = self.kernel.pages().free_counts(self.cpu, zone);
        let first = self.kernel.pages().map().geometry.pageblock_order;
        let orders = first.through(self.max_order());
        orders
            .map(|order| counts[order.index()].iter().map(|&count| u64::from(count)).sum::<u64>() * order.nr_pages())
            .sum()
    }

    /// Writes /proc/vmstat.
    ///
    /// # Errors
    /// As [`ProcView::write_buddyinfo`].
    pub fn write_vmstat(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        write!(out, "{}", VmStat { profile: self.profile, counters: &|name| self.vm_stat(name) })
    }

    fn vm_stat(&self, name: &str) -> u64 {
        let sum = |of: &dyn Fn(&Zone) -> u64| self.zones().iter().map(of).sum();
        let events = |zone: &Zone| self.kernel.pages().zone_events(self.cpu, zone);
        if name == "pgfree" {
            return sum(&|zone| events(zone).freed);
        }
        let allocated_in = name.strip_prefix("pgalloc_");
        if let Some(kind) = allocated_in {
            let is_kind = |zone: &Zone| zone.kind().name().eq_ignore_ascii_case(kind);
            return sum(&|zone| if is_kind(zone) { events(zone).allocated } else { 0 });
        }
        if let Some(event) = VmEvent::from_name(name) {
            return self.kernel.objects().vmstat().events(event);
        }
        sum(&|zone| self.zone_stat(zone, name)) + self.all_nodes_stat(name)
    }

    /// Writes /proc/meminfo.
    ///
    /// # Errors
    /// As [`ProcView::write_buddyinfo`].
    pub fn write_meminfo(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        write!(out, "{}", MemInfo { profile: self.profile, values: &|name| self.mem_info(name) })
    }

    /// Value of a field of /proc/meminfo in kB.
    fn mem_info(&self, name: &str) -> u64 {
        let shift = self.kernel.pages().map().geometry.page_shift - 10;
        let kb = |of: &dyn Fn(&Zone) -> u64| self.zones().iter().map(of).sum::<u64>() << shift;
        let slab_kb = |name| self.all_nodes_stat(name) << shift;
        let is_high = |zone: &Zone| zone.kind() == ZoneType::HighMem;
        match name {
            "MemTotal" => kb(&Zone::managed),
            "MemFree" => kb(&Zone::free_pages),
            // Without page cache, what is available is what is free above the reserves, and slab that a shrinker can free but for a
            // part that is taken to be in use.
            "MemAvailable" => {
                let (low, slab) = (kb(&|zone| zone.watermark(Watermark::Low)), slab_kb("nr_slab_reclaimable"));
                let free = kb(&|zone| zone.free_pages().saturating_sub(zone.watermark(Watermark::Low)));
                free + slab - low.min(slab / 2)
            }
            "KReclaimable" | "SReclaimable" => slab_kb("nr_slab_reclaimable"),
            "SUnreclaim" => slab_kb("nr_slab_unreclaimable"),
            "Slab" => slab_kb("nr_slab_reclaimable") + slab_kb("nr_slab_unreclaimable"),
            "HighTotal" => kb(&|zone| if is_high(zone) { zone.managed() } else { 0 }),
            "HighFree" => kb(&|zone| if is_high(zone) { zone.free_pages() } else { 0 }),
            "LowTotal" => kb(&|zone| if is_high(zone) { 0 } else { zone.managed() }),
            "LowFree" => kb(&|zone| if is_high(zone) { 0 } else { zone.free_pages() }),
            "CommitLimit" => kb(&Zone::managed) / 2,
            "CmaFree" => kb(&Zone::free_cma),
            "Percpu" => {
                let percpu = self.kernel.objects().percpu().figures(self.cpu);
                (percpu.populated as u64 * self.kernel.pages().nr_cpus() as u64) << shift
            }
            "VmallocTotal" => self.kernel.objects().vmalloc_figures(self.cpu).total_bytes >> 10,
            "VmallocUsed" => self.kernel.objects().vmalloc_figures(self.cpu).used_pages << shift,
            // The kernel counts stacks in kB.
            "KernelStack" => self.all_nodes_stat("nr_kernel_stack"),
            _ => NODE_FIELDS
                .iter()
                .find(|field| field.0 == name)
                .map_or(0, |field| self.all_nodes_stat(field.1) << shift),
        }
    }

    /// Writes the report of a failed allocation: its first line and the whole Mem-Info block (Linux: warn_alloc).
    ///
    /// # Errors
    /// As [`ProcView::write_buddyinfo`].
    pub fn write_allocation_failure(
        &self,
        out: &mut dyn fmt::Write,
        comm: &str,
        request: &AllocRequest,
    ) -> fmt::Result {
        let all = self.kernel.pages().nodes();
        let failure = AllocationFailure {
            comm,
            order: request.order,
            gfp: GfpText { release: self.profile.release, bits: request.gfp.bits() },
            nodemask: (request.nodes != units::NodeMask::ALL).then_some(request.nodes),
            cpuset: "/",
            mems_allowed: request.mems_allowed.and(all),
        };
        writeln!(out, "{failure}")?;
        self.write_mem_info(out)
    }

    /// Writes the Mem-Info report (Linux: show_mem).
    ///
    /// # Errors
    /// As [`ProcView::write_buddyinfo`].
    pub fn write_mem_info(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        let page_shift = self.kernel.pages().map().geometry.page_shift;
        let source = ReportSource { view: self };
        write!(out, "{}", ShowMem { profile: self.profile, page_shift, source: &source })
    }
}
