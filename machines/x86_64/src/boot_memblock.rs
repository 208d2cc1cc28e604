//! The boot allocator of this machine: filled from the firmware's map, with nodes, and with what is taken already.
//!
//! In Linux's order, so that `memblock=debug` reads like its log. Linux 6.12: arch/x86/kernel/setup.c (`setup_arch`),
//! arch/x86/mm/numa.c.

use boot_memory::LowMemory;
use boot_memory::firmware::{BootOptions, MemoryMap};
use boot_memory::memblock::{BootContext, Memblock, MemblockConfig, MemblockError};
use units::{PhysAddr, PhysRange};

use crate::console::ConsoleLog;
use crate::paging::{self, BOOT_MAPPED, TABLE_SIZE};

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
    let mut memblock = Memblock::with_options(MemblockConfig::new(), options);
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
    memblock.reserve_taken(taken, LowMemory::Reserved, &mut BootContext::new(&(), &mut log, "setup_arch"))?;
    let mut cx = BootContext::new(&(), &mut log, "e820__memblock_setup");
    memblock.add_usable(map, &mut cx)?;
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

#[cfg(test)]
mod tests {
    use boot_memory::firmware::RangeKind;

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
        assert!(early.start_page.start.raw() >= 64 << 10 && early.start_page.end <= REAL_MODE_END);
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
}
