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

/// The rules of a machine, whose policy may be changed while processes run.
#[derive(Debug)]
pub(crate) struct HugeSwitch {
    policy: AtomicU8,
    zeros: HugeZeros,
}

impl HugeSwitch {
    pub(crate) const fn new(rules: HugeRules) -> Self {
        Self { policy: AtomicU8::new(rules.policy as u8), zeros: rules.zeros }
    }

    #[inline(always)]
    pub(crate) fn rules(&self) -> HugeRules {
        // Relaxed: nothing else is read by it; a fault may still go by the policy from before.
        let policy = match self.policy.load(Relaxed) {
            0 => HugePolicy::Always,
            1 => HugePolicy::Madvise,
            _ => HugePolicy::Never,
        };
        HugeRules { policy, zeros: self.zeros }
    }

    pub(crate) fn set_policy(&self, policy: HugePolicy) {
        // Relaxed: as above.
        self.policy.store(policy as u8, Relaxed);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_switch_shows_the_policy_that_was_set_and_keeps_the_rest() {
        let zeros = HugeZeros::Split;
        let switch = HugeSwitch::new(HugeRules { policy: HugePolicy::Always, zeros });
        for policy in [HugePolicy::Never, HugePolicy::Madvise, HugePolicy::Always] {
            switch.set_policy(policy);
            assert_eq!(switch.rules(), HugeRules { policy, zeros });
        }
    }
}
