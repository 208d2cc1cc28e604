//! Which memory and which CPUs belong to which node, and how far the nodes are from each other.
//!
//! Filled by the ACPI and devicetree parsers and by machine descriptions; read when memblock learns its nodes and when zonelists
//! are built. Linux 6.12: mm/numa_memblks.c (numa_add_memblk, numa_set_distance).

use core::fmt;

use units::{MAX_NODES, NodeId, NodeMask, PhysAddr, PhysRange};

use super::memory_map::RangeFlags;

/// Most memory ranges with an affinity (Linux: NR_NODE_MEMBLKS, twice the nodes).
pub const MAX_MEMORY_AFFINITIES: usize = 2 * MAX_NODES;

/// Most CPUs with an affinity.
pub const MAX_CPU_AFFINITIES: usize = 1024;

/// Distance of a node to itself (ACPI: 10 stands for 1.0).
pub const LOCAL_DISTANCE: u8 = 10;

/// Distance between nodes of which the firmware says nothing.
pub const REMOTE_DISTANCE: u8 = 20;

/// A range of memory that belongs to a node, whether or not there is RAM in all of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct MemoryAffinity {
    /// The bytes; never empty.
    pub range: PhysRange,
    /// The node.
    pub node: NodeId,
    /// Whether it may be unplugged.
    pub flags: RangeFlags,
}

/// A CPU that belongs to a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CpuAffinity {
    /// The number by which the hardware knows it: local APIC id, or MPIDR of an arm64 CPU.
    pub hardware_id: u64,
    /// The node.
    pub node: NodeId,
}

/// Something that does not fit into a [`NumaMap`]: which kind of thing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NumaFull(pub &'static str);

impl fmt::Display for NumaFull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "too many {}", self.0)
    }
}

impl core::error::Error for NumaFull {}

/// The nodes of a machine.
///
/// About 24 KiB: a boot stack that holds one by value has to have the room. Distances that were never set are
/// [`LOCAL_DISTANCE`] to the node itself and [`REMOTE_DISTANCE`] to any other.
///
/// # Invariants
/// The first `nr_memory` and `nr_cpus` entries are set; `nodes` holds every node that an entry names.
///
/// ```
/// use mmkit_boot_memory::firmware::NumaMap;
/// use units::{NodeId, PhysAddr, PhysRange};
///
/// let mut numa = NumaMap::new();
/// numa.add_memory(PhysRange::with_len(PhysAddr::new(0), 1 << 30), NodeId::ZERO).unwrap();
/// assert_eq!(numa.node_of(PhysAddr::new(4096)), Some(NodeId::ZERO));
/// assert_eq!(numa.distance(NodeId::ZERO, NodeId::ZERO), 10);
/// ```
#[derive(Clone)]
pub struct NumaMap {
    memory: [MemoryAffinity; MAX_MEMORY_AFFINITIES],
    nr_memory: usize,
    cpus: [CpuAffinity; MAX_CPU_AFFINITIES],
    nr_cpus: usize,
    /// 0 where nothing was set.
    distances: [[u8; MAX_NODES]; MAX_NODES],
    nodes: NodeMask,
}

const NO_NODE_YET: NodeId = NodeId::ZERO;

impl NumaMap {
    /// Makes a map without nodes.
    pub const fn new() -> Self {
        let nowhere = PhysRange::new(PhysAddr::ZERO, PhysAddr::ZERO);
        Self {
            memory: [MemoryAffinity { range: nowhere, node: NO_NODE_YET, flags: RangeFlags::empty() };
                MAX_MEMORY_AFFINITIES],
            nr_memory: 0,
            cpus: [CpuAffinity { hardware_id: 0, node: NO_NODE_YET }; MAX_CPU_AFFINITIES],
            nr_cpus: 0,
            distances: [[0; MAX_NODES]; MAX_NODES],
            nodes: NodeMask::EMPTY,
        }
    }

    /// Says that `range` belongs to `node`; an empty range only makes the node known.
    ///
    /// # Errors
    /// [`NumaFull`]; the map is unchanged.
    pub fn add_memory(&mut self, range: PhysRange, node: NodeId) -> Result<(), NumaFull> {
        self.add_memory_affinity(MemoryAffinity { range, node, flags: RangeFlags::empty() })
    }

    /// Adds a range with its flags; an empty range only makes the node known.
    ///
    /// # Errors
    /// [`NumaFull`]; the map is unchanged.
    pub fn add_memory_affinity(&mut self, affinity: MemoryAffinity) -> Result<(), NumaFull> {
        if !affinity.range.is_empty() {
            *self.memory.get_mut(self.nr_memory).ok_or(NumaFull("memory affinity ranges"))? = affinity;
            self.nr_memory += 1;
        }
        self.nodes = self.nodes.with(affinity.node);
        Ok(())
    }

