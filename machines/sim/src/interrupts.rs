//! Interrupts that a seed injects: on the CPU that they arrive at, a handler runs in the middle of what the CPU was doing.
//!
//! Used by `platform`. An interrupt may arrive wherever a CPU has interrupts enabled and says so: inside an owner's section of
//! `sync::OwnerCell` (debug builds), when the outermost lock is opened, and at `SimPlatform::interrupt_point`. The handler
//! runs with interrupts off, so it is never interrupted itself.
//! Locking: `MACHINES` is held only to find a machine; the handler runs without any lock of this file.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use sync::{Cpu, IrqControl};

use crate::rng::Rng;

/// How often interrupts arrive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InterruptRate {
    /// An interrupt arrives at one in so many opportunities on average; 0 means never.
    pub one_in: u32,
    /// Seed of the draws. On each CPU they depend on the seed, the CPU and what the CPU did, and on nothing else.
    pub seed: u64,
}

/// What a CPU does when an interrupt arrives. Gets the token of the interrupted CPU and the CPU's random numbers.
pub type Handler = dyn Fn(&Cpu, &mut Rng) + Send + Sync;

/// The machines with interrupts, by number: the functions in [`IrqControl`] are told the CPU and nothing else.
static MACHINES: RwLock<BTreeMap<u32, Arc<Interrupts>>> = RwLock::new(BTreeMap::new());

/// The control that a machine with injected interrupts gives its CPUs.
pub(crate) const CONTROL: IrqControl = IrqControl {
    save: |cpu| of_machine(cpu).is_some_and(|interrupts| interrupts.disable(cpu)),
    restore: |cpu, enabled| {
        if enabled && let Some(interrupts) = of_machine(cpu) {
            interrupts.enable(cpu);
        }
    },
    window: opportunity,
};

/// Delivers an interrupt to `cpu` if it has interrupts enabled and the draw says so.
pub(crate) fn opportunity(cpu: &Cpu) {
    if let Some(interrupts) = of_machine(cpu) {
        interrupts.opportunity(cpu);
    }
}

fn of_machine(cpu: &Cpu) -> Option<Arc<Interrupts>> {
    // The map is whole after a panic elsewhere: nothing panics while it is held for writing.
    MACHINES.read().unwrap_or_else(PoisonError::into_inner).get(&cpu.machine()).cloned()
}

/// Interrupt state of one machine.
pub(crate) struct Interrupts {
    one_in: u32,
    handler: RwLock<Option<Arc<Handler>>>,
    cpus: Box<[CpuState]>,
}

/// Interrupt state of one CPU. Only the thread that holds the CPU's token touches it, so every access is Relaxed; handing the
/// token on orders them.
#[derive(Debug)]
struct CpuState {
    enabled: AtomicBool,
    draws: AtomicU64,
    delivered: AtomicU64,
}

impl Interrupts {
    /// Makes the state of `nr_cpus` CPUs with interrupts enabled and no handler.
    fn new(nr_cpus: usize, rate: InterruptRate) -> Self {
        let cpu = |index| CpuState {
            enabled: AtomicBool::new(true),
            draws: AtomicU64::new(Rng::for_part(rate.seed, index).next_u64()),
            delivered: AtomicU64::new(0),
        };
        Self { one_in: rate.one_in, handler: RwLock::new(None), cpus: (0..nr_cpus as u64).map(cpu).collect() }
    }

    /// Disables interrupts on `cpu`; returns true if they were enabled.
    fn disable(&self, cpu: &Cpu) -> bool {
        self.state(cpu).is_some_and(|state| state.enabled.swap(false, Ordering::Relaxed))
    }

    /// Enables interrupts on `cpu`, where one may arrive at once.
    fn enable(&self, cpu: &Cpu) {
        if let Some(state) = self.state(cpu) {
            state.enabled.store(true, Ordering::Relaxed);
        }
        self.opportunity(cpu);
    }

    fn opportunity(&self, cpu: &Cpu) {
        let Some(state) = self.state(cpu) else { return };
        if !state.enabled.load(Ordering::Relaxed) {
            return;
        }
        let mut draws = Rng::new(state.draws.load(Ordering::Relaxed));
        let arrives = draws.one_in(self.one_in);
        let part = draws.next_u64();
        state.draws.store(part, Ordering::Relaxed);
        let handler = self.handler.read().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(handler) = handler.filter(|_| arrives) {
            state.enabled.store(false, Ordering::Relaxed);
            state.delivered.fetch_add(1, Ordering::Relaxed);
            handler(cpu, &mut Rng::for_part(part, 0));
            state.enabled.store(true, Ordering::Relaxed);
        }
    }

    fn state(&self, cpu: &Cpu) -> Option<&CpuState> {
        self.cpus.get(cpu.id().index())
    }
}

impl fmt::Debug for Interrupts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Interrupts").field("one_in", &self.one_in).field("cpus", &self.cpus).finish_non_exhaustive()
    }
}

/// Keeps a machine in [`MACHINES`] while it lives.
#[derive(Debug)]
pub(crate) struct Registration {
    machine: u32,
    interrupts: Arc<Interrupts>,
}

