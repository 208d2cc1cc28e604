//! A spin lock with its rank in the type, held with interrupts off.
//!
//! Linux: spin_lock_irqsave and lockdep's classes.

use core::fmt;
use core::ops::{Deref, DerefMut};

use crate::Cpu;
use crate::atomic::{AtomicBool, Ordering, RawCell, relax};

/// The lock order: a lock may be taken only while locks of lower rank are held.
pub mod rank {
    /// The processes and files of a machine.
    pub const USERLAND: u8 = 0;
    /// An address space (mmap_lock).
    pub const MMAP_LOCK: u8 = 1;
    /// The address space that fork fills, while its parent's is locked: taken nested.
    pub const MMAP_LOCK_CHILD: u8 = MMAP_LOCK + 1;
    /// An area of an address space.
    pub const VMA_LOCK: u8 = 3;
    /// Which anonymous areas of an address space get a reverse map.
    pub const ANON_PREPARE: u8 = 4;
    /// The areas that map a file (i_mmap_rwsem).
    pub const FILE_AREAS: u8 = 5;
    /// The areas that may map the anonymous pages of a family of processes (anon_vma).
    pub const ANON_AREAS: u8 = 6;
    /// Names that processes gave to areas. Nothing is allocated or freed under it.
    pub const AREA_NAMES: u8 = 7;
    /// The list of shrinkers.
    pub const SHRINKERS: u8 = 17;
    /// The areas of vmalloc.
    pub const VMAP_AREAS: u8 = 18;
    /// The kernel's page tables.
    pub const KERNEL_TABLES: u8 = 19;
    /// The table of slab caches.
    pub const SLAB_CACHES: u8 = 20;
    /// A slab cache's slabs of one node.
    pub const SLAB_NODE: u8 = 22;
    /// Slabs that wait for a grace period.
    pub const SLAB_RCU: u8 = 23;
    /// A zone's free lists.
    pub const ZONE: u8 = 24;
    /// The numbers of files.
    pub const FILE_NUMBERS: u8 = 39;
    /// The pages of a file. Nothing is allocated or freed under it.
    pub const FILE: u8 = 40;
    /// The reserve of a memory pool.
    pub const MEMPOOL: u8 = 42;
    /// The chunks of the per-CPU allocator.
    pub const PERCPU: u8 = 44;
    /// A log, trace or statistic that anything above may write to.
    pub const LEAF: u8 = 47;
}

/// Mutual exclusion by spinning, with interrupts off on the holder's CPU.
///
/// # Invariants
/// The value is reached only through the [`SpinGuard`] of whoever turned `locked` from false to true.
pub struct SpinLock<const RANK: u8, T> {
    locked: AtomicBool,
    value: RawCell<T>,
}

// SAFETY: the lock hands the value to one thread at a time, which needs `T: Send` and nothing else.
unsafe impl<const RANK: u8, T: Send> Sync for SpinLock<RANK, T> {}

impl<const RANK: u8, T> SpinLock<RANK, T> {
    /// Makes an open lock around `value`.
    #[cfg(not(loom))]
    pub const fn new(value: T) -> Self {
        Self { locked: AtomicBool::new(false), value: RawCell::new(value) }
    }

    /// Makes an open lock around `value`.
    #[cfg(loom)]
    pub fn new(value: T) -> Self {
        Self { locked: AtomicBool::new(false), value: RawCell::new(value) }
    }

    /// Waits for the lock. Interrupts are off on `cpu` until the guard is dropped.
    ///
    /// Debug builds panic if `cpu` holds a lock of the same or a higher rank.
    #[inline]
    pub fn lock<'a>(&'a self, cpu: &'a Cpu) -> SpinGuard<'a, RANK, T> {
        let irq_enabled = cpu.irq_save();
        // After interrupts are off, so that a handler never sees the rank of a lock which is not held yet.
        cpu.enter_rank(RANK);
        // Acquire: pairs with the Release store in `SpinGuard::drop`. A failed try uses nothing, so it is Relaxed; unlike a
        // swap it also stores nothing, without which loom could not end a model of two waiting threads.
        while self.locked.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).is_err() {
            // Relaxed: only a hint for when to try again.
            while self.locked.load(Ordering::Relaxed) {
                relax();
            }
        }
        SpinGuard { lock: self, cpu, irq_enabled }
    }

    /// Gives the value to the only owner, without locking.
    #[cfg(not(loom))]
    pub fn get_mut(&mut self) -> &mut T {
        // SAFETY: `&mut self` proves that no guard exists.
        self.value.with_mut(|value| unsafe { &mut *value })
    }
}

impl<const RANK: u8, T> fmt::Debug for SpinLock<RANK, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpinLock").field("rank", &RANK).finish_non_exhaustive()
    }
}

/// Access to the value of a [`SpinLock`]; opens the lock and restores interrupts when dropped.
pub struct SpinGuard<'a, const RANK: u8, T> {
    lock: &'a SpinLock<RANK, T>,
    cpu: &'a Cpu,
    irq_enabled: bool,
}

impl<const RANK: u8, T> Deref for SpinGuard<'_, RANK, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: this guard took the lock, so by the type invariant nobody else reaches the value.
        self.lock.value.with_mut(|value| unsafe { &*value })
    }
}

impl<const RANK: u8, T> DerefMut for SpinGuard<'_, RANK, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: this guard took the lock, and `&mut self` makes this the only reference made from it.
        self.lock.value.with_mut(|value| unsafe { &mut *value })
    }
}

impl<const RANK: u8, T> Drop for SpinGuard<'_, RANK, T> {
    #[inline]
    fn drop(&mut self) {
        // Release: pairs with the Acquire swap in `SpinLock::lock`.
        self.lock.locked.store(false, Ordering::Release);
        self.cpu.leave_rank(RANK);
        self.cpu.irq_restore(self.irq_enabled);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    extern crate std;

    use units::CpuId;

    use super::*;
    use crate::IrqControl;

    #[test]
    #[should_panic(expected = "lock of rank 24")]
    #[cfg(debug_assertions)]
    fn taking_a_lock_of_the_same_rank_twice_is_an_inversion() {
        // SAFETY: the only token of machine 1 in this process.
        let cpu = unsafe { Cpu::new(1, CpuId::ZERO, IrqControl::NONE) };
        let (first, second) = (SpinLock::<{ rank::ZONE }, _>::new(()), SpinLock::<{ rank::ZONE }, _>::new(()));
        let _first = first.lock(&cpu);
        let _second = second.lock(&cpu);
    }

    #[test]
    fn two_cpus_never_hold_the_lock_together() {
        let lock = SpinLock::<{ rank::LEAF }, u64>::new(0);
        std::thread::scope(|scope| {
            for id in 0..2 {
                let lock = &lock;
                scope.spawn(move || {
                    // SAFETY: one token per CPU of machine 2, made here only.
                    let cpu = unsafe { Cpu::new(2, CpuId::try_new(id).unwrap(), IrqControl::NONE) };
                    for _ in 0..10_000 {
                        *lock.lock(&cpu) += 1;
                    }
                });
            }
        });
        // SAFETY: the threads that held machine 2's tokens have ended.
        let cpu = unsafe { Cpu::new(2, CpuId::ZERO, IrqControl::NONE) };
        assert_eq!(*lock.lock(&cpu), 20_000);
    }
}
