//! The part of a report that only machines of several nodes have: whose CPUs are where, and from where requests were served.

use std::io::{self, Write};

use recordings::pages::{CpuNodeSource, CpuNodes, Snapshot};
use serde::Serialize;
use units::NodeId;

use super::demand::NodeCounts;
use super::report::Pair;

/// What the report says of the nodes.
#[derive(Serialize)]
pub(super) struct NodeReport {
    /// How it is known which CPUs are near which node.
    cpus_known_by: &'static str,
    /// If it was inferred, the least share of its allocations that any CPU took from its own node.
    #[serde(skip_serializing_if = "Option::is_none")]
    least_local_share: Option<f64>,
    cpus: Vec<NodeCpus>,
    /// Requests whose caller named another node than its CPU's.
    requests_naming_a_node: u64,
    /// Requests served from another node than the CPU's.
    remote_requests: Pair,
    same_node_share: f64,
}

#[derive(Serialize)]
struct NodeCpus {
    node: u8,
    cpus: Vec<usize>,
}

impl NodeReport {
    /// Makes it; `None` for a machine of one node. `served` requests got a block here.
    pub(super) fn new(before: &Snapshot, cpu_nodes: &CpuNodes, counts: NodeCounts, served: u64) -> Option<Self> {
        let mut nodes: Vec<NodeId> = before.nodes();
        if nodes.len() < 2 {
            return None;
        }
        nodes.extend(&cpu_nodes.nodes);
        nodes.sort_unstable();
        nodes.dedup();
        let cpus_of = |node: NodeId| {
            let numbers = cpu_nodes.nodes.iter().enumerate().filter(move |(_, near)| **near == node);
            NodeCpus { node: node.raw(), cpus: numbers.map(|(cpu, _)| cpu).collect() }
        };
        Some(Self {
            cpus_known_by: match cpu_nodes.source {
                CpuNodeSource::OneNode => "one node",
                CpuNodeSource::Given => "--node-cpus",
                CpuNodeSource::Files => "node-nodeN-cpulist",
                CpuNodeSource::Trace => "inference",
            },
            least_local_share: cpu_nodes.least_share.map(|share| share as f64 / 1000.0),
            cpus: nodes.into_iter().map(cpus_of).collect(),
            requests_naming_a_node: counts.named,
            remote_requests: Pair { ours: counts.remote, recorded: counts.recorded_remote },
            same_node_share: counts.same_node as f64 / served.max(1) as f64,
        })
    }

    /// Writes it as rows under the other figures.
    pub(super) fn write_text(&self, out: &mut impl Write) -> io::Result<()> {
        let Pair { ours, recorded } = self.remote_requests;
        writeln!(out, "{:<28}{ours:>12}{recorded:>12}", "served by another node")?;
        writeln!(out, "{:<28}{:>11.2}%", "same node as recorded", self.same_node_share * 100.0)?;
        writeln!(out, "{:<28}{:>12}", "asked for another node", self.requests_naming_a_node)?;
        for NodeCpus { node, cpus } in &self.cpus {
            writeln!(out, "{:<28}{:>12}", format!("CPUs of node {node}"), ranges(cpus))?;
        }
        match self.least_local_share {
            Some(share) => writeln!(
                out,
                "CPUs by inference: each took most of its allocations from its node, {:.1} % at the least; --node-cpus says otherwise",
                share * 100.0
            ),
            None => writeln!(out, "CPUs by {}", self.cpus_known_by),
        }
    }
}

/// Writes ascending numbers as the kernel does: 0-3,8.
fn ranges(numbers: &[usize]) -> String {
    let runs = numbers.chunk_by(|a, b| a + 1 == *b).filter_map(|run| Some((run.first()?, run.last()?)));
    let runs = runs.map(|(first, last)| if first == last { format!("{first}") } else { format!("{first}-{last}") });
    let text = runs.collect::<Vec<_>>().join(",");
    if text.is_empty() { "none".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_written_as_ranges() {
        assert_eq!(ranges(&[0, 1, 2, 5, 7, 8]), "0-2,5,7-8");
        assert_eq!(ranges(&[]), "none");
    }
}
