//! Memory whose descriptors are initialised only when it is needed.
//!
//! On large machines boot initialises the first sections of each node; a zone grows by a section when an allocation would fall
//! below its watermark. Locking: a section is claimed by advancing the zone's mark with compare-and-swap.
//! Linux 6.12: CONFIG_DEFERRED_STRUCT_PAGE_INIT, `deferred_grow_zone`, `first_deferred_pfn`.

use core::sync::atomic::{AtomicU64, Ordering};

use collections::BootSlice;
use frame_table::PageFlags;
use platform::Platform;
use sync::Cpu;
use units::{Order, Pfn, PfnRange};

use crate::allocator::PageAllocator;
use crate::layout::MemoryRange;
use crate::pressure::Hooks;
use crate::zone::Zone;

/// What is left to initialise.
#[derive(Debug)]
pub struct Deferred {
    /// By zone number: first frame that was not looked at yet.
    next: BootSlice<AtomicU64>,
    /// Free memory as memblock knew it at hand-over, each range on one node, ascending.
    free_ranges: BootSlice<MemoryRange>,
    /// Frames initialised at a time.
    section_pages: u64,
}

impl Deferred {
    /// Takes over the marks, one per zone, and the free memory of the machine.
    pub const fn new(next: BootSlice<AtomicU64>, free_ranges: BootSlice<MemoryRange>, section_pages: u64) -> Self {
        Self { next, free_ranges, section_pages }
    }

    /// Grows a zone by sections until it gained at least a block of `order`. Returns true if it gained anything.
    pub(crate) fn grow<P: Platform, H: Hooks>(
        &self,
        allocator: &PageAllocator<P, H>,
        cpu: &Cpu,
        zone: &Zone,
        order: Order,
    ) -> bool {
        let mut gained = 0;
        while gained < order.nr_pages() {
            let Some(section) = self.claim(allocator, zone) else { break };
            gained += self.take_section(allocator, cpu, zone, section);
        }
        gained > 0
    }

    /// Takes the next part of the zone, up to a section's end.
    fn claim<P: Platform, H: Hooks>(&self, allocator: &PageAllocator<P, H>, zone: &Zone) -> Option<PfnRange> {
        let number = allocator.zones().iter().position(|other| core::ptr::eq(other, zone))?;
        let mark = self.next.get(number)?;
        let advance = |start: u64| {
            let end = (start / self.section_pages + 1).saturating_mul(self.section_pages);
            (start < zone.span().end.raw()).then(|| end.min(zone.span().end.raw()))
        };
        // Relaxed: the claim itself is the exclusion; frames are published by the zone lock.
        let start = mark.fetch_update(Ordering::Relaxed, Ordering::Relaxed, advance).ok()?;
        Some(PfnRange::new(Pfn::new(start), Pfn::new(advance(start)?)))
    }

    fn take_section<P: Platform, H: Hooks>(
        &self,
        allocator: &PageAllocator<P, H>,
        cpu: &Cpu,
        zone: &Zone,
        section: PfnRange,
    ) -> u64 {
        let first = self.free_ranges.partition_point(|range| range.frames.end <= section.start);
        let near = self.free_ranges.iter().skip(first).take_while(|range| range.frames.start < section.end);
        // The spans of nodes that interleave hold memory of other nodes too.
        let parts = near.filter(|range| range.node == zone.node()).map(|range| range.frames);
        let mut gained = 0;
        for part in parts.map(|range| range.intersection(section)) {
            allocator.map().frames.init_range(part, zone.place(), PageFlags::empty());
            allocator.init_pageblocks(part);
            // A frame that boot reserved after the hand-over list was made stays reserved.
            gained += allocator.release_boot_range(cpu, part).unwrap_or(0);
        }
        gained
    }
}
