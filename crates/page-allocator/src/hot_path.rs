//! The common paths: taking a block that lies ready on this CPU's list or in a zone with plenty, and putting one back.
//!
//! They decide nothing that the general paths (`fast_path`, `free_path`) would decide otherwise, and hand over to them whenever
//! something speaks against the short way: what a zone says is one bit of its gate. Single pages have a way of their own, in which everything
//! that follows from the order is a constant; whatever leaves it is a call at its very end, so that it saves no registers.
//! Linux 6.12: `__alloc_pages`, `rmqueue_pcplist`, `free_unref_page`.

use frame_table::OwnedBlock;
use platform::Platform;
use sync::{Cpu, OwnerCell, OwnerGuard};
use units::{Gfp, MigrateType, Order};

use crate::alloc_context::{AllocError, AllocRequest};
use crate::allocator::{PageAllocator, PcpSet};
use crate::pageblock::PageblockHint;
use crate::pcp_index::LISTS;
use crate::pcp_rules::FreeHigh;
use crate::pressure::Hooks;
use crate::zone_table::zone_bits;

/// Flags that ask for more than a block that lies ready.
const UNUSUAL: Gfp = Gfp::ZERO.union(Gfp::COMP).union(Gfp::WRITE).union(Gfp::THISNODE);

impl<P: Platform, H: Hooks> PageAllocator<P, H> {
    /// Allocates a block of `order` from the CPU's own node or the nearest that has memory.
    ///
    /// Part of its caller, where flags and order are mostly constants: what follows from them then costs nothing.
    ///
    /// # Errors
    /// [`AllocError`]; with `Gfp::NOFAIL` only if nothing on this machine could ever free memory.
    #[inline(always)]
    pub fn alloc(&self, cpu: &Cpu, gfp: Gfp, order: Order) -> Result<OwnedBlock, AllocError> {
        if !gfp.intersects(UNUSUAL) {
            let (zone_bits, migratetype) = (zone_bits(gfp), gfp.migrate_type());
            let ready = if order == Order::ZERO {
                self.take_page(cpu, zone_bits, migratetype)
            } else {
                self.take_block(cpu, zone_bits, migratetype, order)
            };
            if let Some(block) = ready {
                return Ok(block);
            }
        }
        self.alloc_other(cpu, gfp, order)
    }

    /// Takes a page that lies ready on this CPU's list, if nothing at all speaks against it; else does nothing.
    #[inline(never)]
    fn take_page(&self, cpu: &Cpu, zone_bits: usize, migratetype: MigrateType) -> Option<OwnedBlock> {
        let place = self.cpu_place(cpu.id())?;
        let number = place.first_zone(zone_bits);
        if !self.gates.of(number).lets_take(Order::ZERO) {
            return None;
        }
        let mut set = place.set_of_zone(number)?.enter(cpu)?;
        let PcpSet(pcp) = &mut *set;
        pcp.take_page(&self.map.frames, migratetype)
    }

    /// As `take_page`, for several pages; from the zone's list if no CPU keeps the order.
    #[inline(never)]
    fn take_block(&self, cpu: &Cpu, zone_bits: usize, migratetype: MigrateType, order: Order) -> Option<OwnedBlock> {
        let place = self.cpu_place(cpu.id())?;
        let number = place.first_zone(zone_bits);
        if !self.gates.of(number).lets_take(order) {
            return None;
        }
        let list = self.pcp_index.raw(order.raw(), migratetype as u32);
        if list >= LISTS {
            return self.take_unlisted(cpu, number, migratetype, order);
        }
        let mut set = place.set_of_zone(number)?.enter(cpu)?;
        let PcpSet(pcp) = &mut *set;
        pcp.take(&self.map.frames, list, order)
    }

    /// Takes a block of an order that is not kept per CPU from a zone whose gate is open, if its own type has one.
    #[inline(never)]
    fn take_unlisted(&self, cpu: &Cpu, number: u16, migratetype: MigrateType, order: Order) -> Option<OwnedBlock> {
        let zone = self.zone_number(number)?;
        // The use of CMA memory is to be balanced.
        if migratetype == MigrateType::Movable && zone.free_cma() > 0 {
            return None;
        }
        let mut locked = self.lock(zone, cpu);
        let block = locked.take_smallest(order, migratetype)?;
        locked.count_hit(order, zone.node() == self.node_of_cpu(cpu.id()));
        drop(locked);
        Some(block.into_owned(&self.map.frames))
    }

