//! Replay on small recorded machines of several nodes: which node a request goes to, and what the report counts.

use page_allocator::FreeHighRule;
use proc_files::{Config, Profile, Release};
use recordings::NodeDistances;
use recordings::pages::{
    Action, BulkPage, Context, CpuNodeSource, CpuNodes, Event, FreeMap, GuidedReplay, InitialBlock, InitialState,
    PresentRange, Snapshot, ZoneSnapshot,
};
use units::{CpuId, Gfp, MigrateType, NodeId, Order, Pfn, PfnRange, ZoneType};

use super::demand::{Demand, DemandCounts, NodeCounts};
use super::machine::{self, Plan};
use super::node_rule::NodeRule;
use super::tests::used_zone;
use super::zone_settings::SettingsSource;

/// Frames of each node.
pub(super) const FRAMES: u64 = 4096;
const SETTINGS: SettingsSource = SettingsSource::Recorded { watermark_boost_factor: 0 };

pub(super) fn node(raw: u64) -> NodeId {
    NodeId::try_new(raw).unwrap()
}

/// A machine of nodes with one zone each, whose low watermark is 100 pages.
pub(super) fn snapshot(nodes: u64) -> Snapshot {
    let zone = |raw: u64| {
        let span = PfnRange::with_len(Pfn::new(raw * FRAMES), FRAMES);
        used_zone(node(raw), span, [80, 100, 120, 140])
    };
    Snapshot {
        zones: (0..nodes).map(zone).collect(),
        zone_kinds: vec![ZoneType::Normal],
        pageblock_order: Order::new_truncate(9),
        profile: Profile::new(Release::V6_12, Config::X86_64),
    }
}

/// Plays requests for single pages, each a CPU and the frame that the recorded kernel gave, on a machine whose nodes with these numbers of
/// frames have all of them free; the CPUs are on `cpu_nodes`. Returns the counts and the frames that each node has left.
fn serve(free: &[u64], cpu_nodes: &[u64], requests: &[(u64, u64)], gfp: Gfp) -> (DemandCounts, Vec<u64>) {
    let snapshot = snapshot(free.len() as u64);
    let range = |zone: &ZoneSnapshot| PresentRange { frames: zone.span, node: zone.node };
    let present: Vec<PresentRange> = snapshot.zones.iter().map(range).collect();
    let nodes = cpu_nodes.iter().map(|raw| node(*raw)).collect();
    let cpu_nodes = CpuNodes { nodes, source: CpuNodeSource::Given, least_share: None };
    let distances = NodeDistances::default();
    let plan = Plan {
        snapshot: &snapshot,
        present: &present,
        cpu_nodes: &cpu_nodes,
        distances: &distances,
        settings: &SETTINGS,
        free_high_rule: FreeHighRule::Batch,
    };
    let machine = machine::boot(plan).unwrap();
    let cpus = machine::cpus(&machine).unwrap();
    let mut map = FreeMap::new(snapshot.end());
    for (zone, free) in snapshot.zones.iter().zip(free) {
        map.insert(PfnRange::with_len(zone.span.start, *free));
    }
    let block = |pfn, order| InitialBlock { pfn, order, migrate_type: MigrateType::Movable };
    let state = InitialState {
        free_blocks: map
            .blocks(PfnRange::new(Pfn::ZERO, snapshot.end()), Order::new_truncate(10))
            .into_iter()
            .map(|free| block(free.pfn, free.order))
            .collect(),
        pageblock_types: vec![MigrateType::Movable; (snapshot.end().raw() / 512) as usize],
        page_sets: Vec::new(),
        bulk: Vec::new(),
    };
    assert_eq!(machine::load(&machine, &cpus[0], plan, &state), 0);
    let lists = GuidedReplay::from_map(map, snapshot.pageblock_order);
    let lists = lists.counting(snapshot.zones.iter().map(|zone| zone.span));
    let rule = NodeRule::new(&snapshot, &cpu_nodes.nodes, &distances);
    let mut demand = Demand::new(machine.pages(), &cpus, snapshot.end()).with_rule(rule);
    for (cpu, pfn) in requests {
        let migrate_type = MigrateType::Movable;
        let action = Action::Alloc { pfn: Some(Pfn::new(*pfn)), order: Order::ZERO, gfp, migrate_type };
        let cpu = CpuId::try_new(*cpu).unwrap();
        demand.serve(&Event { time_ns: 0, cpu, task: 1, context: Context::Task, action }, &lists);
    }
    for (event, pfn) in [(1, FRAMES - 1), (2, 2 * FRAMES - 1)].into_iter().filter(|_| requests.is_empty()) {
        let page = BulkPage { event, cpu: CpuId::ZERO, migrate_type: MigrateType::Movable, pfn: Pfn::new(pfn) };
        demand.serve_bulk(&[page], &lists);
    }
    let pages = machine.pages();
    let left = pages.zones().iter().map(|zone| {
        let listed = pages.free_counts(&cpus[0], zone);
        let free: u64 =
            (0..).zip(&listed).map(|(order, types): (u32, _)| u64::from(types.iter().sum::<u32>()) << order).sum();
        free + pages.pcp_pages(&cpus[0], zone)
    });
    (demand.counts(), left.collect())
}

