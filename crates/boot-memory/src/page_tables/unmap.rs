//! Taking mappings away, and then the tables that hold none any more.
//!
//! Two calls, because a table may be given back only after every CPU has forgotten it: clear, flush, free. The tables directly under
//! the root stay for ever, so that an address space which copied the root's entries keeps seeing every mapping of the kernel.

use core::ops::ControlFlow;

use platform::{Entry, Level, TableFormat};
use units::{PhysAddr, VirtAddr, VirtRange};

use super::{PageTables, TableMemory, Translation};

impl<F: TableFormat> PageTables<F> {
    /// Clears the leaves that start in `range`, ascending, and tells `visit` the first address of each and what it mapped.
    ///
    /// Ends early when `visit` breaks. Returns the address to go on from, which is the end of the range if all is done.
    pub fn unmap(
        &mut self,
        memory: &mut impl TableMemory,
        range: VirtRange,
        mut visit: impl FnMut(VirtAddr, Translation) -> ControlFlow<()>,
    ) -> VirtAddr {
        let mut at = range.start;
        while at < range.end && self.format.is_kernel_address(at) {
            let (mut table, mut level) = (self.root(), self.format.root_level());
            while let (Entry::Table(below), Some(down)) =
                (self.entry(memory, table, level, self.format.index(level, at)), level.down())
            {
                (table, level) = (below, down);
            }
            let bytes = self.format.leaf_bytes(level);
            for index in self.format.index(level, at)..self.format.entries(level) {
                let next = at.align_down(bytes).saturating_add(bytes);
                match self.entry(memory, table, level, index) {
                    Entry::Empty => {}
                    Entry::Leaf(..) if at.align_down(bytes) != at => {}
                    // A table beside the empty entry or the leaf that the walk ended at.
                    Entry::Table(_) => break,
                    Entry::Leaf(phys, attributes) => {
                        memory.write_entry(table, index, 0);
                        if visit(at, Translation { phys, level, attributes }).is_break() {
                            return next;
                        }
                    }
                }
                at = next;
                if at >= range.end {
                    break;
                }
            }
        }
        range.end
    }

    /// Takes every table out of the tree that translates part of `range`, holds no entry and is not directly under the root.
    ///
    /// `detached` gets each of them. They stay as they are until no CPU can still walk through them, that is until the kernel's
    /// translations of `range` are flushed.
    pub fn detach_empty(
        &mut self,
        memory: &mut impl TableMemory,
        range: VirtRange,
        detached: &mut impl FnMut(PhysAddr),
    ) {
        let root = self.format.root_level();
        let Some(down) = root.down() else { return };
        for (index, part) in self.parts(root, range) {
            if let Entry::Table(below) = self.entry(memory, self.root(), root, index) {
                self.prune(memory, below, down, part, detached);
            }
        }
    }

    /// Detaches empty tables below `table`; returns true if no entry is left in `table` itself.
    fn prune(
        &self,
        memory: &mut impl TableMemory,
        table: PhysAddr,
        level: Level,
        range: VirtRange,
        detached: &mut impl FnMut(PhysAddr),
    ) -> bool {
        let Some(down) = level.down() else { return self.is_empty(memory, table, level) };
        let mut cleared = false;
        for (index, part) in self.parts(level, range) {
            if let Entry::Table(below) = self.entry(memory, table, level, index)
                && self.prune(memory, below, down, part, detached)
            {
                memory.write_entry(table, index, 0);
                detached(below);
                cleared = true;
            }
        }
        cleared && self.is_empty(memory, table, level)
    }

    fn is_empty(&self, memory: &impl TableMemory, table: PhysAddr, level: Level) -> bool {
        (0..self.format.entries(level)).all(|index| self.entry(memory, table, level, index) == Entry::Empty)
    }

