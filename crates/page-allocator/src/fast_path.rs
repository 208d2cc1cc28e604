//! Allocation without reclaim: the walk over the zonelist, the per-CPU list, the buddy lists.
//!
//! Linux 6.12: `__alloc_pages`, `get_page_from_freelist`, `rmqueue`, `rmqueue_pcplist`, `rmqueue_buddy`, `zone_statistics`.

use frame_table::{FreeBlock, OwnedBlock};
use platform::Platform;
use sync::Cpu;
use units::{Gfp, MigrateType, NodeId, Order};

use crate::alloc_context::{AllocContext, AllocError, AllocRequest};
use crate::alloc_flags::AllocFlags;
use crate::allocator::{ListScope, PageAllocator, PcpSet, pressure_on};
use crate::fallback::Found;
use crate::pcp::PcpLists;
use crate::pressure::{Hooks, NodeReclaim};
use crate::zone::{Watermark, Zone, ZoneEvents, ZoneFlags};

impl<P: Platform, H: Hooks> PageAllocator<P, H> {
    /// Allocates a block of `order`, starting from `node` (Linux: alloc_pages_node).
    ///
    /// # Errors
    /// As [`PageAllocator::alloc`].
    pub fn alloc_on_node(&self, cpu: &Cpu, gfp: Gfp, order: Order, node: NodeId) -> Result<OwnedBlock, AllocError> {
        self.alloc_request(cpu, &AllocRequest::new(gfp, order).on_node(node))
    }

    /// Allocates what `request` asks for. The block is zeroed with `Gfp::ZERO` and compound with `Gfp::COMP`.
    ///
    /// # Errors
    /// As [`PageAllocator::alloc`].
    #[inline]
    pub fn alloc_request(&self, cpu: &Cpu, request: &AllocRequest) -> Result<OwnedBlock, AllocError> {
        let context = self.prepare(cpu, request)?;
        let Some(preferred) = self.zone_number(context.preferred) else { return Err(AllocError::NoZone) };
        let mut flags = AllocFlags::FAST.with_cma_for(request.gfp);
        if request.gfp.contains(Gfp::KSWAPD_RECLAIM) {
            flags |= AllocFlags::KSWAPD;
        }
        if self.avoids_fragmentation(preferred) {
            flags |= AllocFlags::NOFRAGMENT;
        }
        let block = match self.take_from_zones(cpu, &context, flags) {
            Some(block) => block,
            None => self.alloc_slow(cpu, context)?,
        };
        self.prepare_block(cpu, request, block)
    }

    /// Derives from the flags where to look (Linux: prepare_alloc_pages).
    #[inline]
    pub(crate) fn prepare<'a>(&'a self, cpu: &Cpu, request: &'a AllocRequest) -> Result<AllocContext<'a>, AllocError> {
        let gfp = request.gfp;
        if request.order > self.map.geometry.max_order {
            return Err(AllocError::TooLarge(self.map.geometry.max_order));
        }
        if self.debug.faults.should_fail(gfp) {
            return Err(AllocError::OutOfMemory);
        }
        let node = request.node.unwrap_or_else(|| self.node_of_cpu(cpu.id()));
        let scope = if gfp.contains(Gfp::THISNODE) { ListScope::ThisNode } else { ListScope::Machine };
        let list = self.zonelist(node, scope);
        let highest = self.zone_table.highest_zone(gfp);
        let preferred = list.walk(highest, request.nodes).next().ok_or(AllocError::NoZone)?.zone;
        let migratetype = if self.groups_by_mobility() { gfp.migrate_type() } else { MigrateType::Unmovable };
        Ok(AllocContext {
            request,
            list,
            highest,
            migratetype,
            nodes: request.nodes,
            spread_dirty: gfp.contains(Gfp::WRITE),
            preferred,
        })
    }

    /// Takes a block from the first zone that may give one (Linux: get_page_from_freelist).
    ///
    /// With `NOFRAGMENT`, a second round without it follows before a remote node is used, and when all zones failed: locality is
    /// worth more than keeping types apart.
    #[inline]
    pub(crate) fn take_from_zones(
        &self,
        cpu: &Cpu,
        context: &AllocContext<'_>,
        flags: AllocFlags,
    ) -> Option<FreeBlock> {
        let preferred = self.zone_number(context.preferred)?;
        for entry in context.list.walk(context.highest, context.nodes) {
            let zone = self.zone_number(entry.zone)?;
            if flags.contains(AllocFlags::NOFRAGMENT) && zone.node() != preferred.node() {
                break;
            }
            if let Some(block) = self.try_zone(cpu, context, zone, preferred, flags) {
                return Some(block);
            }
        }
        if !flags.contains(AllocFlags::NOFRAGMENT) {
            return None;
        }
        self.take_from_zones_mixing(cpu, context, flags - AllocFlags::NOFRAGMENT)
    }

