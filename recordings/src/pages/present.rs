//! Which frames of the recorded machine are memory.
//!
//! The scan calls frames without memory holes where the kernel has no descriptor; where it has one (a hole inside a section), they
//! look like frames of unknown use. /proc/pagetypeinfo does not count pageblocks without memory, and so tells how many there are.

use units::{Order, Pfn, PfnRange};

use super::snapshot::{Snapshot, ZoneSnapshot};
use super::{PageKind, PfnKinds};

/// Returns the ranges of frames that are memory, in ascending order.
pub fn present_ranges(snapshot: &Snapshot, kinds: &PfnKinds) -> Vec<PfnRange> {
    let absent: Vec<PfnRange> =
        snapshot.zones.iter().filter_map(|zone| absent_blocks(zone, kinds, snapshot.pageblock_order)).collect();
    let all = PfnRange::new(Pfn::ZERO, snapshot.end());
    let mut present: Vec<PfnRange> = Vec::new();
    let runs = kinds.runs.iter().filter(|run| !matches!(run.kind, PageKind::Hole | PageKind::Offline));
    for run in runs {
        let mut rest = run.range.intersection(all);
        for hole in absent.iter().filter(|hole| !hole.intersection(run.range).is_empty()) {
            push(&mut present, PfnRange::new(rest.start, hole.start));
            rest.start = hole.end;
        }
        push(&mut present, rest);
    }
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

/// Returns the end of the longest run of unknown use, as many pageblocks as the zone's count lacks.
fn absent_blocks(zone: &ZoneSnapshot, kinds: &PfnKinds, order: Order) -> Option<PfnRange> {
    let pageblock = order.nr_pages();
    let spanned = zone.span.end.align_up(pageblock).since(zone.span.start.align_down(pageblock)) / pageblock;
    let absent = spanned.saturating_sub(zone.pageblocks.iter().sum()) * pageblock;
    let unknown = kinds.ranges(PageKind::Kernel).map(|range| range.intersection(zone.span));
    let longest = unknown.max_by_key(|range| range.nr_pages())?;
    let end = longest.end.align_down(pageblock);
    (absent > 0 && end.since(longest.start) >= absent).then(|| PfnRange::new(end.saturating_sub(absent), end))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::recording::Recording;
    use super::*;

    #[test]
    fn the_present_frames_of_a_recording_are_those_that_zoneinfo_counts() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../data/pages/cargo.trace.zst");
        let recording = Recording::at(&path).unwrap();
        let snapshot = recording.before().unwrap();
        let present = present_ranges(&snapshot, &recording.kinds_before().unwrap());
        for zone in &snapshot.zones {
            let pages: u64 = present.iter().map(|range| range.intersection(zone.span).nr_pages()).sum();
            // Zone DMA's count leaves out what the firmware keeps in the first MiB, which the scan calls reserved.
            assert!(pages >= zone.present && pages - zone.present < 128, "{:?} {pages}", zone.zone);
        }
    }
}
