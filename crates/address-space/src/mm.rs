//! An address space that CPUs share, and its lock.
//!
//! [`Mm`] is Linux's mm_struct: an object of a slab cache whose memory stays one, so that a lookup may come late. What its lock (mmap_lock) protects
//! is reached through a guard: [`MmRead`] or [`MmWrite`]. The tree of areas is looked up without a lock, but stays as it is under a guard only. A fault takes neither; see
//! [`Mm::lock_area`](crate::Mm::lock_area).
//! Linux 6.12: include/linux/mm_types.h (`struct mm_struct`), include/linux/mmap_lock.h, kernel/fork.c (`mm_init`).

use core::fmt;
use core::ops::{Deref, DerefMut};

use collections::range_tree::{Around, BrokenInvariant};
use collections::{RangeTree, WordCell};
use object_allocator::mmu::UserTables;
use object_allocator::{Stable, TypeStable};
use sync::{Cpu, RwReadGuard, RwSpinLock, RwWriteGuard, TurnCount, UseCount, rank};
use units::{VirtAddr, VirtRange, VmFlags};

use crate::atomic::AtomicU64;
use crate::atomic::Ordering::Relaxed;
use crate::counters::VmCounters;
use crate::mm_ref::MmGrab;
use crate::program::{MmapLayout, ProgramRanges};
use crate::vma::{Among, Area, Slot, Vma, VmaSlot};

/// An address space.
///
/// # Invariants
/// Each value of `tree` is a slot of the machine's cache of areas that belongs to this entry alone, is attached to this address space, and says the same
/// range as the entry; entries are whole pages below the machine's task size. The counters are the sums over the entries. Without users there
/// are no entries.
pub struct Mm<'k> {
    /// How many use it, and how many refer to it.
    pub(crate) uses: UseCount,
    /// This object, for whoever has it by an area of it only.
    me: WordCell<Stable<'k, Self>>,
    /// Changes with every use of the memory, so that a late lookup does not take the next address space for the one before.
    id: AtomicU64,
    /// [`MmFlags`](crate::MmFlags).
    pub(crate) flags: AtomicU64,
    pub(crate) tree: RangeTree<Slot<'k>>,
    pub(crate) turns: TurnCount,
    state: RwSpinLock<{ rank::MMAP_LOCK }, MmState>,
    /// Held while an area gets an anon_vma, which the lock of the address space for reading, or of an area, permits (Linux: page_table_lock).
    pub(crate) anon_prepare: RwSpinLock<{ rank::ANON_PREPARE }, ()>,
    tables: UserTables,
}

/// What the lock of an address space protects beside its areas.
#[derive(Debug)]
pub struct MmState {
    pub(crate) counters: VmCounters,
    /// Flags of everything that is mapped from now on (mlockall).
    pub(crate) def_flags: VmFlags,
    pub(crate) layout: MmapLayout,
    pub(crate) program: ProgramRanges,
}

impl MmState {
    pub(crate) fn new(layout: MmapLayout, program: ProgramRanges) -> Self {
        Self { counters: VmCounters::default(), def_flags: VmFlags::empty(), layout, program }
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
}

impl TypeStable for Mm<'_> {
    fn fresh() -> Self {
        Self {
            uses: UseCount::default(),
            me: WordCell::new(),
            id: AtomicU64::new(0),
            flags: AtomicU64::new(0),
            tree: RangeTree::new(),
            turns: TurnCount::default(),
            state: RwSpinLock::new(MmState::new(MmapLayout::NONE, ProgramRanges::default())),
            anon_prepare: RwSpinLock::new(()),
            tables: UserTables::new(),
        }
    }
}

impl fmt::Debug for Mm<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mm").field("nr_areas", &self.tree.len()).finish_non_exhaustive()
    }
}

impl<'k> Mm<'k> {
    /// Returns the number of this address space.
    pub(crate) fn id(&self) -> u64 {
        // Relaxed: written before anybody has a handle.
        self.id.load(Relaxed)
    }

