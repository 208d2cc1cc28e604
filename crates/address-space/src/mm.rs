//! An address space, the state that the address spaces of a machine share, and a call on one.
//!
//! [`Mm`] is Linux's mm_struct without page tables. Locking: `&mut Mm` is the mmap_lock held for writing, `&Mm` held for reading; the tree's
//! lookups need neither. Linux 6.12: include/linux/mm_types.h (`struct mm_struct`), kernel/fork.c (`mm_init`).

use collections::RangeTree;
use collections::range_tree::{BrokenInvariant, Node};
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::Relaxed;
use object_allocator::{ObjectAllocator, Stable, StableCache};
use page_allocator::Hooks;
use platform::Platform;
use sync::Cpu;
use units::{VirtAddr, VirtRange, VmFlags};

use crate::backing::{PageTables, Pager};
use crate::error::MmError;
use crate::limits::{Process, Settings};
use crate::overcommit::{CommitRules, Overcommit};
use crate::vma::{AnonVmaId, Vma, VmaSlot};

/// What the address spaces of a machine share: their slab caches, the sum of promised memory, the settings.
#[derive(Debug)]
pub struct AddressSpaces<'k, P: Platform, H: Hooks> {
    pub(crate) areas: StableCache<'k, VmaSlot, P, H>,
    pub(crate) nodes: StableCache<'k, Node, P, H>,
    pub(crate) overcommit: Overcommit,
    pub(crate) settings: Settings,
    next_anon_vma: AtomicU64,
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
        Ok(Self {
            areas: objects.create_stable_cache(cpu, "vm_area_struct")?,
            nodes: objects.create_stable_cache(cpu, "maple_node")?,
            overcommit: Overcommit::new(commit),
            settings,
            next_anon_vma: AtomicU64::new(1),
        })
    }

    /// Returns the settings.
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Returns what is promised to all processes.
    pub const fn overcommit(&self) -> &Overcommit {
        &self.overcommit
    }

    /// Returns the identity of another anon_vma; `None` after 2^64 of them.
    pub(crate) fn another_anon_vma(&self) -> Option<AnonVmaId> {
        // Relaxed: numbers only have to differ.
        AnonVmaId::new(self.next_anon_vma.fetch_add(1, Relaxed))
    }
}

/// Pages of an address space by what they are for; names and meanings are those of /proc/PID/status.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct VmCounters {
    /// All (VmSize).
    pub total: u64,
    /// Private and writable (VmData).
    pub data: u64,
    /// Code (VmExe and VmLib).
    pub exec: u64,
    /// Stacks (VmStk).
    pub stack: u64,
    /// Locked in memory (VmLck).
    pub locked: u64,
    /// Pinned by devices (VmPin).
    pub pinned: u64,
}

impl VmCounters {
    /// Counts an area of `nr_pages` (Linux: `vm_stat_account`).
    pub(crate) fn add(&mut self, flags: VmFlags, nr_pages: u64) {
        self.total += nr_pages;
        if let Some(kind) = self.kind(flags) {
            *kind += nr_pages;
        }
    }

    /// Counts an area no longer.
    pub(crate) fn remove(&mut self, flags: VmFlags, nr_pages: u64) {
        debug_assert!(self.total >= nr_pages, "an area was counted before");
        self.total -= nr_pages;
        if let Some(kind) = self.kind(flags) {
            debug_assert!(*kind >= nr_pages, "an area was counted before, as of this kind");
            *kind -= nr_pages;
        }
    }

    fn kind(&mut self, flags: VmFlags) -> Option<&mut u64> {
        match () {
            () if flags.is_exec_mapping() => Some(&mut self.exec),
            () if flags.is_stack_mapping() => Some(&mut self.stack),
            () if flags.is_data_mapping() => Some(&mut self.data),
            () => None,
        }
    }
}

/// Addresses that exec sets.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ProgramRanges {
    /// The program's code.
    pub code: VirtRange,
    /// The program's data, which counts against RLIMIT_DATA with the heap.
    pub data: VirtRange,
    /// Where the stack began.
    pub start_stack: VirtAddr,
    /// Where the heap begins.
    pub start_brk: VirtAddr,
    /// Where the heap ends, to the byte.
    pub brk: VirtAddr,
    /// Arguments.
    pub args: VirtRange,
    /// Environment.
    pub env: VirtRange,
}

/// Where mappings go that ask for no address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MmapLayout {
    /// Which way they go.
    pub direction: Direction,
    /// Downwards from here (mmap_base).
    pub base: VirtAddr,
    /// Upwards from here (mmap_legacy_base).
    pub legacy_base: VirtAddr,
}

/// Which way a search for addresses goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// From the stack down (MMF_TOPDOWN).
    TopDown,
    /// From a third of the addresses up (the legacy layout).
    BottomUp,
}

