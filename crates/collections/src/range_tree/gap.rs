//! The lowest or highest gap that a request fits into.
//!
//! An inner node notes the largest gap below each child, so a search enters a subtree only if something in it is long enough. It can be
//! disappointed there by the limits, at most once at either of them, or by the alignment; then it starts again beyond that subtree.
//! Gaps that are long enough but hold no aligned place cost one descent per leaf that holds some.
//! Locking: none; see `lookup`.
//! Linux 6.12: lib/maple_tree.c (`mas_empty_area`, `mas_empty_area_rev`), mm/mmap.c (`unmapped_area`, `unmapped_area_topdown`).

use units::{VirtAddr, VirtRange};

use super::node::SLOTS;
use super::path::Snapshot;
use super::sequence::settle;
use super::{Node, Raced, RangeTree, Word};
use crate::atomic::Ordering::Relaxed;

/// What is asked for.
#[derive(Clone, Copy)]
struct Request {
    low: u64,
    high: u64,
    len: u64,
    align: u64,
}

/// End of one descent.
enum Outcome {
    Found(u64),
    /// Nothing up to here (lowest) or down to here (highest).
    NothingTo(u64),
}

impl Request {
    fn new(limits: VirtRange, len: u64, align: u64) -> Option<Self> {
        debug_assert!(align.is_power_of_two(), "alignments are powers of two");
        let request = Self { low: limits.start.raw(), high: limits.end.raw(), len: len.max(1), align: align.max(1) };
        (limits.len() >= request.len).then_some(request)
    }

    /// Returns the lowest place in the gap `[from, to)`.
    #[inline(always)]
    fn lowest_in(&self, from: u64, to: u64) -> Option<u64> {
        let start = from.max(self.low).checked_add(self.align - 1)? & !(self.align - 1);
        (start.checked_add(self.len)? <= to.min(self.high)).then_some(start)
    }

    /// Returns the highest place in the gap `[from, to)`.
    #[inline(always)]
    fn highest_in(&self, from: u64, to: u64) -> Option<u64> {
        let start = to.min(self.high).checked_sub(self.len)? & !(self.align - 1);
        (start >= from.max(self.low)).then_some(start)
    }
}

impl<V: Word> RangeTree<V> {
    /// Returns the lowest multiple of `align`, a power of two, where `len` bytes within `limits` belong to no range.
    pub fn lowest_gap(&self, limits: VirtRange, len: u64, align: u64) -> Option<VirtAddr> {
        let request = Request::new(limits, len, align)?;
        settle(|| self.try_lowest(request)).map(VirtAddr::new)
    }

    /// Returns the highest multiple of `align`, a power of two, where `len` bytes within `limits` belong to no range.
    pub fn highest_gap(&self, limits: VirtRange, len: u64, align: u64) -> Option<VirtAddr> {
        let request = Request::new(limits, len, align)?;
        settle(|| self.try_highest(request)).map(VirtAddr::new)
    }

    fn try_lowest(&self, request: Request) -> Result<Option<u64>, Raced> {
        let snapshot = self.snapshot()?;
        let top = self.top.load(Relaxed);
        let mut from = request.low;
        if let Some(root) = snapshot.root {
            while from < top.min(request.high) {
                match lowest_from(&snapshot, root, &request, from)? {
                    Outcome::Found(start) => return Ok(Some(start)),
                    Outcome::NothingTo(end) => from = end,
                }
            }
        }
        snapshot.validate()?;
        Ok(request.lowest_in(top, u64::MAX))
    }

    fn try_highest(&self, request: Request) -> Result<Option<u64>, Raced> {
        let snapshot = self.snapshot()?;
        let top = self.top.load(Relaxed);
        snapshot.validate()?;
        let above = request.highest_in(top, u64::MAX);
        let (Some(root), None) = (snapshot.root, above) else { return Ok(above) };
        let mut to = request.high.min(top);
        while to > request.low {
            match highest_to(&snapshot, root, &request, to)? {
                Outcome::Found(start) => return Ok(Some(start)),
                Outcome::NothingTo(end) => to = end,
            }
        }
        Ok(None)
    }
}

/// Descends once for the lowest place in gaps before ranges that end above `from`.
fn lowest_from(snapshot: &Snapshot<'_>, root: &Node, request: &Request, from: u64) -> Result<Outcome, Raced> {
    let from = from.min(u64::MAX - 1);
    let (mut node, mut lower, mut upper) = (root, 0, u64::MAX);
    // While the way leads to `from` itself, children before it are out of the question.
    let mut is_at_limit = true;
    for _ in 1..snapshot.height {
        let first = if is_at_limit { node.rank(from) } else { 0 };
        let candidates = node.children_with_gap(request.len) & (u32::MAX << first);
        if candidates == 0 {
            snapshot.validate()?;
            return Ok(Outcome::NothingTo(upper));
        }
        let index = candidates.trailing_zeros() as usize;
        is_at_limit &= index == first;
        lower = if index > 0 { node.key(index - 1) } else { lower };
        upper = upper.min(node.key(index));
        node = snapshot.child(node, index)?;
    }
    let mut candidates = node.ranges_after_gap(lower, request.len);
    let mut found = None;
    while found.is_none() && candidates != 0 {
        let index = candidates.trailing_zeros() as usize;
        let gap_start = if index > 0 { node.key(index - 1) } else { lower };
        found = request.lowest_in(gap_start, node.middle(index));
        candidates &= candidates - 1;
    }
    let end = node.key(node.count().wrapping_sub(1)).max(from + 1);
    snapshot.validate()?;
    Ok(found.map_or(Outcome::NothingTo(end), Outcome::Found))
}

/// Descends once for the highest place in gaps that begin below `to`, which is not above the last range.
fn highest_to(snapshot: &Snapshot<'_>, root: &Node, request: &Request, to: u64) -> Result<Outcome, Raced> {
    let (mut node, mut lower) = (root, 0);
    // While the way leads to `to` itself, children after it are out of the question.
    let mut is_at_limit = true;
    for _ in 1..snapshot.height {
        let last = if is_at_limit { node.rank(to - 1) } else { SLOTS };
        let Some(index) = highest_bit(node.children_with_gap(request.len), last) else {
            snapshot.validate()?;
            return Ok(Outcome::NothingTo(lower));
        };
        is_at_limit &= index == last;
        lower = if index > 0 { node.key(index - 1) } else { lower };
        node = snapshot.child(node, index)?;
    }
    let last = if is_at_limit { node.rank(to - 1) } else { SLOTS };
    let mut candidates = node.ranges_after_gap(lower, request.len);
    let mut found = None;
    while let (None, Some(index)) = (found, highest_bit(candidates, last)) {
        let gap_start = if index > 0 { node.key(index - 1) } else { lower };
        found = request.highest_in(gap_start, node.middle(index));
        candidates &= !(1 << index);
    }
    snapshot.validate()?;
    Ok(found.map_or(Outcome::NothingTo(lower), Outcome::Found))
}

/// Returns the highest bit that is set among the bits up to `last`.
#[inline(always)]
fn highest_bit(bits: u32, last: usize) -> Option<usize> {
    (bits & ((2 << last) - 1)).checked_ilog2().map(|bit| bit as usize)
}
