//! Inference on small hand-made traces, and on the recordings.

use std::path::Path;

use units::{CpuId, MigrateType, Order, Pfn, PfnRange, ZoneType};

use super::super::PageRun;
use super::super::pcp_list::PcpList;
use super::super::snapshot::ZoneSnapshot;
use super::*;

/// A machine of one zone of 16 pageblocks of 512 frames and one CPU, on whose page set `count_after` pages are left.
fn surroundings(kinds: &[(u64, u64, PageKind)], count_after: u64) -> Surroundings {
    let set = |count| proc_files::zoneinfo::PageSet { cpu: CpuId::ZERO, count, high: 900, ..Default::default() };
    let zone = |count| ZoneSnapshot {
        node: units::NodeId::ZERO,
        zone: ZoneType::Normal,
        span: PfnRange::with_len(Pfn::ZERO, 8192),
        present: 8192,
        managed: 8192,
        free: 0,
        watermarks: [0; 4],
        protection: [0; ZoneType::COUNT],
        free_blocks: vec![0; 11],
        free_by_type: Default::default(),
        pageblocks: [0, 16, 0, 0, 0, 0],
        pagesets: vec![set(count)],
    };
    let snapshot = |count| Snapshot {
        zones: vec![zone(count)],
        zone_kinds: vec![ZoneType::Normal],
        pageblock_order: Order::new_truncate(9),
        profile: proc_files::Profile::new(proc_files::Release::V6_12, proc_files::Config::X86_64),
    };
    let run = |&(start, nr_pages, kind): &(u64, u64, PageKind)| PageRun {
        range: PfnRange::with_len(Pfn::new(start), nr_pages),
        kind,
    };
    let kinds = PfnKinds { begin_mono_ns: 0, end_mono_ns: 1, runs: kinds.iter().map(run).collect() };
    Surroundings { before: snapshot(0), after: snapshot(count_after), kinds }
}

fn infer(surroundings: &Surroundings, lines: &[&str]) -> InitialState {
    let text = format!("# mmtrace 1\n# t0_mono_ns 0\n# cpus 1\n{}\n", lines.join("\n"));
    let open = || TraceReader::new(Path::new("test"), Box::new(std::io::Cursor::new(text.clone().into_bytes())));
    InitialState::infer(surroundings, ListOrder::Recorded, open).unwrap()
}

fn blocks(state: &InitialState) -> Vec<(u64, u8)> {
    state.free_blocks.iter().map(|block| (block.pfn.raw(), block.order.raw())).collect()
}

/// Frames of the list of single movable pages.
fn movable_pages(state: &InitialState) -> Vec<u64> {
    let list = PcpList::of(Order::ZERO, MigrateType::Movable, Order::new_truncate(9)).unwrap();
    state.page_sets[0].lists[list.index()].iter().map(|pfn| pfn.raw()).collect()
}

#[test]
fn the_first_event_of_a_frame_overrules_the_scan() {
    let around = surroundings(&[(0, 4, PageKind::Free), (4, 4, PageKind::Anon)], 0);
    let state = infer(&around, &["Z 0 0 1 4 1 1 1", "F 1 0 1 0 0"]);
    assert_eq!(blocks(&state), [(4, 1), (1, 0), (2, 1)]);
}

#[test]
fn free_lists_stand_in_the_order_in_which_the_trace_uses_them() {
    let around = surroundings(&[(0, 4, PageKind::Free), (16, 4, PageKind::Free), (32, 4, PageKind::Free)], 0);
    let state = infer(&around, &["Z 0 0 1 22 0 1 1", "A 0 0 1 22 0 cc0 1", "Z 0 0 1 10 0 1 1", "A 0 0 1 10 0 cc0 1"]);
    assert_eq!(blocks(&state), [(32, 2), (16, 2), (0, 2)]);
}

#[test]
fn pages_handed_out_without_a_refill_were_at_the_head() {
    let around = surroundings(&[(0, 600, PageKind::Anon)], 0);
    let state = infer(
        &around,
        &["A 0 0 1 7 0 cc0 1", "A 0 0 1 3 0 cc0 1", "F 0 0 1 5 0", "A 0 0 1 5 0 cc0 1", "A 0 0 1 9 0 cc0 1"],
    );
    assert_eq!(movable_pages(&state), [7, 3, 9]);
}

