//! A spin lock for many readers or one writer, with its rank in the type, held with interrupts on.
//!
//! A waiting writer keeps new readers out, so that faults on all CPUs cannot starve a call that changes the address space. No interrupt handler may
//! take such a lock. Linux: rw_semaphore (mmap_lock, the lock of an area); waiting is spinning here.

use core::fmt;
use core::ops::{Deref, DerefMut};

use crate::Cpu;
use crate::atomic::{AtomicU32, Ordering, RawCell, relax};

/// Somebody writes.
const WRITER: u32 = 1 << 31;
/// Somebody waits to write.
const WAITING: u32 = 1 << 30;

/// Many readers or one writer.
///
/// # Invariants
/// `state` is `WRITER`, or the number of [`RwReadGuard`]s, each with or without `WAITING`. A reference to the value that can write exists only
/// in the [`RwWriteGuard`] of whoever set `WRITER` on a state without holders.
pub struct RwSpinLock<const RANK: u8, T> {
    state: AtomicU32,
    value: RawCell<T>,
}

// SAFETY: readers share the value, which needs `T: Sync`; writers take it from each other, which needs `T: Send`.
unsafe impl<const RANK: u8, T: Send + Sync> Sync for RwSpinLock<RANK, T> {}

impl<const RANK: u8, T> RwSpinLock<RANK, T> {
    /// Makes an open lock around `value`.
    #[cfg(not(loom))]
    pub const fn new(value: T) -> Self {
        Self { state: AtomicU32::new(0), value: RawCell::new(value) }
    }

    /// Makes an open lock around `value`.
    #[cfg(loom)]
    pub fn new(value: T) -> Self {
        Self { state: AtomicU32::new(0), value: RawCell::new(value) }
    }

    /// Waits until nobody writes or waits to write.
    ///
    /// Debug builds panic if `cpu` holds a lock of the same or a higher rank.
    #[inline]
    pub fn read<'a>(&'a self, cpu: &'a Cpu) -> RwReadGuard<'a, RANK, T> {
        cpu.enter_rank(RANK);
        while !self.count_reader() {
            relax();
        }
        RwReadGuard { lock: self, cpu, rank: RANK }
    }

    /// Takes the lock for reading if nobody writes or waits to write. Never waits, so it may be called whatever locks are held, but
    /// those of its own rank.
    #[inline]
    pub fn try_read<'a>(&'a self, cpu: &'a Cpu) -> Option<RwReadGuard<'a, RANK, T>> {
        if !self.count_reader() {
            return None;
        }
        cpu.note_rank(RANK);
        Some(RwReadGuard { lock: self, cpu, rank: RANK })
    }

    /// Waits until nobody reads or writes.
    ///
    /// Debug builds panic if `cpu` holds a lock of the same or a higher rank.
    #[inline]
    pub fn write<'a>(&'a self, cpu: &'a Cpu) -> RwWriteGuard<'a, RANK, T> {
        self.write_as(cpu, RANK)
    }

    /// As [`write`](Self::write), while the CPU holds another lock of this rank: counts as the rank above (Linux: `mmap_write_lock_nested`).
    #[inline]
    pub fn write_nested<'a>(&'a self, cpu: &'a Cpu) -> RwWriteGuard<'a, RANK, T> {
        self.write_as(cpu, RANK + 1)
    }

    fn write_as<'a>(&'a self, cpu: &'a Cpu, rank: u8) -> RwWriteGuard<'a, RANK, T> {
        cpu.enter_rank(rank);
        loop {
            // Relaxed: only a guess for the exchange, which fails on a wrong one.
            let state = self.state.load(Ordering::Relaxed);
            if state & !WAITING == 0 {
                // Acquire: pairs with the Release operations that end reading and writing. `WAITING` goes with it; who still waits sets it again.
                if self.state.compare_exchange(state, WRITER, Ordering::Acquire, Ordering::Relaxed).is_ok() {
                    return RwWriteGuard { lock: self, cpu, rank };
                }
            } else if state & WAITING == 0 {
                // Relaxed: nothing is read because of it. If it fails, the state is looked at again.
                let _ = self.state.compare_exchange(state, state | WAITING, Ordering::Relaxed, Ordering::Relaxed);
            } else {
                relax();
            }
        }
    }

    /// Counts one more reader unless somebody writes or waits to write.
    #[inline]
    fn count_reader(&self) -> bool {
        // Relaxed: as in `write_as`.
        let mut state = self.state.load(Ordering::Relaxed);
        while state & (WRITER | WAITING) == 0 {
            // Acquire: pairs with the Release operation that ends writing.
            match self.state.compare_exchange(state, state + 1, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(other) => state = other,
            }
        }
        false
    }
}

impl<const RANK: u8, T> fmt::Debug for RwSpinLock<RANK, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RwSpinLock").field("rank", &RANK).finish_non_exhaustive()
    }
}

/// Access to the value for reading.
pub struct RwReadGuard<'a, const RANK: u8, T> {
    lock: &'a RwSpinLock<RANK, T>,
    cpu: &'a Cpu,
    rank: u8,
}