    /// Cuts `range`, which lies within one table of `level`, or within the root, into the parts that single entries translate.
    fn parts(&self, level: Level, range: VirtRange) -> impl Iterator<Item = (usize, VirtRange)> + use<F> {
        let (format, bytes) = (self.format, self.format.leaf_bytes(level));
        let mut at = range.start;
        core::iter::from_fn(move || {
            if at >= range.end {
                return None;
            }
            let end = at.align_down(bytes).saturating_add(bytes).min(range.end);
            let part = (format.index(level, at), VirtRange::new(at, end));
            at = end;
            Some(part)
        })
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::vec::Vec;

    use platform::{Arm64, Attributes, PageTableFormat, X86_64, X86Pae};
    use units::{Pfn, PhysRange};

    use super::super::MapError;
    use super::super::tests::Tables;
    use super::*;

    fn pages(count: u64) -> Vec<Pfn> {
        (0..count).map(|page| Pfn::new(0x100 + 3 * page)).collect()
    }

    fn mapped<F: PageTableFormat>(virt: VirtAddr, count: u64) -> (Tables, PageTables<F>) {
        let mut memory = Tables::new::<F>(u64::MAX);
        let mut tables = PageTables::<F>::alloc(&mut memory).unwrap();
        let outcome = tables.map_pages(&mut memory, virt, &pages(count), Attributes::KERNEL_DATA);
        assert_eq!(outcome, (count as usize, Ok(())));
        (memory, tables)
    }

    /// Maps pages around the border of two tables, takes them away in two parts, and looks what is left.
    fn pages_go_as_they_came<F: PageTableFormat>() {
        let (page, table_bytes) = (1u64 << F::PAGE_SHIFT, <F as PageTableFormat>::leaf_bytes(Level::PMD));
        let start = F::VMALLOC.start.align_up(table_bytes).saturating_add(table_bytes - 2 * page);
        let (mut memory, mut tables) = mapped::<F>(start, 5);
        let range = VirtRange::with_len(start, 5 * page);
        let mut seen = Vec::new();
        let stop = tables.unmap(&mut memory, range, |virt, leaf| {
            seen.push((virt, leaf.phys.pfn_down(F::PAGE_SHIFT)));
            if seen.len() == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        assert_eq!(stop, start.saturating_add(3 * page));
        let rest = VirtRange::new(stop, range.end);
        let end = tables.unmap(&mut memory, rest, |virt, leaf| {
            seen.push((virt, leaf.phys.pfn_down(F::PAGE_SHIFT)));
            ControlFlow::Continue(())
        });
        assert_eq!(end, range.end);
        let expected = pages(5).into_iter().enumerate();
        assert!(expected.eq(seen.iter().map(|&(virt, pfn)| ((virt.since(start) / page) as usize, pfn))));
        let mut detached = Vec::new();
        tables.detach_empty(&mut memory, range, &mut |table| detached.push(table));
        let kept = u64::from(F::ROOT > Level::PMD);
        assert_eq!(detached.len() as u64, memory.taken - 1 - kept, "all but the root and the table under it");
        tables.for_each_leaf(&memory, |virt, _| panic!("{virt:?} is still mapped"));
    }

    #[test]
    fn pages_of_every_format_go_as_they_came() {
        pages_go_as_they_came::<X86_64<4>>();
        pages_go_as_they_came::<X86_64<5>>();
        pages_go_as_they_came::<X86Pae>();
        pages_go_as_they_came::<Arm64<12, 48>>();
        pages_go_as_they_came::<Arm64<14, 47>>();
        pages_go_as_they_came::<Arm64<16, 48>>();
    }

    #[test]
    fn a_table_with_a_neighbours_page_stays() {
        let start = X86_64::<4>::VMALLOC.start;
        let (mut memory, mut tables) = mapped::<X86_64<4>>(start, 2);
        let first = VirtRange::with_len(start, 4096);
        tables.unmap(&mut memory, first, |_, _| ControlFlow::Continue(()));
        tables.detach_empty(&mut memory, first, &mut |table| panic!("{table:?} was detached"));
        assert!(tables.walk(&memory, start.saturating_add(4096)).is_some());
    }

    #[test]
    fn large_leaves_between_small_ones_are_cleared_whole() {
        let start = X86_64::<4>::VMALLOC.start;
        let mut memory = Tables::new::<X86_64<4>>(u64::MAX);
        let mut tables = PageTables::<X86_64<4>>::alloc(&mut memory).unwrap();
        let bytes = (2 << 20) + 2 * 4096;
        let phys = PhysRange::with_len(PhysAddr::new((4 << 20) - 4096), bytes);
        let virt = start.saturating_add((2 << 20) - 4096);
        tables.map(&mut memory, virt, phys, Attributes::KERNEL_DATA, Level::PMD).unwrap();
        let mut levels = Vec::new();
        tables.unmap(&mut memory, VirtRange::with_len(virt, bytes), |_, leaf| {
            levels.push(leaf.level);
            ControlFlow::Continue(())
        });
        assert_eq!(levels, [Level::PTE, Level::PMD, Level::PTE]);
    }

    #[test]
    fn mapping_goes_on_where_tables_ran_out() {
        let start = X86_64::<4>::VMALLOC.start.saturating_add((2 << 20) - 2 * 4096);
        let mut memory = Tables::new::<X86_64<4>>(4);
        let mut tables = PageTables::<X86_64<4>>::alloc(&mut memory).unwrap();
        let all = pages(5);
        let first = tables.map_pages(&mut memory, start, &all, Attributes::KERNEL_DATA);
        assert_eq!(first, (2, Err(MapError::OutOfMemory)));
        memory.limit = u64::MAX;
        let rest = start.saturating_add(2 * 4096);
        assert_eq!(tables.map_pages(&mut memory, rest, &all[2..], Attributes::KERNEL_DATA), (3, Ok(())));
        let again = tables.map_pages(&mut memory, rest, &all[..1], Attributes::KERNEL_DATA);
        assert_eq!(again, (0, Err(MapError::AlreadyMapped(rest))));
    }
}
