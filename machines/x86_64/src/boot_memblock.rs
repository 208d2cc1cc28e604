//! The boot allocator of this machine: filled from the firmware's map, with nodes, and with what is taken already.
//!
//! In Linux's order, so that `memblock=debug` reads like its log. Linux 6.12: arch/x86/kernel/setup.c (`setup_arch`),
//! arch/x86/mm/numa.c.

use boot_memory::firmware::{BootOptions, CoreSize, MemoryMap, NumaMap, NumaOption, RangeFlags, RangeKind};
use boot_memory::memblock::{
    BootContext, DebugLines, HotplugPolicy, ListKind, Memblock, MemblockConfig, MemblockError, MirrorPolicy,
};
use units::{NodeId, PhysAddr, PhysRange};

use crate::console::ConsoleLog;
use crate::paging::{self, BOOT_MAPPED, TABLE_SIZE};

/// Firmware is known to write here behind the kernel's back (Linux: reserve_low).
const RESERVED_LOW: u64 = 64 << 10;
/// End of what a CPU reaches in real mode.
const REAL_MODE_END: PhysAddr = PhysAddr::new(1 << 20);

/// What the machine took for itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EarlyMemory {
    /// Pages for page tables.
    pub(crate) tables: PhysRange,
    /// The page in which other CPUs start.
    pub(crate) start_page: PhysRange,
}

/// Makes the boot allocator that the options ask for, with nothing in it.
pub(crate) fn new(options: &BootOptions<'_>) -> Memblock {
    let mirror = if options.kernelcore == Some(CoreSize::Mirror) { MirrorPolicy::Prefer } else { MirrorPolicy::Ignore };
    let hotplug = if options.movable_node { HotplugPolicy::Avoid } else { HotplugPolicy::Use };
    let mut memblock = Memblock::new(MemblockConfig { hotplug, mirror, ..MemblockConfig::new() });
    memblock.set_debug(if options.memblock_debug { DebugLines::On } else { DebugLines::Off });
    // Tables and region arrays are written while only this much is mapped.
    memblock.set_current_limit(BOOT_MAPPED);
    memblock
}

/// Fills the boot allocator: `taken` is the image and what the loader brought.
///
/// # Errors
/// [`MemblockError`] if a list is full.
pub(crate) fn fill(
    memblock: &mut Memblock,
    map: &MemoryMap,
    taken: impl Iterator<Item = PhysRange>,
) -> Result<(), MemblockError> {
    let mut log = ConsoleLog;
    let mut cx = BootContext::new(&(), &mut log, "setup_arch");
    for range in taken {
        memblock.reserve(range.start, range.len(), &mut cx)?;
    }
    memblock.reserve(PhysAddr::ZERO, RESERVED_LOW, &mut cx)?;
    let mut cx = BootContext::new(&(), &mut log, "e820__memblock_setup");
    for entry in map.of_kind(RangeKind::Usable) {
        memblock.add(entry.range.start, entry.range.len(), &mut cx)?;
    }
    memblock.trim_memory(TABLE_SIZE);
    memblock.dump_all(&mut cx);
    Ok(())
}

/// Takes the page in which CPUs start, and room for page tables.
///
/// # Errors
/// [`MemblockError`] if memory is too small.
pub(crate) fn take_early(memblock: &mut Memblock) -> Result<EarlyMemory, MemblockError> {
    let mut log = ConsoleLog;
    let mut cx = BootContext::new(&(), &mut log, "reserve_real_mode");
    let low = PhysRange::new(PhysAddr::ZERO, REAL_MODE_END);
    let start_page = memblock.phys_alloc_range(TABLE_SIZE, TABLE_SIZE, low, &mut cx)?;
    let mut cx = BootContext::new(&(), &mut log, "alloc_low_pages");
    let room = paging::table_room(memblock.end_of_dram());
    let mapped = PhysRange::new(REAL_MODE_END, BOOT_MAPPED);
    let tables = memblock.phys_alloc_range(room, TABLE_SIZE, mapped, &mut cx)?;
    Ok(EarlyMemory { tables, start_page })
}

