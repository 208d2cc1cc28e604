//! Memory comes to the allocator: from memblock at boot, section by section later, or as recorded state.
//!
//! Linux 6.12: `memblock_free_all`, `__free_pages_memory`, `memblock_free_pages`, `__free_pages_core`, `deferred_grow_zone`.

use boot_memory::memblock::FreeBlocks;
use frame_table::{BadFree, FreeBlock, PageType};
use platform::Platform;
use sync::Cpu;
use units::{CpuId, MigrateType, Order, Pfn, PfnRange};

use crate::allocator::PageAllocator;
use crate::buddy::{ListEnd, Placement};
use crate::pcp_index::is_kept_per_cpu;
use crate::pressure::Hooks;
use crate::zone::Zone;

impl<P: Platform, H: Hooks> PageAllocator<P, H> {
    /// Takes over a range of boot memory: cuts it into the largest aligned blocks and frees them. Returns the pages taken.
    ///
    /// # Errors
    /// [`BadFree`] naming the first frame that is no initialised boot memory; blocks before it have been taken.
    pub fn release_boot_range(&self, cpu: &Cpu, range: PfnRange) -> Result<u64, BadFree> {
        for (pfn, order) in FreeBlocks::new(range, self.map.geometry.max_order) {
            self.release_boot_block(cpu, pfn, order)?;
        }
        Ok(range.nr_pages())
    }

    fn release_boot_block(&self, cpu: &Cpu, pfn: Pfn, order: Order) -> Result<(), BadFree> {
        let block = self.map.frames.release_boot_block(pfn, order)?;
        let Some(zone) = self.zone_of(pfn) else { return Err(BadFree { pfn, order, found: None }) };
        zone.add_managed(order.nr_pages());
        let migratetype = self.map.pageblocks.get(pfn);
        let block = self.poison_boot_block(block);
        self.lock(zone, cpu).free_block(block, migratetype, Placement::Tail);
        Ok(())
    }

    /// Marks the pageblocks of a range of fresh memory as movable (Linux: memmap_init_range).
    pub fn init_pageblocks(&self, range: PfnRange) {
        self.map.pageblocks.set_range(range, MigrateType::Movable);
    }

    /// Grows a zone out of memory whose descriptors were left for later. Returns true if it grew.
    #[cold]
    pub(crate) fn grow_deferred(&self, cpu: &Cpu, zone: &Zone, order: Order) -> bool {
        self.deferred.as_ref().is_some_and(|deferred| deferred.grow(self, cpu, zone, order))
    }

    /// Lists boot memory as one free block at the tail of a list, as it stands: no merging, no watermark. For loading a recorded
    /// state, tail after tail.
    ///
    /// # Errors
    /// [`BadFree`] if a frame of the block is no initialised boot memory.
    pub fn load_free_block(&self, cpu: &Cpu, pfn: Pfn, order: Order, migratetype: MigrateType) -> Result<(), BadFree> {
        let (block, zone) = self.load(pfn, order)?;
        let mut locked = self.lock(zone, cpu);
        locked.insert(block, migratetype, ListEnd::Tail);
        zone.account_free(migratetype, order.nr_pages() as i64);
        Ok(())
    }

    /// Puts boot memory at the tail of a per-CPU list of `of`. For loading a recorded state.
    ///
    /// # Errors
    /// [`BadFree`] if a frame is no initialised boot memory, or blocks of this order and type are not kept per CPU.
    pub fn load_pcp_block(
        &self,
        cpu: &Cpu,
        of: CpuId,
        pfn: Pfn,
        order: Order,
        migratetype: MigrateType,
    ) -> Result<(), BadFree> {
        let refused = BadFree { pfn, order, found: None };
        let index = self.pcp_index.get(order, migratetype);
        let index = index.filter(|_| is_kept_per_cpu(&self.map.geometry, order, migratetype)).ok_or(refused)?;
        let (block, zone) = self.load(pfn, order)?;
        let cell = self.pcp(zone, of).ok_or(refused)?;
        self.with_pcp(cpu, cell, |pcp| pcp.push_back(&self.map.frames, index, block)).ok_or(refused)
    }

    /// Hands boot memory out as an allocated block known by number. For loading a recorded state.
    ///
    /// # Errors
    /// [`BadFree`] if a frame is no initialised boot memory.
    pub fn load_allocated(&self, pfn: Pfn, order: Order) -> Result<(), BadFree> {
        let (block, _) = self.load(pfn, order)?;
        block.into_owned(&self.map.frames).into_raw(&self.map.frames);
        Ok(())
    }

    fn load(&self, pfn: Pfn, order: Order) -> Result<(FreeBlock, &Zone), BadFree> {
        let block = self.map.frames.release_boot_block(pfn, order)?;
        let zone = self.zone_of(pfn).ok_or(BadFree { pfn, order, found: Some((PageType::Detached, order)) })?;
        Ok((self.poison_boot_block(block), zone))
    }

    /// Counts pages of a zone as managed, those that stay in use included. For loading a recorded state.
    pub fn load_managed(&self, zone: &Zone, nr_pages: u64) {
        zone.add_managed(nr_pages);
    }

    /// Sets the type of a pageblock without moving its free blocks. For loading a recorded state before its blocks are loaded.
    pub fn load_pageblock_type(&self, pfn: Pfn, migratetype: MigrateType) {
        self.map.pageblocks.set(pfn, migratetype);
    }

    /// Sets the high mark of a CPU's set. For loading a recorded state.
    pub fn load_pcp_high(&self, cpu: &Cpu, of: CpuId, zone: &Zone, high: u32) {
        if let Some(cell) = self.pcp(zone, of) {
            self.with_pcp(cpu, cell, |pcp| pcp.counters.set_high(high));
        }
    }
}
