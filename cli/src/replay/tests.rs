//! The demand on a small recorded machine: which block goes where, and what is given back.

use page_allocator::FreeHighRule;
use proc_files::zoneinfo::PageSet;
use proc_files::{Config, Profile, Release};
use recordings::NodeDistances;
use recordings::pages::{
    Action, Batch, BulkPage, Context, CpuNodes, Event, FreeMap, GuidedReplay, InitialBlock, InitialPageSet,
    InitialState, PcpList, PresentRange, Snapshot, ZoneSnapshot,
};
use sim::CpuGuard;
use units::{CpuId, Gfp, MigrateType, NodeId, Order, Pfn, PfnRange, ZoneType};

use super::demand::{Demand, DemandCounts};
use super::machine::{self, Plan, ReplayAllocator};
use super::zone_settings::SettingsSource;

const FRAMES: u64 = 8192;
const SETTINGS: SettingsSource = SettingsSource::Recorded { watermark_boost_factor: 0 };

/// A zone whose frames are all used, in movable pageblocks.
pub(super) fn used_zone(node: NodeId, span: PfnRange, watermarks: [u64; 4]) -> ZoneSnapshot {
    let pageset = PageSet { high: 64, batch: 8, high_min: 64, high_max: 512, ..PageSet::default() };
    ZoneSnapshot {
        node,
        zone: ZoneType::Normal,
        span,
        present: span.nr_pages(),
        managed: span.nr_pages(),
        free: 0,
        watermarks,
        protection: [0; ZoneType::COUNT],
        free_blocks: vec![0; 11],
        free_by_type: Default::default(),
        pageblocks: [0, span.nr_pages() / 512, 0, 0, 0, 0],
        pagesets: vec![pageset],
    }
}

fn snapshot() -> Snapshot {
    let span = PfnRange::with_len(Pfn::ZERO, FRAMES);
    Snapshot {
        zones: vec![used_zone(NodeId::ZERO, span, [16, 20, 24, 28])],
        zone_kinds: vec![ZoneType::Dma, ZoneType::Dma32, ZoneType::Normal],
        pageblock_order: Order::new_truncate(9),
        profile: Profile::new(Release::V6_12, Config::X86_64),
    }
}

/// Frames 4096 and up are free in blocks of order 10; frames 100 and 101 are on CPU 0's list of single movable pages.
fn state() -> InitialState {
    let block =
        |pfn| InitialBlock { pfn: Pfn::new(pfn), order: Order::new_truncate(10), migrate_type: MigrateType::Movable };
    let mut lists = vec![Vec::new(); PcpList::COUNT];
    let singles = PcpList::of(Order::ZERO, MigrateType::Movable, Order::new_truncate(9)).unwrap();
    lists[singles.index()] = vec![Pfn::new(100), Pfn::new(101)];
    InitialState {
        free_blocks: [4096, 5120, 6144, 7168].map(block).to_vec(),
        pageblock_types: vec![MigrateType::Movable; 16],
        page_sets: vec![InitialPageSet { cpu: CpuId::ZERO, zone: 0, high: 64, wanted: 2, lists }],
        bulk: Vec::new(),
    }
}

fn one_cpu() -> CpuNodes {
    CpuNodes::on_one_node(&snapshot(), 1).unwrap()
}

fn plan<'a>(snapshot: &'a Snapshot, present: &'a [PresentRange], cpu_nodes: &'a CpuNodes) -> Plan<'a> {
    const DISTANCES: &NodeDistances = &NodeDistances::UNKNOWN;
    let free_high_rule = FreeHighRule::BatchAndHalfOfHighMin;
    Plan { snapshot, present, cpu_nodes, distances: DISTANCES, settings: &SETTINGS, free_high_rule }
}

/// No recorded list operation at all.
fn no_lists() -> GuidedReplay {
    GuidedReplay::from_map(FreeMap::new(Pfn::ZERO), Order::new_truncate(9))
}