/// Says which node memory is on; returns whether the firmware's nodes are in use.
///
/// Without them, or if they leave memory out, all of it is on node 0 (Linux: dummy_numa_init).
///
/// # Errors
/// [`MemblockError`] if a list is full.
pub(crate) fn set_nodes(memblock: &mut Memblock, numa: &NumaMap, option: NumaOption) -> Result<Nodes, MemblockError> {
    let mut log = ConsoleLog;
    let mut cx = BootContext::new(&(), &mut log, "numa_register_memblks");
    if option == NumaOption::Firmware || option == NumaOption::NoHmat {
        for affinity in numa.memory() {
            let (start, len) = (affinity.range.start, affinity.range.len());
            memblock.set_node(start, len, ListKind::Memory, Some(affinity.node), &mut cx)?;
            if affinity.flags.contains(RangeFlags::HOTPLUG) {
                memblock.mark_hotplug(start, len, &mut cx)?;
            }
        }
        if memblock.memory().iter().all(|region| region.node.is_some()) {
            return Ok(Nodes::Firmware);
        }
    }
    memblock.set_node(PhysAddr::ZERO, u64::MAX, ListKind::Memory, Some(NodeId::ZERO), &mut cx)?;
    Ok(Nodes::One)
}

/// Whose nodes are in use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Nodes {
    /// Those of the firmware.
    Firmware,
    /// There is one node.
    One,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map() -> MemoryMap {
        let mut map = MemoryMap::new();
        for (start, end) in [(0x1000, 0x9_fc00), (0x10_0000, 0x800_0000)] {
            map.push(PhysRange::new(PhysAddr::new(start), PhysAddr::new(end)), RangeKind::Usable).unwrap();
        }
        map
    }

    fn filled(taken: &[PhysRange]) -> Memblock {
        let mut memblock = new(&BootOptions::default());
        fill(&mut memblock, &map(), taken.iter().copied()).unwrap();
        memblock
    }

    #[test]
    fn the_start_page_is_below_a_megabyte_and_tables_above_it() {
        let early = take_early(&mut filled(&[])).unwrap();
        assert!(early.start_page.start.raw() >= RESERVED_LOW && early.start_page.end <= REAL_MODE_END);
        assert!(early.tables.start >= REAL_MODE_END);
        assert_eq!(early.tables.len(), paging::table_room(PhysAddr::new(0x800_0000)));
    }

    #[test]
    fn what_is_taken_stays_untouched() {
        let taken = PhysRange::new(PhysAddr::new(0x700_0000), PhysAddr::new(0x7ff_f000));
        let early = take_early(&mut filled(&[taken])).unwrap();
        assert!(!early.tables.overlaps(taken));
    }

    #[test]
    fn a_machine_without_free_low_memory_is_refused() {
        let low = PhysRange::new(PhysAddr::ZERO, PhysAddr::new(0xa_0000));
        assert!(matches!(take_early(&mut filled(&[low])), Err(MemblockError::NoMemory { .. })));
    }

    #[test]
    fn nodes_that_leave_memory_out_are_not_used() {
        let half = PhysRange::new(PhysAddr::ZERO, PhysAddr::new(0x400_0000));
        let mut numa = NumaMap::new();
        numa.add_memory(half, NodeId::try_new(1).unwrap()).unwrap();
        let mut memblock = filled(&[]);
        assert_eq!(set_nodes(&mut memblock, &numa, NumaOption::Firmware).unwrap(), Nodes::One);
        assert!(memblock.memory().iter().all(|region| region.node == Some(NodeId::ZERO)));
        numa.add_memory(PhysRange::new(half.end, PhysAddr::new(0x800_0000)), NodeId::ZERO).unwrap();
        assert_eq!(set_nodes(&mut memblock, &numa, NumaOption::Firmware).unwrap(), Nodes::Firmware);
        assert_eq!(set_nodes(&mut memblock, &numa, NumaOption::Off).unwrap(), Nodes::One);
    }
}
