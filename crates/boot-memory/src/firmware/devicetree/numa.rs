//! `numa-node-id` of memory and CPU nodes, and /distance-map, of a devicetree.
//!
//! Linux 6.12: drivers/of/of_numa.c; Documentation/devicetree/bindings/numa.txt.

use units::NodeId;

use super::super::error::{FirmwareError, Problem};
use super::super::memory_map::RangeFlags;
use super::super::numa_map::{LOCAL_DISTANCE, MemoryAffinity, NumaMap};
use super::blob::{Devicetree, TreeNode, be_u32, error};
use super::memory::{Cells, number};

const TRIPLET: usize = 12;

impl<'a> Devicetree<'a> {
    /// Reads nodes, their memory and CPUs, and distances; `None` if no memory node names its NUMA node.
    ///
    /// # Errors
    /// A property of another form, a node number that is too high, a distance to itself that is not 10 or one to others that is not more,
    /// ranges of two nodes that overlap, more ranges or CPUs than there is room for.
    pub fn numa_map(&self) -> Result<Option<NumaMap>, FirmwareError> {
        let mut numa = NumaMap::new();
        self.add_cpus(&mut numa)?;
        self.memory_nodes(|node, ranges| {
            let Some(id) = node_id(&node)? else { return Ok(()) };
            let flags = if node.property("hotpluggable").is_some() { RangeFlags::HOTPLUG } else { RangeFlags::empty() };
            let mut affinities = ranges.iter().map(|range| MemoryAffinity { range, node: id, flags });
            affinities
                .try_for_each(|affinity| numa.add_memory_affinity(affinity))
                .map_err(|full| error(node.place(), Problem::TooMany(full.0)))
        })?;
        if numa.memory().is_empty() {
            return Ok(None);
        }
        if numa.conflict().is_some() {
            return Err(error(0, Problem::Expected("memory of different nodes not to overlap")));
        }
        self.add_distances(&mut numa)?;
        Ok(Some(numa))
    }

    /// Calls `visit` for every CPU, in the order of the blob, with the NUMA node that it names.
    ///
    /// # Errors
    /// A node number that is too high or of another form.
    pub fn cpus(&self, mut visit: impl FnMut(Option<NodeId>)) -> Result<(), FirmwareError> {
        self.cpu_nodes().try_for_each(|node| {
            visit(node_id(&node)?);
            Ok(())
        })
    }

    fn cpu_nodes(&self) -> impl Iterator<Item = TreeNode<'a>> + use<'a> {
        let parent = self.root().and_then(|root| root.child("cpus"));
        let is_cpu = |node: &TreeNode<'_>| node.property("device_type").is_some_and(|kind| kind.has_string("cpu"));
        parent.into_iter().flat_map(|parent| parent.children()).filter(is_cpu)
    }

    fn add_cpus(&self, numa: &mut NumaMap) -> Result<(), FirmwareError> {
        let Some(parent) = self.root().and_then(|root| root.child("cpus")) else { return Ok(()) };
        for node in self.cpu_nodes() {
            let Some(id) = node_id(&node)? else { continue };
            let cells = Cells::of(&parent)?;
            let missing = error(node.place(), Problem::Expected("reg of a CPU with one hardware number"));
            let register = node.property("reg").filter(|reg| reg.value.len() == cells.address * 4).ok_or(missing)?;
            let hardware_id = number(register.value, 0, cells.address);
            numa.add_cpu(hardware_id, id).map_err(|full| error(node.place(), Problem::TooMany(full.0)))?;
        }
        Ok(())
    }

    /// Sets the listed distances; the way back is as long unless the list says otherwise.
    fn add_distances(&self, numa: &mut NumaMap) -> Result<(), FirmwareError> {
        let Some(map) = self.root().and_then(|root| root.child("distance-map")) else { return Ok(()) };
        let Some(matrix) = map.property("distance-matrix") else {
            return Err(error(map.place(), Problem::Expected("distance-matrix in distance-map")));
        };
        let place = matrix.at as usize;
        if matrix.value.is_empty() || !matrix.value.len().is_multiple_of(TRIPLET) {
            return Err(error(place, Problem::Expected("triplets of two nodes and a distance")));
        }
        for (index, triplet) in matrix.value.chunks_exact(TRIPLET).enumerate() {
            let wrong = error(
                place + index * TRIPLET,
                Problem::Expected("two nodes and a distance of 10 to itself or 11 to 255 to others"),
            );
            let node = |at| be_u32(triplet, at).and_then(|raw| NodeId::try_new(u64::from(raw))).ok_or(wrong);
            let (from, to) = (node(0)?, node(4)?);
            let distance = be_u32(triplet, 8).and_then(|raw| u8::try_from(raw).ok()).ok_or(wrong)?;
            if (from == to) != (distance == LOCAL_DISTANCE) || distance < LOCAL_DISTANCE {
                return Err(wrong);
            }
            numa.set_distance(from, to, distance);
            if from < to {
                numa.set_distance(to, from, distance);
            }
        }
        Ok(())
    }
}

fn node_id(node: &TreeNode<'_>) -> Result<Option<NodeId>, FirmwareError> {
    let Some(property) = node.property("numa-node-id") else { return Ok(None) };
    let id = NodeId::try_new(u64::from(property.cell()?));
    id.map(Some).ok_or(error(property.at as usize, Problem::Expected("a node number below 64")))
}
