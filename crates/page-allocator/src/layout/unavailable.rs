//! Frames that have a descriptor but no memory: holes within sections that are present, and the end of the last section.
//!
//! Their descriptors are initialised as reserved and charged to a zone, which the boot log reports.
//! Linux 6.12: mm/mm_init.c (`memmap_init`, `init_unavailable_range`).

use frame_table::MemoryModel;
use units::{NodeId, Pfn, PfnRange, ZoneType};

use super::memory_range::{MemoryRange, MemoryRanges};
use super::zone_spans::NodeLayout;

/// Descriptors without memory that one step of descriptor initialisation met.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct UnavailableRange {
    /// Node that they are charged to: that of the memory above them, or of the last memory.
    pub node: NodeId,
    /// Zone that they are charged to.
    pub zone: ZoneType,
    /// How many there are, at least 1.
    pub nr_pages: u64,
}

/// Calls `found` for each hole whose frames have descriptors, in ascending order.
///
/// `nodes` must hold the layout of every node that has memory.
pub fn for_each_unavailable<M: MemoryRanges>(
    memory: M,
    nodes: &[NodeLayout],
    model: MemoryModel,
    mut found: impl FnMut(UnavailableRange),
) {
    let mut hole_start = Pfn::ZERO;
    let mut last: Option<(MemoryRange, ZoneType)> = None;
    let mut report = |node, zone, hole: PfnRange| {
        let nr_pages = described_pages(memory.clone(), hole, model);
        if nr_pages != 0 {
            found(UnavailableRange { node, zone, nr_pages });
        }
    };
    for range in memory.clone() {
        let Some(layout) = nodes.iter().find(|layout| layout.node == range.node) else { continue };
        for (kind, zone) in layout.populated() {
            let part = range.frames.intersection(zone.span);
            if part.is_empty() {
                continue;
            }
            report(range.node, kind, PfnRange::new(hole_start, part.start));
            hole_start = part.end;
            last = Some((range, kind));
        }
    }
    let (Some((range, kind)), MemoryModel::Sparse { .. }) = (last, model) else { return };
    let section_pages = model.section_pages();
    report(range.node, kind, PfnRange::new(hole_start, range.frames.end.align_up(section_pages)));
}

/// Counts the frames of `hole`, which has no memory, that have a descriptor.
fn described_pages(memory: impl MemoryRanges, hole: PfnRange, model: MemoryModel) -> u64 {
    if hole.is_empty() {
        return 0;
    }
    let MemoryModel::Sparse { .. } = model else { return hole.nr_pages() };
    let section_pages = model.section_pages();
    // A section is present if any memory touches it. Memory comes in ascending order, so `counted_to` keeps two ranges
    // in one section from counting the hole twice.
    let mut counted_to = hole.start;
    let mut nr_pages = 0;
    for range in memory.filter(|range| !range.frames.is_empty()) {
        let sections =
            PfnRange::new(range.frames.start.align_down(section_pages), range.frames.end.align_up(section_pages));
        let part = sections.intersection(PfnRange::new(counted_to, hole.end));
        if !part.is_empty() {
            nr_pages += part.nr_pages();
            counted_to = part.end;
        }
    }
    nr_pages
}
