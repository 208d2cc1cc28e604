//! The common paths: taking a block that lies ready on this CPU's list or in a zone with plenty, and putting one back.
//!
//! They decide nothing that the general paths (`fast_path`, `free_path`) would decide otherwise, and hand over to them whenever
//! something speaks against the short way. Single pages have a way of their own, in which everything that follows from the order is a
//! constant; whatever leaves it is a call at its very end, so that it saves no registers.
//! Linux 6.12: `__alloc_pages`, `rmqueue_pcplist`, `free_unref_page`.

use frame_table::OwnedBlock;
use platform::Platform;
use sync::{Cpu, OwnerGuard};
use units::{Gfp, MigrateType, Order};

use crate::alloc_context::{AllocError, AllocRequest};
use crate::allocator::{NO_ZONE, PageAllocator, PcpSet};
use crate::pageblock::PageblockHint;
use crate::pcp_index::LISTS;
use crate::pcp_rules::FreeHigh;
use crate::pressure::Hooks;
use crate::zone::Zone;

impl<P: Platform, H: Hooks> PageAllocator<P, H> {
    /// Allocates a block of `order` from the CPU's own node or the nearest that has memory.
    ///
    /// # Errors
    /// [`AllocError`]; with `Gfp::NOFAIL` only if nothing on this machine could ever free memory.
    #[inline]
    pub fn alloc(&self, cpu: &Cpu, gfp: Gfp, order: Order) -> Result<OwnedBlock, AllocError> {
        if order == Order::ZERO
            && let Some(page) = self.take_page(cpu, gfp)
        {
            return Ok(if gfp.contains(Gfp::ZERO) { self.zeroed(page) } else { page });
        }
        self.alloc_other(cpu, gfp, order)
    }

    #[inline(never)]
    fn zeroed(&self, mut page: OwnedBlock) -> OwnedBlock {
        self.zero(&mut page);
        page
    }

    /// Allocates what is not a single page that lies ready.
    #[inline(never)]
    fn alloc_other(&self, cpu: &Cpu, gfp: Gfp, order: Order) -> Result<OwnedBlock, AllocError> {
        if order == Order::ZERO || self.is_unusual(gfp) {
            return self.alloc_general(cpu, gfp, order);
        }
        let highest = self.zone_table.highest_zone(gfp);
        let number = self.cpu_place(cpu.id()).map_or(NO_ZONE, |place| place.first_zone(highest));
        let zone = self.zone_number(number);
        let Some(zone) = zone.filter(|zone| zone.has_plenty_of(order, highest)) else {
            return self.alloc_general(cpu, gfp, order);
        };
        let list = self.pcp_index.raw(order.raw(), gfp.migrate_type() as u32);
        if list >= LISTS {
            return self.alloc_unlisted(cpu, zone, gfp, order);
        }
        match self.take_block(cpu, number, list, order) {
            Some(block) => Ok(block),
            None => self.alloc_general(cpu, gfp, order),
        }
    }

    /// Takes a block that lies ready on one of this CPU's lists for a zone with plenty.
    #[inline(always)]
    fn take_block(&self, cpu: &Cpu, number: u16, list: usize, order: Order) -> Option<OwnedBlock> {
        let mut set = self.set_of_zone(cpu, number)?.enter(cpu)?;
        let PcpSet(pcp) = &mut *set;
        pcp.take(&self.map.frames, list, order)
    }

    /// Kept apart so that its registers are not saved on the short way.
    #[cold]
    #[inline(never)]
    fn alloc_general(&self, cpu: &Cpu, gfp: Gfp, order: Order) -> Result<OwnedBlock, AllocError> {
        self.alloc_request(cpu, &AllocRequest::new(gfp, order))
    }

    /// Returns true if the flags, or a failure to inject, ask for more than a block.
    #[inline(always)]
    fn is_unusual(&self, gfp: Gfp) -> bool {
        const UNUSUAL: Gfp = Gfp::ZERO.union(Gfp::COMP).union(Gfp::WRITE).union(Gfp::THISNODE);
        gfp.intersects(UNUSUAL) || self.debug.faults.is_armed()
    }

