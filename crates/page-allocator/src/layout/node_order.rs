//! Order in which a node falls back to others: by distance, spread so that not all lean on the same neighbour.
//!
//! Linux 6.12: mm/page_alloc.c (`find_next_best_node`, `build_zonelists`).

use units::{MAX_NODES, NodeId, NodeMask};

use super::release::Release;

/// Distances between nodes as SLIT gives them, row by row.
#[derive(Clone, Copy, Debug)]
pub struct Distances<'a> {
    table: &'a [u8],
    nr_nodes: usize,
}

impl<'a> Distances<'a> {
    /// Distance of a node to itself (Linux: LOCAL_DISTANCE).
    pub const LOCAL: u8 = 10;
    /// Distance between nodes of which nothing is known (Linux: REMOTE_DISTANCE).
    pub const REMOTE: u8 = 20;
    /// No table: 10 within a node, 20 between any two.
    pub const DEFAULT: Distances<'static> = Distances { table: &[], nr_nodes: 0 };

    /// Takes a table of `nr_nodes` rows of `nr_nodes` distances; `None` if it has another length.
    pub const fn new(table: &'a [u8], nr_nodes: usize) -> Option<Self> {
        match nr_nodes.checked_mul(nr_nodes) {
            Some(len) if len == table.len() => Some(Self { table, nr_nodes }),
            _ => None,
        }
    }

    /// Returns the distance from `from` to `to` (Linux: node_distance).
    pub fn get(&self, from: NodeId, to: NodeId) -> u8 {
        let known = from.index() < self.nr_nodes && to.index() < self.nr_nodes;
        let entry = known.then(|| self.table.get(from.index() * self.nr_nodes + to.index())).flatten();
        entry.copied().unwrap_or(if from == to { Self::LOCAL } else { Self::REMOTE })
    }
}

/// What the fallback orders depend on.
#[derive(Clone, Copy, Debug)]
pub struct Topology<'a> {
    /// Distances between the nodes.
    pub distances: Distances<'a>,
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
pub struct NodeOrders<'a> {
    topology: Topology<'a>,
    /// How often a node headed a group of equal distance (Linux: node_load).
    load: [u32; MAX_NODES],
}

impl<'a> NodeOrders<'a> {
    /// Starts with no node leaned on.
    pub const fn new(topology: Topology<'a>) -> Self {
        Self { topology, load: [0; MAX_NODES] }
    }

    /// Computes the order of `local` and adds the load that it puts on others.
    pub fn next(&mut self, local: NodeId) -> NodeOrder {
        let mut order = NodeOrder { nodes: [NodeId::ZERO; MAX_NODES], len: 0 };
        let mut used = NodeMask::EMPTY;
        let mut previous = local;
        let distances = self.topology.distances;
        while let Some(node) = self.next_best(local, used) {
            // Only the first of a group of equal distance takes load, so the next node with the same group starts elsewhere.
            if distances.get(local, node) != distances.get(local, previous) {
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
        let near = u32::from(self.topology.distances.get(local, node)) + wrapped + has_cpus;
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

    fn orders(topology: Topology<'_>, count: u8) -> Vec<Vec<u8>> {
        let mut orders = NodeOrders::new(topology);
        nodes(count).map(|node| orders.next(node).as_slice().iter().map(|node| node.raw()).collect()).collect()
    }

    fn flat(count: u8) -> Topology<'static> {
        Topology {
            distances: Distances::DEFAULT,
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
        let distances = Distances::new(&table, 4).unwrap();
        let found = orders(Topology { distances, ..flat(4) }, 2);
        assert_eq!(found[0][..2], [0, 2]);
        assert_eq!(found[1][..2], [1, 3]);
    }

    #[test]
    fn a_table_of_another_size_is_refused() {
        assert!(Distances::new(&[10, 20, 20], 2).is_none());
    }
}
