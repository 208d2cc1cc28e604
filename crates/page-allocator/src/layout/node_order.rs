//! Order in which a node falls back to others: by distance, spread so that not all lean on the same neighbour.
//!
//! Linux 6.12: mm/page_alloc.c (`find_next_best_node`, `build_zonelists`).

use units::{MAX_NODES, NodeId, NodeMask};

use super::release::Release;

/// What the fallback orders depend on.
#[derive(Clone, Copy, Debug)]
pub struct Topology<D> {
    /// Distance from one node to another, 10 to itself (Linux: node_distance).
    pub distance: D,
    /// Nodes that have memory.
    pub with_memory: NodeMask,
    /// Nodes that have CPUs registered with them. Empty while boot builds the first lists: CPUs register later.
    pub with_cpus: NodeMask,
    /// Rules that apply.
    pub release: Release,
}

/// Nodes from the closest on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NodeOrder {
    nodes: [NodeId; MAX_NODES],
    len: u8,
}

impl NodeOrder {
    /// Returns the nodes, closest first.
    pub fn as_slice(&self) -> &[NodeId] {
        &self.nodes[..usize::from(self.len)]
    }

    fn push(&mut self, node: NodeId) {
        self.nodes[usize::from(self.len)] = node;
        self.len += 1;
    }
}

/// Computes the orders of one node after the other, remembering who has been leaned on.
///
/// Every rebuild starts from a new value and goes through the nodes in ascending order, as Linux does.
#[derive(Clone, Debug)]
pub struct NodeOrders<D> {
    topology: Topology<D>,
    /// How often a node headed a group of equal distance (Linux: node_load).
    load: [u32; MAX_NODES],
}

impl<D: Fn(NodeId, NodeId) -> u8> NodeOrders<D> {
    /// Starts with no node leaned on.
    pub const fn new(topology: Topology<D>) -> Self {
        Self { topology, load: [0; MAX_NODES] }
    }

    /// Computes the order of `local` and adds the load that it puts on others.
    pub fn next(&mut self, local: NodeId) -> NodeOrder {
        let mut order = NodeOrder { nodes: [NodeId::ZERO; MAX_NODES], len: 0 };
        let mut used = NodeMask::EMPTY;
        let mut previous = local;
        while let Some(node) = self.next_best(local, used) {
            // Only the first of a group of equal distance takes load, so the next node with the same group starts elsewhere.
            if (self.topology.distance)(local, node) != (self.topology.distance)(local, previous) {
                self.load[node.index()] += 1;
            }
            order.push(node);
            used = used.with(node);
            previous = node;
        }
        order
    }

    fn next_best(&self, local: NodeId, used: NodeMask) -> Option<NodeId> {
        let local_counts = self.topology.release <= Release::V6_1 || self.topology.with_memory.contains(local);
        if local_counts && !used.contains(local) {
            return Some(local);
        }
        let unused = self.topology.with_memory.iter().filter(|&node| !used.contains(node));
        unused.min_by_key(|&node| self.cost(local, node))
    }

    /// Weighs `node` for `local`: distance, then a preference for later nodes and CPU-less ones, then load.
    fn cost(&self, local: NodeId, node: NodeId) -> u32 {
        let wrapped = u32::from(node < local);
        let has_cpus = u32::from(self.topology.with_cpus.contains(node));
        let near = u32::from((self.topology.distance)(local, node)) + wrapped + has_cpus;
        near * MAX_NODES as u32 + self.load[node.index()]
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::vec::Vec;

    use super::*;

    fn nodes(count: u8) -> impl Iterator<Item = NodeId> {
        (0..u64::from(count)).filter_map(NodeId::try_new)
    }

    fn orders<D: Fn(NodeId, NodeId) -> u8>(topology: Topology<D>, count: u8) -> Vec<Vec<u8>> {
        let mut orders = NodeOrders::new(topology);
        nodes(count).map(|node| orders.next(node).as_slice().iter().map(|node| node.raw()).collect()).collect()
    }

    fn flat(count: u8) -> Topology<fn(NodeId, NodeId) -> u8> {
        Topology {
            distance: |from, to| if from == to { 10 } else { 20 },
            with_memory: nodes(count).fold(NodeMask::EMPTY, NodeMask::with),
            with_cpus: NodeMask::EMPTY,
            release: Release::V6_12,
        }
    }

    #[test]
    fn nodes_at_equal_distance_wrap_around() {
        assert_eq!(orders(flat(4), 4), [[0, 1, 2, 3], [1, 2, 3, 0], [2, 3, 0, 1], [3, 0, 1, 2]]);
    }

    #[test]
    fn a_node_without_cpus_is_preferred_at_equal_distance() {
        let with_cpus = nodes(2).fold(NodeMask::EMPTY, NodeMask::with);
        let topology = Topology { with_cpus, ..flat(3) };
        assert_eq!(orders(topology, 1), [[0, 2, 1]]);
    }

    #[test]
    fn a_node_without_memory_heads_its_own_order_only_in_old_releases() {
        let with_memory = flat(3).with_memory.without(NodeId::try_new(1).unwrap());
        let topology = Topology { with_memory, ..flat(3) };
        assert_eq!(orders(topology, 2)[1], [2, 0]);
        assert_eq!(orders(Topology { release: Release::V6_1, ..topology }, 2)[1], [1, 2, 0]);
    }

    #[test]
    fn load_moves_the_second_node_to_another_neighbour() {
        // Nodes 0 and 1 see 2 and 3 at the same distance; 0 leans on 2, so 1 starts with 3.
        let table = [10, 40, 20, 20, 40, 10, 20, 20, 20, 20, 10, 40, 20, 20, 40, 10];
        let topology = Topology {
            distance: |from: NodeId, to: NodeId| table[4 * from.index() + to.index()],
            with_memory: flat(4).with_memory,
            with_cpus: NodeMask::EMPTY,
            release: Release::V6_12,
        };
        let found = orders(topology, 2);
        assert_eq!(found[0][..2], [0, 2]);
        assert_eq!(found[1][..2], [1, 3]);
    }
}
