//! What a mapping allows and how it is cached, in terms that every architecture has.

use core::fmt;

bitflags::bitflags! {
    /// What may be done through a mapping, and what has been (Linux: pgprot_t). Reading is always allowed.
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
    pub struct Prot: u8 {
        /// Writing.
        const WRITE = 1 << 0;
        /// Fetching instructions, in the mode that may use the mapping.
        const EXECUTE = 1 << 1;
        /// User mode may use it; else only the kernel may.
        const USER = 1 << 2;
        /// The same in all address spaces: its TLB entry outlives a switch.
        const GLOBAL = 1 << 3;
        /// It has been used (Linux: young).
        const ACCESSED = 1 << 4;
        /// It has been written to.
        const DIRTY = 1 << 5;
        /// It has been written to since somebody who watches last cleared the mark. Kept by software, in formats that have room for it
        /// ([`PageTableFormat::SOFT_DIRTY`](super::PageTableFormat::SOFT_DIRTY)); elsewhere it is dropped.
        const SOFT_DIRTY = 1 << 6;

        /// What a write leaves behind: nothing is made dirty without being made soft-dirty (Linux: `pte_mkdirty`).
        const WRITTEN = Self::DIRTY.bits() | Self::SOFT_DIRTY.bits();
        /// What was done through a mapping; the rest is what may be.
        const MARKS = Self::ACCESSED.bits() | Self::WRITTEN.bits();
    }
}

/// How memory behind a mapping is cached and ordered.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum MemoryType {
    /// Cached, written back.
    #[default]
    Normal,
    /// Not cached, writes may be merged (x86: WC; arm64: Normal-NC).
    WriteCombining,
    /// Registers of a device (x86: UC-; arm64: Device-nGnRE).
    Device,
    /// Registers of a device, every access finished before the next (x86: UC; arm64: Device-nGnRnE).
    StrictDevice,
}

/// The attributes of a mapping.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Attributes {
    /// What may be done.
    pub prot: Prot,
    /// How it is cached.
    pub memory_type: MemoryType,
}

impl Attributes {
    /// Memory of the kernel: written, not executed, marked used so that the processor need not (Linux: PAGE_KERNEL).
    pub const KERNEL_DATA: Self = Self::kernel(Prot::WRITE);
    /// Read-only memory of the kernel (Linux: PAGE_KERNEL_RO).
    pub const KERNEL_READ_ONLY: Self = Self::kernel(Prot::empty());
    /// Code of the kernel (Linux: PAGE_KERNEL_ROX).
    pub const KERNEL_CODE: Self = Self::kernel(Prot::EXECUTE);

    const fn kernel(prot: Prot) -> Self {
        let always = Prot::GLOBAL.union(Prot::ACCESSED).union(Prot::DIRTY);
        Self { prot: prot.union(always), memory_type: MemoryType::Normal }
    }
}

/// Writes the attributes in columns, as a page-table dump shows them: `    RW  NX GLB normal`.
impl fmt::Display for Attributes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let either = |flag, set: &'static str, unset: &'static str| if self.prot.contains(flag) { set } else { unset };
        let user = either(Prot::USER, "USR", "   ");
        let write = either(Prot::WRITE, "RW", "ro");
        let execute = either(Prot::EXECUTE, "x ", "NX");
        let global = either(Prot::GLOBAL, "GLB", "   ");
        let memory_type = match self.memory_type {
            MemoryType::Normal => "normal",
            MemoryType::WriteCombining => "write-combining",
            MemoryType::Device => "device",
            MemoryType::StrictDevice => "strict-device",
        };
        write!(f, "{user} {write} {execute} {global} {memory_type}")
    }
}
