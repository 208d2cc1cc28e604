//! /proc/vmallocinfo: the areas of kernel addresses that are contiguous in virtual memory only, one a line.
//!
//! Linux 6.12: mm/vmalloc.c (`vmalloc_info_show`, `show_numa_info`, `show_purge_info`).

use core::fmt;

use units::{PhysAddr, VirtRange};

bitflags::bitflags! {
    /// What an area is for; the words of a line, in their order.
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
    pub struct AreaWords: u8 {
        /// Registers of a device.
        const IOREMAP = 1 << 0;
        /// Addresses whose pages are mapped by and by.
        const SPARSE = 1 << 1;
        /// Pages of its own.
        const VMALLOC = 1 << 2;
        /// Pages of someone else.
        const VMAP = 1 << 3;
        /// May be mapped by user space.
        const USER = 1 << 4;
        /// For devices that see the processor's caches.
        const DMA_COHERENT = 1 << 5;
        /// The array of its pages is in such an area itself.
        const VPAGES = 1 << 6;
    }
}

/// Words in the order of the flags.
const WORDS: [(AreaWords, &str); 7] = [
    (AreaWords::IOREMAP, " ioremap"),
    (AreaWords::SPARSE, " sparse"),
    (AreaWords::VMALLOC, " vmalloc"),
    (AreaWords::VMAP, " vmap"),
    (AreaWords::USER, " user"),
    (AreaWords::DMA_COHERENT, " dma-coherent"),
    (AreaWords::VPAGES, " vpages"),
];

/// What stands behind the size.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AreaDetails<'a> {
    /// An area that someone owns.
    Owned {
        /// Who asked for it; `None` if nobody said.
        caller: Option<&'a str>,
        /// Pages of its own; 0 is not written.
        pages: u64,
        /// Memory that it maps as it lies; address 0 is not written.
        phys: Option<PhysAddr>,
        /// What it is for.
        words: AreaWords,
        /// Its pages on each node, by the node's number; nodes without any are not written.
        node_pages: &'a [u64],
    },
    /// A block of short mappings.
    MapRam,
    /// Addresses that wait until all CPUs have forgotten what was mapped there.
    Unpurged,
}

/// One line. Addresses are written as they are, as root reads them with kernel.kptr_restrict=0 and hashing off.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct VmallocLine<'a> {
    /// Addresses, the guard page included.
    pub range: VirtRange,
    /// The rest of the line.
    pub details: AreaDetails<'a>,
}

impl fmt::Display for VmallocLine<'_> {
    /// Writes the line without its newline.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let VirtRange { start, end } = self.range;
        // A pointer of the machine, which has 32 bits where all addresses fit.
        let digits = if end.raw() >> 32 == 0 { 8 } else { 16 };
        let bytes = self.range.len();
        write!(f, "0x{:0digits$x}-0x{:0digits$x} {bytes:7}{}", start.raw(), end.raw(), self.details)
    }
}

impl fmt::Display for AreaDetails<'_> {
    /// Writes what follows the size, a blank first.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (caller, pages, phys, words, node_pages) = match *self {
            Self::Owned { caller, pages, phys, words, node_pages } => (caller, pages, phys, words, node_pages),
            Self::MapRam => return f.write_str(" vm_map_ram"),
            Self::Unpurged => return f.write_str(" unpurged vm_area"),
        };
        caller.map_or(Ok(()), |caller| write!(f, " {caller}"))?;
        if pages > 0 {
            write!(f, " pages={pages}")?;
        }
        if let Some(phys) = phys.filter(|&phys| phys != PhysAddr::ZERO) {
            write!(f, " phys=0x{:016x}", phys.raw())?;
        }
        WORDS.iter().filter(|(flag, _)| words.contains(*flag)).try_for_each(|(_, word)| f.write_str(word))?;
        let on_nodes = (0u32..).zip(node_pages).filter(|&(_, &count)| count > 0);
        on_nodes.into_iter().try_for_each(|(node, count)| write!(f, " N{node}={count}"))
    }
}
