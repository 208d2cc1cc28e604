//! From which node a recorded request was served on purpose, and from which only because the caller's own had nothing.
//!
//! A trace tells the frame, the flags and the CPU of a request, but not the node that was asked for. Most callers ask for the node of the
//! CPU that they run on. The others (memory policies, slab and drivers that allocate for another node, page migration) name one.
//! The rule, for a request that the recorded kernel served from another node than its CPU's:
//!
//! 1. With `__GFP_THISNODE` the frame's node is the one that was asked for: the kernel may give no other.
//! 2. The kernel tries the nodes in the fallback order of the node that was asked for. If a node that comes before the frame's in the order of
//!    the CPU's own had plenty (the recorded free frames leave a zone that the request may use above its low watermark and reserve, with a
//!    block of the size), then a request for the own node would have been served there. So the caller asked for the frame's node.
//! 3. Otherwise the request is one for the own node that fell back, and is given to ours as such: whether ours falls back
//!    too is its own decision.
//!
//! The rule reads the recorded lists, never ours, so a difference between the two allocators cannot hide in it. It errs in two ways, both
//! without effect on the node where ours allocates: a zone that a boost held above its low watermark looks as if it had plenty; and a
//! caller that named a node while its own had nothing is taken for one that fell back. A request that the recorded kernel
//! could not serve goes to the own node.
//!
//! Linux 6.12: mm/page_alloc.c (`get_page_from_freelist`, `__zone_watermark_ok`), mm/mempolicy.c.

use page_allocator::ZoneTable;
use page_allocator::layout::{NodeOrders, Release, Topology, ZoneSet};
use recordings::NodeDistances;
use recordings::pages::{GuidedReplay, Snapshot};
use units::{CpuId, Gfp, MAX_NODES, NodeId, NodeMask, Order, Pfn, ZoneType};

/// Decides it for one recording of several nodes.
#[derive(Debug)]
pub(super) struct NodeRule<'a> {
    snapshot: &'a Snapshot,
    cpu_nodes: &'a [NodeId],
    zone_table: ZoneTable,
    /// Fallback order of each node, by its number.
    orders: Vec<Vec<NodeId>>,
}

impl<'a> NodeRule<'a> {
    /// Makes the rule; `None` if the machine has one node, whose requests have nothing to decide.
    pub(super) fn new(snapshot: &'a Snapshot, cpu_nodes: &'a [NodeId], distances: &NodeDistances) -> Option<Self> {
        let nodes = snapshot.nodes();
        if nodes.len() < 2 {
            return None;
        }
        let mut orders = NodeOrders::new(Topology {
            distance: |from, to| distances.get(from, to),
            with_memory: nodes.iter().fold(NodeMask::EMPTY, |mask, node| mask.with(*node)),
            // As at boot: CPUs register only after the lists were built.
            with_cpus: NodeMask::EMPTY,
            release: Release::V6_12,
        });
        let all = nodes.iter().chain(cpu_nodes).fold(NodeMask::EMPTY, |mask, node| mask.with(*node));
        let mut by_node = vec![Vec::new(); MAX_NODES];
        for node in all.iter() {
            by_node[node.index()] = orders.next(node).as_slice().to_vec();
        }
        let zone_table = ZoneTable::new(ZoneSet::of(&snapshot.zone_kinds));
        Some(Self { snapshot, cpu_nodes, zone_table, orders: by_node })
    }

    /// Returns the node of a frame.
    pub(super) fn node_of(&self, pfn: Pfn) -> Option<NodeId> {
        Some(self.snapshot.zones.get(self.snapshot.zone_of(pfn)?)?.node)
    }

    /// Returns the node of a CPU.
    pub(super) fn own_node(&self, cpu: CpuId) -> NodeId {
        self.cpu_nodes.get(cpu.index()).copied().unwrap_or_default()
    }

    /// Returns the node that the caller of a recorded request named; `None` if it takes its own CPU's.
    ///
    /// `lists` are the recorded free lists at the time.
    pub(super) fn asked_for(
        &self,
        lists: &GuidedReplay,
        cpu: CpuId,
        pfn: Pfn,
        order: Order,
        gfp: Gfp,
    ) -> Option<NodeId> {
        let (own, node) = (self.own_node(cpu), self.node_of(pfn)?);
        if node == own {
            return None;
        }
        if gfp.contains(Gfp::THISNODE) {
            return Some(node);
        }
        let highest = self.zone_table.highest_zone(gfp);
        let before = self.orders.get(own.index())?.iter().take_while(|candidate| **candidate != node);
        let mut before = before.filter(|candidate| self.had_plenty(lists, **candidate, highest, order));
        before.next().map(|_| node)
    }

