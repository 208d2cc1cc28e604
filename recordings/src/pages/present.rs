//! Which frames of the recorded machine are memory.
//!
//! The scan calls frames without memory holes where the kernel has no descriptor; where it has one, they look like reserved frames (what
//! firmware keeps) or like frames of unknown use (a hole inside a section). /proc/pagetypeinfo does not count pageblocks without
//! memory, and /proc/zoneinfo counts the frames of a zone that are memory, so both tell how many there are.

use units::{NodeId, Order, PfnRange};

use super::snapshot::{Snapshot, ZoneSnapshot};
use super::{PageKind, PfnKinds};

/// Memory of one node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PresentRange {
    /// The frames.
    pub frames: PfnRange,
    /// Their node.
    pub node: NodeId,
}

/// Returns the ranges of frames that are memory, in ascending order; all lie in the snapshot's zones.
pub fn present_ranges(snapshot: &Snapshot, kinds: &PfnKinds) -> Vec<PresentRange> {
    let mut present: Vec<PresentRange> = Vec::new();
    for zone in &snapshot.zones {
        let runs = kinds.runs.iter().filter(|run| !matches!(run.kind, PageKind::Hole | PageKind::Offline));
        let mut ranges: Vec<PfnRange> = Vec::new();
        runs.for_each(|run| push(&mut ranges, run.range.intersection(zone.span)));
        if let Some(absent) = absent_blocks(zone, kinds, snapshot.pageblock_order) {
            cut(&mut ranges, absent);
        }
        let counted: u64 = ranges.iter().map(|range| range.nr_pages()).sum();
        let firmware = longest(zone, kinds, PageKind::Reserved);
        if let Some(firmware) = firmware.and_then(|run| end_of(run, counted.saturating_sub(zone.present))) {
            cut(&mut ranges, firmware);
        }
        present.extend(ranges.into_iter().map(|frames| PresentRange { frames, node: zone.node }));
    }
    present.sort_by_key(|range| range.frames.start);
    present.dedup_by(|next, last| {
        let joined = next.node == last.node && next.frames.start == last.frames.end;
        if joined {
            last.frames.end = next.frames.end;
        }
        joined
    });
    present
}

/// Appends `range`, joined with the last one if they touch.
fn push(ranges: &mut Vec<PfnRange>, range: PfnRange) {
    if range.is_empty() {
        return;
    }
    match ranges.last_mut() {
        Some(last) if last.end == range.start => last.end = range.end,
        _ => ranges.push(range),
    }
}

/// Takes `hole` out of `ranges`.
fn cut(ranges: &mut Vec<PfnRange>, hole: PfnRange) {
    for range in std::mem::take(ranges) {
        let before = PfnRange::new(range.start, range.end.min(hole.start));
        let behind = PfnRange::new(range.start.max(hole.end), range.end);
        if range.intersection(hole).is_empty() {
            push(ranges, range);
        } else {
            push(ranges, before);
            push(ranges, behind);
        }
    }
}

/// Returns the end of the longest run of unknown use, as many pageblocks as the zone's count lacks.
fn absent_blocks(zone: &ZoneSnapshot, kinds: &PfnKinds, order: Order) -> Option<PfnRange> {
    let pageblock = order.nr_pages();
    let spanned = zone.span.end.align_up(pageblock).since(zone.span.start.align_down(pageblock)) / pageblock;
    let absent = spanned.saturating_sub(zone.pageblocks.iter().sum()) * pageblock;
    let unknown = longest(zone, kinds, PageKind::Kernel)?;
    end_of(PfnRange::new(unknown.start, unknown.end.align_down(pageblock)), absent)
}

fn longest(zone: &ZoneSnapshot, kinds: &PfnKinds, kind: PageKind) -> Option<PfnRange> {
    kinds.ranges(kind).map(|range| range.intersection(zone.span)).max_by_key(|range| range.nr_pages())
}

/// Returns the last `nr_pages` frames of `run`, if it has as many and any are asked for.
fn end_of(run: PfnRange, nr_pages: u64) -> Option<PfnRange> {
    (nr_pages > 0 && run.nr_pages() >= nr_pages).then(|| PfnRange::new(run.end.saturating_sub(nr_pages), run.end))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use units::Pfn;

    use super::super::recording::Recording;
    use super::*;

    #[test]
    fn the_present_frames_of_a_recording_are_those_that_zoneinfo_counts() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../data/pages/cargo.trace.zst");
        let recording = Recording::at(&path).unwrap();
        let snapshot = recording.before().unwrap();
        let present = present_ranges(&snapshot, &recording.kinds_before().unwrap());
        for zone in &snapshot.zones {
            let pages: u64 = present.iter().map(|range| range.frames.intersection(zone.span).nr_pages()).sum();
            assert_eq!(pages, zone.present, "{:?}", zone.zone);
        }
    }

    #[test]
    fn what_firmware_keeps_in_the_first_megabyte_is_no_memory() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../data/pages/cargo.trace.zst");
        let recording = Recording::at(&path).unwrap();
        let present = present_ranges(&recording.before().unwrap(), &recording.kinds_before().unwrap());
        assert_eq!(present[0].frames, PfnRange::new(Pfn::new(1), Pfn::new(0x9f)));
        assert_eq!(present[1].frames.start, Pfn::new(0x100));
    }
}
