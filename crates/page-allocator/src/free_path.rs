//! Freeing: to the CPU's own list, or straight to the buddy lists.
//!
//! Linux 6.12: `free_unref_page`, `free_unref_folios`, `free_one_page`, `__free_pages_ok`, `__free_pages`.

use frame_table::{BadFree, CountedBlock, FreeBlock, OwnedBlock};
use platform::Platform;
use sync::Cpu;
use units::{MigrateType, Order, Pfn};

use crate::alloc_flags::AllocFlags;
use crate::allocator::{PageAllocator, PcpSet, pressure_on};
use crate::buddy::Placement;
use crate::pcp::{PcpLists, list_index};
use crate::pressure::Hooks;
use crate::zone::{Watermark, Zone, ZoneFlags};

impl<P: Platform, H: Hooks> PageAllocator<P, H> {
    /// Frees a block.
    #[inline]
    pub fn free(&self, cpu: &Cpu, block: OwnedBlock) {
        let block = if self.instrumented {
            let Some(block) = self.check_freed_block(block) else { return };
            block
        } else {
            block
        };
        let pfn = block.pfn();
        let Some((zone, pcp_type)) = self.zone_and_pcp_type(pfn) else {
            debug_assert!(false, "an owned block lies in a zone");
            return;
        };
        self.free_in_zone(cpu, zone, pcp_type, block.into_free(&self.map.frames));
    }

    /// Finds where a frame goes to, in the table of pageblocks or else in the frame's descriptor.
    #[inline(always)]
    fn zone_and_pcp_type(&self, pfn: Pfn) -> Option<(&Zone, Option<MigrateType>)> {
        match self.map.pageblocks.zone_and_pcp_type(pfn) {
            Some((number, pcp_type)) => Some((self.zone_number(number)?, pcp_type)),
            None => Some((self.zone_of(pfn)?, self.map.pageblocks.get(pfn).pcp_type())),
        }
    }

    #[inline]
    fn free_in_zone(&self, cpu: &Cpu, zone: &Zone, pcp_type: Option<MigrateType>, block: FreeBlock) {
        let target = pcp_type
            .and_then(|pcp_type| list_index(&self.map.geometry, block.order(), pcp_type))
            .and_then(|index| Some((index, self.pcp(zone, cpu.id())?)));
        let Some((index, cell)) = target else { return self.free_to_buddy(cpu, zone, block) };
        let mut block = Some(block);
        cell.try_with(cpu, |PcpSet(pcp)| {
            if let Some(block) = block.take() {
                self.free_to_pcp(cpu, zone, pcp, index, block);
            }
        });
        // The set was busy: an interrupt inside it, or a remote CPU drains it.
        if let Some(block) = block {
            self.free_to_buddy(cpu, zone, block);
        }
    }

    #[inline]
    fn free_to_pcp(&self, cpu: &Cpu, zone: &Zone, pcp: &mut PcpLists, index: usize, block: FreeBlock) {
        let order = block.order();
        pcp.events.freed += order.nr_pages();
        pcp.push(&self.map.frames, index, block);
        let surplus = pcp.counters.note_free(order, pressure_on(zone));
        if surplus > 0 {
            self.drain_surplus(cpu, zone, pcp, surplus, index);
        }
    }

    #[cold]
    fn drain_surplus(&self, cpu: &Cpu, zone: &Zone, pcp: &mut PcpLists, nr_pages: u32, first: usize) {
        pcp.drain(&mut self.lock(zone, cpu), nr_pages, first);
        let high = zone.watermark(Watermark::High);
        if zone.flags().contains(ZoneFlags::BELOW_HIGH)
            && zone.watermark_ok(Order::ZERO, high, units::ZoneType::Movable, AllocFlags::empty())
        {
            zone.clear_flags(ZoneFlags::BELOW_HIGH);
        }
    }

    /// Puts a block on the zone's lists. The pageblock's type is read again under the lock: isolation may have changed it.
    #[cold]
    fn free_to_buddy(&self, cpu: &Cpu, zone: &Zone, block: FreeBlock) {
        block.clear_flags(&self.map.frames);
        let mut locked = self.lock(zone, cpu);
        locked.events().freed += block.order().nr_pages();
        let migratetype = self.map.pageblocks.get(block.pfn());
        self.free_split_by_pageblock(&mut locked, block, migratetype);
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
        self.free(cpu, self.map.frames.adopt_raw(pfn, order)?);
        Ok(())
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

    /// Frees many blocks (Linux: free_unref_folios, release_pages).
    pub fn free_bulk(&self, cpu: &Cpu, blocks: impl IntoIterator<Item = OwnedBlock>) {
        for block in blocks {
            self.free(cpu, block);
        }
    }
}
