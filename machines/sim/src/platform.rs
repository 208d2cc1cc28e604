//! The hosted machine as the memory manager sees it: memory, CPUs, barriers, interrupts.
//!
//! Used by `machine` and by programs that drive the crates below the kernel themselves.
//! Linux: membarrier(2) stands in for the inter-processor interrupt.

use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;

use boot_memory::memblock::{Region, RegionMemory};
use boot_memory::page_tables::{PageTables, TableMemory};
use collections::BootSlice;
use platform::{AnyFormat, CurrentCpu, KernelTables, PhysMemory, Platform, TableFormat};
use rustix::thread::{MembarrierCommand, membarrier};
use sync::{Cpu, IrqControl};
use units::{CpuId, Pfn, PhysAddr, PhysRange, VirtAddr, VirtRange};

use crate::cpus::{CpuGuard, Cpus};
use crate::current;
use crate::interrupts::{self, Handler, InterruptRate, Registration};
use crate::memory::{MemoryLayout, SimMemory};
use crate::tlb::{Access, Lookup, Space, Tlbs, VirtFault};
use crate::{CpuUnavailable, MachineError};

/// Memory and CPUs of one hosted machine. A handle: clones are the same machine, which ends with the last of them.
#[derive(Clone, Debug)]
pub struct SimPlatform {
    pub(crate) parts: Arc<Parts>,
}

#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) memory: SimMemory,
    pub(crate) cpus: Cpus,
    pub(crate) tables: OnceLock<KernelTables<AnyFormat>>,
    pub(crate) tlbs: Tlbs,
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
        let tables = OnceLock::new();
        let tlbs = Tlbs::new(nr_cpus);
        Ok(Self { parts: Arc::new(Parts { memory, cpus, tables, tlbs, interrupts }) })
    }

    /// Gives the machine the kernel page tables that hang under `root`, a zeroed page of its memory that holds nothing else.
    ///
    /// A machine has one set of them: the first stays, and `false` is returned for another one. Without, it translates nothing.
    pub fn set_kernel_tables(&self, tables: KernelTables<AnyFormat>) -> bool {
        self.parts.tables.set(tables).is_ok()
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
            let threads: Vec<_> =
                guards.into_iter().map(|cpu| scope.spawn(move || current::enter(&cpu, || work(&cpu)))).collect();
            threads.into_iter().map(thread::ScopedJoinHandle::join).collect::<Vec<_>>()
        });
        let unwind = |result: thread::Result<R>| result.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        Ok(results.into_iter().map(unwind).collect())
    }

    /// Runs `work` with `cpu` as the CPU that code without a token runs on (`CurrentCpu`): drops of handles, a global allocator.
    ///
    /// [`SimPlatform::run_on_cpus`] does this by itself.
    pub fn run_as<R>(&self, cpu: &Cpu, work: impl FnOnce() -> R) -> R {
        current::enter(cpu, work)
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

/// The machine's memory as a CPU's page walk sees it.
struct WalkedMemory<'a>(&'a SimMemory);

impl TableMemory for WalkedMemory<'_> {
    fn alloc_table(&mut self) -> Option<PhysAddr> {
        None
    }

    fn read_entry(&self, table: PhysAddr, index: usize) -> u64 {
        let at = PhysRange::with_len(table.saturating_add(index as u64 * 8), 8);
        let Some(entry) = self.0.host(at).filter(|_| at.start.raw().is_multiple_of(8)) else { return 0 };
        // SAFETY: mapped, aligned, and written by the kernel as an atomic of the same size while it is an entry of a table.
        let entry = unsafe { AtomicU64::from_ptr(entry.cast().as_ptr()) };
        // Relaxed: as a processor's page walk is ordered with nothing.
        entry.load(Ordering::Relaxed)
    }

    fn write_entry(&mut self, _table: PhysAddr, _index: usize, _entry: u64) {}
}