    /// Says that the CPU `hardware_id` belongs to `node`.
    ///
    /// # Errors
    /// [`NumaFull`]; the map is unchanged.
    pub fn add_cpu(&mut self, hardware_id: u64, node: NodeId) -> Result<(), NumaFull> {
        *self.cpus.get_mut(self.nr_cpus).ok_or(NumaFull("CPUs with an affinity"))? = CpuAffinity { hardware_id, node };
        self.nr_cpus += 1;
        self.nodes = self.nodes.with(node);
        Ok(())
    }

    /// Makes `node` known, although nothing belongs to it.
    pub fn add_node(&mut self, node: NodeId) {
        self.nodes = self.nodes.with(node);
    }

    /// Sets the distance from one node to another; 0 stands for unset.
    pub fn set_distance(&mut self, from: NodeId, to: NodeId, distance: u8) {
        if let Some(slot) = self.distances.get_mut(from.index()).and_then(|row| row.get_mut(to.index())) {
            *slot = distance;
        }
    }

    /// Returns the distance from one node to another.
    pub fn distance(&self, from: NodeId, to: NodeId) -> u8 {
        match self.distances.get(from.index()).and_then(|row| row.get(to.index())) {
            Some(&distance @ 1..) => distance,
            _ if from == to => LOCAL_DISTANCE,
            _ => REMOTE_DISTANCE,
        }
    }

    /// Returns the memory ranges, in the order in which they were reported.
    pub fn memory(&self) -> &[MemoryAffinity] {
        self.memory.get(..self.nr_memory).unwrap_or_default()
    }

    /// Returns the CPUs, in the order in which they were reported.
    pub fn cpus(&self) -> &[CpuAffinity] {
        self.cpus.get(..self.nr_cpus).unwrap_or_default()
    }

    /// Returns every node that memory, a CPU or [`NumaMap::add_node`] named.
    pub fn nodes(&self) -> NodeMask {
        self.nodes
    }

    /// Returns the node that `addr` belongs to.
    pub fn node_of(&self, addr: PhysAddr) -> Option<NodeId> {
        self.memory().iter().find(|affinity| affinity.range.contains(addr)).map(|affinity| affinity.node)
    }

    /// Returns two ranges of different nodes that overlap, if there are any: no machine is like that.
    pub fn conflict(&self) -> Option<(MemoryAffinity, MemoryAffinity)> {
        let pairs = self
            .memory()
            .iter()
            .enumerate()
            .flat_map(|(at, low)| self.memory().iter().skip(at + 1).map(move |high| (low, high)));
        pairs
            .filter(|(low, high)| low.node != high.node && low.range.overlaps(high.range))
            .map(|(low, high)| (*low, *high))
            .next()
    }
}

impl Default for NumaMap {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for NumaMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NumaMap")
            .field("memory", &self.memory())
            .field("cpus", &self.cpus())
            .field("nodes", &self.nodes)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(start: u64, end: u64) -> PhysRange {
        PhysRange::new(PhysAddr::new(start), PhysAddr::new(end))
    }

    #[test]
    fn ranges_of_two_nodes_must_not_overlap_but_those_of_one_may() {
        let second = NodeId::try_new(1).unwrap();
        let mut numa = NumaMap::new();
        numa.add_memory(range(0, 100), NodeId::ZERO).unwrap();
        numa.add_memory(range(50, 150), NodeId::ZERO).unwrap();
        numa.add_memory(range(150, 200), second).unwrap();
        assert_eq!(numa.conflict(), None);
        numa.add_memory(range(149, 160), second).unwrap();
        assert_eq!(numa.conflict().map(|(low, high)| (low.range.start.raw(), high.range.start.raw())), Some((50, 149)));
    }

    #[test]
    fn unset_distances_are_local_and_remote() {
        let (low, high) = (NodeId::ZERO, NodeId::try_new(63).unwrap());
        let mut numa = NumaMap::new();
        assert_eq!((numa.distance(low, low), numa.distance(low, high)), (10, 20));
        numa.set_distance(low, high, 31);
        assert_eq!((numa.distance(low, high), numa.distance(high, low)), (31, 20));
    }

    #[test]
    fn one_range_too_many_is_refused() {
        let mut numa = NumaMap::new();
        for _ in 0..MAX_MEMORY_AFFINITIES {
            numa.add_memory(range(0, 1), NodeId::ZERO).unwrap();
        }
        assert_eq!(numa.add_memory(range(0, 1), NodeId::ZERO), Err(NumaFull("memory affinity ranges")));
    }
}
