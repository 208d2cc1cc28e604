//! /sys/kernel/debug/percpu_stats: figures of the per-CPU allocator and of each of its chunks.
//!
//! Written by whoever walks the chunks: [`PercpuStats`], then one [`ChunkStats`] each. Linux 6.12: mm/percpu-stats.c.

use core::fmt;

/// Figures of the whole allocator. Sizes in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PercpuStats {
    /// Bytes of a unit.
    pub unit_size: u64,
    /// Bytes of the kernel's own variables.
    pub static_size: u64,
    /// Bytes kept for modules.
    pub reserved_size: u64,
    /// Bytes of the first dynamic part.
    pub dyn_size: u64,
    /// Units are allocated in multiples of this.
    pub atom_size: u64,
    /// Bytes of the units that share an allocation.
    pub alloc_size: u64,
    /// Areas handed out so far.
    pub nr_alloc: u64,
    /// Areas taken back so far.
    pub nr_dealloc: u64,
    /// Areas.
    pub nr_cur_alloc: u64,
    /// Most areas at a time.
    pub nr_max_alloc: u64,
    /// Chunks.
    pub nr_chunks: u64,
    /// Most chunks at a time.
    pub nr_max_chunks: u64,
    /// Size of the smallest area so far.
    pub min_alloc_size: u64,
    /// Size of the largest area so far.
    pub max_alloc_size: u64,
    /// Populated pages without an area.
    pub empty_pop_pages: u64,
}

const RULE: &str = "----------------------------------------";

/// Writes a value under its name.
fn value(f: &mut fmt::Formatter<'_>, name: &str, value: u64) -> fmt::Result {
    writeln!(f, "  {name:<20}: {value:12}")
}

impl fmt::Display for PercpuStats {
    /// Writes everything above the first chunk.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Percpu Memory Statistics\nAllocation Info:\n{RULE}")?;
        value(f, "unit_size", self.unit_size)?;
        value(f, "static_size", self.static_size)?;
        value(f, "reserved_size", self.reserved_size)?;
        value(f, "dyn_size", self.dyn_size)?;
        value(f, "atom_size", self.atom_size)?;
        value(f, "alloc_size", self.alloc_size)?;
        writeln!(f, "\nGlobal Stats:\n{RULE}")?;
        value(f, "nr_alloc", self.nr_alloc)?;
        value(f, "nr_dealloc", self.nr_dealloc)?;
        value(f, "nr_cur_alloc", self.nr_cur_alloc)?;
        value(f, "nr_max_alloc", self.nr_max_alloc)?;
        value(f, "nr_chunks", self.nr_chunks)?;
        value(f, "nr_max_chunks", self.nr_max_chunks)?;
        value(f, "min_alloc_size", self.min_alloc_size)?;
        value(f, "max_alloc_size", self.max_alloc_size)?;
        value(f, "empty_pop_pages", self.empty_pop_pages)?;
        writeln!(f, "\nPer Chunk Stats:\n{RULE}")
    }
}

/// Which chunk a block of figures is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ChunkLabel {
    /// That of the modules.
    Reserved,
    /// The first dynamic one.
    First,
    /// Its empty pages are about to be given back.
    ToDepopulate,
    /// Used only when all others are full.
    Sidelined,
    /// Any other.
    Plain,
}

/// Figures of a chunk. Sizes in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ChunkStats {
    /// Which one.
    pub label: ChunkLabel,
    /// Areas.
    pub nr_alloc: u64,
    /// Size of the largest area so far.
    pub max_alloc_size: u64,
    /// Populated pages without an area.
    pub empty_pop_pages: u64,
    /// First free step of 4 bytes.
    pub first_bit: u64,
    /// Free bytes.
    pub free_bytes: u64,
    /// Largest free run.
    pub contig_bytes: u64,
    /// Free bytes below the last area.
    pub sum_frag: u64,
    /// Largest free run below the last area.
    pub max_frag: u64,
    /// Size of the smallest area.
    pub cur_min_alloc: u64,
    /// Median size of the areas.
    pub cur_med_alloc: u64,
    /// Size of the largest area.
    pub cur_max_alloc: u64,
}

impl fmt::Display for ChunkStats {
    /// Writes the block with the blank line behind it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{}",
            match self.label {
                ChunkLabel::Reserved => "Chunk: <- Reserved Chunk",
                ChunkLabel::First => "Chunk: <- First Chunk",
                ChunkLabel::ToDepopulate => "Chunk (to_depopulate)",
                ChunkLabel::Sidelined => "Chunk (sidelined):",
                ChunkLabel::Plain => "Chunk:",
            }
        )?;
        value(f, "nr_alloc", self.nr_alloc)?;
        value(f, "max_alloc_size", self.max_alloc_size)?;
        value(f, "empty_pop_pages", self.empty_pop_pages)?;
        value(f, "first_bit", self.first_bit)?;
        value(f, "free_bytes", self.free_bytes)?;
        value(f, "contig_bytes", self.contig_bytes)?;
        value(f, "sum_frag", self.sum_frag)?;
        value(f, "max_frag", self.max_frag)?;
        value(f, "cur_min_alloc", self.cur_min_alloc)?;
        value(f, "cur_med_alloc", self.cur_med_alloc)?;
        value(f, "cur_max_alloc", self.cur_max_alloc)?;
        writeln!(f)
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::string::ToString;

    use super::*;

    #[test]
    fn figures_stand_in_columns_under_their_headings() {
        let stats = PercpuStats { unit_size: 2_097_152, nr_cur_alloc: 7, empty_pop_pages: 3, ..PercpuStats::default() };
        let text = stats.to_string();
        assert!(
            text.starts_with("Percpu Memory Statistics\nAllocation Info:\n----------------------------------------\n")
        );
        assert!(text.contains("  unit_size           :      2097152\n"), "{text}");
        assert!(text.contains("\n\nGlobal Stats:\n----------------------------------------\n  nr_alloc "), "{text}");
        assert!(text.contains("  nr_cur_alloc        :            7\n"), "{text}");
        assert!(text.ends_with(
            "  empty_pop_pages     :            3\n\nPer Chunk Stats:\n----------------------------------------\n"
        ));
        assert_eq!(text.lines().count(), 24);
    }
}
