//! The common paths: taking a block that lies ready on this CPU's list or in a zone with plenty, and putting one back.
//!
//! They decide nothing that the general paths (`fast_path`, `free_path`) would decide otherwise, and hand over to them whenever
//! something speaks against the short way: what a zone says is one bit of its gate. Single pages have a way of their own, in which everything
//! that follows from the order is a constant; whatever leaves it is a call at its very end, so that it saves no registers.
//! Linux 6.12: `__alloc_pages`, `rmqueue_pcplist`, `free_unref_page`.

use frame_table::{FrameTable, OwnedBlock};
use platform::Platform;
use sync::{Cpu, OwnerCell, OwnerGuard};
use units::{Gfp, MigrateType, Order};

use crate::alloc_context::{AllocError, AllocRequest};
use crate::allocator::{PageAllocator, PcpSet};
use crate::gates::Gate;
use crate::pageblock::PageblockHint;
use crate::pcp_index::LISTS;
use crate::pcp_rules::FreeHigh;
use crate::pressure::Hooks;
use crate::zone::Zone;
use crate::zone_table::zone_bits;

/// Flags that ask for more than a block that lies ready.
const UNUSUAL: Gfp = Gfp::COMP.union(Gfp::WRITE).union(Gfp::THISNODE);

impl<P: Platform, H: Hooks> PageAllocator<P, H> {
    /// Allocates a block of `order` from the CPU's own node or the nearest that has memory.
    ///
    /// Part of its caller, where flags and order are mostly constants: what follows from them then costs nothing.
    ///
    /// # Errors
    /// [`AllocError`]; with `Gfp::NOFAIL` only if nothing on this machine could ever free memory.
    #[inline(always)]
    pub fn alloc(&self, cpu: &Cpu, gfp: Gfp, order: Order) -> Result<OwnedBlock, AllocError> {
        if order == Order::ZERO
            && !gfp.intersects(UNUSUAL | Gfp::ZERO)
            && let Some(page) = self.take_page(cpu, zone_bits(gfp), gfp.migrate_type())
        {
            return Ok(page);
        }
        self.alloc_other(cpu, gfp, order)
    }

    /// Takes a page that lies ready on this CPU's list, if nothing at all speaks against it; else does nothing.
    #[inline(never)]
    fn take_page(&self, cpu: &Cpu, zone_bits: usize, migratetype: MigrateType) -> Option<OwnedBlock> {
        let place = self.cpu_place(cpu.id())?;
        let number = place.first_zone(zone_bits);
        if !self.gates.is_open(number, Gate::ALLOC) {
            return None;
        }
        let mut set = place.set_of_zone(number)?.enter(cpu)?;
        let PcpSet(pcp) = &mut *set;
        pcp.take_page(&self.map.frames, migratetype)
    }

    /// Allocates what is not a single page that lies ready, or has to be zeroed.
    #[inline(never)]
    fn alloc_other(&self, cpu: &Cpu, gfp: Gfp, order: Order) -> Result<OwnedBlock, AllocError> {
        if gfp.intersects(UNUSUAL) {
            return self.alloc_general(cpu, gfp, order);
        }
        if order == Order::ZERO || gfp.contains(Gfp::ZERO) {
            return self.alloc_ready_zeroed(cpu, gfp, order);
        }
        let Some(place) = self.cpu_place(cpu.id()) else { return self.alloc_general(cpu, gfp, order) };
        let number = place.first_zone(zone_bits(gfp));
        let zone = self.zone_number(number).filter(|zone| zone.has_plenty_of(order));
        let Some(zone) = zone else { return self.alloc_general(cpu, gfp, order) };
        let list = self.pcp_index.raw(order.raw(), gfp.migrate_type() as u32);
        if list >= LISTS {
            return self.alloc_unlisted(cpu, zone, gfp, order);
        }
        match take_block(cpu, place.set_of_zone(number), &self.map.frames, list, order) {
            Some(block) => Ok(block),
            None => self.alloc_general(cpu, gfp, order),
        }
    }

    /// Allocates a page that lies ready and zeroes it; whatever else, on the general path.
    #[inline(never)]
    fn alloc_ready_zeroed(&self, cpu: &Cpu, gfp: Gfp, order: Order) -> Result<OwnedBlock, AllocError> {
        let may_be_ready = order == Order::ZERO && gfp.contains(Gfp::ZERO);
        let page = if may_be_ready { self.take_page(cpu, zone_bits(gfp), gfp.migrate_type()) } else { None };
        let Some(mut page) = page else { return self.alloc_general(cpu, gfp, order) };
        self.zero(&mut page);
        Ok(page)
    }

    /// Kept apart so that its registers are not saved on the short way.
    #[cold]
    #[inline(never)]
    fn alloc_general(&self, cpu: &Cpu, gfp: Gfp, order: Order) -> Result<OwnedBlock, AllocError> {
        self.alloc_request(cpu, &AllocRequest::new(gfp, order))
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
        let Some((hint, cell)) = self.open_set(cpu, &block) else { return self.free_general(cpu, block) };
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

    /// Returns the CPU's set that a block goes to, if its zone's gate is open, with what is known of its pageblock.
    #[inline(always)]
    fn open_set(&self, cpu: &Cpu, block: &OwnedBlock) -> Option<(PageblockHint, &OwnerCell<PcpSet>)> {
        let hint = self.map.pageblocks.hint(block.pfn())?;
        if !self.gates.is_open(hint.zone(), Gate::FREE) {
            return None;
        }
        Some((hint, self.cpu_place(cpu.id())?.set_of_zone(hint.zone())?))
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
        let Some((hint, cell)) = self.open_set(cpu, &block) else { return self.free_general(cpu, block) };
        let list = self.pcp_index.raw(block.order_bits(), hint.raw_type());
        if list >= LISTS {
            return self.free_unlisted(cpu, hint, block);
        }
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

    /// Puts a block on its zone's list.
    #[inline(never)]
    fn free_unlisted(&self, cpu: &Cpu, hint: PageblockHint, block: OwnedBlock) {
        match self.zone_number(hint.zone()) {
            Some(zone) => self.free_to_buddy(cpu, zone, block.into_free(&self.map.frames)),
            None => self.free_general(cpu, block),
        }
    }
}

/// Takes a block that lies ready on a list of one of the CPU's sets.
#[inline(always)]
fn take_block(
    cpu: &Cpu,
    cell: Option<&OwnerCell<PcpSet>>,
    frames: &FrameTable,
    list: usize,
    order: Order,
) -> Option<OwnedBlock> {
    let mut set = cell?.enter(cpu)?;
    let PcpSet(pcp) = &mut *set;
    pcp.take(frames, list, order)
}
