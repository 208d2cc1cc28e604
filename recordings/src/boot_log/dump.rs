//! The block of lines that shows the whole configuration of memblock.

use boot_memory::memblock::{ListKind, Region, RegionFlags};
use units::NodeId;

use super::scan::Scan;

/// First line of the block.
pub(super) const HEADER: &str = "MEMBLOCK configuration:";

/// What a region line must look like.
pub(super) const REGION_FORM: &str = "a region of the MEMBLOCK configuration: LIST[0xINDEX] [0xFIRST-0xLAST], 0xSIZE bytes [on node NODE] flags: 0xFLAGS";

/// A configuration as recorded.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Dump {
    /// Index, in [`super::BootLog::lines`], of the header.
    pub first: usize,
    /// Number of lines, header included.
    pub len: usize,
    /// Total size of memory, which counts what was trimmed off regions; 0 if the line is not there.
    pub memory_size: u64,
    /// Regions of memory.
    pub memory: Vec<Region>,
    /// Reserved regions.
    pub reserved: Vec<Region>,
}

/// Returns true if the message continues a configuration block.
pub(super) fn continues(message: &str) -> bool {
    [" memory", " reserved", " physmem"].iter().any(|name| message.starts_with(name))
}

/// Returns true if the message is a region line of one of the two lists.
pub(super) fn is_region(message: &str) -> bool {
    message.starts_with(" memory[") || message.starts_with(" reserved[")
}

/// Parses the line of the total sizes and returns that of memory; `None` if it is another line.
pub(super) fn parse_memory_size(message: &str) -> Option<u64> {
    let mut scan = Scan::new(message);
    scan.skip(" memory size = ")?;
    scan.hex()
}

/// Parses a region line; `None` if it is damaged. An empty region is a placeholder for an empty list.
pub(super) fn parse_region(message: &str) -> Option<(ListKind, Region)> {
    let mut scan = Scan::new(message);
    let list = if scan.skip(" memory[").is_some() {
        ListKind::Memory
    } else {
        scan.skip(" reserved[")?;
        ListKind::Reserved
    };
    scan.hex()?;
    scan.skip("]")?;
    scan.skip_blanks();
    let (base, size) = scan.bracket()?;
    scan.skip(", ")?;
    (scan.hex()? == size).then_some(())?;
    scan.skip(" bytes")?;
    let node = if scan.skip(" on node ").is_some() { node(scan.signed()?)? } else { None };
    scan.skip(" flags: ")?;
    let flags = RegionFlags::from_bits_retain(u32::try_from(scan.hex()?).ok()?);
    scan.rest().is_empty().then_some((list, Region { base, size, flags, node }))
}

/// Linux shows -1, or the number above the last node, while a node is unknown.
fn node(number: i64) -> Option<Option<NodeId>> {
    if number < 0 {
        return Some(None);
    }
    NodeId::try_new(u64::try_from(number).ok()?).map(Some)
}

#[cfg(test)]
mod tests {
    use units::PhysAddr;

    use super::*;

    #[test]
    fn a_region_line_gives_list_range_node_and_flags() {
        let line =
            " reserved[0x3]\t[0x00000000bfee4000-0x00000000bffe1c5e], 0x00000000000fdc5f bytes on node 1 flags: 0x4";
        let region = Region {
            base: PhysAddr::new(0xbfee_4000),
            size: 0xf_dc5f,
            flags: RegionFlags::NOMAP,
            node: NodeId::try_new(1),
        };
        assert_eq!(parse_region(line), Some((ListKind::Reserved, region)));
    }

    #[test]
    fn a_size_that_contradicts_the_range_is_refused() {
        assert_eq!(
            parse_region(" memory[0x0]\t[0x0000000000001000-0x0000000000001fff], 0x2000 bytes flags: 0x0"),
            None
        );
    }
}
