//! The token that says "this code runs on CPU n".

use core::cell::Cell;

use units::CpuId;

/// How interrupts are kept off a CPU.
///
/// Plain function pointers, since they are called only around contended or rare sections and must be callable from crates that
/// know nothing of the machine.
#[derive(Clone, Copy, Debug)]
pub struct IrqControl {
    /// Disables interrupts on this CPU; returns true if they were enabled.
    pub save: fn(&Cpu) -> bool,
    /// Enables interrupts on this CPU if the argument, the result of `save`, says so.
    pub restore: fn(&Cpu, bool),
    /// Called in debug builds where an interrupt may arrive in the middle of a per-CPU section, so that a simulated machine can
    /// deliver one there.
    pub window: fn(&Cpu),
}

impl IrqControl {
    /// For machines that have no interrupts.
    pub const NONE: Self = Self { save: |_| false, restore: |_, _| (), window: |_| () };
}

/// Proof that the holder runs on one CPU of one machine and will not move to another while it holds the token.
///
/// Not `Sync`: at most one thread at a time acts as a CPU. An interrupt handler on the CPU borrows the token of the code that it
/// interrupted. Holding a token proves nothing about interrupts; locks disable them as they need.
///
/// # Invariants
/// At most one token exists per machine and CPU at any time.
#[derive(Debug)]
pub struct Cpu {
    tag: u64,
    id: CpuId,
    irq: IrqControl,
    held_ranks: Cell<u64>,
}

impl Cpu {
    /// Makes the token of CPU `id` of machine `machine`.
    ///
    /// # Safety
    /// No other token with the same machine and CPU exists, and `machine` is not used by another machine that lives in the same
    /// address space.
    pub const unsafe fn new(machine: u32, id: CpuId, irq: IrqControl) -> Self {
        // INVARIANT: uniqueness is the caller's contract.
        Self { tag: Self::tag_of(machine, id), id, irq, held_ranks: Cell::new(0) }
    }

    /// Returns the number that names a CPU of a machine in [`crate::OwnerCell`].
    pub const fn tag_of(machine: u32, id: CpuId) -> u64 {
        (machine as u64) << 16 | id.raw() as u64
    }

    /// Returns the number that names this CPU, as [`Cpu::tag_of`] forms it.
    #[inline]
    pub const fn tag(&self) -> u64 {
        self.tag
    }

    /// Returns the CPU's number.
    #[inline]
    pub const fn id(&self) -> CpuId {
        self.id
    }

    /// Returns the number of the machine that the CPU belongs to.
    #[inline]
    pub const fn machine(&self) -> u32 {
        (self.tag >> 16) as u32
    }

    /// Disables interrupts; the result goes to [`Cpu::irq_restore`].
    #[inline]
    pub(crate) fn irq_save(&self) -> bool {
        (self.irq.save)(self)
    }

    /// Enables interrupts if they were enabled at the matching [`Cpu::irq_save`].
    #[inline]
    pub(crate) fn irq_restore(&self, enabled: bool) {
        (self.irq.restore)(self, enabled);
    }

    /// Lets a simulated machine deliver an interrupt here, in debug builds.
    #[inline(always)]
    pub(crate) fn interrupt_window(&self) {
        if cfg!(debug_assertions) {
            (self.irq.window)(self);
        }
    }

    /// Notes that a lock of `rank` is about to be taken.
    #[inline]
    pub(crate) fn enter_rank(&self, rank: u8) {
        if cfg!(debug_assertions) {
            let held = self.held_ranks.get();
            debug_assert!(held >> rank == 0, "lock of rank {rank} taken while ranks {held:#b} are held");
            self.held_ranks.set(held | 1 << rank);
        }
    }

