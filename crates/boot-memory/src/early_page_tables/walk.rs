//! Walking page tables: one address, or everything that is mapped.

use platform::{Attributes, Entry, Level, PageTableFormat};
use units::{PhysAddr, VirtAddr};

use super::{EarlyTableMemory, PageTables};

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

impl<F: PageTableFormat> PageTables<F> {
    /// Translates `virt`; `None` if nothing is mapped there or the kernel's root table does not translate it.
    pub fn walk(&self, memory: &impl EarlyTableMemory, virt: VirtAddr) -> Option<Translation> {
        if !F::is_kernel_address(virt) {
            return None;
        }
        let (mut table, mut level) = (self.root(), F::ROOT);
        loop {
            match F::decode(level, memory.read_entry(table, F::index(level, virt))) {
                Entry::Empty => return None,
                Entry::Table(below) => {
                    table = below;
                    level = level.down()?;
                }
                Entry::Leaf(start, attributes) => {
                    let offset = virt.raw() & (F::leaf_bytes(level) - 1);
                    return Some(Translation { phys: start.saturating_add(offset), level, attributes });
                }
            }
        }
    }

    /// Calls `visit` with every leaf, by ascending offset in the root table: its first address and what that translates to.
    pub fn for_each_leaf(&self, memory: &impl EarlyTableMemory, mut visit: impl FnMut(VirtAddr, Translation)) {
        visit_table::<F>(memory, self.root(), F::ROOT, 0, &mut visit);
    }
}

/// Visits a table and, through recursion as deep as there are levels, all tables below it.
fn visit_table<F: PageTableFormat>(
    memory: &impl EarlyTableMemory,
    table: PhysAddr,
    level: Level,
    offset: u64,
    visit: &mut impl FnMut(VirtAddr, Translation),
) {
    for index in 0..F::entries(level) {
        let offset = offset | (index as u64) << F::shift(level);
        match (F::decode(level, memory.read_entry(table, index)), level.down()) {
            (Entry::Leaf(phys, attributes), _) => {
                visit(F::kernel_address(offset), Translation { phys, level, attributes })
            }
            (Entry::Table(below), Some(down)) => visit_table::<F>(memory, below, down, offset, visit),
            _ => {}
        }
    }
}
