//! The hosted machine as the memory manager sees it: memory, CPUs, barriers, interrupts.
//!
//! Used by `machine` and by programs that drive the crates below the kernel themselves.
//! Linux: membarrier(2) stands in for the inter-processor interrupt.

use std::io;
use std::ptr::NonNull;
use std::sync::{Arc, OnceLock};
use std::thread;

use boot_memory::memblock::{Region, RegionMemory};
use collections::BootSlice;
use platform::{PhysMemory, Platform};
use rustix::thread::{MembarrierCommand, membarrier};
use sync::{Cpu, IrqControl};
use units::{CpuId, Pfn, PhysRange};

use crate::cpus::{CpuGuard, Cpus};
use crate::interrupts::{self, Handler, InterruptRate, Registration};
use crate::memory::{MemoryLayout, SimMemory};
use crate::{CpuUnavailable, MachineError};

/// Memory and CPUs of one hosted machine. A handle: clones are the same machine, which ends with the last of them.
#[derive(Clone, Debug)]
pub struct SimPlatform {
    parts: Arc<Parts>,
}

#[derive(Debug)]
struct Parts {
    memory: SimMemory,
    cpus: Cpus,
    interrupts: Option<Registration>,
}

impl SimPlatform {
    /// Makes a machine with the memory of `layout` and `nr_cpus` CPUs; interrupts arrive if `rate` is given.
    ///
    /// # Errors
    /// Any [`MachineError`].
    pub fn new(layout: &MemoryLayout, nr_cpus: usize, rate: Option<InterruptRate>) -> Result<Self, MachineError> {
        register_membarrier()?;
        let memory = SimMemory::new(layout)?;
        let cpus = Cpus::new(nr_cpus, if rate.is_some() { interrupts::CONTROL } else { IrqControl::NONE })?;
        let interrupts = rate.map(|rate| Registration::new(cpus.machine(), nr_cpus, rate));
        Ok(Self { parts: Arc::new(Parts { memory, cpus, interrupts }) })
    }

    /// Returns the machine's memory.
    pub fn memory(&self) -> &SimMemory {
        &self.parts.memory
    }

    /// Returns the number that [`Cpu::tag_of`] wants: no other machine of this process has or had it.
    pub fn number(&self) -> u32 {
        self.parts.cpus.machine()
    }

    /// Returns the number of CPUs.
    pub fn nr_cpus(&self) -> usize {
        self.parts.cpus.len()
    }

    /// Takes the token of CPU `id`: the calling thread acts as that CPU until the guard is dropped.
    ///
    /// Returns `None` if the machine has no such CPU or another guard of it exists.
    pub fn cpu(&self, id: CpuId) -> Option<CpuGuard<'_>> {
        self.parts.cpus.take(id)
    }

    /// Runs `work` on the first `nr_cpus` CPUs at once, each a host thread; returns the results in the order of the CPUs.
    ///
    /// A panic of one of them goes on in the caller after all have ended.
    ///
    /// # Errors
    /// [`CpuUnavailable`] if the machine has fewer CPUs or one of them is taken; then nothing ran.
    pub fn run_on_cpus<R: Send>(
        &self,
        nr_cpus: usize,
        work: impl Fn(&Cpu) -> R + Sync,
    ) -> Result<Vec<R>, CpuUnavailable> {
        let take = |raw| {
            let id = CpuId::try_new(raw).unwrap_or_default();
            self.cpu(id).ok_or(CpuUnavailable(id))
        };
        let guards = (0..nr_cpus as u64).map(take).collect::<Result<Vec<_>, _>>()?;
        let work = &work;
        let results = thread::scope(|scope| {
            let threads: Vec<_> = guards.into_iter().map(|cpu| scope.spawn(move || work(&cpu))).collect();
            threads.into_iter().map(thread::ScopedJoinHandle::join).collect::<Vec<_>>()
        });
        let unwind = |result: thread::Result<R>| result.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        Ok(results.into_iter().map(unwind).collect())
    }

    /// Sets what runs when an interrupt arrives. Does nothing on a machine that was made without interrupts.
    pub fn on_interrupt(&self, handler: Arc<Handler>) {
        if let Some(interrupts) = &self.parts.interrupts {
            interrupts.set_handler(Some(handler));
        }
    }

    /// Lets an interrupt arrive at `cpu`, a CPU of this machine, if it has interrupts enabled and the draw says so.
    pub fn interrupt_point(&self, cpu: &Cpu) {
        if self.parts.interrupts.is_some() {
            interrupts::opportunity(cpu);
        }
    }

    /// Returns the number of interrupts that have arrived on all CPUs.
    pub fn interrupts_delivered(&self) -> u64 {
        self.parts.interrupts.as_ref().map_or(0, Registration::delivered)
    }
}

