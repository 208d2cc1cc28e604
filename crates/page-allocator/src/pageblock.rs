//! What is known of each pageblock: its migratetype, and its zone if it lies in one only.
//!
//! Types are written under the lock of the zone that the block lies in, and read without it, as a hint, on the free path. The zone is
//! kept here too, so that freeing a page reads one small table instead of the page's own descriptor, which is often in no cache.
//! Linux 6.12: get_pfnblock_migratetype, set_pageblock_migratetype, `pageblock_flags`.

use core::sync::atomic::{AtomicU32, Ordering};

use collections::BootSlice;
use units::{MigrateType, Order, Pfn, PfnRange};

use crate::gates::NO_ZONE;

/// Type and zone of every pageblock of a machine.
///
/// An entry holds the type in its low byte, the zone's number in its highest nine bits, and a bit once that is known. The number is
/// `NO_ZONE` if the block lies in several zones.
#[derive(Debug)]
pub struct PageblockTypes {
    types: BootSlice<AtomicU32>,
    first: u64,
    order: Order,
}

const TYPE_MASK: u32 = 0xff;
const ZONE_KNOWN: u32 = 1 << 8;
const ZONE_SHIFT: u32 = 23;
const SHARED: u32 = NO_ZONE as u32;
const _: () = assert!(NO_ZONE as u32 == u32::MAX >> ZONE_SHIFT);

/// Zone and type of a pageblock, read without a lock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PageblockHint(u32);

impl PageblockHint {
    /// Returns the number of the only zone that the pageblock lies in; no zone's number if it lies in several: then the frame's descriptor
    /// knows.
    #[inline(always)]
    pub(crate) const fn zone(self) -> u16 {
        (self.0 >> ZONE_SHIFT) as u16
    }

    /// Returns the list that single pages of the pageblock go to; a number of no such list if they go to another type's.
    #[inline(always)]
    pub(crate) const fn list_of_pages(self) -> usize {
        (self.0 & 7) as usize
    }

    /// Returns the type's number; meant for [`crate::pcp_index::PcpIndex::raw`].
    #[inline(always)]
    pub(crate) const fn raw_type(self) -> u32 {
        self.0
    }
}

impl PageblockTypes {
    /// Returns how many entries [`PageblockTypes::new`] needs for `span`.
    pub const fn entries(span: PfnRange, order: Order) -> usize {
        let pages = order.nr_pages();
        (span.end.align_up(pages).since(span.start.align_down(pages)) / pages) as usize
    }

    /// Takes over one zeroed entry per pageblock of `span`; zero is Unmovable.
    pub const fn new(types: BootSlice<AtomicU32>, span: PfnRange, order: Order) -> Self {
        Self { types, first: span.start.raw() >> order.raw(), order }
    }

    #[inline]
    fn entry(&self, pfn: Pfn) -> Option<&AtomicU32> {
        self.types.get((pfn.raw() >> self.order.raw()).wrapping_sub(self.first) as usize)
    }

    /// Notes that the frames of `span` belong to zone `number`, among others perhaps. At boot, zone by zone.
    pub(crate) fn note_zone(&self, span: PfnRange, number: u16) {
        let pages = self.order.nr_pages();
        let mut pfn = span.start.align_down(pages);
        while pfn < span.end {
            if let Some(entry) = self.entry(pfn) {
                // Relaxed: boot is single-threaded here.
                let word = entry.load(Ordering::Relaxed);
                let zone = if word & ZONE_KNOWN == 0 { u32::from(number) } else { SHARED };
                entry.store(word & TYPE_MASK | ZONE_KNOWN | zone << ZONE_SHIFT, Ordering::Relaxed);
            }
            pfn = pfn.add(pages);
        }
    }

    /// Returns what freeing a page of the pageblock needs to know; nothing outside the machine.
    #[inline(always)]
    pub(crate) fn hint(&self, pfn: Pfn) -> Option<PageblockHint> {
        // Relaxed: the zone never changes after boot; for the type see `get`.
        self.entry(pfn).map(|entry| PageblockHint(entry.load(Ordering::Relaxed)))
    }

    /// Returns the type of the pageblock that `pfn` lies in; Unmovable outside the machine.
    #[inline]
    pub fn get(&self, pfn: Pfn) -> MigrateType {
        // Relaxed: authoritative only under the zone lock, which orders it.
        let raw = self.entry(pfn).map_or(0, |entry| entry.load(Ordering::Relaxed) & TYPE_MASK);
        MigrateType::from_raw(raw as u8).unwrap_or(MigrateType::Unmovable)
    }

    /// Returns true if every pageblock that starts in `range` has this type.
    pub(crate) fn are_all(&self, range: PfnRange, migratetype: MigrateType) -> bool {
        let pages = self.order.nr_pages();
        let mut starts = (range.start.raw()..range.end.raw()).step_by(pages as usize);
        starts.all(|start| self.get(Pfn::new(start)) == migratetype)
    }

    /// Sets the type of the pageblock that `pfn` lies in. The caller holds the zone lock, or boots.
    pub(crate) fn set(&self, pfn: Pfn, migratetype: MigrateType) {
        if let Some(entry) = self.entry(pfn) {
            // Relaxed: see `get`; the lock, or boot, makes load and store one step.
            let zone = entry.load(Ordering::Relaxed) & !TYPE_MASK;
            entry.store(zone | migratetype as u32, Ordering::Relaxed);
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

#[cfg(test)]
mod tests {
    extern crate std;

    use std::boxed::Box;

    use super::*;

    const ORDER: Order = Order::new_truncate(9);

    fn types(nr_pages: u64) -> PageblockTypes {
        let span = PfnRange::with_len(Pfn::new(1024), nr_pages);
        let entries = (0..PageblockTypes::entries(span, ORDER)).map(|_| AtomicU32::new(0)).collect::<Box<[_]>>();
        PageblockTypes::new(BootSlice::from_static(Box::leak(entries)), span, ORDER)
    }

    #[test]
    fn a_pageblock_of_two_zones_names_none() {
        let types = types(2048);
        types.note_zone(PfnRange::with_len(Pfn::new(1024), 1100), 0);
        types.note_zone(PfnRange::with_len(Pfn::new(2124), 948), 1);
        let zones = [1024, 1536, 2048, 2560].map(|pfn| types.hint(Pfn::new(pfn)).unwrap().zone());
        assert_eq!(zones, [0, 0, NO_ZONE, 1]);
        assert!(types.hint(Pfn::new(3072)).is_none(), "outside the machine");
    }

    #[test]
    fn a_type_changes_without_the_zone() {
        let types = types(1024);
        types.note_zone(PfnRange::with_len(Pfn::new(1024), 1024), 7);
        types.set_range(PfnRange::with_len(Pfn::new(1024), 512), MigrateType::Reclaimable);
        types.set(Pfn::new(1600), MigrateType::Isolate);
        assert_eq!([1024, 1535, 1536].map(|pfn| types.get(Pfn::new(pfn))), {
            [MigrateType::Reclaimable, MigrateType::Reclaimable, MigrateType::Isolate]
        });
        assert_eq!(types.hint(Pfn::new(1030)).unwrap().zone(), 7);
        assert_eq!(types.hint(Pfn::new(1030)).unwrap().raw_type() & 7, MigrateType::Reclaimable as u32);
        assert_eq!(types.get(Pfn::new(5000)), MigrateType::Unmovable, "outside the machine");
    }
}
