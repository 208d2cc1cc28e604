//! The laws that hold whenever no operation is under way; every kind of test checks the same ones.

use frame_table::PageType;
use platform::Platform;
use sync::Cpu;
use units::{MigrateType, Order, Pfn};

use crate::allocator::PageAllocator;
use crate::pressure::Hooks;
use crate::zone::Zone;

/// A broken law.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Broken {
    /// The law.
    pub law: &'static str,
    /// A frame where it is broken, if it is about frames.
    pub pfn: Option<Pfn>,
}

fn broken(law: &'static str, pfn: Option<Pfn>) -> Result<(), Broken> {
    Err(Broken { law, pfn })
}

impl<P: Platform, H: Hooks> PageAllocator<P, H> {
    /// Checks every list of every zone and CPU. Returns the pages that are free, on per-CPU lists or not.
    ///
    /// # Errors
    /// The first law found broken.
    pub fn check_invariants(&self, cpu: &Cpu) -> Result<u64, Broken> {
        let mut free = 0;
        for zone in self.zones() {
            free += self.check_zone(cpu, zone)?;
            let mut checked = Ok(0);
            self.with_every_pcp(cpu, zone, |pcp| {
                let law = pcp.check(&self.map.frames, &self.map.geometry);
                checked = checked.and_then(|sum| law.map(|()| sum + u64::from(pcp.counters.count())));
            });
            free += checked.map_err(|law| Broken { law, pfn: None })?;
        }
        Ok(free)
    }

    /// Returns the free pages of the zone's lists.
    fn check_zone(&self, cpu: &Cpu, zone: &Zone) -> Result<u64, Broken> {
        let locked = self.lock(zone, cpu);
        let (mut free, mut counted, mut cma, mut highatomic) = (0, 0, 0, 0);
        for order in Order::ZERO.through(self.map.geometry.max_order) {
            for migratetype in MigrateType::ALL {
                let list = locked.list(order, migratetype);
                let len = list
                    .blocks
                    .check(&self.map.frames, PageType::Buddy, order)
                    .map_err(|(pfn, law)| Broken { law, pfn: Some(pfn) })?;
                if len != u64::from(list.nr_free) {
                    broken("a list's count is the number of its blocks", None)?;
                }
                if list.blocks.is_empty() == (zone.orders_with(migratetype) >> order.raw() & 1 == 1) {
                    broken("the bit of an order says whether its list holds blocks", None)?;
                }
                let pages = len * order.nr_pages();
                free += pages;
                match migratetype {
                    MigrateType::Isolate => continue,
                    MigrateType::Cma => cma += pages,
                    MigrateType::HighAtomic => highatomic += pages,
                    _ => {}
                }
                counted += pages;
                for pfn in list.blocks.iter(&self.map.frames) {
                    self.check_free_block(&locked, pfn, order, migratetype)?;
                }
            }
        }
        if !self.gates.is_noted(zone) {
            broken("a zone's gate says what follows from the zone's state", None)?;
        }
        if (counted, cma, highatomic) != (zone.free_pages(), zone.free_cma(), zone.free_highatomic()) {
            broken("the counts of free pages are the sums of the lists", None)?;
        }
        Ok(free)
    }

    fn check_free_block(
        &self,
        locked: &crate::buddy::LockedZone<'_>,
        pfn: Pfn,
        order: Order,
        migratetype: MigrateType,
    ) -> Result<(), Broken> {
        if !pfn.is_aligned(order) {
            broken("a block starts at a multiple of its size", Some(pfn))?;
        }
        if !locked.zone.span().contains(pfn) {
            broken("a block lies in its zone", Some(pfn))?;
        }
        if self.map.pageblocks.get(pfn) != migratetype {
            broken("a free block is on the list of its pageblock's type", Some(pfn))?;
        }
        let buddy_type = self.map.pageblocks.get(pfn.buddy(order));
        let may_merge = buddy_type == migratetype || buddy_type.is_mergeable() && migratetype.is_mergeable();
        if order < self.map.geometry.max_order && may_merge && locked.free_buddy(pfn, order).is_some() {
            broken("two free buddies that may merge have merged", Some(pfn))?;
        }
        Ok(())
    }

    /// Returns the number of free blocks of a zone by order and type. Takes the zone lock.
    pub fn free_counts(&self, cpu: &Cpu, zone: &Zone) -> [[u32; MigrateType::COUNT]; Order::COUNT] {
        let locked = self.lock(zone, cpu);
        let mut counts = [[0; MigrateType::COUNT]; Order::COUNT];
        for order in Order::ZERO.through(self.map.geometry.max_order) {
            for migratetype in MigrateType::ALL {
                counts[order.index()][migratetype.index()] = locked.list(order, migratetype).nr_free;
            }
        }
        counts
    }

    /// Counts the pageblocks of a zone by type (Linux: the last table of pagetypeinfo). Blocks that start outside of memory, or
    /// belong to another zone, are left out.
    pub fn pageblock_counts(&self, zone: &Zone) -> [u64; MigrateType::COUNT] {
        let mut counts = [0; MigrateType::COUNT];
        let pages = self.map.geometry.pageblock_pages();
        let mut pfn = zone.span().start;
        while pfn < zone.span().end {
            let frame = self.map.frames.get_valid(pfn);
            if frame.is_some_and(|frame| frame.page_type().is_some() || frame.count() > 0)
                && frame.is_some_and(|frame| frame.place() == zone.place())
            {
                counts[self.map.pageblocks.get(pfn).index()] += 1;
            }
            pfn = pfn.align_down(pages).add(pages);
        }
        counts
    }
}