impl Registration {
    /// Enters machine `machine` with `nr_cpus` CPUs.
    pub(crate) fn new(machine: u32, nr_cpus: usize, rate: InterruptRate) -> Self {
        let interrupts = Arc::new(Interrupts::new(nr_cpus, rate));
        MACHINES.write().unwrap_or_else(PoisonError::into_inner).insert(machine, Arc::clone(&interrupts));
        Self { machine, interrupts }
    }

    /// Sets what runs on an interrupt, or nothing.
    pub(crate) fn set_handler(&self, handler: Option<Arc<Handler>>) {
        *self.interrupts.handler.write().unwrap_or_else(PoisonError::into_inner) = handler;
    }

    /// Returns the number of interrupts that arrived so far, over all CPUs.
    pub(crate) fn delivered(&self) -> u64 {
        // Relaxed: a statistic.
        self.interrupts.cpus.iter().map(|state| state.delivered.load(Ordering::Relaxed)).sum()
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        MACHINES.write().unwrap_or_else(PoisonError::into_inner).remove(&self.machine);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use sync::{OwnerCell, SpinLock, rank};
    use units::{CpuId, PhysAddr, PhysRange};

    use super::*;
    use crate::{MemoryLayout, SimPlatform};

    fn machine(one_in: u32, seed: u64) -> SimPlatform {
        let ram = vec![PhysRange::with_len(PhysAddr::ZERO, 1 << 20)];
        let layout = MemoryLayout { ram, ..MemoryLayout::default() };
        SimPlatform::new(&layout, 2, Some(InterruptRate { one_in, seed })).unwrap()
    }

    #[test]
    fn interrupts_arrive_when_the_outermost_lock_opens_and_not_while_one_is_held() {
        let machine = machine(1, 1);
        let cpu = machine.cpu(CpuId::ZERO).unwrap();
        let (outer, inner) = (SpinLock::<{ rank::ZONE }, _>::new(()), SpinLock::<{ rank::LEAF }, _>::new(()));
        machine.on_interrupt(Arc::new(|_, _| ()));
        let held = outer.lock(&cpu);
        drop(inner.lock(&cpu));
        machine.interrupt_point(&cpu);
        assert_eq!(machine.interrupts_delivered(), 0);
        drop(held);
        assert_eq!(machine.interrupts_delivered(), 1);
    }

    #[test]
    #[cfg(debug_assertions)]
    fn an_interrupt_inside_an_owners_section_is_turned_away_from_the_cell() {
        let machine = machine(1, 1);
        let cpu = machine.cpu(CpuId::ZERO).unwrap();
        let cell = Arc::new(OwnerCell::new(cpu.tag(), 0));
        let inside = Arc::clone(&cell);
        let refused = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&refused);
        machine.on_interrupt(Arc::new(move |cpu, _| {
            if inside.try_with(cpu, |value| *value += 100).is_none() {
                count.fetch_add(1, Ordering::Relaxed);
            }
        }));
        assert_eq!(cell.try_with(&cpu, |value| *value), Some(0));
        assert_eq!(refused.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_handler_is_never_interrupted() {
        let machine = Arc::new(machine(1, 1));
        let lock = SpinLock::<{ rank::ZONE }, _>::new(0);
        let points = Arc::downgrade(&machine);
        machine.on_interrupt(Arc::new(move |cpu, _| {
            *lock.lock(cpu) += 1;
            points.upgrade().unwrap().interrupt_point(cpu);
        }));
        machine.interrupt_point(&machine.cpu(CpuId::ZERO).unwrap());
        assert_eq!(machine.interrupts_delivered(), 1);
    }

    #[test]
    fn the_seed_decides_where_interrupts_arrive() {
        let arrivals = |seed| {
            let machine = machine(4, seed);
            let log = Arc::new(Mutex::new(Vec::new()));
            let entries = Arc::clone(&log);
            machine.on_interrupt(Arc::new(move |_, rng: &mut Rng| entries.lock().unwrap().push(rng.next_u64())));
            let cpu = machine.cpu(CpuId::ZERO).unwrap();
            let at: Vec<bool> = (0..64)
                .map(|_| {
                    let before = machine.interrupts_delivered();
                    machine.interrupt_point(&cpu);
                    machine.interrupts_delivered() > before
                })
                .collect();
            drop(cpu);
            (at, log.lock().unwrap().clone())
        };
        assert_eq!(arrivals(5), arrivals(5));
        assert_ne!(arrivals(5), arrivals(6));
        assert!(arrivals(5).0.contains(&true));
    }

    #[test]
    fn a_machine_without_a_handler_or_with_rate_zero_has_no_interrupts() {
        for one_in in [0, 1] {
            let machine = machine(one_in, 1);
            if one_in == 0 {
                machine.on_interrupt(Arc::new(|_, _| ()));
            }
            let cpu = machine.cpu(CpuId::ZERO).unwrap();
            (0..100).for_each(|_| machine.interrupt_point(&cpu));
            assert_eq!(machine.interrupts_delivered(), 0);
        }
    }
}
