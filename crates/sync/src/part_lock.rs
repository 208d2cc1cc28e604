//! Locks of the parts of a whole that is itself locked: areas of an address space.
//!
//! A reader of one part takes the lock of that part alone and never waits. Who holds the whole for writing write-locks each part before changing
//! it: waits for the part's readers, and notes the number of its own turn. While that is the number of the whole's present turn, the part takes
//! no reader. All write locks end at once, when the turn's number goes on. An object that was freed is detached first, so that a reader who
//! comes late knows that it is part of another whole, or of none.
//! Linux 6.12: include/linux/mm.h (`vma_start_read`, `vma_start_write`, `vma_end_write_all`, `vma_mark_detached`).

use crate::atomic::{AtomicU64, Ordering};
use crate::{Cpu, RwReadGuard, RwSpinLock};

/// Owner of a part that belongs to no whole.
const DETACHED: u64 = 0;

/// Number of the present or next turn of a whole's writers (mm_lock_seq).
#[derive(Debug)]
pub struct TurnCount(AtomicU64);

impl Default for TurnCount {
    fn default() -> Self {
        Self(AtomicU64::new(1))
    }
}

impl TurnCount {
    /// Returns the number, to whoever holds the whole for writing.
    pub fn own(&self) -> u64 {
        // Relaxed: the lock of the whole orders its writers.
        self.0.load(Ordering::Relaxed)
    }

    /// Ends all write locks of the turn `own`, before the lock of the whole opens.
    pub fn end(&self, own: u64) {
        // Release: pairs with the Acquire load in `PartLock::try_read`, so a reader of the next turn sees what this one changed.
        self.0.store(own.wrapping_add(1), Ordering::Release);
    }
}

/// Lock of a part.
#[derive(Debug)]
pub struct PartLock<const RANK: u8> {
    readers: RwSpinLock<RANK, ()>,
    /// Turn in which the part was last write-locked (vm_lock_seq).
    turn: AtomicU64,
    owner: AtomicU64,
}

/// A part that is locked for reading.
pub type PartHold<'a, const RANK: u8> = RwReadGuard<'a, RANK, ()>;

impl<const RANK: u8> Default for PartLock<RANK> {
    fn default() -> Self {
        Self { readers: RwSpinLock::new(()), turn: AtomicU64::new(0), owner: AtomicU64::new(DETACHED) }
    }
}

impl<const RANK: u8> PartLock<RANK> {
    /// Locks for reading if the part belongs to `owner`, whose turns `turns` counts, and its writer has not locked it. Owners' numbers are never 0
    /// and never used again.
    pub fn try_read<'a>(&'a self, cpu: &'a Cpu, owner: u64, turns: &TurnCount) -> Option<PartHold<'a, RANK>> {
        let hold = self.readers.try_read(cpu)?;
        // Relaxed: `turn` is written under the lock that was just taken; a writer who comes later waits for it.
        let turn = self.turn.load(Ordering::Relaxed);
        // Acquire: pairs with `TurnCount::end`. If the writer of `turn` has ended, all that it changed is seen, a detachment included.
        let present = turns.0.load(Ordering::Acquire);
        // Relaxed: seen as the line above says.
        let is_own = self.owner.load(Ordering::Relaxed) == owner;
        (turn != present && is_own).then_some(hold)
    }

    /// Write-locks a part for the rest of the turn `own`.
    pub fn start_write(&self, cpu: &Cpu, own: u64) {
        // Relaxed: only writers of the whole that the part belongs to write it, and this is the one.
        if self.turn.load(Ordering::Relaxed) != own {
            self.start_write_waiting(cpu, own);
        }
    }

    /// Write-locks an object that becomes a part of `owner`, whose numbers are never 0. It may still have readers who took it for what it was.
    pub fn attach(&self, cpu: &Cpu, owner: u64, own: u64) {
        self.start_write_waiting(cpu, own);
        // Relaxed: seen with the lock by whoever comes later, and by nobody else.
        self.owner.store(owner, Ordering::Relaxed);
    }

    /// Says that the part, which is write-locked, is none any more.
    pub fn detach(&self) {
        // Relaxed: ordered by the end of the turn.
        self.owner.store(DETACHED, Ordering::Relaxed);
    }

    fn start_write_waiting(&self, cpu: &Cpu, own: u64) {
        let alone = self.readers.write(cpu);
        // Relaxed: the lock orders it.
        self.turn.store(own, Ordering::Relaxed);
        drop(alone);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use units::CpuId;

    use super::*;
    use crate::{IrqControl, rank};

    #[test]
    fn a_part_is_read_by_its_owner_s_readers_between_turns_only() {
        // SAFETY: the only token of machine 12.
        let cpu = unsafe { Cpu::new(12, CpuId::ZERO, IrqControl::NONE) };
        let (part, turns) = (PartLock::<{ rank::VMA_LOCK }>::default(), TurnCount::default());
        let is_open = |owner| part.try_read(&cpu, owner, &turns).is_some();
        assert!(!is_open(7), "it belongs to nobody");
        part.attach(&cpu, 7, turns.own());
        assert!(!is_open(7), "it is write-locked");
        turns.end(turns.own());
        assert_eq!((is_open(7), is_open(8)), (true, false));
        part.start_write(&cpu, turns.own());
        part.detach();
        turns.end(turns.own());
        assert!(!is_open(7), "it was detached");
    }
}