/// Loads `state` on a machine of one CPU, and gives `play` the machine with nothing asked yet.
fn with_machine<R>(state: &InitialState, play: impl FnOnce(&ReplayAllocator, &[CpuGuard<'_>], u64) -> R) -> R {
    let snapshot = snapshot();
    let present = [PresentRange { frames: PfnRange::with_len(Pfn::ZERO, FRAMES), node: NodeId::ZERO }];
    let cpu_nodes = one_cpu();
    let plan = plan(&snapshot, &present, &cpu_nodes);
    let machine = machine::boot(plan).unwrap();
    let cpus = machine::cpus(&machine).unwrap();
    let refused = machine::load(&machine, &cpus[0], plan, state);
    let result = play(machine.pages(), &cpus, refused);
    machine.pages().check_invariants(&cpus[0]).unwrap();
    result
}

/// Serves `actions` on the machine of [`state`]; returns the counts and the pages that are free or on lists at the end.
fn serve(actions: &[Action]) -> (DemandCounts, u64) {
    with_machine(&state(), |allocator, cpus, refused| {
        assert_eq!(refused, 0);
        let mut demand = Demand::new(allocator, cpus, Pfn::new(FRAMES));
        for action in actions {
            let event = Event { time_ns: 0, cpu: CpuId::ZERO, task: 1, context: Context::Task, action: *action };
            demand.serve(&event, &no_lists());
        }
        (demand.counts(), allocator.check_invariants(&cpus[0]).unwrap())
    })
}

fn alloc(pfn: u64, order: u8) -> Action {
    Action::Alloc {
        pfn: Some(Pfn::new(pfn)),
        order: Order::new_truncate(order),
        gfp: Gfp::HIGHUSER_MOVABLE | Gfp::ZERO | Gfp::COMP,
        migrate_type: MigrateType::Movable,
    }
}

fn free(pfn: u64, order: u8) -> Action {
    Action::Free { pfn: Pfn::new(pfn), order: Order::new_truncate(order), batch: Batch::Single }
}

const LOADED: u64 = 4 * 1024 + 2;

#[test]
fn the_loaded_lists_serve_in_their_order() {
    let (counts, left) = serve(&[alloc(100, 0), alloc(101, 0), alloc(4096, 0)]);
    assert_eq!((counts.allocations, counts.same_pfn, counts.failed), (3, 3, 0));
    assert_eq!(left, LOADED - 3);
}

#[test]
fn a_block_is_freed_under_the_recorded_frame_wherever_it_is_here() {
    let (counts, left) = serve(&[alloc(7, 3), free(7, 3)]);
    assert_eq!((counts.same_pfn, counts.unmatched_frees, left), (0, 0, LOADED));
}

#[test]
fn frames_in_use_at_the_start_can_be_freed_at_any_order() {
    let (counts, left) = serve(&[free(16, 4), free(40, 0), free(512, 9)]);
    assert_eq!((counts.frees, counts.unmatched_frees), (3, 0));
    assert_eq!(left, LOADED + 16 + 1 + 512);
}

#[test]
fn parts_of_a_block_are_split_off_when_they_are_freed() {
    let (counts, left) = serve(&[alloc(32, 3), free(35, 0), free(36, 2), free(32, 1)]);
    assert_eq!((counts.unmatched_frees, left), (0, LOADED - 1));
}

#[test]
fn a_free_without_a_holder_is_counted_and_changes_nothing() {
    let (counts, left) = serve(&[alloc(8, 0), free(8, 0), free(8, 0), free(5000, 0)]);
    assert_eq!((counts.unmatched_frees, left), (2, LOADED));
}

#[test]
fn what_the_recorded_kernel_could_not_serve_is_given_back() {
    let failed = Action::Alloc {
        pfn: None,
        order: Order::new_truncate(9),
        gfp: Gfp::TRANSHUGE,
        migrate_type: MigrateType::Movable,
    };
    let (counts, left) = serve(&[failed]);
    assert_eq!((counts.recorded_failed, counts.failed, left), (1, 0, LOADED));
}

#[test]
fn a_request_that_fails_here_makes_its_free_void() {
    // The watermark keeps the last block of order 10 from being taken whole.
    let huge: Vec<Action> = (0..4).map(|number| alloc(1024 * number, 10)).collect();
    let last = [free(3072, 10)];
    let (counts, _) = serve(&[&huge[..], &last[..]].concat());
    assert_eq!((counts.failed, counts.failed_here_only[10], counts.frees_of_failed), (1, 1, 1));
}

#[test]
fn bulk_pages_map_to_what_was_taken_for_them() {
    let page = |pfn| BulkPage { event: 0, cpu: CpuId::ZERO, migrate_type: MigrateType::Movable, pfn: Pfn::new(pfn) };
    with_machine(&state(), |allocator, cpus, _| {
        let mut demand = Demand::new(allocator, cpus, Pfn::new(FRAMES));
        demand.serve_bulk(&[page(3), page(4)], &no_lists());
        for action in [free(3, 0), free(4, 0), free(4, 0)] {
            let event = Event { time_ns: 0, cpu: CpuId::ZERO, task: 1, context: Context::Task, action };
            demand.serve(&event, &no_lists());
        }
        let counts = demand.counts();
        assert_eq!((counts.bulk_pages, counts.frees, counts.unmatched_frees), (2, 3, 1));
    });
}

#[test]
fn a_state_that_names_a_frame_twice_is_loaded_once() {
    let mut state = state();
    state.free_blocks.push(state.free_blocks[0]);
    with_machine(&state, |_, _, refused| assert_eq!(refused, 1));
}

#[test]
fn a_machine_whose_pageblocks_exceed_its_largest_block_is_refused() {
    let snapshot = Snapshot { pageblock_order: Order::new_truncate(11), ..snapshot() };
    let refused = machine::boot(plan(&snapshot, &[], &one_cpu())).err().map(|error| error.to_string());
    let expected = "cannot build the machine: pageblocks of order 11 with blocks up to order 10";
    assert_eq!(refused.as_deref(), Some(expected));
}
