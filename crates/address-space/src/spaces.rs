//! What the address spaces of a machine share.
//!
//! Linux 6.12: kernel/fork.c (`proc_caches_init`), mm/init-mm.c.

use collections::range_tree::Node;
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::Relaxed;
use object_allocator::{CachedNodes, ObjectAllocator, StableCache};
use page_allocator::Hooks;
use platform::Platform;
use sync::Cpu;
use units::Gfp;

use crate::error::MmError;
use crate::huge::{HugePolicy, HugeRules, HugeSwitch};
use crate::limits::Settings;
use crate::mm::Mm;
use crate::mm_ref::MmGrab;
use crate::overcommit::{CommitRules, Overcommit};
use crate::rmap::ReverseMap;
use crate::sysctl::Sysctls;
use crate::vma::{AnonVmaId, VmaSlot};

/// What the address spaces of a machine share: their slab caches, the sum of promised memory, the settings.
#[derive(Debug)]
pub struct AddressSpaces<'k, P: Platform, H: Hooks> {
    pub(crate) mms: StableCache<'k, Mm<'k>, P, H>,
    pub(crate) areas: StableCache<'k, VmaSlot<'k>, P, H>,
    pub(crate) nodes: StableCache<'k, Node, P, H>,
    pub(crate) rmap: ReverseMap<'k>,
    pub(crate) overcommit: Overcommit,
    pub(crate) settings: Settings,
    pub(crate) sysctls: Sysctls,
    /// What follows from the settings for each fault.
    huge: HugeSwitch,
    next_anon_vma: AtomicU64,
    next_mm: AtomicU64,
    init_mm: MmGrab<'k>,
}

impl<'k, P: Platform, H: Hooks> AddressSpaces<'k, P, H> {
    /// Makes the slab caches (Linux: `proc_caches_init`, `maple_tree_init`).
    ///
    /// # Errors
    /// [`MmError::NoMemory`].
    pub fn new(
        objects: &'k ObjectAllocator<P, H>,
        cpu: &Cpu,
        settings: Settings,
        commit: CommitRules,
    ) -> Result<Self, MmError> {
        let mms = objects.create_stable_cache(cpu, "mm_struct")?;
        let init_mm = MmGrab::first(mms.alloc(cpu, Gfp::KERNEL)?);
        Ok(Self {
            mms,
            areas: objects.create_stable_cache(cpu, "vm_area_struct")?,
            nodes: objects.create_stable_cache(cpu, "maple_node")?,
            rmap: ReverseMap::new(),
            overcommit: Overcommit::new(commit),
            settings,
            sysctls: Sysctls::new(&settings),
            huge: HugeSwitch::new(HugeRules::of(&settings)),
            next_anon_vma: AtomicU64::new(1),
            next_mm: AtomicU64::new(1),
            init_mm,
        })
    }

    /// Returns the kernel's own address space, which has no areas and never goes (Linux: `init_mm`).
    pub const fn init_mm(&self) -> &MmGrab<'k> {
        &self.init_mm
    }

    /// Returns the settings as of the start.
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Returns what faults in an address space do about huge pages.
    pub fn huge_rules(&self, mm: &Mm<'_>) -> HugeRules {
        self.huge.rules().on(mm)
    }

    /// Returns which areas of the machine get huge pages.
    pub fn huge_policy(&self) -> HugePolicy {
        self.huge.rules().policy
    }

    /// Lets other areas get huge pages from now on. Those that are there stay.
    pub fn set_huge_policy(&self, policy: HugePolicy) {
        self.huge.set_policy(policy);
    }

    /// Returns what is promised to all processes.
    pub const fn overcommit(&self) -> &Overcommit {
        &self.overcommit
    }

    /// Returns the number of another address space.
    pub(crate) fn another_mm(&self) -> u64 {
        // Relaxed: numbers only have to differ, and 2^64 are never used up.
        self.next_mm.fetch_add(1, Relaxed)
    }

    /// Returns where nodes of the trees of areas come from.
    pub(crate) const fn node_source<'a>(&'a self, cpu: &'a Cpu) -> CachedNodes<'a, 'k, P, H> {
        CachedNodes { cache: &self.nodes, cpu, gfp: Gfp::KERNEL }
    }

    /// Returns the identity of another anon_vma; `None` after 2^64 of them.
    pub(crate) fn another_anon_vma(&self) -> Option<AnonVmaId> {
        // Relaxed: numbers only have to differ.
        AnonVmaId::new(self.next_anon_vma.fetch_add(1, Relaxed))
    }
}