#[test]
fn pages_drained_without_a_free_were_at_the_tail_the_first_one_last() {
    let around = surroundings(&[(0, 600, PageKind::Kernel)], 0);
    let state = infer(&around, &["D 0 0 1 8 0 1", "D 0 0 1 6 0 1"]);
    assert_eq!(movable_pages(&state), [6, 8]);
}

#[test]
fn the_middle_is_filled_up_to_the_count_after_the_trace() {
    let kinds = [(0, 16, PageKind::Anon), (16, 4, PageKind::Kernel), (20, 400, PageKind::File)];
    let state = infer(&surroundings(&kinds, 2), &["A 0 0 1 1 0 cc0 1", "D 0 0 1 2 0 1"]);
    assert_eq!(state.page_sets[0].wanted, 4);
    assert_eq!(movable_pages(&state), [1, 16, 17, 2]);
}

#[test]
fn a_list_that_was_refilled_had_nothing_but_what_was_handed_out() {
    let kinds = [(0, 16, PageKind::Anon), (16, 4, PageKind::Kernel), (64, 64, PageKind::Free)];
    let lines = ["A 0 0 1 1 0 cc0 1", "Z 0 0 1 40 0 1 1", "Z 0 0 1 41 0 1 1", "A 0 0 1 40 0 cc0 1"];
    let state = infer(&surroundings(&kinds, 9), &lines);
    assert_eq!(movable_pages(&state), [1]);
}

#[test]
fn a_drain_that_goes_on_to_a_later_list_leaves_the_earlier_ones_empty() {
    let kinds = [(0, 16, PageKind::Kernel), (512, 16, PageKind::Anon)];
    let lines = ["D 0 0 1 1 0 1", "D 0 0 1 2 1 1"];
    let state = infer(&surroundings(&kinds, 5), &lines);
    assert_eq!(movable_pages(&state), [1]);
}

#[test]
fn a_page_that_the_list_skips_was_taken_in_bulk() {
    let around = surroundings(&[(0, 600, PageKind::Anon)], 0);
    let lines = ["F 0 0 1 5 0", "F 0 0 1 6 0", "A 0 0 1 5 0 cc0 1", "F 0 0 1 6 0"];
    let state = infer(&around, &lines);
    let expected = BulkPage { event: 2, cpu: CpuId::ZERO, migrate_type: MigrateType::Movable, pfn: Pfn::new(6) };
    assert_eq!(state.bulk, [expected]);
}

#[test]
fn two_allocations_in_swapped_lines_are_no_bulk_allocation() {
    let around = surroundings(&[(0, 600, PageKind::Anon)], 0);
    let lines = ["F 0 0 1 5 0", "F 0 0 1 6 0", "A 0 0 1 5 0 cc0 1", "A 0 0 1 6 0 cc0 1"];
    assert_eq!(infer(&around, &lines).bulk, []);
}

#[test]
fn a_page_freed_twice_was_taken_in_bulk_in_between() {
    let around = surroundings(&[(0, 600, PageKind::Anon)], 0);
    let bulk = infer(&around, &["F 0 0 1 5 0", "F 0 0 1 5 0"]).bulk;
    assert_eq!(bulk.iter().map(|page| (page.event, page.pfn.raw())).collect::<Vec<_>>(), [(1, 5)]);
}

#[test]
fn pageblocks_take_the_type_of_their_first_list_operation() {
    let around = surroundings(&[(0, 4096, PageKind::Free)], 0);
    let lines =
        ["Z 0 0 1 200 0 0 1", "A 0 0 1 200 0 cc0 0", "X 0 0 1 400 0 10 2 1 1", "F 0 0 1 810 0", "A 0 0 1 810 0 cc0 2"];
    let types = infer(&around, &lines).pageblock_types;
    use MigrateType::{Movable, Reclaimable, Unmovable};
    assert_eq!(types[..6], [Movable, Unmovable, Movable, Movable, Reclaimable, Movable]);
}

