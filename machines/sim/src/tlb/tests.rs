//! The kernel's addresses on tables in a map: what is stale is found, with the CPU and the range.

use std::cell::RefCell;
use std::collections::HashMap;

use platform::Attributes;
use units::{Pfn, PhysRange};

use super::*;

/// Tables that can be changed while a lookup borrows them.
#[derive(Default)]
struct Tables {
    entries: RefCell<HashMap<(u64, usize), u64>>,
    taken: u64,
}

impl TableMemory for Tables {
    fn alloc_table(&mut self) -> Option<PhysAddr> {
        self.taken += 1;
        Some(PhysAddr::new(self.taken << 12))
    }

    fn read_entry(&self, table: PhysAddr, index: usize) -> u64 {
        self.entries.borrow().get(&(table.raw(), index)).copied().unwrap_or(0)
    }

    fn write_entry(&mut self, table: PhysAddr, index: usize, entry: u64) {
        self.entries.borrow_mut().insert((table.raw(), index), entry);
    }
}

const FORMAT: AnyFormat = AnyFormat::X86_64;

struct Machine {
    memory: Tables,
    tables: PageTables<AnyFormat>,
    tlbs: Tlbs,
}

fn machine() -> Machine {
    let mut memory = Tables::default();
    let root = memory.alloc_table().unwrap();
    let tables = PageTables::of(platform::KernelTables { root, format: FORMAT });
    Machine { memory, tables, tlbs: Tlbs::new(2) }
}

impl Machine {
    fn base() -> VirtAddr {
        FORMAT.vmalloc_range().start
    }

    fn map(&mut self, page: u64, pfn: u64, attributes: Attributes) {
        let virt = Self::base().saturating_add(page << 12);
        let range = PhysRange::with_len(Pfn::new(pfn).phys(12), 4096);
        self.tables.map(&mut self.memory, virt, range, attributes, Level::PTE).unwrap();
    }

    fn unmap(&mut self, page: u64) {
        let range = VirtRange::with_len(Self::base().saturating_add(page << 12), 4096);
        self.tables.unmap(&mut self.memory, range, |_, _| std::ops::ControlFlow::Continue(()));
    }

    fn touch(&self, cpu: u64, page: u64, access: Access) -> Result<u64, VirtFault> {
        let cpu = CpuId::try_new(cpu).unwrap();
        let lookup = Lookup { cpu, tables: self.tables, memory: &self.memory };
        let virt = Self::base().saturating_add((page << 12) + 8);
        self.tlbs.translate(&lookup, virt, access).map(PhysAddr::raw)
    }

    fn flush(&self, page: u64) {
        let range = VirtRange::with_len(Self::base().saturating_add(page << 12), 4096);
        self.tlbs.flush(FORMAT, Space::Kernel, range);
    }
}

#[test]
fn a_translation_that_was_not_flushed_is_reported_with_its_range_and_cpu() {
    let mut machine = machine();
    machine.map(3, 0x77, Attributes::KERNEL_DATA);
    assert_eq!(machine.touch(1, 3, Access::Read), Ok(0x77008));
    machine.unmap(3);
    let Err(VirtFault::Stale(stale)) = machine.touch(1, 3, Access::Read) else { panic!("not reported") };
    assert_eq!((stale.cpu.raw(), stale.remembered.raw(), stale.found), (1, 0x77000, None));
    assert_eq!(
        stale.to_string(),
        "CPU 1 used a stale translation of [0xffffc90000003000, 0xffffc90000004000) to 0x77000; the page tables say nothing; \
         missing: flush_kernel_range([0xffffc90000003000, 0xffffc90000004000))"
    );
    // CPU 0 never used it, so it has nothing to forget.
    assert_eq!(machine.touch(0, 3, Access::Read), Err(VirtFault::NotMapped(VirtAddr::new(0xffff_c900_0000_3008))));
}

#[test]
fn a_flush_of_another_page_does_not_help() {
    let mut machine = machine();
    machine.map(3, 0x77, Attributes::KERNEL_DATA);
    machine.touch(0, 3, Access::Read).unwrap();
    machine.unmap(3);
    machine.map(3, 0x88, Attributes::KERNEL_DATA);
    machine.flush(4);
    assert!(matches!(machine.touch(0, 3, Access::Read), Err(VirtFault::Stale(Stale { found: Some(_), .. }))));
    machine.flush(3);
    assert_eq!(machine.touch(0, 3, Access::Read), Ok(0x88008));
}

#[test]
fn a_mapping_that_may_no_longer_be_written_has_to_be_flushed() {
    let mut machine = machine();
    machine.map(0, 0x77, Attributes::KERNEL_DATA);
    machine.touch(0, 0, Access::Write).unwrap();
    machine.unmap(0);
    machine.map(0, 0x77, Attributes::KERNEL_READ_ONLY);
    assert!(matches!(machine.touch(0, 0, Access::Read), Err(VirtFault::Stale(_))));
    machine.flush(0);
    assert!(matches!(machine.touch(0, 0, Access::Write), Err(VirtFault::ReadOnly(_))));
}

#[test]
fn a_walk_through_a_table_that_was_taken_away_is_reported() {
    let mut machine = machine();
    machine.map(0, 0x77, Attributes::KERNEL_DATA);
    machine.touch(0, 0, Access::Read).unwrap();
    machine.unmap(0);
    let range = VirtRange::with_len(Machine::base(), 4096);
    machine.tables.detach_empty(&mut machine.memory, range, &mut |_| ());
    machine.map(1, 0x88, Attributes::KERNEL_DATA);
    let fault = machine.touch(0, 1, Access::Read);
    let Err(VirtFault::Stale(stale)) = fault else { panic!("{fault:?}") };
    assert_eq!(stale.table, Some(Level::PTE));
    machine.flush(0);
    assert_eq!(machine.touch(0, 1, Access::Read), Ok(0x88008));
}