    /// Takes a page that lies ready on this CPU's list, if nothing at all speaks against it; else does nothing.
    #[inline(always)]
    fn take_page(&self, cpu: &Cpu, gfp: Gfp) -> Option<OwnedBlock> {
        if self.is_unusual(gfp - Gfp::ZERO) {
            return None;
        }
        let highest = self.zone_table.highest_zone(gfp);
        let number = self.cpu_place(cpu.id())?.first_zone(highest);
        if !self.zone_number(number)?.has_plenty(highest) {
            return None;
        }
        let mut set = self.set_of_zone(cpu, number)?.enter(cpu)?;
        let PcpSet(pcp) = &mut *set;
        pcp.take_page(&self.map.frames, gfp.migrate_type())
    }

    /// Takes a block of an order that is not kept per CPU from a zone with plenty, if its own type has one.
    #[inline(never)]
    fn alloc_unlisted(&self, cpu: &Cpu, zone: &Zone, gfp: Gfp, order: Order) -> Result<OwnedBlock, AllocError> {
        let migratetype = gfp.migrate_type();
        // The use of CMA memory is to be balanced.
        if migratetype == MigrateType::Movable && zone.free_cma() > 0 {
            return self.alloc_general(cpu, gfp, order);
        }
        let mut locked = self.lock(zone, cpu);
        let Some(block) = locked.take_smallest(order, migratetype) else {
            drop(locked);
            return self.alloc_general(cpu, gfp, order);
        };
        locked.count_hit(order, zone.node() == self.node_of_cpu(cpu.id()));
        drop(locked);
        Ok(block.into_owned(&self.map.frames))
    }

    /// Frees a block.
    #[inline]
    pub fn free(&self, cpu: &Cpu, block: OwnedBlock) {
        if !block.is_plain_page() {
            return self.free_block_hot(cpu, block);
        }
        let Some(hint) = self.map.pageblocks.hint(block.pfn()) else { return self.free_general(cpu, block) };
        if self.zone_number(hint.zone()).is_none_or(Zone::has_flags) {
            return self.free_general(cpu, block);
        }
        let Some(cell) = self.set_of_zone(cpu, hint.zone()) else { return self.free_general(cpu, block) };
        let Some(mut set) = cell.enter(cpu) else { return self.free_general(cpu, block) };
        let PcpSet(pcp) = &mut *set;
        if let Some(refused) = pcp.put_page(&self.map.frames, hint.list_of_pages(), block) {
            drop(set);
            return self.free_general(cpu, refused);
        }
        if pcp.counters.note_page_free() {
            self.give_back(set, hint, FreeHigh::No, hint.list_of_pages());
        }
    }

    /// Gives back to the zone of a block that was just freed what the set may hold too much, and leaves the set.
    #[cold]
    #[inline(never)]
    fn give_back(&self, mut set: OwnerGuard<'_, PcpSet>, hint: PageblockHint, free_high: FreeHigh, list: usize) {
        let cpu = set.cpu();
        if let Some(zone) = self.zone_number(hint.zone()) {
            self.free_surplus(cpu, zone, &mut set.0, free_high, list);
        }
    }

    /// Puts a block of several pages on this CPU's list, or on the zone's if no CPU keeps its order.
    #[inline(never)]
    fn free_block_hot(&self, cpu: &Cpu, block: OwnedBlock) {
        let Some(hint) = self.map.pageblocks.hint(block.pfn()) else { return self.free_general(cpu, block) };
        let Some(zone) = self.zone_number(hint.zone()) else { return self.free_general(cpu, block) };
        let list = self.pcp_index.raw(block.order_bits(), hint.raw_type());
        if list >= LISTS {
            return self.free_to_buddy(cpu, zone, block.into_free(&self.map.frames));
        }
        if zone.has_flags() {
            return self.free_general(cpu, block);
        }
        let Some(cell) = self.set_of_zone(cpu, hint.zone()) else { return self.free_general(cpu, block) };
        let Some(mut set) = cell.enter(cpu) else { return self.free_general(cpu, block) };
        let PcpSet(pcp) = &mut *set;
        let order = block.order();
        if let Some(refused) = pcp.put(&self.map.frames, list, block) {
            drop(set);
            return self.free_general(cpu, refused);
        }
        let free_high = pcp.counters.note_free(order);
        if pcp.counters.is_over(free_high) {
            self.give_back(set, hint, free_high, list);
        }
    }
}
