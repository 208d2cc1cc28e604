//! Which areas get transparent huge pages, and what faults do about them.
//!
//! Linux 6.12: mm/huge_memory.c (`__thp_vma_allowable_orders`, `vma_thp_disabled`), /sys/kernel/mm/transparent_hugepage.

use core::sync::atomic::{AtomicU8, Ordering::Relaxed};

use units::VmFlags;

use crate::limits::{Release, Settings};
use crate::mm::Mm;
use crate::mm_flags::MmFlags;
use crate::vma::Vma;

/// Which areas get transparent huge pages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HugePolicy {
    /// All that do not refuse.
    Always = 0,
    /// Those that asked.
    Madvise = 1,
    /// None.
    Never = 2,
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

/// The rules of a machine, which may be changed while processes run.
#[derive(Debug)]
pub(crate) struct HugeSwitch {
    /// The policy, and above it what becomes of the page of zeros.
    bits: AtomicU8,
}

impl HugeSwitch {
    const ZEROS_SHIFT: u32 = 2;
    const POLICY: u8 = 3;

    pub(crate) const fn new(rules: HugeRules) -> Self {
        Self { bits: AtomicU8::new(Self::bits_of(rules)) }
    }

    const fn bits_of(rules: HugeRules) -> u8 {
        rules.policy as u8 | (rules.zeros as u8) << Self::ZEROS_SHIFT
    }

    #[inline]
    pub(crate) fn rules(&self) -> HugeRules {
        // Relaxed: one byte tells everything, and a fault may still go by the rules from before.
        let bits = self.bits.load(Relaxed);
        let policy = match bits & Self::POLICY {
            0 => HugePolicy::Always,
            1 => HugePolicy::Madvise,
            _ => HugePolicy::Never,
        };
        let zeros = match bits >> Self::ZEROS_SHIFT {
            0 => HugeZeros::Unused,
            1 => HugeZeros::Split,
            _ => HugeZeros::Replaced,
        };
        HugeRules { policy, zeros }
    }

    pub(crate) fn set(&self, rules: HugeRules) {
        // Relaxed: as above.
        self.bits.store(Self::bits_of(rules), Relaxed);
    }
}

/// What becomes of the huge page of zeros.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HugeZeros {
    /// It is not mapped: a read gets a page of its own.
    Unused = 0,
    /// A write splits it, and gets a small page (up to 6.12).
    Split = 1,
    /// A write gets a huge page in its place (from 6.13 on).
    Replaced = 2,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_switch_shows_the_rules_that_were_set() {
        let switch = HugeSwitch::new(HugeRules { policy: HugePolicy::Always, zeros: HugeZeros::Split });
        for policy in [HugePolicy::Never, HugePolicy::Madvise, HugePolicy::Always] {
            for zeros in [HugeZeros::Unused, HugeZeros::Split, HugeZeros::Replaced] {
                switch.set(HugeRules { policy, zeros });
                assert_eq!(switch.rules(), HugeRules { policy, zeros });
            }
        }
    }
}