    #[cold]
    fn take_from_zones_mixing(&self, cpu: &Cpu, context: &AllocContext<'_>, flags: AllocFlags) -> Option<FreeBlock> {
        let preferred = self.zone_number(context.preferred)?;
        context
            .list
            .walk(context.highest, context.nodes)
            .find_map(|entry| self.try_zone(cpu, context, self.zone_number(entry.zone)?, preferred, flags))
    }

    #[inline]
    fn try_zone(
        &self,
        cpu: &Cpu,
        context: &AllocContext<'_>,
        zone: &Zone,
        preferred: &Zone,
        flags: AllocFlags,
    ) -> Option<FreeBlock> {
        let request = context.request;
        if flags.contains(AllocFlags::CPUSET) && !request.mems_allowed.contains(zone.node()) {
            return None;
        }
        if context.spread_dirty && !self.hooks.node_dirty_ok(zone.node()) {
            return None;
        }
        if !self.watermark_allows(cpu, context, zone, flags) {
            return None;
        }
        let mut taken = self.take_from_zone(cpu, context, zone, preferred, flags);
        while taken.is_none() && self.grow_deferred(cpu, zone, request.order) {
            taken = self.take_from_zone(cpu, context, zone, preferred, flags);
        }
        let block = taken?;
        if flags.contains(AllocFlags::HIGHATOMIC) {
            self.lock(zone, cpu).reserve_highatomic(block.pfn(), request.order);
        }
        Some(block)
    }

    /// Checks the zone's watermark; notes when the high mark does not hold, so that the free path shrinks the per-CPU lists.
    #[inline]
    fn watermark_allows(&self, cpu: &Cpu, context: &AllocContext<'_>, zone: &Zone, flags: AllocFlags) -> bool {
        let (order, highest) = (context.request.order, context.highest);
        if !zone.flags().contains(ZoneFlags::BELOW_HIGH) {
            if zone.watermark_fast(order, zone.watermark(Watermark::High), highest, flags) {
                return true;
            }
            self.set_zone_flags(zone, ZoneFlags::BELOW_HIGH);
        }
        zone.watermark_fast(order, zone.watermark(flags.watermark()), highest, flags)
            || self.watermark_fails(cpu, context, zone, flags)
    }

    /// The mark does not hold: may the zone be used all the same?
    #[cold]
    fn watermark_fails(&self, cpu: &Cpu, context: &AllocContext<'_>, zone: &Zone, flags: AllocFlags) -> bool {
        let (order, mark) = (context.request.order, zone.watermark(flags.watermark()));
        if self.grow_deferred(cpu, zone, order) || flags.contains(AllocFlags::NO_WATERMARKS) {
            return true;
        }
        match self.hooks.node_reclaim(zone, order) {
            NodeReclaim::Off | NodeReclaim::Failed => false,
            NodeReclaim::Some => zone.watermark_ok(order, mark, context.highest, flags),
        }
    }

    /// Takes a block from a zone whose watermark allows it (Linux: rmqueue).
    #[inline]
    fn take_from_zone(
        &self,
        cpu: &Cpu,
        context: &AllocContext<'_>,
        zone: &Zone,
        preferred: &Zone,
        flags: AllocFlags,
    ) -> Option<FreeBlock> {
        let order = context.request.order;
        let events = self.events_of(cpu, zone, preferred, order);
        let block = self
            .pcp_index
            .get(order, context.migratetype)
            .and_then(|index| self.take_from_pcp(cpu, context, zone, index, flags, &events))
            .or_else(|| self.take_from_buddy(cpu, context, zone, flags, &events));
        if block.is_some() && zone.node() != preferred.node() {
            self.count_foreign(cpu, preferred);
        }
        if flags.contains(AllocFlags::KSWAPD) && zone.flags().contains(ZoneFlags::BOOSTED) {
            self.clear_zone_flags(zone, ZoneFlags::BOOSTED);
            self.hooks.wake_kswapd(zone, Order::ZERO, zone.kind());
        }
        block
    }

