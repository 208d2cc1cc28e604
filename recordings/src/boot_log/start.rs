//! The state of memblock when the first line of a log was written.
//!
//! Calls that were made before `memblock=debug` was read, or that fell out of a wrapped log buffer, left no lines. Their effect
//! shows in the first dump; undoing the logged calls before that dump, last first, gives the state in which the log begins.

use boot_memory::memblock::{BootContext, Memblock, MemblockError, Region, RegionFlags};
use units::{PhysAddr, PhysRange};

use super::request::{RangeCall, Request, is_request, parse_request};
use super::{Action, BootLog, Step};

/// Set of bytes, as disjoint ranges in no order.
#[derive(Clone, Debug, Default)]
pub(super) struct ByteSet {
    ranges: Vec<PhysRange>,
}

impl ByteSet {
    pub(super) fn insert(&mut self, range: PhysRange) {
        self.remove(range);
        if !range.is_empty() {
            self.ranges.push(range);
        }
    }

    pub(super) fn remove(&mut self, gone: PhysRange) {
        let pieces = |range: PhysRange| {
            let low = PhysRange::new(range.start, range.end.min(gone.start));
            let high = PhysRange::new(range.start.max(gone.end), range.end);
            [low, high]
        };
        let (hit, mut kept): (Vec<_>, Vec<_>) = self.ranges.iter().partition(|range| range.overlaps(gone));
        kept.extend(hit.into_iter().flat_map(pieces).filter(|piece| !piece.is_empty()));
        self.ranges = kept;
    }

    /// Returns the ranges in ascending order.
    pub(super) fn sorted(&self) -> Vec<PhysRange> {
        let mut ranges = self.ranges.clone();
        ranges.sort_unstable_by_key(|range| range.start);
        ranges
    }
}

/// What a replay starts with.
#[derive(Clone, Debug, Default)]
pub(super) struct StartState {
    /// Memory that no logged call adds.
    pub(super) memory: ByteSet,
    /// Ranges that no logged call reserves.
    pub(super) reserved: ByteSet,
    /// Bytes that were trimmed off memory that no logged call adds.
    pub(super) trimmed: u64,
}

/// Derives the state in which the log begins.
///
/// Without a dump, memory is what `Early memory node ranges` shows, and only what the log frees is known to be reserved.
pub(super) fn derive(log: &BootLog) -> StartState {
    let mut start = StartState::default();
    let logged = match log.first_dump() {
        Some((index, dump)) => {
            dump.memory.iter().for_each(|region| start.memory.insert(region.range()));
            dump.reserved.iter().for_each(|region| start.reserved.insert(region.range()));
            let shown = dump.memory.iter().fold(0u64, |sum, region| sum.saturating_add(region.size));
            start.trimmed = dump.memory_size.saturating_sub(shown);
            log.steps.get(..index).unwrap_or_default()
        }
        None => {
            log.early_node_ranges().iter().for_each(|block| start.memory.insert(block.range));
            &log.steps
        }
    };
    for step in logged.iter().rev().filter(|step| !matches!(step.action, Action::Dump(_))) {
        undo(log, step, &mut start);
    }
    start
}

/// Undoes the lines of one step, last first.
///
/// A removal is not undone: what was there before it cannot be known, and kernels remove what lies outside the addressable
/// range only.
fn undo(log: &BootLog, step: &Step, start: &mut StartState) {
    let lines = log.lines.get(step.lines.clone()).unwrap_or_default();
    for line in lines.iter().rev().filter(|line| is_request(line)).filter_map(|line| parse_request(line)) {
        match line.request {
            Request::Range(RangeCall::Reserve, base, size) => start.reserved.remove(PhysRange::with_len(base, size)),
            Request::Range(RangeCall::PhysFree, base, size) => start.reserved.insert(PhysRange::with_len(base, size)),
            Request::Range(RangeCall::Add, base, size) | Request::AddNode(base, size, ..) => {
                let range = PhysRange::with_len(base, size);
                let pages = range.whole_frames(PAGE_SHIFT).phys(PAGE_SHIFT);
                start.memory.remove(range);
                start.trimmed = start.trimmed.saturating_sub(range.len().saturating_sub(pages.len()));
            }
            _ => {}
        }
    }
}

