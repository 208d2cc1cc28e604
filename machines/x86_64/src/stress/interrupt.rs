//! Allocations from the timer's interrupt handler.
//!
//! Each CPU keeps a few blocks and objects between its interrupts. Its own handler is the only user of them, and, with interrupts off, the
//! CPU itself when the stress ends.

use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, Ordering};

use page_allocator::Untraced;
use sync::Cpu;
use units::{Gfp, Order};

use super::objects::HeldObject;
use super::worker::{Exchange, Fault, Held, Worker, new_exchange};
use super::{INTERRUPT_WORKERS, report};
use crate::instructions::{interrupts_enable, interrupts_save};
use crate::kernel::{BareKernel, booted};
use crate::machine::Machine;

/// Blocks that a CPU keeps between its interrupts.
const KEPT: usize = 4;

/// Bytes of the objects among them, which take turns.
const OBJECT_SIZES: [usize; KEPT] = [64, 8, 3000, 200];

/// Whether handlers allocate.
static ACTIVE: AtomicBool = AtomicBool::new(false);
/// Handlers do not exchange blocks; a worker wants to know one all the same.
static EXCHANGE: Exchange = new_exchange();

/// One CPU's handler state.
///
/// # Invariants
/// Only the CPU that it belongs to uses it, with interrupts off.
pub(crate) struct InterruptWork(UnsafeCell<State>);

// SAFETY: by the type invariant nobody shares it.
unsafe impl Sync for InterruptWork {}

struct State {
    worker: Option<Worker<'static, Machine, Untraced>>,
    kept: [Option<Held>; KEPT],
    objects: [Option<HeldObject>; KEPT],
    turn: usize,
}

impl InterruptWork {
    pub(crate) const fn new() -> Self {
        Self(UnsafeCell::new(State {
            worker: None,
            kept: [const { None }; KEPT],
            objects: [const { None }; KEPT],
            turn: 0,
        }))
    }

    /// Frees one block and one object and allocates others, in the handler.
    ///
    /// # Safety
    /// Called on the CPU that the state belongs to, with interrupts off and not from within itself.
    pub(crate) unsafe fn interrupt(&self, cpu: &Cpu) {
        // Relaxed: an interrupt more or less does not matter.
        if !ACTIVE.load(Ordering::Relaxed) {
            return;
        }
        let Some(kernel) = booted() else { return };
        // SAFETY: the caller's contract gives exclusive use.
        let state = unsafe { &mut *self.0.get() };
        if let Err(fault) = state.work(cpu, kernel) {
            report(fault);
        }
    }

    /// Gives back what the handler keeps; returns how many blocks it allocated.
    ///
    /// # Safety
    /// Called on the CPU that the state belongs to.
    pub(crate) unsafe fn finish(&self, cpu: &Cpu) -> u64 {
        let enabled = interrupts_save();
        // SAFETY: the caller's contract, and interrupts are off.
        let state = unsafe { &mut *self.0.get() };
        let allocated = state.finish(cpu);
        if enabled {
            interrupts_enable();
        }
        allocated
    }
}

impl State {
    fn work(&mut self, cpu: &Cpu, kernel: &'static BareKernel) -> Result<(), Fault> {
        let number = INTERRUPT_WORKERS + u64::from(cpu.id().raw());
        let worker = self.worker.get_or_insert_with(|| Worker::new(kernel.pages(), &EXCHANGE, number));
        self.turn = (self.turn + 1) % KEPT;
        let Some(slot) = self.kept.get_mut(self.turn) else { return Ok(()) };
        if let Some(held) = slot.take() {
            worker.free(cpu, held)?;
        }
        *slot = worker.allocate_as(cpu, Gfp::ATOMIC, Order::new_truncate(self.turn as u8 % 3))?;
        let Some(slot) = self.objects.get_mut(self.turn) else { return Ok(()) };
        if let Some(held) = slot.take() {
            held.free(kernel.objects(), cpu)?;
        }
        let (size, stamp) = (OBJECT_SIZES[self.turn % OBJECT_SIZES.len()], number << 32 | self.turn as u64);
        *slot = HeldObject::allocate(kernel.objects(), cpu, Gfp::ATOMIC, size, stamp)?;
        Ok(())
    }

    fn finish(&mut self, cpu: &Cpu) -> u64 {
        let Some(mut worker) = self.worker.take() else { return 0 };
        for slot in &mut self.kept {
            if let Some(Err(fault)) = slot.take().map(|held| worker.free(cpu, held)) {
                report(fault);
            }
        }
        if let Some(kernel) = booted() {
            let held = self.objects.iter_mut().filter_map(Option::take);
            held.filter_map(|held| held.free(kernel.objects(), cpu).err()).for_each(report);
        }
        worker.counts.allocated
    }
}

/// Lets handlers allocate, or stops them.
pub(crate) fn set_active(active: Activity) {
    // Relaxed: see `interrupt`; what the handlers keep is given back by each CPU itself.
    ACTIVE.store(active == Activity::On, Ordering::Relaxed);
}

/// Whether handlers allocate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Activity {
    On,
    Off,
}
