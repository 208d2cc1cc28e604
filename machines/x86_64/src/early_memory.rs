//! Memory that the machine takes for itself before the memory manager is there: table pages and the start-up page of CPUs.
//!
//! Uses a memblock of its own, filled from the firmware's map, so that the choice respects everything that is taken. What was
//! taken is reported to the memory manager as reserved.

use boot_memory::firmware::{MemoryMap, RangeKind};
use boot_memory::memblock::{BootContext, Memblock, MemblockConfig, MemblockError};
use units::{PhysAddr, PhysRange};

use crate::console::ConsoleLog;
use crate::paging::{self, BOOT_MAPPED, TABLE_SIZE};

/// First page that a CPU may be started at; the one at 0 marks null.
const FIRST_START_PAGE: PhysAddr = PhysAddr::new(0x1000);
/// End of what real mode reaches.
const REAL_MODE_END: PhysAddr = PhysAddr::new(0xa_0000);

/// What was taken.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EarlyMemory {
    /// Pages for page tables.
    pub(crate) tables: PhysRange,
    /// The page in which other CPUs start.
    pub(crate) start_page: PhysRange,
}

/// Takes the machine's own memory out of `map`, away from `taken`.
///
/// # Errors
/// [`MemblockError`] if the map is too small.
pub(crate) fn take(map: &MemoryMap, taken: impl Iterator<Item = PhysRange>) -> Result<EarlyMemory, MemblockError> {
    let mut log = ConsoleLog;
    let mut cx = BootContext::new(&(), &mut log, "early_memory");
    let mut memblock = Memblock::new(MemblockConfig::new());
    for entry in map.of_kind(RangeKind::Usable) {
        memblock.add(entry.range.start, entry.range.len(), &mut cx)?;
    }
    for range in taken {
        memblock.reserve(range.start, range.len(), &mut cx)?;
    }
    memblock.trim_memory(TABLE_SIZE);
    let start_bounds = PhysRange::new(FIRST_START_PAGE, REAL_MODE_END);
    let start_page = memblock.phys_alloc_range(TABLE_SIZE, TABLE_SIZE, start_bounds, &mut cx)?;
    let room = paging::table_room(memblock.end_of_dram());
    let table_bounds = PhysRange::new(REAL_MODE_END, BOOT_MAPPED);
    let tables = memblock.phys_alloc_range(room, TABLE_SIZE, table_bounds, &mut cx)?;
    Ok(EarlyMemory { tables, start_page })
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

    #[test]
    fn the_start_page_is_below_a_megabyte_and_tables_above_it() {
        let early = take(&map(), core::iter::empty()).unwrap();
        assert!(early.start_page.end <= REAL_MODE_END);
        assert!(early.tables.start >= PhysAddr::new(0x10_0000));
        assert_eq!(early.tables.len(), paging::table_room(PhysAddr::new(0x800_0000)));
    }

    #[test]
    fn what_is_taken_stays_untouched() {
        let low = PhysRange::new(PhysAddr::new(0x2000), PhysAddr::new(0xa_0000));
        let early = take(&map(), core::iter::once(low)).unwrap();
        assert_eq!(early.start_page.start, FIRST_START_PAGE);
    }

    #[test]
    fn a_map_without_low_memory_is_refused() {
        let mut map = MemoryMap::new();
        map.push(PhysRange::new(PhysAddr::new(1 << 20), PhysAddr::new(1 << 30)), RangeKind::Usable).unwrap();
        assert!(matches!(take(&map, core::iter::empty()), Err(MemblockError::NoMemory { .. })));
    }
}
