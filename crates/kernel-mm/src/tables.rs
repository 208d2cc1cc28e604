//! The tables of the page allocator, cut from boot memory.

use core::fmt::Write as _;
use core::sync::atomic::{AtomicU32, AtomicU64};

use boot_memory::memblock::Memblock;
use collections::BootSlice;
use frame_table::{BootArena, FrameTable, MemoryModel, SectionMap};
use page_allocator::layout::{
    MemoryRange, MovableStarts, NodeLayout, NodeOrders, NodeZonelists, Topology, ZoneRef, ZonelistWriter, boot_log,
    first_deferred, for_each_unavailable, memblock_ranges, nodes_with_memory,
};
use page_allocator::{CpuPlace, DebugOptions, Deferred, FrameMap, OwnerTable, PageblockTypes, Parts, Zone};
use platform::PhysMemory;
use sync::Cpu;
use units::{MAX_NODES, NodeId, NodeMask, PfnRange};

use crate::config::BootConfig;
use crate::error::BootError;
use crate::line_log::LineLog;
use crate::memmap::{self, Memmap};
use crate::percpu::PageSets;

/// Builds frame table, zones, per-CPU sets and lists.
pub(crate) struct TableBuilder<'a, 'b, M: PhysMemory> {
    pub(crate) arena: &'a mut BootArena<'b>,
    pub(crate) machine: &'a M,
    pub(crate) config: &'a BootConfig<'a>,
    pub(crate) cpu: &'a Cpu,
}

impl<M: PhysMemory> TableBuilder<'_, '_, M> {
    pub(crate) fn table<T>(
        &mut self,
        caller: &str,
        len: usize,
        init: impl FnMut(usize) -> T,
    ) -> Result<BootSlice<T>, BootError> {
        Ok(self.arena.table(self.machine, caller, len, None, init)?)
    }

    /// Returns the memory to lay zones over.
    pub(crate) fn described(&self) -> &Memblock {
        self.config.described.unwrap_or(self.arena.memblock())
    }

    /// Copies the memory ranges out of memblock, which changes while tables are cut from it.
    pub(crate) fn memory_ranges(&mut self) -> Result<BootSlice<MemoryRange>, BootError> {
        let shift = self.config.geometry.page_shift;
        let len = memblock_ranges(self.described(), shift).count();
        if len == 0 {
            return Err(BootError::NoMemory);
        }
        let unused = MemoryRange::plain(PfnRange::default(), NodeId::ZERO);
        let mut copy = self.table("free_area_init", len, |_| unused)?;
        for (slot, range) in copy.iter_mut().zip(memblock_ranges(self.described(), shift)) {
            *slot = range;
        }
        Ok(copy)
    }

    /// Lays the zones out and logs them.
    pub(crate) fn node_layouts(&mut self, memory: &[MemoryRange]) -> Result<BootSlice<NodeLayout>, BootError> {
        let (limits, shift) = (&self.config.limits, self.config.geometry.page_shift);
        let ranges = memory.iter().copied();
        let movable = MovableStarts::compute(ranges.clone(), limits, self.config.movable, self.config.geometry);
        let warning = MovableStarts::mirror_warning(ranges.clone(), self.config.movable, shift);
        let log = &mut LineLog::new(self.arena.log());
        if let Some(warning) = warning {
            let _logged = writeln!(log, "{warning}");
        }
        let _logged = boot_log::write_zone_ranges(log, limits, shift);
        let _logged = boot_log::write_movable_starts(log, &movable, shift);
        let _logged = boot_log::write_memory_ranges(log, ranges.clone(), shift);
        let nodes =
            self.config.cpu_nodes.iter().fold(nodes_with_memory(ranges.clone()), |nodes, &node| nodes.with(node));
        let mut found = nodes.iter();
        let layouts = self.table("free_area_init", nodes.len() as usize, |_| {
            let node = found.next().unwrap_or_default();
            NodeLayout::compute(node, ranges.clone(), limits, &movable)
        })?;
        let model = self.config.memory_model;
        let log = &mut LineLog::new(self.arena.log());
        for layout in layouts.iter() {
            let state = if layout.span.is_empty() { self.config.arch.memoryless } else { boot_log::NodeState::Online };
            let _logged = boot_log::write_node_setup(log, layout, state, self.config.release, shift);
        }
        for_each_unavailable(ranges, &layouts, model, |found| {
            let _logged = boot_log::write_unavailable(log, found);
        });
        Ok(layouts)
    }