impl SimPlatform {
    /// Translates a kernel address as `cpu` does: from what it remembers, else by a walk of the page tables in memory.
    ///
    /// # Errors
    /// [`VirtFault`]; [`VirtFault::Stale`] if the CPU used what a flush should have removed.
    pub fn translate_kernel(&self, cpu: &Cpu, virt: VirtAddr, access: Access) -> Result<PhysAddr, VirtFault> {
        let tables = PageTables::of(*self.parts.tables.get().ok_or(VirtFault::NoTables)?);
        let memory = WalkedMemory(&self.parts.memory);
        let lookup = Lookup { cpu: cpu.id(), tables, memory: &memory };
        self.parts.tlbs.translate(&lookup, virt, access)
    }

    /// Copies bytes at kernel addresses from `virt` up to `out`, on `cpu`.
    ///
    /// # Errors
    /// [`VirtFault`] for the first page that cannot be read; what comes before it is copied.
    ///
    /// # Safety
    /// Nobody writes to the bytes during the call.
    pub unsafe fn read_virt(&self, cpu: &Cpu, virt: VirtAddr, out: &mut [u8]) -> Result<(), VirtFault> {
        self.each_page(cpu, virt, out.len(), Access::Read, |at, host, len| {
            let Some(part) = out.get_mut(at..at + len) else { return };
            // SAFETY: `host` is valid for `len` bytes; the caller promises that they do not change meanwhile.
            unsafe { host.copy_to_nonoverlapping(NonNull::from(part).cast(), len) };
        })
    }

    /// Copies `bytes` to kernel addresses from `virt` up, on `cpu`.
    ///
    /// # Errors
    /// [`VirtFault`] for the first page that cannot be written; what comes before it is copied.
    ///
    /// # Safety
    /// Nobody else uses the bytes during the call, and what is mapped there is the caller's to write.
    pub unsafe fn write_virt(&self, cpu: &Cpu, virt: VirtAddr, bytes: &[u8]) -> Result<(), VirtFault> {
        self.each_page(cpu, virt, bytes.len(), Access::Write, |at, host, len| {
            let Some(part) = bytes.get(at..at + len) else { return };
            // SAFETY: `host` is valid for `len` bytes, which the caller promises to be its own.
            unsafe { host.copy_from_nonoverlapping(NonNull::from(part).cast(), len) };
        })
    }

    /// Calls `copy` with each part of `len` bytes from `virt` up that lies in one page: its offset, host address and length.
    fn each_page(
        &self,
        cpu: &Cpu,
        virt: VirtAddr,
        len: usize,
        access: Access,
        mut copy: impl FnMut(usize, NonNull<u8>, usize),
    ) -> Result<(), VirtFault> {
        let page = 1 << self.parts.tables.get().ok_or(VirtFault::NoTables)?.format.page_shift();
        let mut at = 0;
        while at < len {
            let here = virt.saturating_add(at as u64);
            let part = (len - at).min((page - here.raw() % page) as usize);
            let phys = self.translate_kernel(cpu, here, access)?;
            let host = self.parts.memory.host(PhysRange::with_len(phys, part as u64));
            copy(at, host.ok_or(VirtFault::NoMemory(phys))?, part);
            at += part;
        }
        Ok(())
    }

    /// Returns how often ranges of addresses were flushed on all CPUs.
    pub fn tlb_flushes(&self) -> u64 {
        self.parts.tlbs.flushes()
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

impl CurrentCpu for SimPlatform {
    fn with_current_cpu<R>(&self, f: impl FnOnce(&Cpu) -> R) -> Option<R> {
        current::with(self.number(), f)
    }
}

impl Platform for SimPlatform {
    type Format = AnyFormat;

    fn kernel_tables(&self) -> Option<KernelTables<AnyFormat>> {
        self.parts.tables.get().copied()
    }

    fn flush_kernel_range(&self, range: VirtRange) {
        if let Some(tables) = self.parts.tables.get() {
            self.parts.tlbs.flush(tables.format, Space::Kernel, range);
        }
    }

    fn flush_user_range(&self, root: PhysAddr, range: VirtRange) {
        if let Some(tables) = self.parts.tables.get() {
            self.parts.tlbs.flush(tables.format, Space::User(root), range);
        }
    }

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
    use super::*;
    use sync::OwnerCell;

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
