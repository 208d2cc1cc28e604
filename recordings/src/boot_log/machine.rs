//! What a log says about the machine and the kernel build.

use boot_memory::memblock::{
    HotplugPolicy, INIT_REGIONS, MAX_INLINE_REGIONS, MemblockConfig, MirrorPolicy, NodeTracking, RegionFlags, Wording,
};
use units::{NodeId, PhysAddr, PhysRange};

use super::nodes::NodeBlock;
use super::scan::Scan;
use super::{Action, BootLog, Request};

/// Kind of machine, as far as boot memory is concerned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Architecture {
    /// x86: memory comes from the e820 map, and every memory line is logged.
    X86,
    /// Others: memory comes from a devicetree that is read before the log's debug lines are on.
    Other,
}

/// Release of a kernel.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct KernelVersion {
    /// First number.
    pub major: u32,
    /// Second number.
    pub minor: u32,
}

pub(super) fn parse_version(message: &str) -> Option<KernelVersion> {
    let mut scan = Scan::new(message);
    scan.skip("Linux version ")?;
    let major = u32::try_from(scan.decimal()?).ok()?;
    scan.skip(".")?;
    Some(KernelVersion { major, minor: u32::try_from(scan.decimal()?).ok()? })
}

pub(super) fn architecture(messages: &[String]) -> Architecture {
    let e820 = |message: &String| message.starts_with("BIOS-e820:") || message.contains(" e820__");
    if messages.iter().any(e820) { Architecture::X86 } else { Architecture::Other }
}

pub(super) fn command_line(messages: &[String]) -> Option<String> {
    let shown = |message: &String| {
        let text = message.strip_prefix("Command line: ").or_else(|| message.strip_prefix("Kernel command line: "));
        text.map(|text| text.trim_end().to_owned())
    };
    messages.iter().find_map(shown)
}

/// Parses `  node   N: [mem 0x...-0x...]`.
pub(super) fn parse_node_range(text: &str) -> Option<NodeBlock> {
    let mut scan = Scan::new(text.trim_start());
    scan.skip("node")?;
    scan.skip_blanks();
    let node = NodeId::try_new(scan.decimal()?)?;
    scan.skip(": ")?;
    Some(NodeBlock { node, range: scan.mem_bracket()? })
}

/// Parses `  ZONE   [mem 0x...-0x...]` if it is about this zone.
pub(super) fn parse_zone_range(text: &str, zone: &str) -> Option<PhysRange> {
    let mut scan = Scan::new(text.trim_start());
    scan.skip(zone)?;
    scan.skip(" ")?;
    scan.skip_blanks();
    scan.mem_bracket()
}

impl BootLog {
    /// Derives the configuration of memblock from what the log shows.
    pub fn memblock_config(&self) -> MemblockConfig {
        MemblockConfig {
            page_shift: self.page_shift(),
            address_digits: self.address_digits(),
            memory_regions: INIT_REGIONS,
            reserved_regions: self.reserved_regions(),
            nodes: if self.shows_nodes() { NodeTracking::Numa } else { NodeTracking::Flat },
            hotplug: if self.has_option("movable_node") { HotplugPolicy::Avoid } else { HotplugPolicy::Use },
            mirror: if self.dumps_flag(RegionFlags::MIRROR) { MirrorPolicy::Prefer } else { MirrorPolicy::Ignore },
            wording: match self.version {
                Some(version) if version < (KernelVersion { major: 6, minor: 8 }) => Wording::Linux6_1,
                _ => Wording::Linux6_12,
            },
        }
    }

    /// Returns true if the command line holds `option` without a value.
    pub(super) fn has_option(&self, option: &str) -> bool {
        self.command_line.iter().flat_map(|line| line.split_whitespace()).any(|word| word == option)
    }

    /// arm64 allocates its first page tables one page at a time; nothing else in a log shows the page size.
    fn page_shift(&self) -> u32 {
        let sizes = self.calls().filter_map(|(request, caller)| match request {
            Request::PhysAllocRange { size, .. } if caller == "early_pgtable_alloc" => Some(*size),
            _ => None,
        });
        let shift = sizes.map(u64::trailing_zeros).find(|shift| (12..=16).contains(shift));
        shift.unwrap_or(12)
    }