    fn had_plenty(&self, lists: &GuidedReplay, node: NodeId, highest: ZoneType, order: Order) -> bool {
        let zones = self.snapshot.zones.iter().enumerate();
        zones.filter(|(_, zone)| zone.node == node && zone.zone <= highest).any(|(number, zone)| {
            let reserve = zone.protection.get(highest.index()).copied().unwrap_or(0);
            // The request's own pages are to be left as well, but for one.
            let kept = zone.watermarks[1] + reserve + order.nr_pages() - 1;
            lists.free_of(number) > kept && (order == Order::ZERO || lists.free_map().has_block(zone.span, order))
        })
    }
}

#[cfg(test)]
mod tests {
    use recordings::pages::FreeMap;
    use units::PfnRange;

    use super::super::numa_tests::{FRAMES, node, snapshot};
    use super::*;

    /// Asks for whom a block at the start of node 2 was, taken on a CPU of node 0 while so many frames of nodes 0 and 1 were free.
    fn asked(free: [u64; 2], order: u8, gfp: Gfp) -> Option<NodeId> {
        let snapshot = snapshot(3);
        let mut map = FreeMap::new(snapshot.end());
        for (raw, free) in (0..).zip(free) {
            // Only every other frame, so that there are no larger blocks.
            for number in 0..free {
                map.insert(PfnRange::with_len(Pfn::new(raw * FRAMES + 2 * number), 1));
            }
        }
        let lists = GuidedReplay::from_map(map, Order::new_truncate(9));
        let lists = lists.counting(snapshot.zones.iter().map(|zone| zone.span));
        let cpu_nodes = [node(0), node(1)];
        let rule = NodeRule::new(&snapshot, &cpu_nodes, &NodeDistances::default()).unwrap();
        rule.asked_for(&lists, CpuId::ZERO, Pfn::new(2 * FRAMES), Order::new_truncate(order), gfp)
    }

    #[test]
    fn a_remote_frame_while_the_own_node_had_plenty_was_asked_for() {
        assert_eq!(asked([101, 0], 0, Gfp::KERNEL), Some(node(2)));
        assert_eq!(asked([100, 0], 0, Gfp::KERNEL), None, "the low watermark");
    }

    #[test]
    fn a_frame_beyond_a_nearer_node_with_plenty_was_asked_for() {
        assert_eq!(asked([0, 2000], 0, Gfp::KERNEL), Some(node(2)));
        let snapshot = snapshot(3);
        let cpu_nodes = [node(0), node(1)];
        let rule = NodeRule::new(&snapshot, &cpu_nodes, &NodeDistances::default()).unwrap();
        assert_eq!(rule.orders[0], [node(0), node(1), node(2)]);
        let mut map = FreeMap::new(snapshot.end());
        map.insert(PfnRange::with_len(Pfn::new(FRAMES + 512), 1500));
        let lists = GuidedReplay::from_map(map, Order::new_truncate(9));
        let lists = lists.counting(snapshot.zones.iter().map(|zone| zone.span));
        let asked = |order| rule.asked_for(&lists, CpuId::ZERO, Pfn::new(2 * FRAMES), order, Gfp::KERNEL);
        assert_eq!(asked(Order::new_truncate(9)), Some(node(2)));
        assert_eq!(asked(Order::new_truncate(10)), None, "node 1 has no block of this size");
    }

    #[test]
    fn a_bound_request_names_the_node_of_its_frame() {
        assert_eq!(asked([0, 0], 0, Gfp::KERNEL | Gfp::THISNODE), Some(node(2)));
    }

    #[test]
    fn large_requests_need_a_block_of_their_size() {
        assert_eq!(asked([2000, 0], 1, Gfp::KERNEL), None);
    }

    #[test]
    fn one_node_needs_no_rule() {
        let mut snapshot = snapshot(3);
        snapshot.zones.truncate(1);
        assert!(NodeRule::new(&snapshot, &[node(0)], &NodeDistances::default()).is_none());
    }
}
