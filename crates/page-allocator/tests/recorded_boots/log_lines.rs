//! Every log line about zones, nodes and zonelists must be the kernel's, in the kernel's order.

use mmkit_page_allocator::layout::boot_log::{self, NodeState};
use mmkit_page_allocator::layout::{MobilityGrouping, NodeOrders, Topology, for_each_unavailable, policy_zone};
use units::NodeMask;

use crate::machine::{self, Arch, Machine, PAGE};

/// Beginnings of the lines that are compared.
const PREFIXES: [&str; 19] = [
    "Zone ranges:",
    "  DMA ",
    "  DMA32 ",
    "  Normal ",
    "  HighMem ",
    "  Device ",
    "Movable zone start",
    "  Node ",
    "Early memory node ranges",
    "  node ",
    "Initializing node ",
    "Initmem setup node ",
    "On node 0, zone",
    "On node 1, zone",
    "On node 2, zone",
    "On node 3, zone",
    "Fallback order",
    "Built ",
    "Policy zone",
];

fn recorded(machine: &Machine) -> Vec<&str> {
    let lines = machine.log.iter().map(String::as_str);
    lines.filter(|line| PREFIXES.iter().any(|prefix| line.starts_with(prefix))).collect()
}

fn computed(machine: &Machine) -> String {
    let (limits, movable, layouts) = (machine.limits(), machine.movable_starts(), machine.layouts());
    let log = &mut String::new();
    boot_log::write_zone_ranges(log, &limits, PAGE.page_shift).unwrap();
    boot_log::write_movable_starts(log, &movable, PAGE.page_shift).unwrap();
    boot_log::write_memory_ranges(log, machine.memory(), PAGE.page_shift).unwrap();
    for layout in &layouts {
        boot_log::write_node_setup(log, layout, NodeState::Online, machine.release(), PAGE.page_shift).unwrap();
    }
    for_each_unavailable(machine.memory(), &layouts, machine.model(), |found| {
        boot_log::write_unavailable(log, found).unwrap();
    });
    write_zonelists(machine, log);
    log.clone()
}

fn write_zonelists(machine: &Machine, log: &mut String) {
    let nodes = machine.nodes();
    let mut orders = NodeOrders::new(Topology {
        distance: |from, to| machine.distance(from, to),
        with_memory: nodes,
        with_cpus: NodeMask::EMPTY,
        release: machine.release(),
    });
    let numa = machine.arch != Arch::X86Old;
    let possible = machine.possible_nodes();
    for node in possible.iter().filter(|_| numa) {
        boot_log::write_fallback_order(log, node, orders.next(node).as_slice()).unwrap();
    }
    let layouts = machine.layouts();
    let total = machine.memmap_cost().total_pages(&layouts, machine.release());
    let grouping = MobilityGrouping::decide(total, 512, 5);
    boot_log::write_zonelists_built(log, u64::from(possible.len()), grouping, total).unwrap();
    if numa {
        let populated = layouts.iter().flat_map(|layout| layout.populated().map(|(kind, _)| kind));
        boot_log::write_policy_zone(log, policy_zone(populated, machine.limits().configured())).unwrap();
    }
}

#[test]
fn every_line_about_zones_and_nodes_is_the_kernels() {
    for machine in machine::all() {
        let computed = computed(&machine);
        assert_eq!(computed.lines().collect::<Vec<_>>(), recorded(&machine), "machine {}", machine.name);
    }
}
