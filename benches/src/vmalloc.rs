//! vmalloc: an area allocated and freed, with few and with many areas alive.
//!
//! The machine is the hosted one with real page tables in its memory. Between the areas that stay alive there are as many holes, which
//! fit 4 pages and not 1 MiB. The time of a pair holds its share of the purges. Linux: lib/test_vmalloc.c.

use clap::Args;
use object_allocator::{ObjectAllocator, VmallocArea};
use page_allocator::NoPressure;
use sim::description::Machine;
use sim::{HostPages, SimMachine, SimOptions, SimPlatform};
use sync::Cpu;
use units::CpuId;

use crate::clock::{median, per_operation};

const PAGE: u64 = 4096;
/// Areas alive.
const ALIVE: [usize; 4] = [10, 1_000, 10_000, 100_000];
/// Heading, bytes and pairs of each kind of area.
const KINDS: [(&str, u64, u64); 2] = [("4 pages", 4 * PAGE, 100_000), ("1 MiB", 1 << 20, 4_000)];

/// What to run.
#[derive(Args)]
pub(crate) struct Options {
    /// Rounds; the table shows medians.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Divides the pairs of every column, for a quick look.
    #[arg(long, default_value_t = 1)]
    quick: u64,
}

type Objects = ObjectAllocator<SimPlatform, NoPressure>;

fn fail(what: &str, error: &dyn std::fmt::Display) -> ! {
    eprintln!("error: {what}: {error}");
    std::process::exit(1)
}

fn allocate(objects: &Objects, cpu: &Cpu, bytes: u64) -> VmallocArea {
    objects.vmalloc(cpu, bytes, "bench").unwrap_or_else(|error| fail("an area was refused", &error))
}

/// Keeps `alive` areas of 4 pages, with a hole behind each.
fn fill(objects: &Objects, cpu: &Cpu, alive: usize) -> Vec<VmallocArea> {
    let all: Vec<VmallocArea> = (0..2 * alive).map(|_| allocate(objects, cpu, 4 * PAGE)).collect();
    let mut kept = Vec::with_capacity(alive);
    for (at, area) in all.into_iter().enumerate() {
        if at % 2 == 0 { kept.push(area) } else { objects.vfree(cpu, area) }
    }
    objects.purge_vmap_areas(cpu);
    kept
}

fn pairs(objects: &Objects, cpu: &Cpu, bytes: u64, count: u64) -> f64 {
    let pair = || objects.vfree(cpu, allocate(objects, cpu, bytes));
    // The first purge and all caches are warm before the clock starts.
    (0..count / 4).for_each(|_| pair());
    per_operation(count, || (0..count).for_each(|_| pair()))
}

/// Runs everything and prints the table.
pub(crate) fn run(options: &Options) {
    let Some(description) = Machine::ready("laptop") else { fail("the benchmark's machine", &"no machine `laptop`") };
    let huge = SimOptions { ram_pages: HostPages::Huge, memmap_pages: HostPages::Huge, ..SimOptions::default() };
    let machine =
        SimMachine::boot(&description, &huge).unwrap_or_else(|error| fail("the machine did not boot", &error));
    let Some(cpu) = machine.cpu(CpuId::ZERO) else { fail("the machine", &"CPU 0 is taken") };
    let objects = machine.kernel().objects();
    objects.start(&cpu).unwrap_or_else(|error| fail("the object allocator did not start", &error));
    let mut samples = [const { [const { Vec::new() }; KINDS.len()] }; ALIVE.len()];
    for round in 0..options.rounds {
        for (alive, samples) in ALIVE.into_iter().zip(&mut samples) {
            eprintln!("round {} of {}: {alive} areas alive", round + 1, options.rounds);
            let kept = fill(objects, &cpu, alive);
            for ((_, bytes, count), samples) in KINDS.into_iter().zip(samples) {
                samples.push(pairs(objects, &cpu, bytes, (count / options.quick.max(1)).max(4)));
            }
            kept.into_iter().for_each(|area| objects.vfree(&cpu, area));
            objects.purge_vmap_areas(&cpu);
        }
    }
    print_table(&mut samples);
}

fn print_table(samples: &mut [[Vec<f64>; KINDS.len()]; ALIVE.len()]) {
    println!("ns per alloc+free, median; purges included; areas of 4 pages alive, with a hole behind each");
    print!("{:>12}", "areas alive");
    KINDS.iter().for_each(|(heading, ..)| print!(" {heading:>12}"));
    println!();
    for (alive, samples) in ALIVE.into_iter().zip(samples) {
        print!("{alive:>12}");
        samples.iter_mut().for_each(|samples| print!(" {:>12.0}", median(samples)));
        println!();
    }
}
