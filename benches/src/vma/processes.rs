//! The machine that processes run on, and address spaces there.

use address_space::{CommitRules, Direction, MmRef, MmapLayout, ProgramRanges, Settings};
use kernel_mm::MemoryManager;
use page_allocator::NoPressure;
use sim::description::Machine;
use sim::{CpuGuard, HostPages, SimMachine, SimOptions, SimPlatform};
use sync::Cpu;
use units::CpuId;

use crate::machine::fail;

/// All address spaces of the machine.
pub(super) type Manager<'k> = MemoryManager<'k, SimPlatform, NoPressure>;

/// Boots the machine; its memory and tables lie on huge pages, as a kernel's do.
pub(super) fn boot() -> SimMachine {
    let Some(description) = Machine::ready("laptop") else {
        fail(&std::io::Error::other("there is no machine `laptop`"));
    };
    let huge = SimOptions { ram_pages: HostPages::Huge, memmap_pages: HostPages::Huge, ..SimOptions::default() };
    SimMachine::boot(&description, &huge).unwrap_or_else(|error| fail(&error))
}

/// Becomes a CPU of the machine.
pub(super) fn cpu(machine: &SimMachine, number: usize) -> CpuGuard<'_> {
    let cpu = CpuId::try_new(number as u64).and_then(|id| machine.cpu(id));
    cpu.unwrap_or_else(|| fail(&std::io::Error::other("a CPU is taken")))
}

/// Starts what address spaces need.
pub(super) fn manager<'k>(machine: &'k SimMachine, cpu: &Cpu, settings: Settings) -> Manager<'k> {
    machine.kernel().start_objects(cpu).unwrap_or_else(|error| fail(&error));
    let manager = MemoryManager::new(machine.kernel().objects(), cpu, settings, CommitRules::for_ram(1 << 22));
    manager.unwrap_or_else(|error| fail(&error))
}

/// Makes an address space without areas.
pub(super) fn address_space<'k>(manager: &Manager<'k>, cpu: &Cpu) -> MmRef<'k> {
    let layout = MmapLayout::new(manager.spaces().settings(), Direction::TopDown, 8 << 20);
    manager.mm_alloc(cpu, layout, ProgramRanges::default()).unwrap_or_else(|error| fail(&error))
}
