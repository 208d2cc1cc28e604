//! What the page allocator gets when memblock ends: free frames to take, reserved frames to mark.
//!
//! Linux 6.12: mm/memblock.c (`memblock_free_all`, `free_low_memory_core_early`, `memmap_init_reserved_pages`,
//! `__free_pages_memory`, `memblock_free_late`, `memblock_discard`).

use units::{Order, Pfn, PfnRange, PhysAddr, PhysRange};

use super::context::BootContext;
use super::region::{Region, RegionFlags};
use super::{ListKind, Memblock, MemblockError, NodeTracking};

/// Reserved frames and what is known about them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReservedFrames {
    /// Frames that hold at least one reserved byte.
    pub frames: PfnRange,
    /// Their node; `None` if unknown.
    pub node: Option<units::NodeId>,
}

/// Splits a range of frames into the aligned blocks in which it is given to the page allocator, lowest first.
#[derive(Clone, Debug)]
pub struct FreeBlocks {
    left: PfnRange,
    max_order: Order,
}

impl FreeBlocks {
    /// Splits `frames` into blocks of at most `max_order`.
    pub const fn new(frames: PfnRange, max_order: Order) -> Self {
        Self { left: frames, max_order }
    }
}

impl Iterator for FreeBlocks {
    type Item = (Pfn, Order);

    fn next(&mut self) -> Option<(Pfn, Order)> {
        let start = self.left.start;
        let nr_pages = self.left.nr_pages();
        if nr_pages == 0 {
            return None;
        }
        let fitting = Order::new_truncate(nr_pages.ilog2() as u8);
        let order = start.alignment(if fitting.raw() < self.max_order.raw() { fitting } else { self.max_order });
        self.left.start = start.add(order.nr_pages());
        Some((start, order))
    }
}

impl Memblock {
    /// Prepares the hand-over: hotplug marks go, and reserved ranges get the node of their memory.
    ///
    /// Must precede [`Memblock::free_ranges`] and [`Memblock::reserved_frames`].
    pub fn finish(&mut self, cx: &mut BootContext<'_>) -> Result<(), MemblockError> {
        self.clear_hotplug(PhysAddr::ZERO, u64::MAX, cx)?;
        if self.config.nodes == NodeTracking::Flat {
            return Ok(());
        }
        // Indexed, because setting a node may move the reserved regions' array but leaves the memory list alone.
        for index in 0..self.memory().len() {
            let Region { base, size, node, .. } = self.memory()[index];
            self.set_node(base, size, ListKind::Reserved, node, cx)?;
        }
        Ok(())
    }

    /// Iterates over the whole free frames below `max_low_pfn`, which the page allocator takes over.
    pub fn free_ranges(&self, max_low_pfn: Pfn) -> impl Iterator<Item = PfnRange> + Clone + '_ {
        let shift = self.config.page_shift;
        self.free_mem_ranges(None, RegionFlags::empty())
            .map(move |free| {
                let frames = free.range.whole_frames(shift);
                PfnRange::new(frames.start, frames.end.min(max_low_pfn))
            })
            .filter(|frames| !frames.is_empty())
    }

    /// Iterates over the frames whose descriptors are to be marked reserved: reserved ranges, then unmapped memory.
    ///
    /// Ranges that share a frame both name it. Ranges marked [`RegionFlags::RSRV_NOINIT`] are left out.
    pub fn reserved_frames(&self) -> impl Iterator<Item = ReservedFrames> + Clone + '_ {
        let shift = self.config.page_shift;
        let taken = self.reserved().iter().filter(|region| !region.flags.contains(RegionFlags::RSRV_NOINIT));
        let unmapped = self.memory().iter().filter(|region| region.flags.contains(RegionFlags::NOMAP));
        taken.chain(unmapped).map(move |region| ReservedFrames {
            frames: region.range().touched_frames(shift),
            node: self.node_of(region),
        })
    }

    /// Logs that a range is given to the page allocator after the hand-over and returns its whole frames
    /// (Linux: memblock_free_late).
    pub fn free_late(&self, range: PhysRange, cx: &mut BootContext<'_>) -> PfnRange {
        self.log_range("memblock_free_late", range.start, range.len(), cx);
        range.whole_frames(self.config.page_shift)
    }

    /// Returns where grown region arrays lie, so that they can be given back once memblock is no longer needed
    /// (Linux: memblock_discard).
    pub fn grown_arrays(&self) -> impl Iterator<Item = PhysRange> + Clone {
        [self.reserved.array_range(), self.memory.array_range()].into_iter().flatten()
    }
}
