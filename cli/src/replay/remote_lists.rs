//! The vmstat timer's work on a CPU's lists of other nodes' zones: lists that were not used for three intervals give back a batch.
//!
//! Pages there are out of the reach of the CPUs that would use them. A use is whatever changes the zone's counters on that CPU, which each
//! refill, drain and change of a user page does; here it is any recorded request or free. What the recorded CPUs had left of
//! their three intervals at the start is not visible: all of it is assumed.
//!
//! Linux 6.12: mm/vmstat.c (`refresh_cpu_vm_stats`), mm/page_alloc.c (`drain_zone_pages`), struct per_cpu_pages (`expire`).

use recordings::pages::Snapshot;
use units::{CpuId, NodeId, Pfn};

/// Intervals until unused lists give pages back.
const INTERVALS: u8 = 3;

/// How long each CPU's lists of each zone stay as they are.
#[derive(Debug)]
pub(super) struct RemoteLists<'a> {
    snapshot: &'a Snapshot,
    cpu_nodes: &'a [NodeId],
    /// Intervals left, by CPU and zone.
    left: Vec<u8>,
}

impl<'a> RemoteLists<'a> {
    pub(super) fn new(snapshot: &'a Snapshot, cpu_nodes: &'a [NodeId]) -> Self {
        Self { snapshot, cpu_nodes, left: vec![INTERVALS; cpu_nodes.len() * snapshot.zones.len()] }
    }

    /// Notes that a CPU used its lists of the zone that has `pfn`.
    #[inline]
    pub(super) fn note(&mut self, cpu: CpuId, pfn: Pfn) {
        let zones = self.snapshot.zones.len();
        let zone = self.snapshot.zone_of(pfn);
        if let Some(left) = zone.and_then(|zone| self.left.get_mut(cpu.index() * zones + zone)) {
            *left = INTERVALS;
        }
    }

    /// Lets an interval of `cpu` end; calls `drain` with the number of each zone whose lists are to give back a batch.
    pub(super) fn tick(&mut self, cpu: CpuId, mut drain: impl FnMut(usize)) {
        let zones = self.snapshot.zones.len();
        let own = self.cpu_nodes.get(cpu.index());
        let row = self.left.iter_mut().skip(cpu.index() * zones).take(zones);
        for (number, (left, zone)) in row.zip(&self.snapshot.zones).enumerate() {
            if own == Some(&zone.node) || *left == 0 {
                continue;
            }
            *left -= 1;
            if *left == 0 {
                drain(number);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::numa_tests::{FRAMES, node, snapshot};
    use super::*;

    #[test]
    fn lists_of_another_node_are_drained_once_at_the_third_interval_without_use() {
        let snapshot = snapshot(2);
        let cpu_nodes = [node(0), node(1)];
        let mut lists = RemoteLists::new(&snapshot, &cpu_nodes);
        let tick = |lists: &mut RemoteLists<'_>, cpu: u64| {
            let mut drained = Vec::new();
            lists.tick(CpuId::try_new(cpu).unwrap(), |zone| drained.push(zone));
            drained
        };
        assert!(tick(&mut lists, 0).is_empty());
        lists.note(CpuId::ZERO, Pfn::new(FRAMES + 7));
        assert!(tick(&mut lists, 0).is_empty() && tick(&mut lists, 0).is_empty());
        assert_eq!(tick(&mut lists, 0), [1]);
        assert!(tick(&mut lists, 0).is_empty());
        assert!(tick(&mut lists, 1).is_empty() && tick(&mut lists, 1).is_empty());
        assert_eq!(tick(&mut lists, 1), [0]);
    }
}
