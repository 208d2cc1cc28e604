//! Where the counters lie: shared ones in pages of their own, differences and events in per-CPU memory.

use core::ptr::NonNull;
use core::sync::atomic::{AtomicI8, AtomicI64, AtomicU8};

use collections::BootSlice;
use page_allocator::{Hooks, PageAllocator};
use platform::Platform;
use sync::Cpu;
use units::{CpuId, Gfp, NodeId, Order, ZoneType};

use super::EventCount;
use super::items::{NodeItem, VmEvent, ZoneItem};
use crate::error::ObjectError;
use crate::percpu::{AreaLayout, PercpuArea};

/// The counters of a machine.
///
/// # Invariants
/// The area has, for each CPU, [`VmEvent::COUNT`] events, then the differences of every node, then those of every zone; zeros are valid values
/// of all. It is never freed. The slices lie in the pages that the tables themselves lie in.
pub(super) struct Tables {
    nodes: BootSlice<NodeTable>,
    zones: BootSlice<ZoneTable>,
    area: PercpuArea,
}

/// Shared counters of a node.
pub(super) struct NodeTable {
    items: [AtomicI64; NodeItem::COUNT],
    threshold: AtomicU8,
}

/// Shared counters of a zone.
pub(super) struct ZoneTable {
    items: [AtomicI64; ZoneItem::COUNT],
    threshold: AtomicU8,
}

const EVENT_BYTES: usize = VmEvent::COUNT * size_of::<EventCount>();

impl Tables {
    /// Returns what a CPU needs for `node_slots` nodes.
    pub(super) const fn area_layout(node_slots: usize) -> AreaLayout {
        let differences = NodeItem::COUNT + ZoneType::COUNT * ZoneItem::COUNT;
        AreaLayout { size: EVENT_BYTES + node_slots * differences, align: 64 }
    }

    /// Makes the tables in pages of their own.
    ///
    /// # Errors
    /// [`ObjectError`], with the area.
    pub(super) fn create<P: Platform, H: Hooks>(
        pages: &PageAllocator<P, H>,
        cpu: &Cpu,
        node_slots: usize,
        area: PercpuArea,
    ) -> Result<NonNull<Self>, (ObjectError, PercpuArea)> {
        debug_assert!(area.size() >= Self::area_layout(node_slots).size, "the area was made for these tables");
        let zone_slots = node_slots * ZoneType::COUNT;
        let round = |bytes: usize| bytes.next_multiple_of(64);
        let nodes_at = round(size_of::<Self>());
        let zones_at = nodes_at + round(node_slots * size_of::<NodeTable>());
        let bytes = (zones_at + zone_slots * size_of::<ZoneTable>()) as u64;
        let Some(order) = Order::covering(bytes.div_ceil(1 << pages.map().geometry.page_shift)) else {
            return Err((ObjectError::Impossible, area));
        };
        let block = match pages.alloc(cpu, Gfp::KERNEL, order) {
            Ok(block) => block,
            Err(error) => return Err((error.into(), area)),
        };
        let Some(start) = pages.address(&block) else {
            pages.free(cpu, block);
            return Err((ObjectError::Impossible, area));
        };
        block.into_raw(&pages.map().frames);
        // SAFETY: the offset is inside the block, whose size was computed with it.
        let nodes = unsafe { start.add(nodes_at) }.cast();
        // SAFETY: as above.
        let zones = unsafe { start.add(zones_at) }.cast();
        // SAFETY: the block is this function's alone for ever, long enough, and aligned.
        let nodes = unsafe { BootSlice::init_raw(nodes, node_slots, |_| NodeTable::new()) };
        // SAFETY: as above.
        let zones = unsafe { BootSlice::init_raw(zones, zone_slots, |_| ZoneTable::new()) };
        let place = start.cast::<Self>();
        // SAFETY: as above; the tables come first in the block.
        unsafe { place.write(Self { nodes, zones, area }) };
        Ok(place)
    }

    /// Iterates over the CPUs.
    pub(super) fn cpus(&self) -> impl Iterator<Item = CpuId> + use<> {
        self.area.cpus()
    }

    /// Iterates over the nodes that have a place here.
    pub(super) fn nodes(&self) -> impl Iterator<Item = NodeId> + use<> {
        (0..self.nodes.len() as u64).filter_map(NodeId::try_new)
    }

    /// A node that the machine lacks counts as the first.
    fn node_index(&self, node: NodeId) -> usize {
        if node.index() < self.nodes.len() { node.index() } else { 0 }
    }

    fn zone_index(&self, node: NodeId, kind: ZoneType) -> usize {
        self.node_index(node) * ZoneType::COUNT + kind.index()
    }

    pub(super) fn node_shared(&self, node: NodeId, item: NodeItem) -> &AtomicI64 {
        &self.nodes[self.node_index(node)].items[item.index()]
    }

    pub(super) fn node_threshold(&self, node: NodeId) -> &AtomicU8 {
        &self.nodes[self.node_index(node)].threshold
    }

    pub(super) fn zone_shared(&self, node: NodeId, kind: ZoneType, item: ZoneItem) -> &AtomicI64 {
        &self.zones[self.zone_index(node, kind)].items[item.index()]
    }

    pub(super) fn zone_threshold(&self, node: NodeId, kind: ZoneType) -> &AtomicU8 {
        &self.zones[self.zone_index(node, kind)].threshold
    }

    /// Returns a CPU's event count; `None` for a CPU that the machine lacks.
    pub(super) fn event(&self, cpu: CpuId, event: VmEvent) -> Option<&EventCount> {
        // SAFETY: the area is allocated for ever.
        let start = unsafe { self.area.ptr(cpu) }?.cast::<EventCount>();
        // SAFETY: by the type invariant the area starts with the events.
        let count = unsafe { start.add(event.index()) };
        // SAFETY: as above; the area is aligned to 64, zeroed when it was allocated, and changed through atomics.
        Some(unsafe { count.as_ref() })
    }

    /// Returns a CPU's difference; `None` for a CPU that the machine lacks.
    pub(super) fn node_difference(&self, cpu: CpuId, node: NodeId, item: NodeItem) -> Option<&AtomicI8> {
        self.difference(cpu, self.node_index(node) * NodeItem::COUNT + item.index())
    }

    /// Returns a CPU's difference; `None` for a CPU that the machine lacks.
    pub(super) fn zone_difference(
        &self,
        cpu: CpuId,
        node: NodeId,
        kind: ZoneType,
        item: ZoneItem,
    ) -> Option<&AtomicI8> {
        let behind_nodes = self.nodes.len() * NodeItem::COUNT;
        self.difference(cpu, behind_nodes + self.zone_index(node, kind) * ZoneItem::COUNT + item.index())
    }

    fn difference(&self, cpu: CpuId, index: usize) -> Option<&AtomicI8> {
        // SAFETY: the area is allocated for ever.
        let start = unsafe { self.area.ptr(cpu) }?.cast::<AtomicI8>();
        // SAFETY: the index is one of a node's or a zone's differences, which by the type invariant lie behind the events.
        let difference = unsafe { start.add(EVENT_BYTES + index) };
        // SAFETY: as above; zeroed when it was allocated, and changed through atomics.
        Some(unsafe { difference.as_ref() })
    }
}

impl NodeTable {
    const fn new() -> Self {
        Self { items: [const { AtomicI64::new(0) }; NodeItem::COUNT], threshold: AtomicU8::new(0) }
    }
}

impl ZoneTable {
    const fn new() -> Self {
        Self { items: [const { AtomicI64::new(0) }; ZoneItem::COUNT], threshold: AtomicU8::new(0) }
    }
}