    /// Counts another reference, for somebody who has one, or who knows otherwise that the address space is there: in a walk of the reverse map
    /// (Linux: `mmgrab`).
    pub fn grab(&self) -> Option<MmGrab<'k>> {
        Some(MmGrab::another(self.me.load()?))
    }

    /// Makes an address space of memory that nobody uses (Linux: `mm_init`).
    pub(crate) fn begin(&self, cpu: &Cpu, me: Stable<'k, Self>, id: u64, state: MmState) {
        debug_assert!(self.tree.is_empty(), "an address space ended without areas");
        debug_assert!(self.tables.root().is_none(), "an address space ended without page tables");
        self.me.store(Some(me));
        // Relaxed: as in `id`.
        self.id.store(id, Relaxed);
        self.flags.store(0, Relaxed);
        *self.state.write(cpu) = state;
    }

    /// Returns the page tables, which have rules of their own for who may change them.
    pub const fn tables(&self) -> &UserTables {
        &self.tables
    }

    /// Locks for reading: areas stay, and stay as they are, but for anon_vmas that faults give them (Linux: `mmap_read_lock`).
    pub fn read<'a>(&'a self, cpu: &'a Cpu) -> MmRead<'a, 'k> {
        MmGuard { mm: self, tree: &self.tree, hold: ReadHold(self.state.read(cpu)) }
    }

    /// Locks for reading if that needs no waiting (Linux: `mmap_read_trylock`).
    pub fn try_read<'a>(&'a self, cpu: &'a Cpu) -> Option<MmRead<'a, 'k>> {
        Some(MmGuard { mm: self, tree: &self.tree, hold: ReadHold(self.state.try_read(cpu)?) })
    }

    /// Locks for writing (Linux: `mmap_write_lock`).
    pub fn write<'a>(&'a self, cpu: &'a Cpu) -> MmWrite<'a, 'k> {
        self.written(self.state.write(cpu))
    }

    /// Locks for writing while the CPU holds the lock of another address space: fork's child (Linux: `mmap_write_lock_nested`).
    pub fn write_nested<'a>(&'a self, cpu: &'a Cpu) -> MmWrite<'a, 'k> {
        self.written(self.state.write_nested(cpu))
    }

    fn written<'a>(&'a self, guard: RwWriteGuard<'a, { rank::MMAP_LOCK }, MmState>) -> MmWrite<'a, 'k> {
        let turn = Turn { turns: &self.turns, number: self.turns.own() };
        MmGuard { mm: self, tree: &self.tree, hold: WriteHold { turn, guard } }
    }
}

/// The lock, held for reading.
pub struct ReadHold<'a>(RwReadGuard<'a, { rank::MMAP_LOCK }, MmState>);

impl Deref for ReadHold<'_> {
    type Target = MmState;

    fn deref(&self) -> &MmState {
        &self.0
    }
}

/// The lock, held for writing. Fields are dropped in this order: the areas' write locks end before the lock opens.
pub struct WriteHold<'a> {
    turn: Turn<'a>,
    guard: RwWriteGuard<'a, { rank::MMAP_LOCK }, MmState>,
}

/// A writer's turn; its end ends the write locks of all areas (Linux: `vma_end_write_all`).
struct Turn<'a> {
    turns: &'a TurnCount,
    number: u64,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.turns.end(self.number);
    }
}

impl Deref for WriteHold<'_> {
    type Target = MmState;

    fn deref(&self) -> &MmState {
        &self.guard
    }
}

impl DerefMut for WriteHold<'_> {
    fn deref_mut(&mut self) -> &mut MmState {
        &mut self.guard
    }
}

/// A locked address space. What its lock protects is reached through it.
pub struct MmGuard<'a, 'k, L> {
    mm: &'a Mm<'k>,
    pub(crate) tree: &'a RangeTree<Slot<'k>>,
    hold: L,
}

/// An address space that is locked for reading.
pub type MmRead<'a, 'k> = MmGuard<'a, 'k, ReadHold<'a>>;

/// An address space that is locked for writing.
pub type MmWrite<'a, 'k> = MmGuard<'a, 'k, WriteHold<'a>>;

impl<L: Deref<Target = MmState>> Deref for MmGuard<'_, '_, L> {
    type Target = MmState;

    fn deref(&self) -> &MmState {
        &self.hold
    }
}

impl<L: DerefMut<Target = MmState>> DerefMut for MmGuard<'_, '_, L> {
    fn deref_mut(&mut self) -> &mut MmState {
        &mut self.hold
    }
}

impl<L> fmt::Debug for MmGuard<'_, '_, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.areas()).finish()
    }
}

