//! Processor architectures of a described machine, with the constants that the memory manager takes from them.
//!
//! Linux 6.12: arch/x86/include/asm/sparsemem.h, page_types.h; arch/arm64/include/asm/sparsemem.h, Kconfig (ARCH_FORCE_MAX_ORDER).

use platform::AnyFormat;
use serde::Deserialize;
use units::{Order, Pfn};

/// Size of a translation granule of arm64.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
pub enum Granule {
    /// 4 KiB.
    #[serde(rename = "4K")]
    Size4K,
    /// 16 KiB.
    #[serde(rename = "16K")]
    Size16K,
    /// 64 KiB.
    #[serde(rename = "64K")]
    Size64K,
}

/// A processor architecture with its page size.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Arch {
    /// x86-64 with four levels of page tables.
    X86_64,
    /// x86-64 with five levels of page tables (LA57).
    X86_64La57,
    /// 32-bit x86 with PAE, whose memory above 896 MiB is HighMem.
    I386,
    /// arm64.
    Arm64(Granule),
}

impl Arch {
    /// Returns the base-2 logarithm of the page size.
    pub const fn page_shift(self) -> u32 {
        match self {
            Self::Arm64(Granule::Size16K) => 14,
            Self::Arm64(Granule::Size64K) => 16,
            _ => 12,
        }
    }

    /// Returns the largest order of a block (Linux: MAX_PAGE_ORDER): 11 with 16 KiB pages, 13 with 64 KiB pages, else 10.
    pub const fn max_page_order(self) -> Order {
        Order::new_truncate(match self {
            Self::Arm64(Granule::Size16K) => 11,
            Self::Arm64(Granule::Size64K) => 13,
            _ => 10,
        })
    }

    /// Returns the order of a pageblock: a huge page of the second level, at most a largest block (Linux: pageblock_order).
    pub const fn pageblock_order(self) -> Order {
        Order::new_truncate(match self {
            Self::Arm64(Granule::Size16K) => 11,
            Self::Arm64(Granule::Size64K) => 13,
            _ => 9,
        })
    }

    /// Returns the base-2 logarithm of a sparse-memory section's bytes (Linux: SECTION_SIZE_BITS).
    pub const fn section_shift(self) -> u32 {
        match self {
            Self::X86_64 | Self::X86_64La57 | Self::Arm64(Granule::Size4K | Granule::Size16K) => 27,
            Self::I386 | Self::Arm64(Granule::Size64K) => 29,
        }
    }

    /// Returns the number of bits of the highest physical address (Linux: MAX_PHYSMEM_BITS).
    pub const fn physical_bits(self) -> u32 {
        match self {
            Self::X86_64 => 46,
            Self::I386 => 36,
            Self::Arm64(Granule::Size4K | Granule::Size16K) => 48,
            Self::X86_64La57 | Self::Arm64(Granule::Size64K) => 52,
        }
    }

    /// Returns the frame after the last that the architecture can address (Linux: max_arch_pfn).
    pub const fn end_pfn(self) -> Pfn {
        Pfn::new(1 << (self.physical_bits() - self.page_shift()))
    }

    /// Returns how the kernel's page tables are encoded.
    pub const fn table_format(self) -> AnyFormat {
        match self {
            Self::X86_64 => AnyFormat::X86_64,
            Self::X86_64La57 => AnyFormat::X86_64La57,
            Self::I386 => AnyFormat::X86Pae,
            Self::Arm64(Granule::Size4K) => AnyFormat::Arm64Size4K,
            Self::Arm64(Granule::Size16K) => AnyFormat::Arm64Size16K,
            Self::Arm64(Granule::Size64K) => AnyFormat::Arm64Size64K,
        }
    }

    /// Returns true for the architectures whose first megabyte holds firmware data and a hole for legacy devices.
    pub const fn has_bios_range(self) -> bool {
        !matches!(self, Self::Arm64(_))
    }
}
