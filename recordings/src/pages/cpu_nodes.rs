//! Which node each CPU of a recorded machine is near.
//!
//! The files that every recording has do not say it. In this order of preference it comes from the user, from the recording's
//! `node-nodeN-cpulist` files, or from the trace itself: a request that may be served by any node is served by the CPU's own while that has
//! memory, so most of a CPU's allocations come from there. On a machine of one node there is nothing to ask.

use std::path::Path;

use units::{CpuId, Gfp, NodeId};

use super::event::Action;
use super::snapshot::Snapshot;
use super::trace::TraceReader;
use crate::input_error::{InputError, Place};
use crate::node_files::CpuList;

/// How it is known which node a CPU is near.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CpuNodeSource {
    /// There is one node.
    OneNode,
    /// The user said it.
    Given,
    /// The recording's files say it.
    Files,
    /// It is inferred from where the allocations of each CPU came from.
    Trace,
}

/// The node of each CPU.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CpuNodes {
    /// By CPU number.
    pub nodes: Vec<NodeId>,
    /// How that is known.
    pub source: CpuNodeSource,
    /// Of an inference, the least share of allocations from the own node that any CPU has, in thousandths.
    pub least_share: Option<u64>,
}

/// Lists of CPUs that contradict each other or the recording.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("found {found}, expected {expected}")]
pub struct CpuListConflict {
    /// Node of the list in which it shows.
    pub node: NodeId,
    /// What the lists say.
    pub found: String,
    /// What they should say.
    pub expected: String,
}

impl CpuListConflict {
    /// Makes an error of it about the files in `directory`.
    pub fn in_files(self, directory: &Path) -> InputError {
        InputError::new(&CpuList::path(directory, self.node), Place::Line(1), self.found, self.expected)
    }
}

impl CpuNodes {
    /// Puts all CPUs on the one node that the zones are on; `None` if there are several.
    pub fn on_one_node(snapshot: &Snapshot, nr_cpus: usize) -> Option<Self> {
        let [node] = snapshot.nodes()[..] else { return None };
        Some(Self { nodes: vec![node; nr_cpus], source: CpuNodeSource::OneNode, least_share: None })
    }

    /// Takes them from lists. A CPU that is in none of them was not online, and is counted to the first node.
    ///
    /// # Errors
    /// A CPU is in two lists, one is beyond those of the trace, or one that /proc/zoneinfo shows is in none.
    pub fn listed(
        lists: &[CpuList],
        source: CpuNodeSource,
        snapshot: &Snapshot,
        nr_cpus: usize,
    ) -> Result<Self, CpuListConflict> {
        let mut nodes: Vec<Option<NodeId>> = vec![None; nr_cpus];
        for list in lists {
            let conflict = |found: String, expected: String| CpuListConflict { node: list.node, found, expected };
            for cpu in &list.cpus {
                let Some(slot) = nodes.get_mut(cpu.index()) else {
                    return Err(conflict(format!("CPU {cpu}"), format!("CPUs below {nr_cpus}, as the trace has them")));
                };
                if let Some(other) = slot.replace(list.node) {
                    let found = format!("CPU {cpu}, which is also near node {other}");
                    return Err(conflict(found, "each CPU near one node".to_owned()));
                }
            }
        }
        let online = online(snapshot).find(|cpu| nodes.get(cpu.index()).is_some_and(Option::is_none));
        if let (Some(cpu), Some(list)) = (online, lists.first()) {
            let expected = "every CPU of zoneinfo near a node".to_owned();
            return Err(CpuListConflict { node: list.node, found: format!("no list with CPU {cpu}"), expected });
        }
        let first = snapshot.nodes().first().copied().unwrap_or_default();
        let nodes = nodes.into_iter().map(|node| node.unwrap_or(first)).collect();
        Ok(Self { nodes, source, least_share: None })
    }

    /// Infers them from a pass over the events. A CPU without allocations is counted to the first node.
    ///
    /// Requests that cannot go anywhere do not count: those bound to one node, and those for the low zones, which only one node may have.
    ///
    /// # Errors
    /// The trace is not what its format promises.
    pub fn inferred(snapshot: &Snapshot, mut reader: TraceReader) -> Result<Self, InputError> {
        const BOUND: Gfp = Gfp::THISNODE.union(Gfp::DMA).union(Gfp::DMA32);
        let nodes = snapshot.nodes();
        let mut counts = vec![vec![0u64; nodes.len()]; reader.header().nr_cpus];
        while let Some(event) = reader.next_event()? {
            let Action::Alloc { pfn: Some(pfn), gfp, .. } = event.action else { continue };
            let zone = snapshot.zone_of(pfn).and_then(|zone| snapshot.zones.get(zone));
            let Some(zone) = zone.filter(|_| !gfp.intersects(BOUND)) else { continue };
            let column = nodes.iter().position(|node| *node == zone.node);
            let row = counts.get_mut(event.cpu.index());
            if let Some(count) = row.zip(column).and_then(|(row, column)| row.get_mut(column)) {
                *count += 1;
            }
        }
        let mut found = Self { nodes: Vec::new(), source: CpuNodeSource::Trace, least_share: None };
        for row in counts {
            // The first of equal counts, so that the result does not depend on the order of a search.
            let most = row.iter().zip(&nodes).rev().max_by_key(|(count, _)| **count);
            let (count, node) = most.map_or((0, NodeId::ZERO), |(count, node)| (*count, *node));
            if let Some(share) = (count * 1000).checked_div(row.iter().sum()) {
                found.least_share = Some(found.least_share.map_or(share, |least| least.min(share)));
            }
            found.nodes.push(node);
        }
        Ok(found)
    }

