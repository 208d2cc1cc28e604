//! Which node each range of memory is on: what the log says, and what the kernel makes of it.
//!
//! Linux 6.1: drivers/acpi/numa/srat.c, arch/x86/mm/numa.c (`numa_cleanup_meminfo`, `numa_register_memblks`).

use boot_memory::memblock::{ListKind, Memblock};
use units::{NodeId, PhysRange};

use super::scan::Scan;

/// Range of a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NodeBlock {
    /// The node.
    pub node: NodeId,
    /// Its addresses.
    pub range: PhysRange,
}

/// What a log line says about a node's memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NodeClaim {
    /// The firmware's SRAT table; true if the memory may be unplugged.
    Srat(NodeBlock, Hotplug),
    /// The kernel found no table and puts everything on node 0.
    Single(NodeBlock),
    /// The kernel splits the machine into nodes because numa=fake= asks for it.
    Emulated(NodeBlock),
}

/// Whether SRAT marks memory as hot-pluggable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Hotplug {
    /// It does not.
    Fixed,
    /// It does.
    Pluggable,
}

/// What a line about a node's memory must look like.
pub(super) const CLAIM_FORM: &str = "a node's memory: [mem 0xFIRST-0xLAST] after the node's number";

/// Returns true if the message is about a node's memory.
pub(super) fn is_claim(message: &str) -> bool {
    message.starts_with("ACPI: SRAT: Node ")
        || message.starts_with("SRAT: Node ")
        || message.starts_with("Faking node ")
        || message.starts_with("Faking a node at ")
        || message.starts_with("NUMA: Faking a node at ")
}

/// Parses a line about a node's memory; `None` if it is damaged.
pub(super) fn parse_claim(message: &str) -> Option<NodeClaim> {
    let text = message.strip_prefix("ACPI: ").or_else(|| message.strip_prefix("NUMA: ")).unwrap_or(message);
    let mut scan = Scan::new(text);
    if scan.skip("SRAT: Node ").is_some() {
        let node = NodeId::try_new(scan.decimal()?)?;
        scan.skip(" PXM ")?;
        scan.decimal()?;
        scan.skip(" ")?;
        let block = NodeBlock { node, range: scan.mem_bracket()? };
        let hotplug = if scan.rest().contains("hotplug") { Hotplug::Pluggable } else { Hotplug::Fixed };
        return Some(NodeClaim::Srat(block, hotplug));
    }
    if scan.skip("Faking a node at ").is_some() {
        return Some(NodeClaim::Single(NodeBlock { node: NodeId::ZERO, range: scan.mem_bracket()? }));
    }
    scan.skip("Faking node ")?;
    scan.skip_blanks();
    let node = NodeId::try_new(scan.decimal()?)?;
    scan.skip(" at ")?;
    Some(NodeClaim::Emulated(NodeBlock { node, range: scan.mem_bracket()? }))
}

/// Returns the blocks that count: emulated nodes replace all others, a single node replaces SRAT's.
pub(super) fn effective_blocks(claims: &[NodeClaim]) -> Vec<NodeBlock> {
    let emulated: Vec<_> = claims
        .iter()
        .filter_map(|claim| if let NodeClaim::Emulated(block) = claim { Some(*block) } else { None })
        .collect();
    let single: Vec<_> = claims
        .iter()
        .filter_map(|claim| if let NodeClaim::Single(block) = claim { Some(*block) } else { None })
        .collect();
    let srat =
        claims.iter().filter_map(|claim| if let NodeClaim::Srat(block, _) = claim { Some(*block) } else { None });
    match (emulated.is_empty(), single.is_empty()) {
        (false, _) => emulated,
        (true, false) => single,
        (true, true) => srat.collect(),
    }
}

