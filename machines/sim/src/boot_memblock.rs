//! Fills memblock for a described machine, in Linux's order: what is taken, then memory, then nodes.
//!
//! Used by `machine`. Linux 6.12: arch/x86/kernel/setup.c and arch/arm64/mm/init.c (`arm64_memblock_init`), as far as a machine
//! without devices has any of it.

use boot_memory::firmware::{BootOptions, CoreSize, NumaMap, NumaOption, RangeFlags, RangeKind};
use boot_memory::memblock::{
    BootContext, BootLog, DebugLines, HotplugPolicy, ListKind, Memblock, MemblockConfig, MemblockError, MirrorPolicy,
    RegionMemory, Wording,
};
use units::{NodeId, PhysAddr};

use crate::MachineError;
use crate::description::{Arch, LinuxVersion, Machine};

/// Firmware is known to write here behind the kernel's back (Linux: reserve_low).
const RESERVED_LOW: u64 = 64 << 10;

/// Where the direct map of a 32-bit kernel ends (Linux: MAXMEM with the default split).
const LOWMEM_END: PhysAddr = PhysAddr::new(896 << 20);

/// Returns where memory stops being mapped permanently; `None` if all of it is.
pub(crate) fn direct_map_end(arch: Arch) -> Option<PhysAddr> {
    (arch == Arch::I386).then_some(LOWMEM_END)
}

/// Whose nodes are in use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Nodes {
    /// Those of the description.
    Described,
    /// There is one node: numa=off.
    One,
}

/// Makes the memblock of `machine` as its kernel's options shape it.
///
/// # Errors
/// [`MachineError::MapFull`] or [`MachineError::Memblock`].
pub(crate) fn fill(
    machine: &Machine,
    options: &BootOptions<'_>,
    regions: &dyn RegionMemory,
    log: &mut dyn BootLog,
) -> Result<(Memblock, Nodes), MachineError> {
    let mut memblock = Memblock::new(config(machine, options));
    memblock.set_debug(if options.memblock_debug { DebugLines::On } else { DebugLines::Off });
    if let Some(end) = direct_map_end(machine.arch) {
        memblock.set_current_limit(end);
    }
    reserve_taken(&mut memblock, machine, &mut BootContext::new(regions, log, "setup_arch"))?;
    add_memory(&mut memblock, machine, options, &mut BootContext::new(regions, log, "e820__memblock_setup"))?;
    let mut cx = BootContext::new(regions, log, "numa_register_memblks");
    let nodes = set_nodes(&mut memblock, &machine.numa_map(), options.numa, &mut cx)?;
    memblock.dump_all(&mut cx);
    Ok((memblock, nodes))
}

fn config(machine: &Machine, options: &BootOptions<'_>) -> MemblockConfig {
    MemblockConfig {
        page_shift: machine.arch.page_shift(),
        hotplug: if options.movable_node { HotplugPolicy::Avoid } else { HotplugPolicy::Use },
        mirror: if options.kernelcore == Some(CoreSize::Mirror) { MirrorPolicy::Prefer } else { MirrorPolicy::Ignore },
        wording: if machine.linux == LinuxVersion::V6_1 { Wording::Linux6_1 } else { Wording::Linux6_12 },
        ..MemblockConfig::new()
    }
}

fn reserve_taken(memblock: &mut Memblock, machine: &Machine, cx: &mut BootContext<'_>) -> Result<(), MemblockError> {
    memblock.allow_resize();
    for range in machine.kernel_image.iter().chain(&machine.kernel_reserved) {
        memblock.reserve(range.start, range.len(), cx)?;
    }
    if machine.arch.has_bios_range() {
        memblock.reserve(PhysAddr::ZERO, RESERVED_LOW, cx)?;
    }
    Ok(())
}

/// Adds what the firmware and the options leave usable. `mem=` is an address on x86 and an amount on arm64.
fn add_memory(
    memblock: &mut Memblock,
    machine: &Machine,
    options: &BootOptions<'_>,
    cx: &mut BootContext<'_>,
) -> Result<(), MachineError> {
    let mut map = machine.firmware.clone();
    if machine.arch.has_bios_range() {
        options.apply_to(&mut map).map_err(|_| MachineError::MapFull)?;
        map.trim_bios_range().map_err(|_| MachineError::MapFull)?;
    }
    for entry in map.of_kind(RangeKind::Usable) {
        memblock.add(entry.range.start, entry.range.len(), cx)?;
    }
    if let (false, Some(limit)) = (machine.arch.has_bios_range(), options.mem) {
        memblock.mem_limit_remove_map(limit, cx)?;
    }
    memblock.trim_memory(1 << machine.arch.page_shift());
    Ok(())
}

fn set_nodes(
    memblock: &mut Memblock,
    numa: &NumaMap,
    option: NumaOption,
    cx: &mut BootContext<'_>,
) -> Result<Nodes, MemblockError> {
    if option == NumaOption::Firmware || option == NumaOption::NoHmat {
        for affinity in numa.memory() {
            let (start, len) = (affinity.range.start, affinity.range.len());
            memblock.set_node(start, len, ListKind::Memory, Some(affinity.node), cx)?;
            if affinity.flags.contains(RangeFlags::HOTPLUG) {
                memblock.mark_hotplug(start, len, cx)?;
            }
        }
        return Ok(Nodes::Described);
    }
    memblock.set_node(PhysAddr::ZERO, u64::MAX, ListKind::Memory, Some(NodeId::ZERO), cx)?;
    Ok(Nodes::One)
}

#[cfg(test)]
mod tests {
    use boot_memory::memblock::SilentLog;

    use super::*;

    fn filled(machine: &str, append: &str) -> (Memblock, Nodes) {
        let machine = Machine::ready(machine).unwrap();
        fill(&machine, &BootOptions::parse(append).unwrap(), &(), &mut SilentLog).unwrap()
    }

    #[test]
    fn nodes_and_taken_ranges_come_from_the_description() {
        let (memblock, nodes) = filled("server-2node", "");
        let machine = Machine::ready("server-2node").unwrap();
        assert_eq!(nodes, Nodes::Described);
        for node in &machine.nodes {
            let usable: u64 = machine.usable_of(node.id).iter().map(|range| range.len()).sum();
            let filled: u64 =
                memblock.memory().iter().filter(|region| region.node == Some(node.id)).map(|region| region.size).sum();
            // The first megabyte of the machine loses what belongs to the firmware.
            assert!(filled <= usable && usable - filled < 1 << 20, "{filled} of {usable} bytes on {}", node.id);
        }
        let image = machine.kernel_image.unwrap();
        assert!(memblock.reserved().iter().any(|region| region.range().intersection(image) == image));
    }

    #[test]
    fn numa_off_leaves_one_node() {
        let (memblock, nodes) = filled("server-2node", "numa=off");
        assert_eq!(nodes, Nodes::One);
        assert!(memblock.memory().iter().all(|region| region.node == Some(NodeId::ZERO)));
    }

    #[test]
    fn mem_is_an_end_on_x86_and_an_amount_on_arm64() {
        assert_eq!(filled("small", "mem=256M").0.end_of_dram(), PhysAddr::new(256 << 20));
        let (memblock, _) = filled("arm64-64k", "mem=256M");
        assert_eq!(memblock.memory().iter().map(|region| region.size).sum::<u64>(), 256 << 20);
    }
}