    fn address_digits(&self) -> usize {
        let narrow = self.lines.iter().filter(|line| line.starts_with("memblock_")).find_map(|line| {
            let (_, address) = line.split_once("[0x")?;
            address.split_once('-').map(|(first, _)| first.len() == 8)
        });
        if narrow == Some(true) { 8 } else { 16 }
    }

    /// Outside x86 the array has room for one more region for each CPU that the kernel is built for.
    fn reserved_regions(&self) -> usize {
        if self.architecture == Architecture::X86 {
            return INIT_REGIONS;
        }
        let nr_cpus = self.lines.iter().find_map(|line| {
            let (_, number) = line.split_once("NR_CPUS=").or_else(|| line.split_once("NR_CPUS:"))?;
            Scan::new(number).decimal()
        });
        let extra = nr_cpus.and_then(|cpus| usize::try_from(cpus).ok()).map(|cpus| cpus + 1);
        extra.map_or(MAX_INLINE_REGIONS, |extra| (INIT_REGIONS + extra).min(MAX_INLINE_REGIONS))
    }

    fn shows_nodes(&self) -> bool {
        self.steps.iter().any(|step| match &step.action {
            Action::NodeData(..) => true,
            Action::Dump(dump) => dump.memory.iter().any(|region| region.node.is_some()),
            _ => false,
        })
    }

    fn dumps_flag(&self, flag: RegionFlags) -> bool {
        self.first_dump().is_some_and(|(_, dump)| dump.memory.iter().any(|region| region.flags.contains(flag)))
    }

    fn calls(&self) -> impl Iterator<Item = (&Request, &str)> {
        self.steps.iter().filter_map(|step| match &step.action {
            Action::Call(line, _) => Some((&line.request, line.caller_symbol())),
            _ => None,
        })
    }

    /// Returns up to where the kernel has mapped memory once its first page tables are made: the limit of allocations.
    ///
    /// On x86 that is the end of low memory, or the upper bound that the mapping code itself used. `None` elsewhere: no limit.
    pub(super) fn mapped_limit(&self) -> Option<PhysAddr> {
        if self.architecture == Architecture::Other {
            return None;
        }
        let low_ram = self.lines.iter().find_map(|line| {
            let mut scan = Scan::new(line);
            scan.skip("  low ram: 0 - ")?;
            scan.bare_hex()
        });
        let mapping = self.calls().filter_map(|(request, caller)| match request {
            Request::PhysAllocRange { bounds, .. } if caller == "init_mem_mapping" => Some(bounds.end),
            _ => None,
        });
        low_ram.map(PhysAddr::new).or_else(|| mapping.last())
    }

    /// Returns where the default contiguous area must end: with devicetrees, at the end of the lowest zone.
    pub(super) fn dma_limit(&self) -> Option<PhysAddr> {
        if self.architecture == Architecture::X86 {
            return self.mapped_limit();
        }
        ["DMA", "DMA32"].iter().find_map(|zone| self.zone_range(zone)).map(|range| range.end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_release_is_read_from_the_banner() {
        assert_eq!(parse_version("Linux version 6.1.0-56-cloud-amd64 (x)"), Some(KernelVersion { major: 6, minor: 1 }));
        assert_eq!(parse_version("Linux version next"), None);
    }

    #[test]
    fn zone_and_node_ranges_are_read() {
        let range = PhysRange::new(PhysAddr::new(0x1000), PhysAddr::new(0x2000));
        assert_eq!(parse_zone_range("  DMA      [mem 0x1000-0x1fff]", "DMA"), Some(range));
        assert_eq!(parse_zone_range("  DMA32    [mem 0x1000-0x1fff]", "DMA"), None);
        assert_eq!(parse_zone_range("  DMA32    empty", "DMA32"), None);
        let block = NodeBlock { node: NodeId::ZERO, range };
        assert_eq!(parse_node_range("  node   0: [mem 0x1000-0x1fff]"), Some(block));
    }
}
