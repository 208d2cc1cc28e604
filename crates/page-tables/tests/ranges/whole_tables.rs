//! Tables that move with all that they map.

use object_allocator::mmu::UserTables;
use platform::Level;
use units::{Pfn, VirtAddr, VirtRange};

use crate::machine::{View, end, machine, map_at};

/// Where a table begins.
const OLD: VirtAddr = VirtAddr::new(0x1000_0000_0000);
/// Where one begins below another entry of the table two levels up.
const NEW: VirtAddr = VirtAddr::new(0x1000_4000_0000);
const BLOCK: u64 = 2 << 20;
/// Bytes at the start of the table that the moved range does not reach.
const SKIPPED: u64 = 3 << 12;

/// Maps a page, moves the table's addresses from `skipped` bytes on, and returns how many tables there are and what is mapped.
fn moved(skipped: u64, room: u64) -> (u64, Vec<(u64, Pfn)>, Pfn) {
    let (objects, cpu) = machine(256);
    let tables = UserTables::new();
    let view = View { mmu: objects.start_mmu(&cpu).unwrap().on(&cpu), tables: &tables };
    view.mmu.make_root(&tables).unwrap();
    let pfn = map_at(&view, OLD.saturating_add(5 << 12), Level::PTE).unwrap();
    let old = VirtRange::new(OLD.saturating_add(skipped), OLD.saturating_add(BLOCK));
    view.relocate(&mut view.mmu.gather(&tables), old, NEW.saturating_add(skipped), room).unwrap();
    let mut found = Vec::new();
    view.for_each_mapped(VirtRange::new(OLD, NEW.saturating_add(BLOCK)), |page| {
        found.push((page.range.start.raw(), page.pfn));
    });
    let nr_tables = tables.nr_tables();
    assert_eq!(tables.rss().anon, 1);
    end(&view);
    assert_eq!(tables.nr_tables(), 0);
    (nr_tables, found, pfn)
}

#[test]
fn a_table_that_the_range_fills_moves_and_none_is_made() {
    let (nr_tables, found, pfn) = moved(0, 0);
    assert_eq!(nr_tables, 4, "one of pages, one above each place, one above both");
    assert_eq!(found, [(NEW.raw() + (5 << 12), pfn)]);
}

#[test]
fn a_table_moves_from_its_start_on_if_no_area_lies_there() {
    let (nr_tables, found, pfn) = moved(SKIPPED, SKIPPED);
    assert_eq!((nr_tables, found), (4, vec![(NEW.raw() + (5 << 12), pfn)]));
}

#[test]
fn a_table_that_serves_another_area_stays_and_its_pages_move() {
    let (nr_tables, found, pfn) = moved(SKIPPED, SKIPPED - 1);
    assert_eq!((nr_tables, found), (5, vec![(NEW.raw() + (5 << 12), pfn)]));
}