/// Smallest room that is kept for the stack, in bytes.
const MIN_STACK_ROOM: u64 = 128 << 20;

impl MmapLayout {
    /// Returns the layout without randomisation (Linux: `arch_pick_mmap_layout`, `mmap_base`).
    pub fn new(settings: &Settings, direction: Direction, stack_limit: u64) -> Self {
        let window = settings.default_window.raw();
        let gap = stack_limit.checked_add(settings.guard_gap).unwrap_or(stack_limit);
        let gap = gap.clamp(MIN_STACK_ROOM, window / 6 * 5);
        Self {
            direction,
            base: VirtAddr::new(window - gap).align_up(crate::PAGE_SIZE),
            legacy_base: VirtAddr::new(window / 3).align_up(crate::PAGE_SIZE),
        }
    }
}

/// An address space.
///
/// # Invariants
/// Each value of `tree` is a slot of the machine's cache of areas that belongs to this entry alone; entries are whole pages below the machine's
/// task size. `counters` is the sum over the entries.
pub struct Mm<'k> {
    pub(crate) tree: RangeTree<Stable<'k, VmaSlot>>,
    pub(crate) counters: VmCounters,
    /// Flags of everything that is mapped from now on (mlockall).
    pub(crate) def_flags: VmFlags,
    pub(crate) layout: MmapLayout,
    pub(crate) program: ProgramRanges,
}

impl core::fmt::Debug for Mm<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_list().entries(self.areas()).finish()
    }
}

impl<'k> Mm<'k> {
    /// Makes an address space without areas.
    pub const fn new(layout: MmapLayout, program: ProgramRanges) -> Self {
        Self {
            tree: RangeTree::new(),
            counters: VmCounters { total: 0, data: 0, exec: 0, stack: 0, locked: 0, pinned: 0 },
            def_flags: VmFlags::empty(),
            layout,
            program,
        }
    }

    /// Returns the counters.
    pub const fn counters(&self) -> &VmCounters {
        &self.counters
    }

    /// Returns what exec and brk set.
    pub const fn program(&self) -> &ProgramRanges {
        &self.program
    }

    /// Returns where mappings go.
    pub const fn layout(&self) -> &MmapLayout {
        &self.layout
    }

    /// Returns the number of areas (map_count).
    pub fn nr_areas(&self) -> usize {
        self.tree.len()
    }

    /// Returns the first area that ends above `addr` (Linux: `find_vma`).
    pub fn find(&self, addr: VirtAddr) -> Option<Vma> {
        self.tree.find_at_or_after(addr).map(|entry| entry.value.load(entry.range))
    }

    /// Returns the area that holds `addr` (Linux: `vma_lookup`).
    pub fn lookup(&self, addr: VirtAddr) -> Option<Vma> {
        self.tree.find(addr).map(|entry| entry.value.load(entry.range))
    }

    /// Returns the last area that ends at or below `addr` (Linux: the `prev` of `find_vma_prev`).
    pub fn find_before(&self, addr: VirtAddr) -> Option<Vma> {
        self.tree.find_before(addr).map(|entry| entry.value.load(entry.range))
    }

    /// Returns the lowest area that shares a byte with `range` (Linux: `find_vma_intersection`).
    pub fn find_intersection(&self, range: VirtRange) -> Option<Vma> {
        self.tree.find_intersection(range).map(|entry| entry.value.load(entry.range))
    }

    /// Walks over all areas, lowest first.
    pub fn areas(&self) -> impl Iterator<Item = Vma> + '_ {
        self.tree.iter().map(|entry| entry.value.load(entry.range))
    }

    /// Checks the laws of the tree of areas.
    ///
    /// # Errors
    /// The first law that is broken.
    pub fn check_invariants(&self) -> Result<(), BrokenInvariant> {
        self.tree.check_invariants()
    }

    /// Returns the area that begins at `start`, which the caller knows to be there, as the tree has it.
    pub(crate) fn slot(&self, start: VirtAddr) -> Option<Stable<'k, VmaSlot>> {
        self.tree.find(start).filter(|entry| entry.range.start == start).map(|entry| entry.value)
    }
}

/// A call on an address space: who makes it, where, and what lies below.
#[derive(Debug)]
pub struct Call<'a, 'k, P: Platform, H: Hooks, B: PageTables + Pager> {
    /// The address space, locked for writing.
    pub mm: &'a mut Mm<'k>,
    /// What it shares with others.
    pub spaces: &'a AddressSpaces<'k, P, H>,
    /// The CPU that the call runs on.
    pub cpu: &'a Cpu,
    /// Who calls.
    pub process: &'a Process,
    /// Page tables and files.
    pub backing: &'a mut B,
}
