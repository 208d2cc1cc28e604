//! What the free lists of every zone work on: descriptors, pageblock types and sizes.

use frame_table::FrameTable;
use units::PfnRange;

use crate::{Geometry, PageblockTypes};

/// Frames of a machine with the types of their pageblocks.
#[derive(Debug)]
pub struct FrameMap {
    /// Descriptors.
    pub frames: FrameTable,
    /// Migratetypes by pageblock.
    pub pageblocks: PageblockTypes,
    /// Sizes.
    pub geometry: Geometry,
}

impl FrameMap {
    /// Returns the frames of the pageblock around `pfn`, cut to `zone`.
    pub(crate) fn pageblock_in(&self, pfn: units::Pfn, zone: PfnRange) -> PfnRange {
        let start = self.geometry.pageblock_start(pfn);
        PfnRange::with_len(start, self.geometry.pageblock_pages()).intersection(zone)
    }
}