/// Puts the state that a log begins in into an empty memblock.
pub(super) fn apply(
    start: &StartState,
    memblock: &mut Memblock,
    cx: &mut BootContext<'_>,
) -> Result<(), MemblockError> {
    let memory = start.memory.sorted();
    for range in &memory {
        memblock.add(range.start, range.len(), cx)?;
    }
    add_trimmed(start.trimmed, &memory, memblock, cx)?;
    for range in start.reserved.sorted() {
        memblock.reserve(range.start, range.len(), cx)?;
    }
    Ok(())
}

/// Adds less than a page at the end of regions and trims it off again, until `bytes` were trimmed as in the kernel's total.
///
/// Which regions lost how much cannot be known, and nothing but the total depends on it.
fn add_trimmed(
    mut bytes: u64,
    memory: &[PhysRange],
    memblock: &mut Memblock,
    cx: &mut BootContext<'_>,
) -> Result<(), MemblockError> {
    const PAGE: u64 = 1 << PAGE_SHIFT;
    if bytes == 0 {
        return Ok(());
    }
    for range in memory {
        let partial = bytes.min(PAGE - 1);
        if partial > 0 && !memblock.overlaps_memory(range.end, PAGE) {
            memblock.add(range.end, partial, cx)?;
            bytes -= partial;
        }
    }
    memblock.trim_memory(PAGE);
    Ok(())
}

/// Marks memory as the first dump shows it; firmware tables that leave no line say which memory is unmapped or mirrored.
pub(super) fn apply_marks(
    log: &BootLog,
    memblock: &mut Memblock,
    cx: &mut BootContext<'_>,
) -> Result<(), MemblockError> {
    let Some((_, dump)) = log.first_dump() else { return Ok(()) };
    for Region { base, size, flags, .. } in dump.memory.iter().copied() {
        if flags.contains(RegionFlags::NOMAP) {
            memblock.mark_nomap(base, size, cx)?;
        }
        if flags.contains(RegionFlags::MIRROR) {
            memblock.mark_mirror(base, size, cx)?;
        }
    }
    Ok(())
}

/// Only x86 trims memory, and its pages have 4 KiB.
const PAGE_SHIFT: u32 = 12;

/// Limit of allocations on x86 until memory is mapped (Linux: ISA_END_ADDRESS).
pub(super) const ISA_END: PhysAddr = PhysAddr::new(0x10_0000);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_set_splits_where_bytes_leave() {
        let range = |start, end| PhysRange::new(PhysAddr::new(start), PhysAddr::new(end));
        let mut set = ByteSet::default();
        set.insert(range(0x1000, 0x4000));
        set.insert(range(0x3000, 0x5000));
        set.remove(range(0x2000, 0x2800));
        let total: u64 = set.sorted().iter().map(|range| range.len()).sum();
        assert_eq!((set.sorted().first(), total), (Some(&range(0x1000, 0x2000)), 0x3800));
    }

    #[test]
    fn what_the_log_reserves_before_the_first_dump_was_free_when_it_began() {
        let log = "memblock_reserve: [0x3000-0x3fff] a+0x1/0x2\nmemblock_phys_free: [0x8000-0x8fff] a+0x1/0x2\n\
                   MEMBLOCK configuration:\n reserved[0x0]\t[0x2000-0x3fff], 0x2000 bytes flags: 0x0\n";
        let start = derive(&BootLog::parse(log.as_bytes()).unwrap());
        let expected =
            [(0x2000, 0x3000), (0x8000, 0x9000)].map(|(a, b)| PhysRange::new(PhysAddr::new(a), PhysAddr::new(b)));
        assert_eq!(start.reserved.sorted(), expected);
    }
}
