//! Memory, reservations, nodes and boot parameters of a flattened devicetree.
//!
//! Used by arm64 machines. Linux 6.12: drivers/of/fdt.c (early_init_dt_scan_memory, early_init_dt_scan_chosen),
//! drivers/of/of_reserved_mem.c, drivers/of/of_numa.c.

mod blob;
mod memory;
mod numa;

pub use blob::{Devicetree, TreeNode, TreeProperty};
pub use memory::{Chosen, Placement, RangeList, ReservedMemory};

#[cfg(test)]
mod tests;
