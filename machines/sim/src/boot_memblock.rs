//! Fills memblock for a described machine, in Linux's order: what is taken, then memory, then nodes.
//!
//! Used by `machine`. Linux 6.12: arch/x86/kernel/setup.c and arch/arm64/mm/init.c (`arm64_memblock_init`), as far as a machine
//! without devices has any of it.

use boot_memory::firmware::BootOptions;
use boot_memory::memblock::{
    BootContext, BootLog, MAX_ADDR_ACCESSIBLE, Memblock, MemblockConfig, MemblockError, RegionMemory, Wording,
};
use boot_memory::{LowMemory, Nodes};
use units::{PhysAddr, PhysRange};

use crate::MachineError;
use crate::description::{Arch, LinuxVersion, Machine, PlacedReservation};

/// Where the direct map of a 32-bit kernel ends (Linux: MAXMEM with the default split).
const LOWMEM_END: PhysAddr = PhysAddr::new(896 << 20);

/// Returns where memory stops being mapped permanently; `None` if all of it is.
pub(crate) fn direct_map_end(arch: Arch) -> Option<PhysAddr> {
    (arch == Arch::I386).then_some(LOWMEM_END)
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
    let mut memblock = Memblock::with_options(config(machine), options);
    if let Some(end) = direct_map_end(machine.arch) {
        memblock.set_current_limit(end);
    }
    memblock.allow_resize();
    let taken = machine.kernel_image.iter().chain(&machine.kernel_reserved).copied();
    let low = if machine.arch.has_bios_range() { LowMemory::Reserved } else { LowMemory::Plain };
    memblock.reserve_taken(taken, low, &mut BootContext::new(regions, log, "setup_arch"))?;
    add_memory(&mut memblock, machine, options, &mut BootContext::new(regions, log, "e820__memblock_setup"))?;
    keep_for_firmware(&mut memblock, machine, &mut BootContext::new(regions, log, "early_init_fdt_scan_reserved_mem"))?;
    let mut cx = BootContext::new(regions, log, "numa_register_memblks");
    let nodes = memblock.set_nodes(&machine.numa_map(), options.numa, &mut cx)?;
    memblock.dump_all(&mut cx);
    Ok((memblock, nodes))
}

fn config(machine: &Machine) -> MemblockConfig {
    MemblockConfig {
        page_shift: machine.arch.page_shift(),
        wording: if machine.linux == LinuxVersion::V6_1 { Wording::Linux6_1 } else { Wording::Linux6_12 },
        ..MemblockConfig::new()
    }
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
    memblock.add_usable(&map, cx)?;
    if let (false, Some(limit)) = (machine.arch.has_bios_range(), options.mem) {
        memblock.mem_limit_remove_map(limit, cx)?;
    }
    memblock.trim_memory(1 << machine.arch.page_shift());
    Ok(())
}

/// Sets aside what the firmware wants left out of the direct map, and what it wants wherever there is room.
///
/// A reservation without room is left out and named in the log, as Linux does.
fn keep_for_firmware(memblock: &mut Memblock, machine: &Machine, cx: &mut BootContext<'_>) -> Result<(), MachineError> {
    machine.unmapped.iter().try_for_each(|range| memblock.mark_nomap(range.start, range.len(), cx))?;
    for reservation in machine.placed.iter().filter(|reservation| reservation.size > 0) {
        match place(memblock, reservation, cx)? {
            Some(found) if reservation.unmapped => {
                memblock.mark_nomap(found.start, found.len(), cx)?;
                memblock.phys_free(found.start, found.len(), cx)?;
            }
            Some(_) => {}
            None => cx.log.line(format_args!(
                "OF: reserved mem: failed to allocate memory for node '{}': size {} MiB",
                reservation.name,
                reservation.size >> 20
            )),
        }
    }
    Ok(())
}

/// Reserves memory in the first of the wanted places that has room.
fn place(
    memblock: &mut Memblock,
    reservation: &PlacedReservation,
    cx: &mut BootContext<'_>,
) -> Result<Option<PhysRange>, MemblockError> {
    let anywhere = [PhysRange::new(PhysAddr::ZERO, MAX_ADDR_ACCESSIBLE)];
    let wanted = reservation.within.iter().filter(|bounds| !bounds.is_empty());
    let fallback = anywhere.iter().filter(|_| reservation.within.is_empty());
    for &bounds in wanted.chain(fallback) {
        match memblock.phys_alloc_range(reservation.size, reservation.alignment, bounds, cx) {
            Err(MemblockError::NoMemory { .. }) => {}
            found => return found.map(Some),
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use boot_memory::memblock::SilentLog;
    use units::NodeId;

    use super::*;

    fn filled(machine: &str, append: &str) -> (Memblock, Nodes) {
        let machine = Machine::ready(machine).unwrap();
        fill(&machine, &BootOptions::parse(append).unwrap(), &(), &mut SilentLog).unwrap()
    }

    #[test]
    fn nodes_and_taken_ranges_come_from_the_description() {
        let (memblock, nodes) = filled("server-2node", "");
        let machine = Machine::ready("server-2node").unwrap();
        assert_eq!(nodes, Nodes::Firmware);
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
