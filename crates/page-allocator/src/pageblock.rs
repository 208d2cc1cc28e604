//! The migratetype of each pageblock.
//!
//! Written under the lock of the zone that the block lies in; read without it, as a hint, on the free path.
//! Linux 6.12: get_pfnblock_migratetype, set_pageblock_migratetype, `pageblock_flags`.

use core::sync::atomic::{AtomicU8, Ordering};

use collections::BootSlice;
use units::{MigrateType, Order, Pfn, PfnRange};

/// Type of every pageblock of a machine.
#[derive(Debug)]
pub struct PageblockTypes {
    types: BootSlice<AtomicU8>,
    first: u64,
    order: Order,
}

impl PageblockTypes {
    /// Returns how many entries [`PageblockTypes::new`] needs for `span`.
    pub const fn entries(span: PfnRange, order: Order) -> usize {
        let pages = order.nr_pages();
        (span.end.align_up(pages).since(span.start.align_down(pages)) / pages) as usize
    }

    /// Takes over one zeroed entry per pageblock of `span`; zero is Unmovable.
    pub const fn new(types: BootSlice<AtomicU8>, span: PfnRange, order: Order) -> Self {
        Self { types, first: span.start.raw() >> order.raw(), order }
    }

    /// Returns the type of the pageblock that `pfn` lies in; Unmovable outside the machine.
    #[inline]
    pub fn get(&self, pfn: Pfn) -> MigrateType {
        let index = (pfn.raw() >> self.order.raw()).wrapping_sub(self.first);
        // Relaxed: authoritative only under the zone lock, which orders it.
        let raw = self.types.get(index as usize).map_or(0, |entry| entry.load(Ordering::Relaxed));
        MigrateType::from_raw(raw).unwrap_or(MigrateType::Unmovable)
    }

    /// Returns the per-CPU list type of the pageblock that `pfn` lies in; `None` for isolated ones (see [`MigrateType::pcp_type`]).
    #[inline]
    pub(crate) fn pcp_type(&self, pfn: Pfn) -> Option<MigrateType> {
        const TYPES: [Option<MigrateType>; 8] = {
            let mut types = [None; 8];
            let mut raw = 0;
            while raw < MigrateType::COUNT {
                types[raw] = MigrateType::ALL[raw].pcp_type();
                raw += 1;
            }
            types
        };
        let index = (pfn.raw() >> self.order.raw()).wrapping_sub(self.first);
        // Relaxed: see `get`.
        let raw = self.types.get(index as usize)?.load(Ordering::Relaxed);
        TYPES[usize::from(raw) & 7]
    }

    /// Sets the type of the pageblock that `pfn` lies in. The caller holds the zone lock, or boots.
    pub(crate) fn set(&self, pfn: Pfn, migratetype: MigrateType) {
        let index = (pfn.raw() >> self.order.raw()).wrapping_sub(self.first);
        if let Some(entry) = self.types.get(index as usize) {
            // Relaxed: see `get`.
            entry.store(migratetype as u8, Ordering::Relaxed);
        }
    }

    /// Sets the type of every pageblock that starts in `range` (Linux: change_pageblock_range).
    pub(crate) fn set_range(&self, range: PfnRange, migratetype: MigrateType) {
        let pages = self.order.nr_pages();
        let mut pfn = range.start.align_down(pages);
        while pfn < range.end {
            self.set(pfn, migratetype);
            pfn = pfn.add(pages);
        }
    }
}
