//! A dump of page tables in which runs of equal leaves are folded.
//!
//! Linux 6.12: mm/ptdump.c and arch/*/mm/ptdump.c (debugfs kernel_page_tables): neighbours in virtual addresses fold, whatever
//! physical memory they show.

use core::fmt;

use platform::{Attributes, Level, TableFormat};
use units::VirtAddr;

use super::{PageTables, TableMemory};

/// Neighbouring leaves of one level with equal attributes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LeafRun {
    /// First address.
    pub start: VirtAddr,
    /// Bytes.
    pub bytes: u64,
    /// Level of every leaf.
    pub level: Level,
    /// Attributes of every leaf.
    pub attributes: Attributes,
}

/// Writes first address, address after the last, size, attributes and level.
impl fmt::Display for LeafRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (size, unit) = in_largest_unit(self.bytes);
        let end = self.start.raw().wrapping_add(self.bytes);
        write!(f, "{:#018x}-{end:#018x} {size:>9}{unit} {} {}", self.start.raw(), self.attributes, self.level)
    }
}

fn in_largest_unit(bytes: u64) -> (u64, char) {
    let mut size = bytes >> 10;
    let mut unit = 'K';
    for larger in ['M', 'G', 'T', 'P'] {
        if size == 0 || !size.is_multiple_of(1024) {
            break;
        }
        size >>= 10;
        unit = larger;
    }
    (size, unit)
}

impl<F: TableFormat> PageTables<F> {
    /// Calls `visit` for every run of neighbouring leaves of one level with equal attributes, ascending.
    pub fn for_each_run(&self, memory: &impl TableMemory, mut visit: impl FnMut(LeafRun)) {
        let mut held: Option<LeafRun> = None;
        self.for_each_leaf(memory, |start, leaf| {
            let bytes = self.format.leaf_bytes(leaf.level);
            match &mut held {
                Some(run) if run.continues_at(start, leaf.level, leaf.attributes) => run.bytes += bytes,
                _ => {
                    let ready = held.replace(LeafRun { start, bytes, level: leaf.level, attributes: leaf.attributes });
                    ready.into_iter().for_each(&mut visit);
                }
            }
        });
        held.into_iter().for_each(visit);
    }

    /// Writes one line for each run.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn dump(&self, memory: &impl TableMemory, out: &mut impl fmt::Write) -> fmt::Result {
        let mut result = Ok(());
        self.for_each_run(memory, |run| result = result.and_then(|()| writeln!(out, "{run}")));
        result
    }
}

impl LeafRun {
    fn continues_at(&self, start: VirtAddr, level: Level, attributes: Attributes) -> bool {
        self.start.raw().wrapping_add(self.bytes) == start.raw() && self.level == level && self.attributes == attributes
    }
}
