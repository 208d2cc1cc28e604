//! The end of boot: descriptors are initialised and free memory goes to the page allocator.
//!
//! Linux 6.12: `memmap_init`, `memmap_init_reserved_pages`, `memblock_free_all`.

use boot_memory::memblock::Memblock;
use frame_table::PageFlags;
use page_allocator::layout::{MemoryKind, MemoryRange, MovableRule};
use page_allocator::{Hooks, PageAllocator, Zone};
use platform::Platform;
use sync::Cpu;
use units::{PfnRange, ZoneType};

use crate::error::BootError;
use crate::tables::free_ranges;

/// Part of a zone whose descriptors boot initialises: all of it, or what comes before the deferred frames.
pub(crate) fn early_part(zone: &Zone, first_deferred: Option<u64>) -> PfnRange {
    let end = first_deferred.map_or(zone.span().end, |pfn| units::Pfn::new(pfn).min(zone.span().end));
    PfnRange::new(zone.span().start, end)
}

/// The memory of a machine, and what tells which zone it belongs to.
#[derive(Clone, Copy)]
pub(crate) struct ZonedMemory<'a> {
    pub(crate) ranges: &'a [MemoryRange],
    pub(crate) zones: &'a [Zone],
    pub(crate) rule: MovableRule,
}

impl<'a> ZonedMemory<'a> {
    /// Iterates over the memory of a zone within `part`. The spans of nodes that interleave hold memory of other nodes too.
    fn own(self, zone: &'a Zone, part: PfnRange) -> impl Iterator<Item = PfnRange> + 'a {
        let on_node = self.ranges.iter().filter(|range| range.node == zone.node());
        on_node.map(move |range| self.share(range, zone).intersection(part)).filter(|range| !range.is_empty())
    }

    /// Cuts from a range what belongs to the other of Normal and Movable, whose spans overlap under kernelcore=mirror
    /// (Linux: overlap_memmap_init).
    fn share(self, range: &MemoryRange, zone: &Zone) -> PfnRange {
        let is_movable = |other: &&Zone| other.node() == zone.node() && other.kind() == ZoneType::Movable;
        let frames = range.frames;
        let Some(movable) = self.zones.iter().find(is_movable).filter(|_| self.rule == MovableRule::Mirror) else {
            return frames;
        };
        match (zone.kind(), range.kind) {
            (ZoneType::Movable, MemoryKind::Mirrored) => PfnRange::default(),
            (ZoneType::Normal, kind) if kind != MemoryKind::Mirrored => {
                PfnRange::new(frames.start, frames.end.min(movable.span().start))
            }
            _ => frames,
        }
    }
}

/// Iterates over the free memory of a zone within `part`.
pub(crate) fn free_in<'a>(
    memblock: &'a Memblock,
    memory: ZonedMemory<'a>,
    zone: &'a Zone,
    part: PfnRange,
) -> impl Iterator<Item = PfnRange> + 'a {
    let own = memory.own(zone, part);
    own.flat_map(|own| free_ranges(memblock).map(move |free| free.intersection(own))).filter(|range| !range.is_empty())
}

/// Initialises every descriptor of a zone that is not left for later: free memory, reserved memory, and holes that share a
/// section with memory.
pub(crate) fn init_frames<P: Platform, H: Hooks>(
    allocator: &PageAllocator<P, H>,
    memblock: &Memblock,
    memory: ZonedMemory<'_>,
    zone: &Zone,
    early: PfnRange,
) {
    let frames = &allocator.map().frames;
    allocator.init_pageblocks(early);
    for range in free_in(memblock, memory, zone, early) {
        frames.init_range(range, zone.place(), PageFlags::empty());
    }
    // Reserved memory of deferred sections is initialised too: only free memory waits.
    for part in memory.own(zone, zone.span()) {
        for reserved in memblock.reserved_frames() {
            init_reserved(allocator, zone, reserved.frames.intersection(part));
        }
        init_holes(allocator, zone, part);
    }
}

/// Frames that share a page with a free range's edge were initialised as free by nobody; all of these are reserved.
fn init_reserved<P: Platform, H: Hooks>(allocator: &PageAllocator<P, H>, zone: &Zone, range: PfnRange) {
    allocator.map().frames.init_range(range, zone.place(), PageFlags::RESERVED);
}

/// Initialises the frames without memory between the start of a part's section and the part, and behind it, that nothing
/// initialised before.
fn init_holes<P: Platform, H: Hooks>(allocator: &PageAllocator<P, H>, zone: &Zone, part: PfnRange) {
    let frames = &allocator.map().frames;
    let described = frames.sections().model().described(part).intersection(frames.span());
    for hole in [PfnRange::new(described.start, part.start), PfnRange::new(part.end, described.end)] {
        let untouched =
            |pfn: &units::Pfn| frames.get(*pfn).is_some_and(|frame| frame.page_type().is_none() && frame.count() == 0);
        for pfn in hole.iter().filter(untouched) {
            frames.init_range(PfnRange::with_len(pfn, 1), zone.place(), PageFlags::RESERVED);
        }
    }
}

/// Gives the free memory of a zone's early part to the allocator. Returns the pages given.
pub(crate) fn release<P: Platform, H: Hooks>(
    allocator: &PageAllocator<P, H>,
    cpu: &Cpu,
    memblock: &Memblock,
    memory: ZonedMemory<'_>,
    zone: &Zone,
    early: PfnRange,
) -> Result<u64, BootError> {
    let mut given = 0;
    for range in free_in(memblock, memory, zone, early) {
        given += allocator.release_boot_range(cpu, range)?;
    }
    Ok(given)
}