impl<'a, const RANK: u8, T> RwReadGuard<'a, RANK, T> {
    /// Returns the CPU that the lock was taken on.
    pub const fn cpu(&self) -> &'a Cpu {
        self.cpu
    }
}

impl<const RANK: u8, T> Deref for RwReadGuard<'_, RANK, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: this guard is counted in the state, so by the type invariant no reference exists that can write.
        self.lock.value.with(|value| unsafe { &*value })
    }
}

impl<const RANK: u8, T> Drop for RwReadGuard<'_, RANK, T> {
    #[inline]
    fn drop(&mut self) {
        // Release: pairs with the Acquire exchange of the next writer.
        self.lock.state.fetch_sub(1, Ordering::Release);
        self.cpu.leave_rank(self.rank);
    }
}

/// Access to the value for writing.
pub struct RwWriteGuard<'a, const RANK: u8, T> {
    lock: &'a RwSpinLock<RANK, T>,
    cpu: &'a Cpu,
    rank: u8,
}

impl<'a, const RANK: u8, T> RwWriteGuard<'a, RANK, T> {
    /// Goes on reading; nobody writes in between (Linux: `downgrade_write`).
    pub fn downgrade(self) -> RwReadGuard<'a, RANK, T> {
        let read = RwReadGuard { lock: self.lock, cpu: self.cpu, rank: self.rank };
        core::mem::forget(self);
        // INVARIANT: `WRITER` goes and one reader is counted in one step. Release: pairs with the Acquire exchanges of other readers.
        read.lock.state.fetch_sub(WRITER - 1, Ordering::Release);
        read
    }

    /// Returns the CPU that the lock was taken on.
    pub const fn cpu(&self) -> &'a Cpu {
        self.cpu
    }
}

impl<const RANK: u8, T> Deref for RwWriteGuard<'_, RANK, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: this guard set `WRITER`, so by the type invariant nobody else reaches the value.
        self.lock.value.with(|value| unsafe { &*value })
    }
}

impl<const RANK: u8, T> DerefMut for RwWriteGuard<'_, RANK, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: this guard set `WRITER`, and `&mut self` makes this the only reference made from it.
        self.lock.value.with_mut(|value| unsafe { &mut *value })
    }
}

impl<const RANK: u8, T> Drop for RwWriteGuard<'_, RANK, T> {
    #[inline]
    fn drop(&mut self) {
        // Release: pairs with the Acquire exchanges of the next holder.
        self.lock.state.fetch_and(!WRITER, Ordering::Release);
        self.cpu.leave_rank(self.rank);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    extern crate std;

    use units::CpuId;

    use super::*;
    use crate::{IrqControl, rank};

    type Lock = RwSpinLock<{ rank::MMAP_LOCK }, u64>;

    fn cpus(machine: u32) -> [Cpu; 2] {
        // SAFETY: each test names a machine of its own, and makes each token once.
        [0, 1].map(|id| unsafe { Cpu::new(machine, CpuId::try_new(id).unwrap(), IrqControl::NONE) })
    }

    #[test]
    fn readers_share_and_keep_a_writer_out_and_a_downgraded_writer_is_a_reader() {
        let [zero, one] = cpus(8);
        let lock = Lock::new(1);
        let held = lock.read(&zero);
        assert_eq!(lock.try_read(&one).map(|value| *value), Some(1));
        drop(held);
        let mut written = lock.write(&zero);
        *written += 1;
        assert!(lock.try_read(&one).is_none());
        let read = written.downgrade();
        assert_eq!(lock.try_read(&one).map(|value| *value + *read), Some(4));
        drop(read);
        *lock.write(&one) += 1;
        assert_eq!(*lock.read(&zero), 3);
    }

    #[test]
    fn a_second_lock_of_the_rank_is_taken_nested_only() {
        let [zero, _] = cpus(9);
        let (parent, child) = (Lock::new(1), Lock::new(2));
        let held = parent.write(&zero);
        assert_eq!(*held + *child.write_nested(&zero), 3);
        drop(held);
        assert_eq!(*child.read(&zero), 2);
    }

    #[test]
    #[should_panic(expected = "lock of rank 1")]
    #[cfg(debug_assertions)]
    fn a_read_lock_under_a_read_lock_of_its_rank_is_an_inversion() {
        let [zero, _] = cpus(10);
        let (one, other) = (Lock::new(1), Lock::new(2));
        let _one = one.read(&zero);
        let _other = other.read(&zero);
    }

    #[test]
    fn writers_and_readers_on_two_cpus_see_whole_values() {
        let lock = RwSpinLock::<{ rank::MMAP_LOCK }, [u64; 2]>::new([0, 0]);
        std::thread::scope(|scope| {
            for cpu in cpus(11) {
                let lock = &lock;
                scope.spawn(move || {
                    for _ in 0..5_000 {
                        lock.write(&cpu).iter_mut().for_each(|half| *half += 1);
                        let [one, other] = *lock.read(&cpu);
                        assert_eq!(one, other);
                    }
                });
            }
        });
        // SAFETY: the threads that held the tokens have ended.
        let cpu = unsafe { Cpu::new(11, CpuId::ZERO, IrqControl::NONE) };
        assert_eq!(*lock.read(&cpu), [10_000, 10_000]);
    }
}
