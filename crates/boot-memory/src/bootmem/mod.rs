//! The boot allocator before memblock: one bitmap a node, one bit a page, first fit upwards (historical).
//!
//! Everything is reserved at first; the machine frees what the firmware says is memory, then reserves what is taken.
//! Kept because the sources describe it and to compare with memblock; no machine boots with it by default.
//! Locking: none; one CPU runs until [`Bootmem::free_all`].
//! Linux 2.6 to 4.19: mm/bootmem.c.

mod alloc;
mod bitmap;
mod node;
#[cfg(test)]
mod tests;

use collections::BootSlice;
use units::{MAX_NODES, NodeId, Order, Pfn, PfnRange, PhysAddr, PhysRange};

pub use alloc::BootmemRequest;
use node::BootmemNode;

/// Why a call failed. Nothing was changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BootmemError {
    /// No free range fits, even without the goal.
    NoMemory {
        /// Bytes that were asked for.
        size: u64,
    },
    /// A size of 0, an alignment that is no power of two, or a goal from which the size reaches past the limit.
    BadRequest(BootmemRequest),
    /// A page of the range is reserved already, and the reservation was to be exclusive.
    Busy(Pfn),
    /// A page of the range is free already.
    NotReserved(Pfn),
    /// The range does not lie within the node, or within nodes that follow each other without a hole.
    OutsideNodes(PfnRange),
    /// The node is there already, its range is empty or shared with another, or the bitmap is too small for it.
    BadNode(NodeId),
}

impl core::fmt::Display for BootmemError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::NoMemory { size } => write!(f, "no free range of {size} bytes"),
            Self::BadRequest(request) => write!(f, "the request contradicts itself: {request:?}"),
            Self::Busy(pfn) => write!(f, "{pfn:?} is reserved already"),
            Self::NotReserved(pfn) => write!(f, "{pfn:?} is free already"),
            Self::OutsideNodes(frames) => write!(f, "{frames:?} is not within the nodes"),
            Self::BadNode(node) => write!(f, "node {node} overlaps another, is empty or has too small a bitmap"),
        }
    }
}

impl core::error::Error for BootmemError {}

/// Whether a reservation may cover pages that are reserved already (Linux: BOOTMEM_DEFAULT, BOOTMEM_EXCLUSIVE).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Overlap {
    /// It may.
    Allowed,
    /// It fails and takes nothing.
    Refused,
}

/// The bitmaps of all nodes.
///
/// # Invariants
/// The first `nr_nodes` slots hold nodes, in ascending order of their frames, which do not overlap; the others are empty.
#[derive(Debug)]
pub struct Bootmem {
    page_shift: u32,
    nodes: [Option<BootmemNode>; MAX_NODES],
    nr_nodes: usize,
}

impl Bootmem {
    /// Makes an allocator without nodes.
    pub const fn new(page_shift: u32) -> Self {
        Self { page_shift, nodes: [const { None }; MAX_NODES], nr_nodes: 0 }
    }

    /// Returns the bytes that the bitmap of `nr_pages` takes: whole words (Linux: bootmap_bytes).
    pub const fn bootmap_bytes(nr_pages: u64) -> u64 {
        nr_pages.div_ceil(u64::BITS as u64) * size_of::<u64>() as u64
    }

    /// Returns the pages that the bitmap of `nr_pages` takes (Linux: bootmem_bootmap_pages).
    pub const fn bootmap_pages(&self, nr_pages: u64) -> u64 {
        PhysAddr::new(Self::bootmap_bytes(nr_pages)).pfn_up(self.page_shift).raw()
    }

    /// Adds a node whose pages are all reserved and returns the bytes of its bitmap (Linux: init_bootmem_node).
    ///
    /// `map` is the bitmap, which lies at the frame `map_start` and is given to the page allocator at the end with the rest.
    pub fn init_node(
        &mut self,
        node: NodeId,
        map_start: Pfn,
        frames: PfnRange,
        map: BootSlice<u64>,
    ) -> Result<u64, BootmemError> {
        let bad = BootmemError::BadNode(node);
        let shared = |other: &BootmemNode| other.node() == node || !other.frames().intersection(frames).is_empty();
        if frames.is_empty() || self.nr_nodes == MAX_NODES || self.iter().any(shared) {
            return Err(bad);
        }
        let map_frames = PfnRange::with_len(map_start, self.bootmap_pages(frames.nr_pages()));
        let added = BootmemNode::new(node, frames, map_frames, map, self.page_shift).ok_or(bad)?;
        let place = self.iter().filter(|other| other.frames().start < frames.start).count();
        if let Some(slots) = self.nodes.get_mut(place..=self.nr_nodes) {
            slots.rotate_right(1);
            if let Some(slot) = slots.first_mut() {
                *slot = Some(added);
            }
        }
        self.nr_nodes += 1;
        Ok(Self::bootmap_bytes(frames.nr_pages()))
    }

    /// Adds node 0 with the pages from 0 to `nr_pages` (Linux: init_bootmem).
    pub fn init(&mut self, map_start: Pfn, nr_pages: u64, map: BootSlice<u64>) -> Result<u64, BootmemError> {
        self.init_node(NodeId::ZERO, map_start, PfnRange::with_len(Pfn::ZERO, nr_pages), map)
    }

