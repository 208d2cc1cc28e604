//! Page faults of one process: rounds of touching every page of an area for writing and unmapping it, on one thread and on two with an area each.
//!
//! Through the facade, as a machine's trap handler calls it; no TLB is in between. A fault has its share of the mmap, of the munmap and of the flush.

use address_space::{
    CommitRules, Direction, MapFlags, MapRequest, MmRef, MmapLayout, Process, ProgramRanges, Prot, Settings,
};
use kernel_mm::MemoryManager;
use page_allocator::NoPressure;
use page_fault::AccessKind;
use sim::description::Machine;
use sim::{HostPages, SimMachine, SimOptions, SimPlatform};
use sync::Cpu;
use units::{CpuId, VirtAddr};

use crate::clock::median;
use crate::two_threads;

type Manager<'k> = MemoryManager<'k, SimPlatform, NoPressure>;

const PAGE: u64 = 4096;
/// Pages of an area: below the size of a large page, so that each is faulted in by itself.
const PAGES: u64 = 256;
const ROUNDS: u64 = 400;
/// Where the areas lie: in tables of their own.
const AREAS: [u64; 2] = [0x10_0000_0000, 0x20_0000_0000];

fn fail(what: &str, error: &dyn std::fmt::Display) -> ! {
    eprintln!("error: {what}: {error}");
    std::process::exit(1)
}

/// Maps, touches and unmaps an area `rounds` times.
fn touch<'k>(manager: &Manager<'k>, cpu: &Cpu, mm: &MmRef<'k>, area: u64, rounds: u64) {
    let process = Process::default();
    let flags = MapFlags::PRIVATE | MapFlags::ANONYMOUS | MapFlags::FIXED;
    let (addr, len, prot) = (VirtAddr::new(area), PAGES * PAGE, Prot::READ | Prot::WRITE);
    let request = MapRequest { addr, len, prot, flags, file: None, offset: 0 };
    for _ in 0..rounds {
        if let Err(error) = manager.call(cpu, mm, &process).mmap(&request) {
            fail("mmap", &error);
        }
        for page in 0..PAGES {
            if let Err(error) = manager.fault(cpu, mm, &process, addr.saturating_add(page * PAGE), AccessKind::Write) {
                fail("a fault", &error);
            }
        }
        if let Err(error) = manager.call(cpu, mm, &process).munmap(addr, len) {
            fail("munmap", &error);
        }
    }
}

/// Measures and prints the table.
pub(crate) fn run(rounds: usize) {
    let Some(description) = Machine::ready("laptop") else { fail("the benchmark's machine", &"no machine `laptop`") };
    let huge = SimOptions { ram_pages: HostPages::Huge, memmap_pages: HostPages::Huge, ..SimOptions::default() };
    let machine =
        SimMachine::boot(&description, &huge).unwrap_or_else(|error| fail("the machine did not boot", &error));
    let take = |number: usize| {
        let cpu = CpuId::try_new(number as u64).and_then(|id| machine.cpu(id));
        cpu.unwrap_or_else(|| fail("the machine", &"a CPU is taken"))
    };
    let cpu = take(0);
    machine.kernel().start_objects(&cpu).unwrap_or_else(|error| fail("the object allocator", &error));
    let rules = CommitRules::for_ram(1 << 22);
    let manager = MemoryManager::new(machine.kernel().objects(), &cpu, Settings::X86_64, rules)
        .unwrap_or_else(|error| fail("the memory manager", &error));
    let layout = MmapLayout::new(manager.spaces().settings(), Direction::TopDown, 8 << 20);
    let mm = manager
        .mm_alloc(&cpu, layout, ProgramRanges::default())
        .unwrap_or_else(|error| fail("an address space", &error));
    let mut samples = [Vec::new(), Vec::new()];
    drop(cpu);
    let work = |thread: usize| touch(&manager, &take(thread), &mm, AREAS[thread], ROUNDS);
    work(0);
    for _ in 0..rounds {
        samples[0].push(two_threads::alone(ROUNDS * PAGES, || work(0)));
        samples[1].push(two_threads::run(ROUNDS * PAGES, work));
    }
    let [one, two] = samples.each_mut().map(|samples| median(samples));
    println!(
        "\nns per fault of a thread, median; {PAGES} pages mapped, touched for writing and unmapped a round, one process"
    );
    println!("{:<24} {:>15} {:>15} {:>15}", "", "one thread", "two threads", "ratio");
    println!("{:<24} {one:>15.0} {two:>15.0} {:>15.2}", "mmkit", two / one);
    println!("{:<24} {:>15.2} {:>15.2}", "million faults a second", 1e3 / one, 2e3 / two);
}