/// Cuts the blocks to `bounds`, drops those without memory, and joins blocks of one node that no other node's block
/// comes between.
pub(super) fn clean_up(blocks: &[NodeBlock], memblock: &Memblock, bounds: PhysRange) -> Vec<NodeBlock> {
    let mut left: Vec<NodeBlock> = blocks
        .iter()
        .filter(|block| memblock.overlaps_memory(block.range.start, block.range.len()))
        .map(|block| NodeBlock { range: block.range.intersection(bounds), ..*block })
        .filter(|block| !block.range.is_empty())
        .collect();
    let mut joined: Vec<NodeBlock> = Vec::new();
    while let Some(mut block) = pop_front(&mut left) {
        let mut index = 0;
        while let Some(&next) = left.get(index) {
            let both = PhysRange::new(block.range.start.min(next.range.start), block.range.end.max(next.range.end));
            let others = joined.iter().chain(&left);
            let between = others.into_iter().any(|other| other.node != block.node && other.range.overlaps(both));
            if next.node == block.node && !between {
                block.range = both;
                left.remove(index);
            } else {
                index += 1;
            }
        }
        joined.push(block);
    }
    joined
}

fn pop_front(blocks: &mut Vec<NodeBlock>) -> Option<NodeBlock> {
    if blocks.is_empty() { None } else { Some(blocks.remove(0)) }
}

/// Returns the nodes that hold reserved bytes, ascending.
pub(super) fn nodes_with_reservations(memblock: &Memblock) -> Vec<NodeId> {
    let mut nodes: Vec<NodeId> = memblock.reserved().iter().filter_map(|region| region.node).collect();
    nodes.sort_unstable();
    nodes.dedup();
    nodes
}

/// The two lists, in the order in which the kernel gives them nodes.
pub(super) const BOTH_LISTS: [ListKind; 2] = [ListKind::Memory, ListKind::Reserved];

#[cfg(test)]
mod tests {
    use boot_memory::memblock::{BootContext, MemblockConfig, SilentLog};
    use units::PhysAddr;

    use super::*;

    fn block(node: u64, start: u64, end: u64) -> NodeBlock {
        let range = PhysRange::new(PhysAddr::new(start), PhysAddr::new(end));
        NodeBlock { node: NodeId::try_new(node).unwrap(), range }
    }

    fn bounds(end: u64) -> PhysRange {
        PhysRange::new(PhysAddr::ZERO, PhysAddr::new(end))
    }

    fn memory_up_to(end: u64) -> Memblock {
        let mut memblock = Memblock::new(MemblockConfig::new());
        let mut log = SilentLog;
        memblock.add(PhysAddr::ZERO, end, &mut BootContext::new(&(), &mut log, "test")).unwrap();
        memblock
    }

    #[test]
    fn srat_lines_with_and_without_hotplug_are_read() {
        let line = "ACPI: SRAT: Node 1 PXM 1 [mem 0x100000000-0x13fffffff] hotplug";
        let claim = NodeClaim::Srat(block(1, 0x1_0000_0000, 0x1_4000_0000), Hotplug::Pluggable);
        assert_eq!(parse_claim(line), Some(claim));
        assert_eq!(parse_claim("ACPI: SRAT: Node 1 PXM 1 [mem 0x1000-"), None);
    }

    #[test]
    fn blocks_of_a_node_join_across_holes_but_not_across_other_nodes() {
        let blocks =
            [block(0, 0, 0x1000), block(0, 0x2000, 0x3000), block(1, 0x3000, 0x4000), block(0, 0x4000, 0x5000)];
        let joined = clean_up(&blocks, &memory_up_to(0x10000), bounds(0x10000));
        assert_eq!(joined, [block(0, 0, 0x3000), block(1, 0x3000, 0x4000), block(0, 0x4000, 0x5000)]);
    }

    #[test]
    fn blocks_end_where_memory_ends() {
        let blocks = [block(0, 0, 0x8000), block(1, 0x20000, 0x30000)];
        let joined = clean_up(&blocks, &memory_up_to(0x4000), bounds(0x4000));
        assert_eq!(joined, [block(0, 0, 0x4000)]);
    }

    #[test]
    fn emulated_nodes_replace_those_of_the_firmware() {
        let claims = [
            NodeClaim::Srat(block(0, 0, 0x8000), Hotplug::Fixed),
            NodeClaim::Emulated(block(0, 0, 0x4000)),
            NodeClaim::Emulated(block(1, 0x4000, 0x8000)),
        ];
        assert_eq!(effective_blocks(&claims), [block(0, 0, 0x4000), block(1, 0x4000, 0x8000)]);
    }
}