    /// Frees the whole pages of a range that may span nodes (Linux: free_bootmem).
    pub fn free(&mut self, range: PhysRange) -> Result<(), BootmemError> {
        self.mark(range.whole_frames(self.page_shift), |node, frames| node.check_reserved(frames), BootmemNode::free)
    }

    /// Frees the whole pages of a range on `node` (Linux: free_bootmem_node).
    pub fn free_node(&mut self, node: NodeId, range: PhysRange) -> Result<(), BootmemError> {
        let frames = range.whole_frames(self.page_shift);
        let node = self.node_around(node, frames)?;
        node.check_reserved(frames)?;
        node.free(frames);
        Ok(())
    }

    /// Reserves every page that a range touches; it may span nodes (Linux: reserve_bootmem).
    pub fn reserve(&mut self, range: PhysRange, overlap: Overlap) -> Result<(), BootmemError> {
        let frames = range.touched_frames(self.page_shift);
        self.mark(frames, |node, frames| node.check_free(frames, overlap), BootmemNode::reserve)
    }

    /// Reserves every page that a range on `node` touches (Linux: reserve_bootmem_node).
    pub fn reserve_node(&mut self, node: NodeId, range: PhysRange, overlap: Overlap) -> Result<(), BootmemError> {
        let frames = range.touched_frames(self.page_shift);
        let node = self.node_around(node, frames)?;
        node.check_free(frames, overlap)?;
        node.reserve(frames);
        Ok(())
    }

    /// Applies `act` to the parts of `frames` on each node, after `check` accepted all of them (Linux: mark_bootmem).
    ///
    /// Checking first leaves nothing to undo, where Linux takes back what it marked before the failure.
    fn mark(
        &mut self,
        frames: PfnRange,
        check: impl Fn(&BootmemNode, PfnRange) -> Result<(), BootmemError>,
        act: impl Fn(&mut BootmemNode, PfnRange),
    ) -> Result<(), BootmemError> {
        let mut at = frames.start;
        for node in self.iter() {
            let part = node.frames().intersection(PfnRange::new(at, frames.end));
            if part.start == at && !part.is_empty() {
                check(node, part)?;
                at = part.end;
            }
        }
        if at < frames.end {
            return Err(BootmemError::OutsideNodes(frames));
        }
        for node in self.nodes.iter_mut().flatten() {
            let part = node.frames().intersection(frames);
            if !part.is_empty() {
                act(node, part);
            }
        }
        Ok(())
    }

    fn node_around(&mut self, node: NodeId, frames: PfnRange) -> Result<&mut BootmemNode, BootmemError> {
        let outside = BootmemError::OutsideNodes(frames);
        let found = self.nodes.iter_mut().flatten().find(|candidate| candidate.node() == node).ok_or(outside)?;
        let within = found.frames();
        let inside = within.start <= frames.start && frames.end <= within.end;
        if inside { Ok(found) } else { Err(outside) }
    }

    /// Gives every free page, and then the pages of the bitmaps, to `release`, and returns how many
    /// (Linux: free_all_bootmem).
    ///
    /// `release` is what Linux calls `__free_pages_bootmem`. 64 free pages that are aligned come as one block. The nodes
    /// are gone afterwards.
    pub fn free_all(&mut self, mut release: impl FnMut(Pfn, Order)) -> u64 {
        self.nr_nodes = 0;
        self.nodes.iter_mut().filter_map(Option::take).map(|node| node.free_all(&mut release)).sum()
    }

    /// Does what [`Bootmem::free_all`] does for one node; 0 if it is not there (Linux: free_all_bootmem_node).
    pub fn free_all_node(&mut self, node: NodeId, mut release: impl FnMut(Pfn, Order)) -> u64 {
        let Some(index) = self.iter().position(|candidate| candidate.node() == node) else { return 0 };
        let Some(slots) = self.nodes.get_mut(index..self.nr_nodes) else { return 0 };
        let taken = slots.first_mut().and_then(Option::take);
        slots.rotate_left(1);
        self.nr_nodes -= 1;
        taken.map_or(0, |taken| taken.free_all(&mut release))
    }

    /// Returns the whole pages of a range that is given back after [`Bootmem::free_all`] (Linux: free_bootmem_late).
    pub const fn free_late(&self, range: PhysRange) -> PfnRange {
        range.whole_frames(self.page_shift)
    }

    /// Returns true if the page is on a node and free.
    pub fn is_free(&self, pfn: Pfn) -> bool {
        self.iter().any(|node| node.is_free(pfn))
    }

    fn iter(&self) -> impl Iterator<Item = &BootmemNode> {
        self.nodes.iter().flatten()
    }

    /// Panics if nodes are out of order or overlap, or a bitmap has a free page beyond its node.
    pub fn check_invariants(&self) {
        assert_eq!(self.iter().count(), self.nr_nodes, "the count is that of the nodes");
        assert!(self.nodes.iter().take(self.nr_nodes).all(Option::is_some), "nodes come first");
        let ends = self.iter().map(|node| node.frames().end);
        assert!(ends.zip(self.iter().skip(1)).all(|(end, next)| end <= next.frames().start), "nodes ascend");
        self.iter().for_each(BootmemNode::check_invariants);
    }
}