#[test]
fn pageblocks_without_events_are_fitted_to_the_counts() {
    let mut around = surroundings(
        &[(0, 512, PageKind::Anon), (512, 508, PageKind::Slab), (1020, 4, PageKind::Free), (1024, 512, PageKind::Slab)],
        0,
    );
    around.before.zones[0].pageblocks = [1, 14, 1, 0, 0, 0];
    around.before.zones[0].free_by_type[MigrateType::Unmovable.index()] = vec![0, 0, 1];
    let types = infer(&around, &["F 0 0 1 0 0"]).pageblock_types;
    assert_eq!(types[..3], [MigrateType::Movable, MigrateType::Unmovable, MigrateType::Reclaimable]);
}

#[test]
fn a_trace_of_a_larger_machine_is_refused_with_the_line() {
    let text = "# mmtrace 1\n# t0_mono_ns 0\n# cpus 1\nF 0 0 1 0 0\nF 0 0 1 2000 0\n";
    let open = || TraceReader::new(Path::new("test"), Box::new(std::io::Cursor::new(text)));
    let error = InitialState::infer(&surroundings(&[], 0), ListOrder::Recorded, open).unwrap_err();
    assert_eq!(
        error.to_string(),
        "test, line 5: found frame 2000, expected a frame of the recorded machine, below 2000"
    );
}

fn recorded(name: &str) -> (Surroundings, InitialState) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../data/pages").join(format!("{name}.trace.zst"));
    let recording = Recording::at(&path).unwrap();
    let around = Surroundings::read(&recording).unwrap();
    let state = InitialState::infer(&around, ListOrder::Recorded, || recording.events()).unwrap();
    (around, state)
}

/// fork moved no page between the /proc files and the first event, so the inferred lists must be those of the files.
#[test]
fn the_state_of_fork_agrees_with_buddyinfo_and_pagetypeinfo() {
    let (around, state) = recorded("fork");
    for zone in &around.before.zones {
        let inside = |block: &&InitialBlock| zone.span.contains(block.pfn);
        for migrate_type in [MigrateType::Unmovable, MigrateType::Movable, MigrateType::Reclaimable] {
            let mut counts = vec![0; 11];
            for block in state.free_blocks.iter().filter(inside).filter(|block| block.migrate_type == migrate_type) {
                counts[block.order.index()] += 1;
            }
            assert_eq!(counts, zone.free_by_type[migrate_type.index()], "{:?} {migrate_type:?}", zone.zone);
        }
    }
    let normal = &around.before.zones[2];
    let first = (normal.span.start.raw() >> 9) as usize;
    let counted = |wanted| state.pageblock_types[first..].iter().filter(|found| **found == wanted).count() as u64;
    assert_eq!(
        [MigrateType::Unmovable, MigrateType::Movable, MigrateType::Reclaimable].map(counted),
        normal.pageblocks[..3]
    );
}

#[test]
fn the_page_sets_of_the_recordings_hold_what_they_should() {
    for name in ["cargo", "fork"] {
        let (around, state) = recorded(name);
        for set in &state.page_sets {
            assert_eq!(set.nr_pages(around.before.pageblock_order), set.wanted, "{name} {set:?}");
        }
    }
}

#[test]
fn no_frame_of_the_recordings_is_in_two_places() {
    for name in ["cargo", "fork", "pressure"] {
        let (around, state) = recorded(name);
        let mut seen = FreeMap::new(around.before.end());
        let mut put = |pfn: Pfn, order: Order| {
            let nr_pages = order.nr_pages();
            assert_eq!(seen.insert(PfnRange::with_len(pfn, nr_pages)), nr_pages, "{name}: {pfn:?} {order:?}");
        };
        state.free_blocks.iter().for_each(|block| put(block.pfn, block.order));
        for set in &state.page_sets {
            for (list, blocks) in PcpList::all().zip(&set.lists) {
                blocks.iter().for_each(|pfn| put(*pfn, list.order(around.before.pageblock_order)));
            }
        }
    }
}