    /// Returns the node of a CPU; `None` if the trace does not cover it.
    pub fn node_of(&self, cpu: CpuId) -> Option<NodeId> {
        self.nodes.get(cpu.index()).copied()
    }
}

/// Iterates over the CPUs for which /proc/zoneinfo has page sets, once for each zone.
fn online(snapshot: &Snapshot) -> impl Iterator<Item = CpuId> + '_ {
    snapshot.zones.iter().flat_map(|zone| zone.pagesets.iter().map(|set| set.cpu))
}

#[cfg(test)]
mod tests {
    use super::super::recording::Recording;
    use super::super::snapshot::ZoneSnapshot;
    use super::*;

    /// The zones of a recording of one node; the highest one is the memory of node 1.
    fn two_nodes() -> Snapshot {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../data/pages/fork.trace.zst");
        let mut snapshot = Recording::at(&path).unwrap().before().unwrap();
        snapshot.zones[2] = ZoneSnapshot { node: NodeId::try_new(1).unwrap(), ..snapshot.zones[2].clone() };
        snapshot
    }

    fn list(node: u64, text: &str) -> CpuList {
        CpuList::parse(NodeId::try_new(node).unwrap(), text).unwrap()
    }

    fn listed(lists: &[CpuList]) -> Result<Vec<u8>, CpuListConflict> {
        let nodes = CpuNodes::listed(lists, CpuNodeSource::Files, &two_nodes(), 2)?;
        Ok(nodes.nodes.iter().map(|node| node.raw()).collect())
    }

    fn inferred(events: &str) -> CpuNodes {
        let text = format!("# mmtrace 1\n# t0_mono_ns 0\n# cpus 3\n{events}");
        let reader = TraceReader::new(Path::new("test"), Box::new(std::io::Cursor::new(text.into_bytes())));
        CpuNodes::inferred(&two_nodes(), reader.unwrap()).unwrap()
    }

    #[test]
    fn lists_put_each_cpu_on_its_node() {
        assert_eq!(listed(&[list(0, "1"), list(1, "0")]), Ok(vec![1, 0]));
        assert_eq!(listed(&[list(0, "0-1"), list(7, "")]), Ok(vec![0, 0]));
    }

    #[test]
    fn lists_that_contradict_each_other_or_the_trace_are_refused() {
        let twice = listed(&[list(0, "0-1"), list(1, "1")]).unwrap_err();
        assert_eq!((twice.node.raw(), twice.found.as_str()), (1, "CPU 1, which is also near node 0"));
        let beyond = listed(&[list(0, "0-2")]).unwrap_err().to_string();
        assert_eq!(beyond, "found CPU 2, expected CPUs below 2, as the trace has them");
        let missing = listed(&[list(0, ""), list(1, "1")]).unwrap_err();
        assert_eq!(missing.found, "no list with CPU 0");
        let error = missing.in_files(Path::new("a.before"));
        assert_eq!(error.file, Path::new("a.before/node-node0-cpulist"));
    }

    #[test]
    fn a_cpu_is_near_the_node_that_most_of_its_allocations_came_from() {
        let events = "A 1 0 1 100000 0 cc0 0\nA 1 0 1 100001 0 cc0 0\nA 1 0 1 5000 0 cc0 0\nA 1 1 1 5001 0 cc0 0\n";
        let found = inferred(events);
        assert_eq!(found.nodes.iter().map(|node| node.raw()).collect::<Vec<_>>(), [1, 0, 0]);
        assert_eq!((found.source, found.least_share), (CpuNodeSource::Trace, Some(666)));
    }

    #[test]
    fn requests_bound_to_a_node_or_a_low_zone_do_not_count() {
        let bound = "A 1 0 1 5000 0 200cc0 0\nA 1 0 1 5001 0 cc4 0\nA 1 0 1 100000 0 cc0 0\n";
        let found = inferred(bound);
        assert_eq!((found.nodes[0].raw(), found.least_share), (1, Some(1000)));
    }

    #[test]
    fn a_machine_of_one_node_needs_neither() {
        let several = two_nodes();
        assert_eq!(CpuNodes::on_one_node(&several, 2), None);
        let one = Snapshot { zones: several.zones[..2].to_vec(), ..several };
        assert_eq!(CpuNodes::on_one_node(&one, 2).unwrap().nodes, [NodeId::ZERO; 2]);
    }
}
