//! Which areas get transparent huge pages, and what faults do about them.
//!
//! Linux 6.12: mm/huge_memory.c (`__thp_vma_allowable_orders`, `vma_thp_disabled`), /sys/kernel/mm/transparent_hugepage.

use units::VmFlags;

use crate::limits::{Release, Settings};
use crate::mm::Mm;
use crate::mm_flags::MmFlags;
use crate::vma::Vma;

/// Which areas get transparent huge pages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HugePolicy {
    /// All that do not refuse.
    Always,
    /// Those that asked.
    Madvise,
    /// None.
    Never,
}

impl HugePolicy {
    /// Returns true if an area may have them at all, wherever a whole one fits (Linux: `__thp_vma_allowable_orders`).
    pub const fn admits(self, vma: &Vma) -> bool {
        const REFUSES: VmFlags = VmFlags::NOHUGEPAGE.union(VmFlags::SPECIAL).union(VmFlags::HUGETLB);
        let is_asked = match self {
            Self::Always => true,
            Self::Madvise => vma.flags.contains(VmFlags::HUGEPAGE),
            Self::Never => false,
        };
        is_asked && vma.is_anonymous() && !vma.flags.intersects(REFUSES)
    }
}

/// What becomes of the huge page of zeros.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HugeZeros {
    /// It is not mapped: a read gets a page of its own.
    Unused,
    /// A write splits it, and gets a small page (up to 6.12).
    Split,
    /// A write gets a huge page in its place (from 6.13 on).
    Replaced,
}

/// What faults do about huge pages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HugeRules {
    /// Which areas get them.
    pub policy: HugePolicy,
    /// What of that of zeros.
    pub zeros: HugeZeros,
}

impl HugeRules {
    /// Returns the rules of a machine.
    pub(crate) const fn of(settings: &Settings) -> Self {
        let zeros = match settings.release {
            _ if !settings.use_zero_page => HugeZeros::Unused,
            Release::V6_12 => HugeZeros::Split,
            Release::V6_18 => HugeZeros::Replaced,
        };
        Self { policy: settings.huge, zeros }
    }

    /// Returns the rules of these that an address space has.
    pub(crate) fn on(self, mm: &Mm<'_>) -> Self {
        if mm.flags().contains(MmFlags::DISABLE_THP) { Self { policy: HugePolicy::Never, ..self } } else { self }
    }
}
