//! Which frames get their descriptor only after the other CPUs are up (CONFIG_DEFERRED_STRUCT_PAGE_INIT).
//!
//! Until then memblock's free memory above that frame stays out of the page allocator, which is why the boot log's
//! Memory: line of a large machine shows so little available. Linux 6.12: mm/mm_init.c (`defer_init`).

use units::Pfn;

use super::memory_range::{MemoryRange, MemoryRanges};
use super::zone_spans::NodeLayout;

/// Returns the first frame of the node whose descriptor is deferred, or `None` if all are initialised at once.
///
/// Only the node's highest zone is deferred; of it at least one section of memory is initialised at once, up to a section
/// boundary.
pub fn first_deferred(layout: &NodeLayout, memory: impl MemoryRanges, section_pages: u64) -> Option<Pfn> {
    let mut initialised = 0;
    for range in memory.filter(|range| range.node == layout.node) {
        for (_, zone) in layout.populated().filter(|(_, zone)| zone.span.end >= layout.span.end) {
            let found = first_deferred_in(&range, zone.span, section_pages, &mut initialised);
            if found.is_some() {
                return found;
            }
        }
    }
    None
}

/// Looks at one memory range of the zone; `initialised` counts the zone's frames before it.
fn first_deferred_in(
    range: &MemoryRange,
    zone: units::PfnRange,
    section_pages: u64,
    initialised: &mut u64,
) -> Option<Pfn> {
    let part = range.frames.intersection(zone);
    if part.is_empty() {
        return None;
    }
    // The frame under test counts as initialised, so frame `start + (section_pages - initialised)` is the first that may be
    // deferred.
    let earliest = part.start.add(section_pages.saturating_sub(*initialised));
    let candidate = earliest.align_up(section_pages);
    *initialised += part.nr_pages();
    part.contains(candidate).then_some(candidate)
}
