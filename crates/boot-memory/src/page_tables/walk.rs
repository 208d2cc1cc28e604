//! Walking page tables: one address, or everything that is mapped.

use platform::{Attributes, Entry, Level, TableFormat};
use units::{PhysAddr, VirtAddr};

use super::{PageTables, TableMemory};

/// What a virtual address translates to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Translation {
    /// The physical address of the same byte.
    pub phys: PhysAddr,
    /// Level of the leaf.
    pub level: Level,
    /// The leaf's attributes.
    pub attributes: Attributes,
}

impl<F: TableFormat> PageTables<F> {
    /// Translates `virt`; `None` if nothing is mapped there or the kernel's root table does not translate it.
    #[inline]
    pub fn walk(&self, memory: &impl TableMemory, virt: VirtAddr) -> Option<Translation> {
        self.walk_through(memory, virt, |_, _| ())
    }

    /// Translates `virt` and calls `visit` with every table on the way, from the root down, and its level.
    #[inline]
    pub fn walk_through(
        &self,
        memory: &impl TableMemory,
        virt: VirtAddr,
        mut visit: impl FnMut(Level, PhysAddr),
    ) -> Option<Translation> {
        if !self.format.is_kernel_address(virt) {
            return None;
        }
        let (mut table, mut level) = (self.root(), self.format.root_level());
        loop {
            visit(level, table);
            match self.entry(memory, table, level, self.format.index(level, virt)) {
                Entry::Empty => return None,
                Entry::Table(below) => {
                    table = below;
                    level = level.down()?;
                }
                Entry::Leaf(start, attributes) => {
                    let offset = virt.raw() & (self.format.leaf_bytes(level) - 1);
                    return Some(Translation { phys: start.saturating_add(offset), level, attributes });
                }
            }
        }
    }

    /// Calls `visit` with every leaf, by ascending offset in the root table: its first address and what that translates to.
    pub fn for_each_leaf(&self, memory: &impl TableMemory, mut visit: impl FnMut(VirtAddr, Translation)) {
        self.visit_table(memory, self.root(), self.format.root_level(), 0, &mut visit);
    }

    /// Visits a table and, through recursion as deep as there are levels, all tables below it.
    fn visit_table(
        &self,
        memory: &impl TableMemory,
        table: PhysAddr,
        level: Level,
        offset: u64,
        visit: &mut impl FnMut(VirtAddr, Translation),
    ) {
        for index in 0..self.format.entries(level) {
            let offset = offset | (index as u64) << self.format.shift(level);
            match (self.entry(memory, table, level, index), level.down()) {
                (Entry::Leaf(phys, attributes), _) => {
                    visit(self.format.kernel_address(offset), Translation { phys, level, attributes })
                }
                (Entry::Table(below), Some(down)) => self.visit_table(memory, below, down, offset, visit),
                _ => {}
            }
        }
    }
}
