//! Tables that hold nothing: which ones a move and a fork make all the same.

use mmkit_page_tables::ZapWhat;
use object_allocator::mmu::UserTables;
use sync::Cpu;
use units::{VirtAddr, VirtRange};

use crate::machine::{Objects, View, WRITE, at, end, machine, map, range};

/// Below another entry of the root than everything else.
const FAR: VirtAddr = VirtAddr::new(0x1000_0000_0000);

/// Makes an address space with a page, whose table stays when the page goes.
fn emptied<'a>(objects: &'a Objects, cpu: &'a Cpu, tables: &'a UserTables) -> View<'a> {
    let view = View { mmu: objects.start_mmu(cpu).unwrap().on(cpu), tables };
    view.mmu.make_root(tables).unwrap();
    map(&view, 3);
    view.zap(&mut view.mmu.gather(tables), range(3..4), ZapWhat::All);
    assert_eq!(tables.nr_tables(), 3);
    view
}

/// Pages without a table of their own, whose upper tables are those of page 3.
fn beside() -> VirtRange {
    VirtRange::with_len(VirtAddr::new(at(0).raw() - (8 << 20)), 4 << 12)
}

#[test]
fn a_move_makes_as_many_tables_as_the_old_place_has() {
    let (objects, cpu) = machine(256);
    let tables = UserTables::new();
    let view = emptied(&objects, &cpu, &tables);
    view.relocate(&mut view.mmu.gather(&tables), range(0..4), FAR, 0).unwrap();
    assert_eq!(tables.nr_tables(), 6);
    end(&view);
}

#[test]
fn a_move_of_what_has_no_table_makes_only_the_uppermost_one() {
    let (objects, cpu) = machine(256);
    let tables = UserTables::new();
    let view = emptied(&objects, &cpu, &tables);
    view.relocate(&mut view.mmu.gather(&tables), beside(), FAR, 0).unwrap();
    assert_eq!(tables.nr_tables(), 4);
    let nowhere = VirtRange::with_len(VirtAddr::new(0x2000_0000_0000), 4 << 12);
    view.relocate(&mut view.mmu.gather(&tables), nowhere, VirtAddr::new(0x3000_0000_0000), 0).unwrap();
    assert_eq!(tables.nr_tables(), 4);
    end(&view);
}

#[test]
fn a_child_gets_the_tables_that_its_parent_has() {
    let (objects, cpu) = machine(256);
    let (parent, child) = (UserTables::new(), UserTables::new());
    let of_parent = emptied(&objects, &cpu, &parent);
    let of_child = View { mmu: of_parent.mmu, tables: &child };
    of_child.mmu.make_root(&child).unwrap();
    of_parent.copy_to(&of_child, &mut of_parent.mmu.gather(&parent), beside(), WRITE).unwrap();
    assert_eq!(child.nr_tables(), 2, "those above the one that is missing");
    of_parent.copy_to(&of_child, &mut of_parent.mmu.gather(&parent), range(0..4), WRITE).unwrap();
    assert_eq!(child.nr_tables(), 3);
    end(&of_parent);
    end(&of_child);
}

#[test]
fn an_empty_table_goes_if_all_its_addresses_are_meant() {
    let (objects, cpu) = machine(256);
    let tables = UserTables::new();
    let view = emptied(&objects, &cpu, &tables);
    let table = VirtRange::with_len(at(3).align_down(2 << 20), 2 << 20);
    let part = VirtRange::new(table.start, at(4));
    view.free_lowest_tables(&mut view.mmu.gather(&tables), part);
    assert_eq!(tables.nr_tables(), 3);
    map(&view, 3);
    view.free_lowest_tables(&mut view.mmu.gather(&tables), table);
    assert_eq!(tables.nr_tables(), 3, "one that holds a page stays");
    view.zap(&mut view.mmu.gather(&tables), table, ZapWhat::All);
    view.free_lowest_tables(&mut view.mmu.gather(&tables), table);
    assert_eq!(tables.nr_tables(), 2);
    end(&view);
}
