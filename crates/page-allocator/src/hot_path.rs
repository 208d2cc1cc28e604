//! The common paths: taking a block that lies ready on this CPU's list or in a zone with plenty, and putting one back.
//!
//! They decide nothing that the general paths (`fast_path`, `free_path`) would decide otherwise, and hand over to them whenever
//! something speaks against the short way.
//! Linux 6.12: `__alloc_pages`, `rmqueue_pcplist`, `free_unref_page`.

use core::sync::atomic::Ordering;

use frame_table::OwnedBlock;
use platform::Platform;
use sync::Cpu;
use units::{Gfp, MigrateType, Order};

use crate::alloc_context::{AllocError, AllocRequest};
use crate::allocator::{PageAllocator, PcpSet};
use crate::pcp_index::LISTS;
use crate::pressure::Hooks;
use crate::zone::Zone;

impl<P: Platform, H: Hooks> PageAllocator<P, H> {
    /// Allocates a block of `order` from the CPU's own node or the nearest that has memory.
    ///
    /// # Errors
    /// [`AllocError`]; with `Gfp::NOFAIL` only if nothing on this machine could ever free memory.
    #[inline]
    pub fn alloc(&self, cpu: &Cpu, gfp: Gfp, order: Order) -> Result<OwnedBlock, AllocError> {
        match self.alloc_hot(cpu, gfp, order) {
            Some(block) => Ok(block),
            None => self.alloc_general(cpu, gfp, order),
        }
    }

    /// Kept apart so that its registers are not saved on the short way.
    #[cold]
    #[inline(never)]
    fn alloc_general(&self, cpu: &Cpu, gfp: Gfp, order: Order) -> Result<OwnedBlock, AllocError> {
        self.alloc_request(cpu, &AllocRequest::new(gfp, order))
    }

    /// Takes a block that lies ready on this CPU's list, if nothing at all speaks against it; else does nothing.
    #[inline(always)]
    fn alloc_hot(&self, cpu: &Cpu, gfp: Gfp, order: Order) -> Option<OwnedBlock> {
        const UNUSUAL: Gfp = Gfp::ZERO.union(Gfp::COMP).union(Gfp::WRITE).union(Gfp::THISNODE);
        if gfp.intersects(UNUSUAL) || !self.has_short_way() || self.debug.faults.is_armed() {
            return None;
        }
        let list = self.pcp_index.raw(order.raw(), gfp.migrate_type() as u32);
        let highest = self.zone_table.highest_zone(gfp);
        let zone = self.zone_number(self.cpu_place(cpu.id())?.first_zone(highest))?;
        if !zone.has_plenty(highest) || order > Order::ZERO && !zone.watermark_ok_above_high(order, highest) {
            return None;
        }
        if list >= LISTS {
            return self.alloc_unlisted(cpu, zone, gfp, order);
        }
        let mut set = self.pcp(zone, cpu.id())?.enter(cpu)?;
        let PcpSet(pcp) = &mut *set;
        pcp.take(&self.map.frames, list, order)
    }

    /// Takes a block of an order that is not kept per CPU from a zone with plenty, if its own type has one.
    #[inline(never)]
    fn alloc_unlisted(&self, cpu: &Cpu, zone: &Zone, gfp: Gfp, order: Order) -> Option<OwnedBlock> {
        let migratetype = gfp.migrate_type();
        // The use of CMA memory is to be balanced.
        if migratetype == MigrateType::Movable && zone.free_cma() > 0 {
            return None;
        }
        let mut locked = self.lock(zone, cpu);
        let block = locked.take_smallest(order, migratetype)?;
        locked.events().add(&self.events_of(cpu, zone, zone, order));
        drop(locked);
        Some(block.into_owned(&self.map.frames))
    }

    #[inline(always)]
    fn has_short_way(&self) -> bool {
        // Relaxed: set at boot.
        self.short_way.load(Ordering::Relaxed)
    }

    /// Frees a block.
    #[inline]
    pub fn free(&self, cpu: &Cpu, block: OwnedBlock) {
        if let Some(block) = self.free_hot(cpu, block) {
            self.free_general(cpu, block);
        }
    }

    /// Puts a block on this CPU's list; gives it back if something speaks against that.
    #[inline(always)]
    fn free_hot(&self, cpu: &Cpu, block: OwnedBlock) -> Option<OwnedBlock> {
        if !self.has_short_way() {
            return Some(block);
        }
        let hint = self.map.pageblocks.hint(block.pfn());
        let list = self.pcp_index.raw(block.order_bits(), hint.raw_type());
        let Some(zone) = self.zone_number(hint.zone()) else { return Some(block) };
        if list >= LISTS {
            self.free_to_buddy(cpu, zone, block.into_free(&self.map.frames));
            return None;
        }
        let Some(mut set) = self.pcp(zone, cpu.id()).and_then(|cell| cell.enter(cpu)) else { return Some(block) };
        let PcpSet(pcp) = &mut *set;
        let order = block.order();
        if let Some(refused) = pcp.put(&self.map.frames, list, block) {
            return Some(refused);
        }
        let free_high = pcp.note_free(order);
        if pcp.counters.is_over(free_high) || zone.has_flags() {
            self.free_surplus(cpu, zone, pcp, free_high, list);
        }
        None
    }
}