    /// Allocates what does not lie ready, or needs more than that: of this, pages to be zeroed are the common ones.
    #[inline(never)]
    fn alloc_other(&self, cpu: &Cpu, gfp: Gfp, order: Order) -> Result<OwnedBlock, AllocError> {
        if order == Order::ZERO
            && gfp & UNUSUAL == Gfp::ZERO
            && let Some(mut page) = self.take_page(cpu, zone_bits(gfp), gfp.migrate_type())
        {
            self.zero(&mut page);
            return Ok(page);
        }
        self.alloc_request(cpu, &AllocRequest::new(gfp, order))
    }

    /// Frees a block.
    #[inline]
    pub fn free(&self, cpu: &Cpu, block: OwnedBlock) {
        if !block.is_plain_page() {
            return self.free_block(cpu, block);
        }
        let Some((hint, cell)) = self.open_set(cpu, &block) else { return self.free_general(cpu, block) };
        let Some(mut set) = cell.enter(cpu) else { return self.free_general(cpu, block) };
        let PcpSet(pcp) = &mut *set;
        if let Some(refused) = pcp.put_page(hint.list_of_pages(), block) {
            return self.settle_and_free(set, hint, refused);
        }
        if pcp.counters.note_page_free() {
            self.give_pages_back(set, hint);
        }
    }

    /// Returns the CPU's set that a block goes to, if its zone's gate is open, with what is known of its pageblock.
    #[inline(always)]
    pub(crate) fn open_set(&self, cpu: &Cpu, block: &OwnedBlock) -> Option<(PageblockHint, &OwnerCell<PcpSet>)> {
        let hint = self.map.pageblocks.hint(block.pfn())?;
        if !self.gates.of(hint.zone()).lets_free() {
            return None;
        }
        Some((hint, self.cpu_place(cpu.id())?.set_of_zone(hint.zone())?))
    }

    /// As `give_back`, after a free of a page. Takes little, so that the short way need not keep it.
    #[cold]
    #[inline(never)]
    pub(crate) fn give_pages_back(&self, set: OwnerGuard<'_, PcpSet>, hint: PageblockHint) {
        self.give_back(set, hint, FreeHigh::No, hint.list_of_pages());
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
    fn free_block(&self, cpu: &Cpu, block: OwnedBlock) {
        if block.is_compound() {
            return self.free_compound(cpu, block);
        }
        let Some((hint, cell)) = self.open_set(cpu, &block) else { return self.free_general(cpu, block) };
        let list = self.pcp_index.raw(block.order_bits(), hint.raw_type());
        if list >= LISTS {
            return self.free_unlisted(cpu, hint, block);
        }
        let Some(mut set) = cell.enter(cpu) else { return self.free_general(cpu, block) };
        let PcpSet(pcp) = &mut *set;
        let order = block.order();
        if let Some(refused) = pcp.put(list, block) {
            return self.settle_and_free(set, hint, refused);
        }
        let free_high = pcp.counters.note_high_order_free(order);
        if pcp.counters.is_over(free_high) {
            self.give_back(set, hint, free_high, list);
        }
    }

    /// Puts a block on this CPU's list whose magazine is full, or that was not found at once.
    #[inline(never)]
    fn settle_and_free(&self, mut set: OwnerGuard<'_, PcpSet>, hint: PageblockHint, block: OwnedBlock) {
        let (cpu, order) = (set.cpu(), block.order());
        let list = self.pcp_index.raw(block.order_bits(), hint.raw_type());
        let PcpSet(pcp) = &mut *set;
        pcp.settle(&self.map.frames, list);
        if let Some(refused) = pcp.put(list, block) {
            drop(set);
            return self.free_general(cpu, refused);
        }
        let free_high = pcp.note_free(order);
        if pcp.counters.is_over(free_high) {
            self.give_back(set, hint, free_high, list);
        }
    }

    /// Makes plain pages of a compound page and frees them as one block.
    #[inline(never)]
    fn free_compound(&self, cpu: &Cpu, block: OwnedBlock) {
        self.free(cpu, block.into_plain(&self.map.frames));
    }

    /// Puts a block on its zone's list.
    #[inline(never)]
    fn free_unlisted(&self, cpu: &Cpu, hint: PageblockHint, block: OwnedBlock) {
        match self.zone_number(hint.zone()) {
            Some(zone) => self.free_to_buddy(cpu, zone, block.into_free(&self.map.frames)),
            None => self.free_general(cpu, block),
        }
    }
}
