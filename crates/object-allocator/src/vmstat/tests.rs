//! Counters and their differences.

extern crate std;
use std::vec::Vec;

use super::*;
use crate::tests::Machine;

fn node(raw: u64) -> NodeId {
    NodeId::try_new(raw).unwrap()
}

#[test]
fn small_changes_stay_with_the_cpu_until_they_exceed_the_threshold() {
    let (machine, cpu) = Machine::new(4, 1, 1024);
    let (vmstat, item) = (machine.vmstat(), NodeItem::NrKernelStack);
    // fls(4) * 2 * (1 + fls(0)) for a zone below 128 MiB.
    let threshold = 6;
    vmstat.mod_node(&cpu, NodeId::ZERO, item, threshold);
    assert_eq!((vmstat.node_estimate(NodeId::ZERO, item), vmstat.node(NodeId::ZERO, item)), (0, 6));
    vmstat.mod_node(&cpu, NodeId::ZERO, item, 1);
    assert_eq!(vmstat.node_estimate(NodeId::ZERO, item), 7);
    vmstat.mod_node(&cpu, NodeId::ZERO, item, -3);
    assert_eq!((vmstat.node_estimate(NodeId::ZERO, item), vmstat.node(NodeId::ZERO, item)), (7, 4));
    assert_eq!((vmstat.refresh_cpu(&cpu), vmstat.node_estimate(NodeId::ZERO, item)), (1, 4));
    vmstat.mod_node(&cpu, NodeId::ZERO, item, 1 << 40);
    assert_eq!(vmstat.node_estimate(NodeId::ZERO, item), 4 + (1 << 40));
}

#[test]
fn counting_one_by_one_oversteps_so_that_the_next_ones_are_cheap() {
    let (machine, cpu) = Machine::new(4, 1, 1024);
    let (vmstat, item) = (machine.vmstat(), NodeItem::NrMapped);
    let shared_changes = (0..70)
        .map(|_| {
            vmstat.inc_node(&cpu, NodeId::ZERO, item);
            vmstat.node_estimate(NodeId::ZERO, item)
        })
        .collect::<std::collections::BTreeSet<_>>();
    // From -3 to 7 and over: ten steps a change.
    assert_eq!(shared_changes.len(), 8, "{shared_changes:?}");
    assert_eq!(vmstat.node(NodeId::ZERO, item), 70);
    (0..70).for_each(|_| vmstat.dec_node(&cpu, NodeId::ZERO, item));
    assert_eq!(vmstat.node(NodeId::ZERO, item), 0);
}

#[test]
fn nodes_zones_and_events_have_counters_of_their_own() {
    let (machine, cpu) = Machine::new(2, 2, 512);
    let vmstat = machine.vmstat();
    for (value, &item) in (1..).zip(NodeItem::ALL) {
        vmstat.mod_node(&cpu, node(1), item, value);
    }
    for (value, &item) in (100..).zip(ZoneItem::ALL) {
        vmstat.mod_zone(&cpu, (node(0), ZoneType::Normal), item, value);
        vmstat.mod_zone(&cpu, (node(1), ZoneType::Movable), item, value * 2);
    }
    for (value, &event) in (1000..).zip(VmEvent::ALL) {
        vmstat.count_events(&cpu, event, value);
    }
    let untouched = |item| !matches!(item, NodeItem::NrSlabReclaimable | NodeItem::NrSlabUnreclaimable);
    let values: Vec<u64> = NodeItem::ALL.iter().map(|&item| vmstat.node(node(1), item)).collect();
    for ((value, &item), expected) in values.iter().zip(NodeItem::ALL).zip(1..) {
        assert!(*value == expected || !untouched(item), "{}", item.name());
        assert!(vmstat.node(node(0), item) == 0 || !untouched(item), "{}", item.name());
    }
    for (expected, &item) in (100..).zip(ZoneItem::ALL) {
        assert_eq!(vmstat.zone((node(0), ZoneType::Normal), item), expected);
        assert_eq!(vmstat.zone((node(1), ZoneType::Movable), item), 2 * expected);
        assert_eq!(vmstat.zone((node(1), ZoneType::Normal), item), 0);
    }
    assert!((1000..).zip(VmEvent::ALL).all(|(expected, &event)| vmstat.events(event) == expected));
}

#[test]
fn names_lead_to_their_counters() {
    assert!(NodeItem::ALL.iter().all(|&item| NodeItem::from_name(item.name()) == Some(item)));
    assert!(ZoneItem::ALL.iter().all(|&item| ZoneItem::from_name(item.name()) == Some(item)));
    assert!(VmEvent::ALL.iter().all(|&event| VmEvent::from_name(event.name()) == Some(event)));
    assert_eq!(VmEvent::from_name("nr_mapped"), None);
}

#[test]
fn a_dead_cpus_counts_are_kept() {
    let (machine, cpu) = Machine::new(2, 1, 512);
    let (vmstat, other) = (machine.vmstat(), machine.cpu(1));
    vmstat.mod_node(&other, NodeId::ZERO, NodeItem::NrShmem, 2);
    vmstat.count_events(&other, VmEvent::Pgfault, 5);
    vmstat.cpu_dead(&cpu, other.id());
    assert_eq!(vmstat.node_estimate(NodeId::ZERO, NodeItem::NrShmem), 2);
    assert_eq!(vmstat.events(VmEvent::Pgfault), 5);
    assert_eq!(vmstat.refresh_cpu(&other), 0);
}

#[test]
fn cpus_count_at_once_and_nothing_is_lost() {
    let (machine, cpu) = Machine::new(3, 1, 512);
    std::thread::scope(|scope| {
        for id in 1..3 {
            let machine = &machine;
            scope.spawn(move || {
                let cpu = machine.cpu(id);
                for round in 0..5000 {
                    machine.vmstat().mod_node(&cpu, NodeId::ZERO, NodeItem::NrDirty, [3, -1, 7, -8][round % 4]);
                    machine.vmstat().inc_node(&cpu, NodeId::ZERO, NodeItem::NrWritten);
                    if round % 100 == 0 {
                        machine.vmstat().refresh_cpu(&cpu);
                    }
                }
            });
        }
    });
    let _ = cpu;
    assert_eq!(machine.vmstat().node(NodeId::ZERO, NodeItem::NrDirty), 2 * 1250);
    assert_eq!(machine.vmstat().node(NodeId::ZERO, NodeItem::NrWritten), 10_000);
}

#[test]
fn a_start_without_memory_leaves_nothing_and_can_be_repeated() {
    let (machine, cpu) = Machine::stopped(2, 1, 512);
    let free = machine.pages().check_invariants(&cpu).unwrap();
    let mut failed = 0;
    for skip in 0..20 {
        machine.pages().arm_faults(skip, u64::MAX);
        let outcome = machine.vmstat().start(machine.pages(), machine.percpu(), &cpu);
        machine.pages().arm_faults(u64::MAX, 0);
        if outcome.is_ok() {
            break;
        }
        failed += 1;
        machine.percpu().give_all_back(machine.pages(), &cpu);
        assert_eq!(machine.pages().check_invariants(&cpu), Ok(free));
        machine.vmstat().count_events(&cpu, VmEvent::Pgfault, 1);
    }
    assert!(failed > 2, "{failed} starts failed");
    assert_eq!(machine.vmstat().events(VmEvent::Pgfault), 0, "before the start nothing is counted");
}
