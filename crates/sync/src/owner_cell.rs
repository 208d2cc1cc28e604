//! A value that one CPU uses all the time without atomic read-modify-writes, and others reach rarely.
//!
//! Protocol (Dekker's, made asymmetric): the owner marks `owner`, then loads `claimed`; a remote CPU stores `claimed`, makes
//! every other CPU execute a barrier, then waits for the mark to go. The barrier stands in for the store-load fence that the
//! owner leaves out, so at least one of the two sees the other. The owner never waits: if the cell is claimed, or if it is an
//! interrupt handler that arrived inside the section, it gets `None` and takes another way.
//! Linux: `pcp_spin_trylock` and `zone_pcp_disable` have the same outcomes at the price of an atomic operation each time.

use core::ops::{Deref, DerefMut};

use crate::Cpu;
use crate::atomic::{AtomicBool, AtomicU64, Ordering, RawCell, light_fence, relax};

/// No CPU's tag: those have 48 bits.
const INSIDE: u64 = u64::MAX;

/// Value owned by one CPU.
///
/// # Invariants
/// The value is reached only by the owning CPU between marking `owner` and clearing the mark, when it saw `claimed` false
/// in between; or by the CPU that set `claimed`, after the barrier and after it saw no mark.
#[derive(Debug)]
pub struct OwnerCell<T> {
    tag: u64,
    /// The tag, or [`INSIDE`] while the owner is in the section: one comparison answers "is this the owner, and is it outside".
    owner: AtomicU64,
    claimed: AtomicBool,
    value: RawCell<T>,
}

// SAFETY: by the type invariant one CPU at a time reaches the value, which needs `T: Send` and nothing else.
unsafe impl<T: Send> Sync for OwnerCell<T> {}

impl<T> OwnerCell<T> {
    /// Makes the cell of the CPU that [`Cpu::tag_of`] names `tag`.
    pub fn new(tag: u64, value: T) -> Self {
        Self { tag, owner: AtomicU64::new(tag), claimed: AtomicBool::new(false), value: RawCell::new(value) }
    }

    fn is_busy(&self, ordering: Ordering) -> bool {
        self.owner.load(ordering) != self.tag
    }

    /// Enters the section if `cpu` owns the cell and nobody else is inside; the guard's end leaves it.
    ///
    /// Returns `None` on another CPU, in an interrupt that arrived inside the section, and while a remote CPU is inside.
    #[inline(always)]
    pub fn enter<'a>(&'a self, cpu: &'a Cpu) -> Option<OwnerGuard<'a, T>> {
        // Relaxed: written by this CPU only; an interrupt handler sees its own CPU's store.
        if self.owner.load(Ordering::Relaxed) != cpu.tag() {
            return None;
        }
        // Relaxed: made visible to a remote CPU by its barrier on this one.
        self.owner.store(INSIDE, Ordering::Relaxed);
        light_fence();
        cpu.interrupt_window();
        // Leaves the section on the way out if the cell is claimed.
        let guard = OwnerGuard { cell: self, cpu };
        // Acquire: pairs with the Release store that ends `with_remote`, so its writes are seen.
        if self.claimed.load(Ordering::Acquire) { None } else { Some(guard) }
    }

    /// Runs `f` on the value inside the section; see [`OwnerCell::enter`].
    #[inline(always)]
    pub fn try_with<R>(&self, cpu: &Cpu, f: impl FnOnce(&mut T) -> R) -> Option<R> {
        self.enter(cpu).map(|mut value| f(&mut value))
    }

    /// Runs `f` on the value from any CPU, waiting for the owner and for other remote CPUs.
    ///
    /// `fence_other_cpus` is `Platform::fence_other_cpus`. Returns `None` only in an interrupt handler on the owning CPU that
    /// arrived inside the section: waiting there would never end. Interrupts are off on `cpu` while `f` runs.
    ///
    /// Not for another CPU's cell from a handler that arrived inside a section of its own CPU: two CPUs that did so would wait for
    /// each other.
    pub fn with_remote<R>(&self, cpu: &Cpu, fence_other_cpus: impl FnOnce(), f: impl FnOnce(&mut T) -> R) -> Option<R> {
        if self.is_entered_by(cpu) {
            return None;
        }
        let irq_enabled = cpu.irq_save();
        self.claim();
        if self.tag != cpu.tag() {
            fence_other_cpus();
            light_fence();
        }
        // SAFETY: claimed, and after that the barrier; none is needed against this CPU's own section, which it is not in.
        let result = unsafe { self.use_claimed(f) };
        cpu.irq_restore(irq_enabled);
        Some(result)
    }

