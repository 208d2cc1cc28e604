//! Which simulated CPU the calling host thread acts as, for code that has no token.
//!
//! Used by `platform`. A thread may act as CPUs of several machines, one inside the other.
//! Locking: none; the record belongs to the thread. Linux: smp_processor_id().

use std::cell::Cell;
use std::ptr;

use sync::Cpu;

/// A CPU that the thread acts as, and the one that it acted as before.
struct Acting {
    cpu: *const Cpu,
    outer: *const Acting,
}

thread_local! {
    /// The innermost record of this thread.
    ///
    /// Every record in the chain is on the stack of an `enter` that has not returned, and so is what borrows its CPU.
    static INNERMOST: Cell<*const Acting> = const { Cell::new(ptr::null()) };
}

/// Puts the record before this one back, also when `work` panics.
struct Leave(*const Acting);

impl Drop for Leave {
    fn drop(&mut self) {
        INNERMOST.set(self.0);
    }
}

/// Runs `work` while this thread acts as `cpu`.
pub(crate) fn enter<R>(cpu: &Cpu, work: impl FnOnce() -> R) -> R {
    let acting = Acting { cpu, outer: INNERMOST.get() };
    let _leave = Leave(acting.outer);
    INNERMOST.set(&raw const acting);
    work()
}

/// Runs `f` with the CPU of machine `machine` that this thread acts as.
pub(crate) fn with<R>(machine: u32, f: impl FnOnce(&Cpu) -> R) -> Option<R> {
    let mut next = INNERMOST.get();
    // SAFETY: records in the chain are alive, as `INNERMOST` says.
    while let Some(acting) = unsafe { next.as_ref() } {
        // SAFETY: `enter` borrows the CPU until it returns, on this thread.
        let cpu = unsafe { &*acting.cpu };
        if cpu.machine() == machine {
            return Some(f(cpu));
        }
        next = acting.outer;
    }
    None
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use sync::IrqControl;
    use units::CpuId;

    use super::*;

    fn cpu(machine: u32) -> Cpu {
        // SAFETY: each test uses machine numbers of its own, far above those that are handed out.
        unsafe { Cpu::new(u32::MAX - machine, CpuId::ZERO, IrqControl::NONE) }
    }

    fn is_current(cpu: &Cpu) -> bool {
        with(cpu.machine(), |found| ptr::eq(found, cpu)) == Some(true)
    }

    #[test]
    fn a_thread_acts_as_cpus_of_several_machines_at_once() {
        let (first, second) = (cpu(1), cpu(2));
        enter(&first, || {
            enter(&second, || assert!(is_current(&first) && is_current(&second)));
            assert!(is_current(&first) && !is_current(&second));
        });
        assert!(!is_current(&first));
    }

    #[test]
    fn a_panic_ends_the_acting() {
        let only = cpu(3);
        let panic = catch_unwind(AssertUnwindSafe(|| enter(&only, || panic!("on purpose"))));
        assert!(panic.is_err() && !is_current(&only));
    }
}