const MOVABLE: Gfp = Gfp::HIGHUSER_MOVABLE;

#[test]
fn each_cpu_takes_from_its_own_node() {
    let (counts, left) = serve(&[2048, 2048], &[0, 1], &[(0, 1), (1, FRAMES + 1), (1, FRAMES + 2)], MOVABLE);
    assert_eq!(left, [2047, 2046]);
    assert_eq!(counts.by_node, NodeCounts { same_node: 3, ..NodeCounts::default() });
}

#[test]
fn a_remote_frame_that_the_caller_asked_for_comes_from_there() {
    let (counts, left) = serve(&[2048, 2048], &[0, 1], &[(0, FRAMES + 1), (1, 1)], MOVABLE);
    assert_eq!(left, [2047, 2047]);
    assert_eq!(counts.by_node, NodeCounts { named: 2, remote: 2, recorded_remote: 2, same_node: 2 });
}

#[test]
fn a_request_of_a_node_without_memory_to_spare_falls_back_by_itself() {
    let (counts, left) = serve(&[64, 2048], &[0, 1], &[(0, FRAMES + 1)], MOVABLE);
    assert_eq!(left, [64, 2047]);
    assert_eq!(counts.by_node, NodeCounts { named: 0, remote: 1, recorded_remote: 1, same_node: 1 });
}

#[test]
fn a_bound_request_stays_on_the_node_of_its_frame() {
    let (counts, left) = serve(&[64, 2048], &[0, 1], &[(0, FRAMES + 1)], MOVABLE | Gfp::THISNODE);
    assert_eq!((counts.by_node.named, counts.failed, left), (1, 0, vec![64, 2047]));
}

#[test]
fn a_cpu_near_a_node_without_memory_takes_from_the_nearest() {
    let (counts, left) = serve(&[2048, 2048], &[0, 5], &[(1, 1)], MOVABLE);
    assert_eq!(left, [2047, 2048]);
    assert_eq!(counts.by_node, NodeCounts { named: 0, remote: 1, recorded_remote: 1, same_node: 1 });
}

#[test]
fn bulk_pages_come_from_the_node_of_their_frames() {
    let (counts, left) = serve(&[2048, 2048], &[0, 1], &[], MOVABLE);
    assert_eq!((counts.bulk_pages, left), (2, vec![2047, 2047]));
}

#[test]
fn nodes_that_the_zones_do_not_fit_are_refused() {
    let mut snapshot = snapshot(2);
    let range = |zone: &ZoneSnapshot| PresentRange { frames: zone.span, node: zone.node };
    let present: Vec<PresentRange> = snapshot.zones.iter().map(range).collect();
    snapshot.zones[1].span.end = Pfn::new(2 * FRAMES - 512);
    let cpu_nodes = CpuNodes { nodes: vec![node(0)], source: CpuNodeSource::Given, least_share: None };
    let plan = Plan {
        snapshot: &snapshot,
        present: &present[..1],
        cpu_nodes: &cpu_nodes,
        distances: &NodeDistances::default(),
        settings: &SETTINGS,
        free_high_rule: FreeHighRule::Batch,
    };
    let refused = machine::boot(plan).err().map(|error| error.to_string());
    assert_eq!(refused.as_deref(), Some("cannot build the machine: 2 recorded zones, but 1 after a boot"));
}
