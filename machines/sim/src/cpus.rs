//! The CPUs of one machine: who holds which CPU's token.
//!
//! Used by `platform`. A host thread that takes a token acts as that CPU until it drops it; the `sync::Cpu` inside is the only
//! one of its machine and CPU, because machine numbers are never used twice and each CPU has one flag.

use std::ops::Deref;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use sync::{Cpu, IrqControl};
use units::{CpuId, MAX_CPUS};

use crate::MachineError;

/// Takes a machine number that no other machine of this process has or had.
pub(crate) fn next_machine_number() -> Result<u32, MachineError> {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    // Relaxed: the number orders nothing else.
    NEXT.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |number| number.checked_add(1))
        .map_err(|_| MachineError::OutOfMachineNumbers)
}

/// One flag a CPU: true while its token is out.
///
/// # Invariants
/// `machine` came from [`next_machine_number`] and is in no other `Cpus`. A token of CPU `n` exists only while `taken[n]` is
/// true.
#[derive(Debug)]
pub(crate) struct Cpus {
    machine: u32,
    irq: IrqControl,
    taken: Box<[AtomicBool]>,
}

impl Cpus {
    /// Makes `count` CPUs with all tokens in place.
    pub(crate) fn new(count: usize, irq: IrqControl) -> Result<Self, MachineError> {
        if count == 0 || count > MAX_CPUS {
            return Err(MachineError::CpuCount(count));
        }
        // INVARIANT: the number goes nowhere else, and no token exists yet.
        let machine = next_machine_number()?;
        Ok(Self { machine, irq, taken: (0..count).map(|_| AtomicBool::new(false)).collect() })
    }

    /// Returns the number of CPUs.
    pub(crate) fn len(&self) -> usize {
        self.taken.len()
    }

    /// Returns the machine's number.
    pub(crate) fn machine(&self) -> u32 {
        self.machine
    }

    /// Returns true if the token of the CPU with this index is out.
    pub(crate) fn is_taken(&self, index: usize) -> bool {
        // Acquire: pairs with the Release store in `CpuGuard::drop`, so that what the CPU did is seen once it is not taken.
        self.taken.get(index).is_some_and(|taken| taken.load(Ordering::Acquire))
    }

    /// Takes the token of `id`, or `None` if there is no such CPU or its token is out.
    pub(crate) fn take(&self, id: CpuId) -> Option<CpuGuard<'_>> {
        let taken = self.taken.get(id.index())?;
        // Acquire: pairs with the Release store in `CpuGuard::drop`, so this thread sees what the CPU did on another one.
        if taken.swap(true, Ordering::Acquire) {
            return None;
        }
        // SAFETY: by the type invariant the machine's number is in no other `Cpus`, and no token of this CPU existed while
        // its flag was false.
        let cpu = unsafe { Cpu::new(self.machine, id, self.irq) };
        Some(CpuGuard { cpu, taken })
    }
}

/// The token of one CPU; gives it back when dropped.
#[derive(Debug)]
pub struct CpuGuard<'machine> {
    cpu: Cpu,
    taken: &'machine AtomicBool,
}

impl Deref for CpuGuard<'_> {
    type Target = Cpu;

    fn deref(&self) -> &Cpu {
        &self.cpu
    }
}

impl Drop for CpuGuard<'_> {
    fn drop(&mut self) {
        // Release: pairs with the Acquire swap in `Cpus::take`. The token inside cannot be used after this.
        self.taken.store(false, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cpu_has_one_token_at_a_time() {
        let cpus = Cpus::new(2, IrqControl::NONE).unwrap();
        let one = CpuId::try_new(1).unwrap();
        let first = cpus.take(one).unwrap();
        assert_eq!(first.id(), one);
        assert!(cpus.take(one).is_none());
        assert!(cpus.take(CpuId::ZERO).is_some());
        drop(first);
        assert!(cpus.take(one).is_some());
    }

    #[test]
    fn a_cpu_beyond_the_last_does_not_exist() {
        let cpus = Cpus::new(1, IrqControl::NONE).unwrap();
        assert!(cpus.take(CpuId::try_new(1).unwrap()).is_none());
    }

    #[test]
    fn two_machines_never_share_a_number() {
        let (first, second) = (Cpus::new(1, IrqControl::NONE).unwrap(), Cpus::new(1, IrqControl::NONE).unwrap());
        assert_ne!(first.machine(), second.machine());
    }

    #[test]
    fn a_machine_without_cpus_or_with_too_many_is_refused() {
        assert!(matches!(Cpus::new(0, IrqControl::NONE), Err(MachineError::CpuCount(0))));
        assert!(matches!(Cpus::new(MAX_CPUS + 1, IrqControl::NONE), Err(MachineError::CpuCount(_))));
    }
}