    /// Builds descriptors and pageblock types.
    fn frame_map(&mut self, memory: &[MemoryRange]) -> Result<FrameMap, BootError> {
        let (model, order) = (self.config.memory_model, self.config.geometry.pageblock_order);
        let ranges = memory.iter().copied();
        let span = memmap::table_span(ranges.clone(), model);
        let valid = self.table("sparse_init", SectionMap::words(model, span), |_| AtomicU64::new(0))?;
        let sections = SectionMap::new(model, span, valid);
        ranges.for_each(|range| sections.mark_valid(range.frames));
        let frames = FrameTable::new(self.machine, span, sections)?;
        let memmap = Memmap { model, span, deferral: self.config.deferral };
        memmap::populate(self.arena, self.machine, memory.iter().copied(), memmap)?;
        let types = self.table("setup_usemap", PageblockTypes::entries(span, order), |_| AtomicU32::new(0))?;
        let pageblocks = PageblockTypes::new(types, span, order);
        Ok(FrameMap { frames, pageblocks, geometry: self.config.geometry })
    }

    /// Builds everything that the allocator is made of.
    pub(crate) fn parts(
        &mut self,
        memory: &[MemoryRange],
        nodes: &[NodeLayout],
        pcps: PageSets,
    ) -> Result<Parts, BootError> {
        let config = self.config;
        let nr_cpus = config.cpu_nodes.len();
        let map = self.frame_map(memory)?;
        let nr_zones = nr_zones(nodes);
        let mut layouts =
            nodes.iter().flat_map(|node| node.populated().map(move |(kind, zone)| (node.node, kind, *zone)));
        let zones = self.table("free_area_init_core", nr_zones, |number| {
            let (node, kind, zone) =
                layouts.next().unwrap_or((NodeId::ZERO, units::ZoneType::Normal, Default::default()));
            Zone::new(node, kind, zone.span, zone.present, number)
        })?;
        let cpus = self.table("setup_per_cpu_areas", nr_cpus, |id| CpuPlace::on(config.cpu_nodes[id]))?;
        let (zonelists, node_lists) = self.zonelists(nodes, &zones)?;
        let owners = if config.page_owner { map.frames.span().nr_pages() as usize } else { 0 };
        let owners = self.table("page_ext_init", owners, |_| AtomicU64::new(0))?;
        let debug = DebugOptions::with_checks(config.checks).with_owners(OwnerTable::new(owners));
        let configured = config.limits.configured();
        Ok(Parts { map, zones, zonelists, node_lists, pcps, cpus, configured, deferred: None, debug })
    }