// SAFETY: every method hands on to `SimMemory`, which lives as long as any handle and keeps the contract.
unsafe impl PhysMemory for SimPlatform {
    #[inline]
    fn direct_map(&self, range: PhysRange) -> Option<NonNull<u8>> {
        self.parts.memory.direct_map(range)
    }

    #[inline]
    fn direct_map_base(&self) -> *mut u8 {
        self.parts.memory.direct_map_base()
    }

    fn memmap(&self, start: Pfn, bytes: u64) -> Option<NonNull<u8>> {
        self.parts.memory.memmap(start, bytes)
    }

    fn populate_memmap(&self, offset: u64, backing: PhysRange) -> bool {
        self.parts.memory.populate_memmap(offset, backing)
    }
}

impl RegionMemory for SimPlatform {
    fn region_slice(&self, at: PhysRange) -> Option<BootSlice<Region>> {
        self.parts.memory.region_slice(at)
    }
}

impl Platform for SimPlatform {
    fn fence_other_cpus(&self) {
        // After registration the call fails only while the host is out of memory, which passes.
        while membarrier(MembarrierCommand::PrivateExpedited).is_err() {
            thread::yield_now();
        }
    }
}

/// Registers the process for expedited barriers, once, and tries one.
fn register_membarrier() -> Result<(), MachineError> {
    static REGISTERED: OnceLock<Result<(), rustix::io::Errno>> = OnceLock::new();
    let register = || {
        membarrier(MembarrierCommand::RegisterPrivateExpedited)?;
        membarrier(MembarrierCommand::PrivateExpedited)
    };
    REGISTERED.get_or_init(register).map_err(|errno| MachineError::NoMembarrier { source: io::Error::from(errno) })
}

#[cfg(test)]
mod tests {
    use sync::OwnerCell;
    use units::PhysAddr;

    use super::*;

    fn machine(nr_cpus: usize) -> SimPlatform {
        let ram = vec![PhysRange::with_len(PhysAddr::ZERO, 1 << 20)];
        SimPlatform::new(&MemoryLayout { ram, ..MemoryLayout::default() }, nr_cpus, None).unwrap()
    }

    #[test]
    fn an_owner_and_a_remote_cpu_never_meet_inside_a_cell() {
        let machine = machine(2);
        let cell = OwnerCell::new(Cpu::tag_of(machine.number(), CpuId::ZERO), 0u64);
        let counts = machine
            .run_on_cpus(2, |cpu| {
                (0..20_000u64)
                    .map(|_| match cpu.id() {
                        CpuId::ZERO => cell.try_with(cpu, |value| *value += 1),
                        _ => cell.with_remote(cpu, || machine.fence_other_cpus(), |value| *value += 1),
                    })
                    .filter(Option::is_some)
                    .count() as u64
            })
            .unwrap();
        let cpu = machine.cpu(CpuId::ZERO).unwrap();
        assert_eq!(counts[1], 20_000);
        assert_eq!(cell.try_with(&cpu, |value| *value), Some(counts.iter().sum()));
    }

    #[test]
    fn results_come_in_the_order_of_the_cpus_and_the_tokens_come_back() {
        let machine = machine(4);
        let ids = |nr_cpus| machine.run_on_cpus(nr_cpus, |cpu| cpu.id().raw());
        assert_eq!(ids(4), Ok(vec![0, 1, 2, 3]));
        assert_eq!(ids(3), Ok(vec![0, 1, 2]));
        assert_eq!(ids(5), Err(CpuUnavailable(CpuId::try_new(4).unwrap())));
    }

    #[test]
    fn a_taken_cpu_keeps_the_others_from_starting() {
        let machine = machine(2);
        let _taken = machine.cpu(CpuId::try_new(1).unwrap()).unwrap();
        let outcome = machine.run_on_cpus(2, |_| panic!("started"));
        assert_eq!(outcome, Err::<Vec<()>, _>(CpuUnavailable(CpuId::try_new(1).unwrap())));
        assert!(machine.cpu(CpuId::ZERO).is_some());
    }
}