    /// Notes that a lock of `rank` was taken without waiting, which no order forbids.
    #[inline]
    pub(crate) fn note_rank(&self, rank: u8) {
        if cfg!(debug_assertions) {
            let held = self.held_ranks.get();
            debug_assert!(held & 1 << rank == 0, "another lock of rank {rank} taken while ranks {held:#b} are held");
            self.held_ranks.set(held | 1 << rank);
        }
    }

    /// Notes that a lock of `rank` was released.
    #[inline]
    pub(crate) fn leave_rank(&self, rank: u8) {
        if cfg!(debug_assertions) {
            self.held_ranks.set(self.held_ranks.get() & !(1 << rank));
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    extern crate std;
    use std::sync::Mutex;
    use std::vec;
    use std::vec::Vec;

    use super::*;
    use crate::{OwnerCell, SpinLock, rank};

    /// What the control below was asked to do, by all tests that use machine 5.
    static CALLS: Mutex<Vec<&str>> = Mutex::new(Vec::new());

    fn note(call: &'static str) {
        CALLS.lock().unwrap().push(call);
    }

    const RECORDING: IrqControl = IrqControl {
        save: |_| {
            let nested = CALLS.lock().unwrap().contains(&"save");
            note("save");
            !nested
        },
        restore: |_, enabled| note(if enabled { "enable" } else { "leave off" }),
        window: |_| note("window"),
    };

    #[test]
    fn a_tag_names_machine_and_cpu() {
        let id = CpuId::try_new(4095).unwrap();
        // SAFETY: the only token of this machine.
        let cpu = unsafe { Cpu::new(u32::MAX, id, IrqControl::NONE) };
        assert_eq!((cpu.machine(), cpu.id(), cpu.tag()), (u32::MAX, id, Cpu::tag_of(u32::MAX, id)));
        assert_ne!(Cpu::tag_of(1, CpuId::ZERO), Cpu::tag_of(0, id));
    }

    #[test]
    fn interrupts_come_back_when_the_outermost_lock_opens() {
        // SAFETY: the only token of machine 5.
        let cpu = unsafe { Cpu::new(5, CpuId::ZERO, RECORDING) };
        let (outer, inner) = (SpinLock::<{ rank::ZONE }, _>::new(()), SpinLock::<{ rank::LEAF }, _>::new(()));
        let held = outer.lock(&cpu);
        drop(inner.lock(&cpu));
        drop(held);
        assert_eq!(core::mem::take(&mut *CALLS.lock().unwrap()), ["save", "save", "leave off", "enable"]);
        let cell = OwnerCell::new(cpu.tag(), ());
        cell.try_with(&cpu, |()| ());
        cell.with_remote(&cpu, || (), |()| ());
        let window = if cfg!(debug_assertions) { vec!["window"] } else { vec![] };
        assert_eq!(*CALLS.lock().unwrap(), [window, vec!["save", "enable"]].concat());
    }

    #[test]
    fn a_released_rank_can_be_taken_again() {
        // SAFETY: the only token of machine 6.
        let cpu = unsafe { Cpu::new(6, CpuId::ZERO, IrqControl::NONE) };
        let (low, high) = (SpinLock::<{ rank::ZONE }, _>::new(1), SpinLock::<{ rank::LEAF }, _>::new(2));
        for _ in 0..2 {
            let first = low.lock(&cpu);
            let second = high.lock(&cpu);
            drop(second);
            drop(first);
        }
        assert_eq!(*low.lock(&cpu) + *high.lock(&cpu), 3);
    }

    #[test]
    #[should_panic(expected = "lock of rank 24")]
    #[cfg(debug_assertions)]
    fn a_lower_rank_under_a_higher_one_is_an_inversion() {
        // SAFETY: the only token of machine 7.
        let cpu = unsafe { Cpu::new(7, CpuId::ZERO, IrqControl::NONE) };
        let (low, high) = (SpinLock::<{ rank::ZONE }, _>::new(()), SpinLock::<{ rank::LEAF }, _>::new(()));
        let _high = high.lock(&cpu);
        let _low = low.lock(&cpu);
    }
}