    /// Builds the zonelists and logs the fallback orders.
    fn zonelists(
        &mut self,
        nodes: &[NodeLayout],
        zones: &[Zone],
    ) -> Result<(BootSlice<ZoneRef>, BootSlice<NodeZonelists>), BootError> {
        let config = self.config;
        let has_memory = nodes.iter().filter(|node| !node.span.is_empty());
        let with_memory = has_memory.fold(NodeMask::EMPTY, |mask, node| mask.with(node.node));
        let with_lists = all_nodes(nodes);
        let len = NodeZonelists::table_len(with_lists.len() as usize, zones.len());
        let mut table = self.table("build_all_zonelists", len, |_| ZoneRef::UNUSED)?;
        let mut lists = self.table("build_all_zonelists", MAX_NODES, |_| NodeZonelists::default())?;
        let topology =
            Topology { distance: config.distance, with_memory, with_cpus: NodeMask::EMPTY, release: config.release };
        let mut orders = NodeOrders::new(topology);
        let mut writer = ZonelistWriter::new(&mut table);
        for local in with_lists.iter() {
            let order = orders.next(local);
            let _logged = boot_log::write_fallback_order(&mut LineLog::new(self.arena.log()), local, order.as_slice());
            let written = writer.write(local, order.as_slice(), config.limits.configured(), |node, kind| {
                let found = zones.iter().position(|zone| zone.node() == node && zone.kind() == kind)?;
                u16::try_from(found).ok()
            });
            lists[local.index()] = written.ok_or(BootError::TooManyZones(zones.len()))?;
        }
        Ok((table, lists))
    }

    /// Finds the first frame of each zone that is initialised only when it is needed; `u64::MAX` where none is.
    pub(crate) fn deferred_marks(
        &mut self,
        memory: &[MemoryRange],
        nodes: &[NodeLayout],
        zones: &[Zone],
    ) -> Result<BootSlice<AtomicU64>, BootError> {
        let model = self.config.memory_model;
        let section_pages = model.section_pages();
        self.table("deferred_init_memmap", zones.len(), |number| {
            let zone = &zones[number];
            // Only whole sections can be left for later, and the flat model has none.
            let layout = nodes.iter().find(|layout| model != MemoryModel::Flat && layout.node == zone.node());
            let first = layout.and_then(|layout| first_deferred(layout, memory.iter().copied(), section_pages));
            AtomicU64::new(first.filter(|&pfn| zone.span().contains(pfn)).map_or(u64::MAX, units::Pfn::raw))
        })
    }

    /// Notes what is left to initialise when it is needed. The last table that is cut from memblock, since it lists what is free.
    pub(crate) fn deferred(
        &mut self,
        memory: &[MemoryRange],
        marks: BootSlice<AtomicU64>,
    ) -> Result<Deferred, BootError> {
        // Cutting this list from free memory splits one range at most.
        let len = free_by_node(self.described(), memory).count() + 2;
        let behind = units::Pfn::new(u64::MAX);
        // Unused entries sort behind every frame, so that the list stays ascending.
        let unused = MemoryRange::plain(PfnRange::new(behind, behind), NodeId::ZERO);
        let mut ranges = self.table("deferred_init_memmap", len, |_| unused)?;
        for (slot, range) in ranges.iter_mut().zip(free_by_node(self.described(), memory)) {
            *slot = range;
        }
        Ok(Deferred::new(marks, ranges, self.config.memory_model.section_pages()))
    }
}

/// Returns every node; a node of CPUs without memory has zonelists too.
pub(crate) fn all_nodes(nodes: &[NodeLayout]) -> NodeMask {
    nodes.iter().fold(NodeMask::EMPTY, |mask, node| mask.with(node.node))
}

/// Counts the zones that have memory.
pub(crate) fn nr_zones(nodes: &[NodeLayout]) -> usize {
    nodes.iter().map(|node| node.populated().count()).sum()
}

/// Iterates over the whole free frames of a memblock, each range on one node, ascending.
fn free_by_node<'a>(
    memblock: &'a Memblock,
    memory: &'a [MemoryRange],
) -> impl Iterator<Item = MemoryRange> + Clone + 'a {
    let parts = memory.iter().flat_map(|range| {
        free_ranges(memblock).map(|free| MemoryRange { frames: free.intersection(range.frames), ..*range })
    });
    parts.filter(|part| !part.frames.is_empty())
}

/// Iterates over the whole free frames of a memblock.
pub(crate) fn free_ranges(memblock: &Memblock) -> impl Iterator<Item = PfnRange> + Clone + '_ {
    memblock.free_ranges(units::Pfn::new(u64::MAX))
}