    /// Returns what one allocation adds to the zone's event counts.
    #[inline]
    pub(crate) fn events_of(&self, cpu: &Cpu, zone: &Zone, preferred: &Zone, order: Order) -> ZoneEvents {
        let hit = zone.node() == preferred.node();
        let local = zone.node() == self.node_of_cpu(cpu.id());
        ZoneEvents {
            allocated: order.nr_pages(),
            numa_hit: u64::from(hit),
            numa_miss: u64::from(!hit),
            numa_local: u64::from(local),
            numa_other: u64::from(!local),
            ..ZoneEvents::default()
        }
    }

    /// Counts an allocation that wanted `preferred` but got memory of another node.
    #[cold]
    fn count_foreign(&self, cpu: &Cpu, preferred: &Zone) {
        let counted = self
            .pcp(preferred, cpu.id())
            .and_then(|cell| cell.try_with(cpu, |PcpSet(pcp)| pcp.events.numa_foreign += 1));
        if counted.is_none() {
            self.lock(preferred, cpu).events().numa_foreign += 1;
        }
    }

    #[inline]
    fn take_from_pcp(
        &self,
        cpu: &Cpu,
        context: &AllocContext<'_>,
        zone: &Zone,
        index: usize,
        flags: AllocFlags,
        events: &ZoneEvents,
    ) -> Option<FreeBlock> {
        let cell = self.pcp(zone, cpu.id())?;
        let block = cell.try_with(cpu, |PcpSet(pcp)| {
            pcp.counters.note_alloc();
            let block = self.pop_or_refill(cpu, pcp, context, zone, index, flags);
            if block.is_some() {
                pcp.events.add(events);
            }
            block
        });
        block.flatten()
    }

    /// Takes the first block of a list, refilling it if it is empty (Linux: __rmqueue_pcplist).
    #[inline]
    pub(crate) fn pop_or_refill(
        &self,
        cpu: &Cpu,
        pcp: &mut PcpLists,
        context: &AllocContext<'_>,
        zone: &Zone,
        index: usize,
        flags: AllocFlags,
    ) -> Option<FreeBlock> {
        let order = context.request.order;
        if let Some(block) = pcp.pop(&self.map.frames, index, order) {
            return Some(block);
        }
        let blocks = pcp.counters.refill_blocks(order, pressure_on(zone));
        let mut locked = self.lock(zone, cpu);
        pcp.refill(&mut locked, index, blocks, order, context.migratetype, flags, self.fallback_policy());
        drop(locked);
        pcp.pop(&self.map.frames, index, order)
    }

    #[cold]
    fn take_from_buddy(
        &self,
        cpu: &Cpu,
        context: &AllocContext<'_>,
        zone: &Zone,
        flags: AllocFlags,
        events: &ZoneEvents,
    ) -> Option<FreeBlock> {
        let order = context.request.order;
        let mut locked = self.lock(zone, cpu);
        let reserved =
            flags.contains(AllocFlags::HIGHATOMIC).then(|| locked.take_smallest(order, MigrateType::HighAtomic));
        let block = reserved
            .flatten()
            .or_else(|| locked.take(order, context.migratetype, flags, self.fallback_policy(), &mut Found::Own))
            .or_else(|| {
                // Failing here is worse than failing a later atomic allocation of a higher order.
                let last_resort = flags.intersects(AllocFlags::OOM | AllocFlags::NON_BLOCK);
                if last_resort { locked.take_smallest(order, MigrateType::HighAtomic) } else { None }
            })?;
        locked.events().add(events);
        Some(block)
    }

    /// Makes the block what the caller asked for: checked, zeroed, compound (Linux: prep_new_page).
    #[inline]
    pub(crate) fn prepare_block(
        &self,
        cpu: &Cpu,
        request: &AllocRequest,
        block: FreeBlock,
    ) -> Result<OwnedBlock, AllocError> {
        let mut block = block.into_owned(&self.map.frames);
        if self.instrumented {
            block = self.check_new_block(cpu, request, block)?;
        }
        if request.gfp.contains(Gfp::ZERO) {
            self.zero(&mut block);
        }
        if request.gfp.contains(Gfp::COMP) && block.order() > Order::ZERO {
            block.make_compound(&self.map.frames);
        }
        Ok(block)
    }
}
