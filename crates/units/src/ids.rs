//! Numbers of nodes and CPUs, and sets of nodes.

use core::fmt;

/// Most nodes of a machine (Linux: MAX_NUMNODES; x86-64 distributions set 64 to 1024).
pub const MAX_NODES: usize = 64;

/// Most CPUs of a machine.
pub const MAX_CPUS: usize = 4096;

/// Number of a NUMA node, below [`MAX_NODES`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(transparent)]
pub struct NodeId(u8);

impl NodeId {
    /// The first node, which every machine has.
    pub const ZERO: Self = Self(0);

    /// Checks `raw` against [`MAX_NODES`].
    #[inline]
    pub const fn try_new(raw: u64) -> Option<Self> {
        if raw < MAX_NODES as u64 { Some(Self(raw as u8)) } else { None }
    }

    /// Returns the raw number.
    #[inline]
    pub const fn raw(self) -> u8 {
        self.0
    }

    /// Returns the number as an array index.
    #[inline]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node{}", self.0)
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// Number of a CPU, below [`MAX_CPUS`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(transparent)]
pub struct CpuId(u16);

impl CpuId {
    /// The boot CPU.
    pub const ZERO: Self = Self(0);

    /// Checks `raw` against [`MAX_CPUS`].
    #[inline]
    pub const fn try_new(raw: u64) -> Option<Self> {
        if raw < MAX_CPUS as u64 { Some(Self(raw as u16)) } else { None }
    }

    /// Returns the raw number.
    #[inline]
    pub const fn raw(self) -> u16 {
        self.0
    }

    /// Returns the number as an array index.
    #[inline]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Debug for CpuId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cpu{}", self.0)
    }
}

impl fmt::Display for CpuId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// Set of nodes (Linux: nodemask_t).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct NodeMask(u64);

impl NodeMask {
    /// No node.
    pub const EMPTY: Self = Self(0);
    /// Every node that a machine may have.
    pub const ALL: Self = Self(u64::MAX);

    /// Returns the set with `node` in it.
    #[inline]
    #[must_use]
    pub const fn with(self, node: NodeId) -> Self {
        Self(self.0 | 1 << node.0)
    }

    /// Returns the set with `node` not in it.
    #[inline]
    #[must_use]
    pub const fn without(self, node: NodeId) -> Self {
        Self(self.0 & !(1 << node.0))
    }

    /// Returns true if `node` is in the set.
    #[inline]
    pub const fn contains(self, node: NodeId) -> bool {
        self.0 >> node.0 & 1 == 1
    }

    /// Returns the nodes that are in both sets.
    #[inline]
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Returns true if no node is in the set.
    #[inline]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Returns the number of nodes in the set.
    #[inline]
    pub const fn len(self) -> u32 {
        self.0.count_ones()
    }

    /// Iterates over the nodes in ascending order.
    pub fn iter(self) -> impl Iterator<Item = NodeId> + use<> {
        (0..MAX_NODES as u8).map(NodeId).filter(move |&node| self.contains(node))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_mask_lists_its_nodes_in_order() {
        let three = NodeId::try_new(3).unwrap();
        let mask = NodeMask::EMPTY.with(three).with(NodeId::ZERO);
        assert!(mask.iter().eq([NodeId::ZERO, three]));
        assert!(mask.without(three).iter().eq([NodeId::ZERO]));
    }

    #[test]
    fn the_node_above_the_last_is_refused() {
        assert!(NodeId::try_new(63).is_some());
        assert!(NodeId::try_new(64).is_none());
    }
}
