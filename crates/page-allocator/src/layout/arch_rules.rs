//! What Linux's boot does differently from one architecture to the next, beside the limits of the zones.
//!
//! Linux: arch/x86/mm/init.c (`memblock_find_dma_reserve`), arch/*/mm/numa.c, `struct page` of each configuration.

use units::{Pfn, PfnRange};

use super::boot_log::NodeState;
use super::memory_range::{MemoryRanges, nodes_with_memory, present_pages};

/// Whether reserved frames below 16 MiB are taken off the DMA zone before hand-over.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum DmaReserve {
    /// They are (64-bit x86).
    Counted,
    /// They are not.
    Ignored,
}

/// Rules of an architecture.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ArchRules {
    /// Bytes of Linux's frame descriptor (sizeof(struct page)), by which Linux counts what descriptors cost.
    pub descriptor_bytes: u64,
    /// Whether reserved low memory counts.
    pub dma_reserve: DmaReserve,
    /// What a node without memory is when zones are laid out.
    pub memoryless: NodeState,
    /// How the units of per-CPU memory are cut from boot memory.
    pub percpu_units: PercpuUnits,
}

/// How the units of per-CPU memory are cut from boot memory.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum PercpuUnits {
    /// In huge pages; modules have a part of their own (64-bit x86).
    HugePages,
    /// In pages; modules share the dynamic part (32-bit x86).
    SharedReserve,
    /// In pages; modules have a part of their own.
    Pages,
}

/// First frame that 24-bit ISA devices do not reach.
const ISA_END: Pfn = Pfn::new(0x1000);

impl ArchRules {
    /// 64-bit x86.
    pub const X86_64: Self = Self {
        descriptor_bytes: 64,
        dma_reserve: DmaReserve::Counted,
        memoryless: NodeState::Offline,
        percpu_units: PercpuUnits::HugePages,
    };
    /// 32-bit x86 with HighMem.
    pub const I386: Self = Self {
        descriptor_bytes: 40,
        dma_reserve: DmaReserve::Ignored,
        percpu_units: PercpuUnits::SharedReserve,
        ..Self::X86_64
    };
    /// 64-bit Arm, which brings up every node that the firmware describes before it lays out zones.
    pub const ARM64: Self = Self {
        descriptor_bytes: 64,
        dma_reserve: DmaReserve::Ignored,
        memoryless: NodeState::Online,
        percpu_units: PercpuUnits::Pages,
    };

    /// Counts the frames below 16 MiB that are `memory` but not in `free`, where the architecture does.
    pub fn reserved_low(&self, memory: impl MemoryRanges, free: impl Iterator<Item = PfnRange>) -> u64 {
        if self.dma_reserve == DmaReserve::Ignored {
            return 0;
        }
        let low = PfnRange::new(Pfn::ZERO, ISA_END);
        let nodes = nodes_with_memory(memory.clone());
        let present: u64 = nodes.iter().map(|node| present_pages(memory.clone(), node, low)).sum();
        let free: u64 = free.map(|frames| frames.intersection(low).nr_pages()).sum();
        present.saturating_sub(free)
    }
}

#[cfg(test)]
mod tests {
    use units::NodeId;

    use super::super::MemoryRange;
    use super::*;

    #[test]
    fn only_64_bit_x86_counts_reserved_frames_below_16_mib() {
        let frames = |start, end| PfnRange::new(Pfn::new(start), Pfn::new(end));
        let memory = [MemoryRange::plain(frames(1, 0x8000), NodeId::ZERO)];
        let free = || [frames(0x10, 0x800), frames(0xf00, 0x7000)].into_iter();
        let counted = |rules: ArchRules| rules.reserved_low(memory.iter().copied(), free());
        assert_eq!(counted(ArchRules::X86_64), 0xfff - 0x7f0 - 0x100);
        assert_eq!([counted(ArchRules::I386), counted(ArchRules::ARM64)], [0, 0]);
    }
}