    /// Runs `f` on the values of several cells as [`OwnerCell::with_remote`] does on one, after one barrier for all of them.
    ///
    /// Callers that share cells name them in the same order, each once: the claims are kept together. Leaves out the cell whose section
    /// the caller interrupted. Interrupts are off on `cpu` throughout.
    pub fn with_each<'c>(
        cells: impl Iterator<Item = &'c Self> + Clone,
        cpu: &Cpu,
        fence_other_cpus: impl FnOnce(),
        mut f: impl FnMut(&mut T),
    ) where
        T: 'c,
    {
        let irq_enabled = cpu.irq_save();
        // Whether this CPU is inside its own section cannot change before interrupts are on again.
        let cells = cells.filter(|cell| !cell.is_entered_by(cpu));
        cells.clone().for_each(Self::claim);
        fence_other_cpus();
        light_fence();
        // SAFETY: as in `with_remote`; the same cells as were claimed.
        cells.for_each(|cell| unsafe { cell.use_claimed(&mut f) });
        cpu.irq_restore(irq_enabled);
    }

    /// Tells whether `cpu` owns the cell and is inside its section.
    fn is_entered_by(&self, cpu: &Cpu) -> bool {
        // Relaxed: on the owning CPU this is its own store; elsewhere the value is not used.
        self.tag == cpu.tag() && self.is_busy(Ordering::Relaxed)
    }

    /// Waits until no other remote CPU has the cell, and keeps them out.
    fn claim(&self) {
        // Acquire: pairs with the Release store in `use_claimed` of the previous remote CPU. A failed try uses nothing, so it is Relaxed.
        while self.claimed.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).is_err() {
            relax();
        }
    }

    /// Waits for the owner, runs `f` on the value and gives up the claim.
    ///
    /// # Safety
    /// This CPU claimed the cell, after that made every other CPU execute a barrier unless it is the owner, and is not inside the section.
    unsafe fn use_claimed<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
        // Acquire: pairs with the owner's Release store at the end of `try_with`.
        while self.is_busy(Ordering::Acquire) {
            relax();
        }
        // SAFETY: this CPU set `claimed`, and no mark was seen after the barrier: the type invariant gives exclusion.
        let result = self.value.with_mut(|value| f(unsafe { &mut *value }));
        // Release: pairs with the Acquire operations on `claimed` in `claim` and `enter`.
        self.claimed.store(false, Ordering::Release);
        result
    }
}

/// The owner, inside its section.
///
/// # Invariants
/// This is the owning CPU, `owner` is marked and `claimed` was seen false; or the guard is dropped without having been used. It does not leave
/// the CPU: the token is not `Sync`, so neither is a borrow of it `Send`.
#[derive(Debug)]
pub struct OwnerGuard<'a, T> {
    cell: &'a OwnerCell<T>,
    cpu: &'a Cpu,
}

impl<'a, T> OwnerGuard<'a, T> {
    /// Returns the owner.
    #[inline(always)]
    pub const fn cpu(&self) -> &'a Cpu {
        self.cpu
    }
}

impl<T> Deref for OwnerGuard<'_, T> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        // SAFETY: by the guard's invariant the cell's invariant gives exclusion.
        self.cell.value.with_mut(|value| unsafe { &*value })
    }
}

impl<T> DerefMut for OwnerGuard<'_, T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as in `deref`, and `&mut self` makes this the only reference made from the guard.
        self.cell.value.with_mut(|value| unsafe { &mut *value })
    }
}

impl<T> Drop for OwnerGuard<'_, T> {
    #[inline(always)]
    fn drop(&mut self) {
        // Release: pairs with the Acquire load in `with_remote`.
        self.cell.owner.store(self.cpu.tag(), Ordering::Release);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use units::CpuId;

    use super::*;
    use crate::IrqControl;

    #[test]
    fn only_the_owner_enters_without_a_barrier() {
        // SAFETY: the only token of CPU 0 of machine 3.
        let zero = unsafe { Cpu::new(3, CpuId::ZERO, IrqControl::NONE) };
        // SAFETY: the only token of CPU 1 of machine 3.
        let one = unsafe { Cpu::new(3, CpuId::try_new(1).unwrap(), IrqControl::NONE) };
        let cell = OwnerCell::new(zero.tag(), 7);
        assert_eq!(cell.try_with(&zero, |value| *value), Some(7));
        assert_eq!(cell.try_with(&one, |value| *value), None);
        assert_eq!(cell.with_remote(&one, || (), |value| core::mem::replace(value, 8)), Some(7));
        assert_eq!(cell.try_with(&zero, |value| *value), Some(8));
    }

    #[test]
    fn one_barrier_serves_many_cells_and_leaves_out_the_one_that_the_caller_is_in() {
        // SAFETY: the only token of CPU 0 of machine 5.
        let zero = unsafe { Cpu::new(5, CpuId::ZERO, IrqControl::NONE) };
        // SAFETY: the only token of CPU 1 of machine 5.
        let one = unsafe { Cpu::new(5, CpuId::try_new(1).unwrap(), IrqControl::NONE) };
        let cells = [OwnerCell::new(zero.tag(), 1), OwnerCell::new(one.tag(), 2)];
        let mut barriers = 0;
        OwnerCell::with_each(cells.iter(), &zero, || barriers += 1, |value| *value *= 10);
        assert_eq!(
            (barriers, cells[0].try_with(&zero, |v| *v), cells[1].try_with(&one, |v| *v)),
            (1, Some(10), Some(20))
        );
        cells[0].try_with(&zero, |_| OwnerCell::with_each(cells.iter(), &zero, || (), |value| *value += 1));
        assert_eq!((cells[0].try_with(&zero, |v| *v), cells[1].try_with(&one, |v| *v)), (Some(10), Some(21)));
    }

    #[test]
    fn an_interrupt_inside_the_section_is_turned_away() {
        // SAFETY: the only token of machine 4.
        let cpu = unsafe { Cpu::new(4, CpuId::ZERO, IrqControl::NONE) };
        let cell = OwnerCell::new(cpu.tag(), 0);
        let nested = cell.try_with(&cpu, |_| (cell.try_with(&cpu, |_| ()), cell.with_remote(&cpu, || (), |_| ())));
        assert_eq!(nested, Some((None, None)));
    }
}
