//! The lock of one area: a fault holds it for reading instead of the lock of the whole address space.
//!
//! Who holds the address space for writing write-locks each area before changing it: waits for the area's readers, and notes the number of its
//! own turn. While that is the number of the address space's present turn, the area takes no reader. All write locks end at once, when the
//! turn's number goes on. An object that was freed is detached first, so that a reader who comes late knows that it is another area's, or none's.
//! Linux 6.12: include/linux/mm.h (`vma_start_read`, `vma_start_write`, `vma_end_write_all`, `vma_mark_detached`).

use sync::{Cpu, RwReadGuard, RwSpinLock, rank};

use crate::atomic::AtomicU64;
use crate::atomic::Ordering::{Acquire, Relaxed, Release};

/// Number of an address space; no two on a machine have the same, ever.
pub(crate) type MmId = u64;

/// Owner of an area that is in no address space.
const DETACHED: MmId = 0;

/// Number of the present or next turn of an address space's writers (mm_lock_seq).
#[derive(Debug)]
pub(crate) struct TurnCount(AtomicU64);

impl TurnCount {
    pub(crate) fn new() -> Self {
        Self(AtomicU64::new(1))
    }

    /// Returns the number, to the writer.
    pub(crate) fn own(&self) -> u64 {
        // Relaxed: the lock of the address space orders its writers.
        self.0.load(Relaxed)
    }

    /// Ends all write locks of the turn `own`.
    pub(crate) fn end(&self, own: u64) {
        // Release: pairs with the Acquire load in `VmaLock::try_read`, so a reader of the next turn sees what this one changed.
        self.0.store(own.wrapping_add(1), Release);
    }
}

/// Lock of an area.
#[derive(Debug)]
pub(crate) struct VmaLock {
    readers: RwSpinLock<{ rank::VMA_LOCK }, ()>,
    /// Turn in which the area was last write-locked (vm_lock_seq).
    turn: AtomicU64,
    owner: AtomicU64,
}

/// An area that is locked for reading.
pub(crate) type VmaHold<'a> = RwReadGuard<'a, { rank::VMA_LOCK }, ()>;

impl Default for VmaLock {
    fn default() -> Self {
        Self { readers: RwSpinLock::new(()), turn: AtomicU64::new(0), owner: AtomicU64::new(DETACHED) }
    }
}

impl VmaLock {
    /// Locks for reading if the area belongs to `owner`, whose turns `turns` counts, and its writer has not locked it.
    pub(crate) fn try_read<'a>(&'a self, cpu: &'a Cpu, owner: MmId, turns: &TurnCount) -> Option<VmaHold<'a>> {
        let hold = self.readers.try_read(cpu)?;
        // Relaxed: `turn` is written under the lock that was just taken; a writer who comes later waits for it.
        let turn = self.turn.load(Relaxed);
        // Acquire: pairs with `TurnCount::end`. If the writer of `turn` has ended, all that it changed is seen, a detachment included.
        let present = turns.0.load(Acquire);
        // Relaxed: seen as the line above says.
        let is_own = self.owner.load(Relaxed) == owner;
        (turn != present && is_own).then_some(hold)
    }

    /// Write-locks an area for the rest of the turn `own`.
    pub(crate) fn start_write(&self, cpu: &Cpu, own: u64) {
        // Relaxed: only writers of the address space that the area belongs to write it, and this is the one.
        if self.turn.load(Relaxed) != own {
            self.start_write_waiting(cpu, own);
        }
    }

    /// Write-locks an object that becomes an area of `owner`. It may still have readers who took it for what it was.
    pub(crate) fn attach(&self, cpu: &Cpu, owner: MmId, own: u64) {
        self.start_write_waiting(cpu, own);
        // Relaxed: seen with the lock by whoever comes later, and by nobody else.
        self.owner.store(owner, Relaxed);
    }

    /// Says that the area, which is write-locked, is none any more.
    pub(crate) fn detach(&self) {
        // Relaxed: ordered by the end of the turn.
        self.owner.store(DETACHED, Relaxed);
    }

    fn start_write_waiting(&self, cpu: &Cpu, own: u64) {
        let alone = self.readers.write(cpu);
        // Relaxed: the lock orders it.
        self.turn.store(own, Relaxed);
        drop(alone);
    }
}