impl<'a, 'k> MmWrite<'a, 'k> {
    /// Goes on reading; nobody writes in between. Faults on any area may run again (Linux: `mmap_write_downgrade`).
    pub fn downgrade(self) -> MmRead<'a, 'k> {
        let WriteHold { turn, guard } = self.hold;
        drop(turn);
        MmGuard { mm: self.mm, tree: self.tree, hold: ReadHold(guard.downgrade()) }
    }

    /// Write-locks an area of this address space until the lock of the address space opens (Linux: `vma_start_write`).
    pub(crate) fn start_write(&self, slot: &VmaSlot<'k>) {
        slot.lock.start_write(self.hold.guard.cpu(), self.hold.turn.number);
    }

    /// Makes an object an area of this address space, write-locked.
    pub(crate) fn attach(&self, slot: &VmaSlot<'k>) {
        slot.mm.store(self.mm.me.load());
        slot.lock.attach(self.hold.guard.cpu(), self.mm.id(), self.hold.turn.number);
    }
}

impl<'a, 'k, L> MmGuard<'a, 'k, L> {
    /// Returns the address space.
    pub const fn mm(&self) -> &'a Mm<'k> {
        self.mm
    }

    /// Returns the number of areas (map_count).
    pub fn nr_areas(&self) -> usize {
        self.tree.len()
    }

    /// Returns the first area that ends above `addr` (Linux: `find_vma`).
    pub fn find(&self, addr: VirtAddr) -> Option<Vma> {
        self.tree.find_at_or_after(addr).map(|entry| entry.value.load())
    }

    /// Returns the area that holds `addr` (Linux: `vma_lookup`).
    pub fn lookup(&self, addr: VirtAddr) -> Option<Vma> {
        self.tree.find(addr).map(|entry| entry.value.load())
    }

    /// Returns the last area that ends at or below `addr` (Linux: the `prev` of `find_vma_prev`).
    pub fn find_before(&self, addr: VirtAddr) -> Option<Vma> {
        self.tree.find_before(addr).map(|entry| entry.value.load())
    }

    /// Returns the lowest area that shares a byte with `range` (Linux: `find_vma_intersection`).
    pub fn find_intersection(&self, range: VirtRange) -> Option<Vma> {
        self.tree.find_intersection(range).map(|entry| entry.value.load())
    }

    /// Walks over all areas, lowest first.
    pub fn areas(&self) -> impl Iterator<Item = Vma> {
        self.tree.iter().map(|entry| entry.value.load())
    }

    /// Checks the laws of the tree of areas.
    ///
    /// # Errors
    /// The first law that is broken.
    pub fn check_invariants(&self) -> Result<(), BrokenInvariant> {
        debug_assert!(
            self.tree.iter().all(|entry| entry.value.load().range == entry.range),
            "an area and the tree name the same addresses"
        );
        self.tree.check_invariants()
    }

    /// As [`MmGuard::lookup`], for who changes it.
    pub(crate) fn area(&self, addr: VirtAddr) -> Option<Area<'k>> {
        self.tree.find(addr).map(|entry| Area::at(entry.value))
    }

    /// Returns the lowest area that shares a byte with `range`, for who changes it; nothing does with an empty one.
    #[inline]
    pub(crate) fn area_in(&self, range: VirtRange) -> Option<Area<'k>> {
        let found = if range.is_empty() { None } else { self.tree.find_intersection(range) };
        found.map(|entry| Area::at(entry.value))
    }

    /// Returns what lies in `range`, which is not empty, and beside it.
    #[inline]
    pub(crate) fn around(&self, range: VirtRange) -> Around<'a, Slot<'k>> {
        self.tree.find_around(range)
    }

    /// As [`MmGuard::area_in`], with its neighbours.
    pub(crate) fn among(&self, range: VirtRange) -> Option<Among<'a, 'k>> {
        let around = self.around(range);
        around.first.map(|first| Among { area: Area::at(first.value), around })
    }

    /// As [`MmGuard::find_before`], for who changes it.
    pub(crate) fn area_before(&self, addr: VirtAddr) -> Option<Area<'k>> {
        self.tree.find_before(addr).map(|entry| Area::at(entry.value))
    }

    /// Returns the slot of the area that begins at `start`.
    pub(crate) fn slot(&self, start: VirtAddr) -> Option<Slot<'k>> {
        self.tree.find(start).filter(|entry| entry.range.start == start).map(|entry| entry.value)
    }
}
