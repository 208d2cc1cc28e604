//! Freeing: to the CPU's own list, or straight to the buddy lists.
//!
//! Linux 6.12: `free_unref_page`, `free_unref_folios`, `free_one_page`, `__free_pages_ok`, `__free_pages`.

use frame_table::{BadFree, CountedBlock, FreeBlock, OwnedBlock};
use platform::Platform;
use sync::Cpu;
use units::{MigrateType, Order, Pfn, PfnRange};

use crate::alloc_flags::AllocFlags;
use crate::allocator::{PageAllocator, PcpSet, pressure_on};
use crate::buddy::Placement;
use crate::pcp::PcpLists;
use crate::pcp_rules::FreeHigh;
use crate::pressure::Hooks;
use crate::zone::{Watermark, Zone, ZoneFlags};

impl<P: Platform, H: Hooks> PageAllocator<P, H> {
    /// Frees a block whatever speaks against the short way: checks are on, it has no per-CPU list, or the set is busy.
    #[cold]
    #[inline(never)]
    pub(crate) fn free_general(&self, cpu: &Cpu, block: OwnedBlock) {
        let block = if self.instrumented {
            let Some(block) = self.check_freed_block(block) else { return };
            block
        } else {
            block
        };
        let Some(zone) = self.zone_of(block.pfn()) else {
            debug_assert!(false, "an owned block lies in a zone");
            return;
        };
        let list = self.pcp_index.get(block.order(), self.map.pageblocks.get(block.pfn()));
        let block = block.into_free(&self.map.frames);
        let mut block = Some(block);
        if let Some((list, cell)) = list.zip(self.pcp(zone, cpu.id())) {
            cell.try_with(cpu, |PcpSet(pcp)| {
                let Some(block) = block.take() else { return };
                let order = block.order();
                pcp.push(&self.map.frames, list, block);
                let free_high = pcp.note_free(order);
                self.free_surplus(cpu, zone, pcp, free_high, list);
            });
        }
        // It has no list, or an interrupt or a remote CPU is inside the set.
        if let Some(block) = block {
            self.free_to_buddy(cpu, zone, block);
        }
    }

    /// Gives back to the zone what the set holds too much, starting with list `first`.
    #[cold]
    #[inline(never)]
    pub(crate) fn free_surplus(&self, cpu: &Cpu, zone: &Zone, pcp: &mut PcpLists, free_high: FreeHigh, first: usize) {
        let nr_pages = pcp.counters.surplus(free_high, pressure_on(zone));
        if nr_pages == 0 {
            return;
        }
        pcp.drain(&mut self.lock(zone, cpu), nr_pages, first);
        let high = zone.watermark(Watermark::High);
        if zone.flags().contains(ZoneFlags::BELOW_HIGH)
            && zone.watermark_ok(Order::ZERO, high, units::ZoneType::Movable, AllocFlags::empty())
        {
            self.clear_zone_flags(zone, ZoneFlags::BELOW_HIGH);
        }
    }

    /// Puts a block on the zone's lists. The pageblock's type is read again under the lock: isolation may have changed it.
    #[inline(never)]
    pub(crate) fn free_to_buddy(&self, cpu: &Cpu, zone: &Zone, block: FreeBlock) {
        let mut locked = self.lock(zone, cpu);
        locked.events().freed += block.order().nr_pages();
        let migratetype = self.map.pageblocks.get(block.pfn());
        let range = PfnRange::with_len(block.pfn(), block.order().nr_pages());
        if block.order() <= self.map.geometry.pageblock_order || self.map.pageblocks.are_all(range, migratetype) {
            locked.free_block(block, migratetype, Placement::ByLikelyMerge);
        } else {
            self.free_split_by_pageblock(&mut locked, block, migratetype);
        }
    }

    /// Frees a block that may span pageblocks of different types, each part to its own type's list.
    fn free_split_by_pageblock(
        &self,
        locked: &mut crate::buddy::LockedZone<'_>,
        block: FreeBlock,
        migratetype: MigrateType,
    ) {
        if block.order() <= self.map.geometry.pageblock_order {
            return locked.free_block(block, migratetype, Placement::ByLikelyMerge);
        }
        let (lower, upper) = block.split();
        self.free_split_by_pageblock(locked, lower, migratetype);
        if let Some(upper) = upper {
            let migratetype = self.map.pageblocks.get(upper.pfn());
            self.free_split_by_pageblock(locked, upper, migratetype);
        }
    }

    /// Frees a block that the caller knows by number, from [`OwnedBlock::into_raw`].
    ///
    /// # Errors
    /// [`BadFree`] for a double free, another order than allocated, or a frame that was never handed out; nothing changes then.
    #[inline]
    pub fn free_raw(&self, cpu: &Cpu, pfn: Pfn, order: Order) -> Result<(), BadFree> {
        let adopted = self.map.frames.adopt_raw(pfn, order);
        let block = if adopted.is_ok() { adopted } else { self.adopt_settled(cpu, pfn, order) }?;
        self.free(cpu, block);
        Ok(())
    }

    /// Tries again after this CPU's lists were settled: what was freed just now looks owned before, and the error is to say what it is.
    #[cold]
    fn adopt_settled(&self, cpu: &Cpu, pfn: Pfn, order: Order) -> Result<OwnedBlock, BadFree> {
        for zone in self.zones() {
            let cell = self.pcp(zone, cpu.id());
            cell.and_then(|cell| cell.try_with(cpu, |PcpSet(pcp)| pcp.settle_all(&self.map.frames)));
        }
        self.map.frames.adopt_raw(pfn, order)
    }

    /// Frees a counted block by the rule of Linux's __free_pages; see [`CountedBlock::free`].
    pub fn free_counted(&self, cpu: &Cpu, block: CountedBlock) {
        block.free(&self.map.frames, |part| self.free(cpu, part));
    }

    /// Gives a reference back and frees what it was the last one to hold (Linux: put_page).
    pub fn put(&self, cpu: &Cpu, reference: frame_table::PageRef) {
        if let frame_table::Put::Last(block) = reference.put(&self.map.frames) {
            self.free(cpu, block);
        }
    }
}
