//! Page faults of one process: rounds of mapping an area, touching every page of it for writing and unmapping it, on one thread and on two with an area each.
//!
//! Through the facade, as a machine's trap handler calls it; no TLB is in between. Two threads in a process each share the processor, its caches and the page
//! allocator, but no address space: what they lose is not the process's doing.

use std::time::{Duration, Instant};

use address_space::{MapFlags, MapRequest, MmRef, Process, Prot, Settings};
use page_fault::AccessKind;
use sync::Cpu;
use units::VirtAddr;

use super::processes::{self, Manager};
use crate::clock::median;
use crate::{machine, two_threads};

const PAGE: u64 = 4096;
/// Pages of an area: below the size of a large page, so that each is faulted in by itself.
const PAGES: u64 = 256;
const ROUNDS: u64 = 400;
/// Where the areas lie: in tables of their own.
const AREAS: [u64; 2] = [0x10_0000_0000, 0x20_0000_0000];

/// Wall nanoseconds of a thread's rounds.
#[derive(Clone, Copy, Default)]
struct Spent {
    faults: Duration,
    whole: Duration,
}

impl Spent {
    /// Returns nanoseconds per fault: of the faults alone, and with their share of everything else in a round.
    fn per_fault(self) -> [f64; 2] {
        [self.faults, self.whole].map(|spent| spent.as_nanos() as f64 / (ROUNDS * PAGES) as f64)
    }

    fn longer(self, other: Self) -> Self {
        Self { faults: self.faults.max(other.faults), whole: self.whole.max(other.whole) }
    }
}

/// Maps, touches and unmaps an area again and again.
fn touch<'k>(manager: &Manager<'k>, cpu: &Cpu, mm: &MmRef<'k>, area: u64) -> Spent {
    let process = Process::default();
    let flags = MapFlags::PRIVATE | MapFlags::ANONYMOUS | MapFlags::FIXED;
    let (addr, len, prot) = (VirtAddr::new(area), PAGES * PAGE, Prot::READ | Prot::WRITE);
    let request = MapRequest { addr, len, prot, flags, file: None, offset: 0 };
    let (mut spent, start) = (Spent::default(), Instant::now());
    for _ in 0..ROUNDS {
        if let Err(error) = manager.call(cpu, mm, &process).mmap(&request) {
            machine::fail(&error);
        }
        let faults = Instant::now();
        for page in 0..PAGES {
            if let Err(error) = manager.fault(cpu, mm, &process, addr.saturating_add(page * PAGE), AccessKind::Write) {
                machine::fail(&error);
            }
        }
        spent.faults += faults.elapsed();
        if let Err(error) = manager.call(cpu, mm, &process).munmap(addr, len) {
            machine::fail(&error);
        }
    }
    spent.whole = start.elapsed();
    spent
}

/// Measures and prints the table.
pub(crate) fn run(rounds: usize) {
    let machine = processes::boot();
    let cpu = processes::cpu(&machine, 0);
    let manager = processes::manager(&machine, &cpu, Settings::X86_64);
    let mms = AREAS.map(|_| processes::address_space(&manager, &cpu));
    drop(cpu);
    let work = |thread: usize, mm: usize| touch(&manager, &processes::cpu(&machine, thread), &mms[mm], AREAS[thread]);
    let both = |second: usize| {
        let [one, two] = two_threads::both(|thread| work(thread, thread * second));
        one.longer(two)
    };
    work(0, 0);
    let mut samples: [[Vec<f64>; 3]; 2] = Default::default();
    for _ in 0..rounds {
        for (column, spent) in [work(0, 0), both(0), both(1)].into_iter().enumerate() {
            spent.per_fault().into_iter().zip(&mut samples).for_each(|(time, row)| row[column].push(time));
        }
    }
    print_table(samples.map(|row| row.map(|mut column| median(&mut column))));
}

fn print_table([faults, whole]: [[f64; 3]; 2]) {
    println!("\nns per fault of a thread, median; {PAGES} pages mapped, touched for writing and unmapped a round");
    println!(
        "{:<24} {:>15} {:>15} {:>15} {:>15} {:>15}",
        "", "one thread", "two threads", "ratio", "a process each", "ratio"
    );
    for (name, [one, two, apart]) in [("faults", faults), ("with mmap and munmap", whole)] {
        println!("{name:<24} {one:>15.0} {two:>15.0} {:>15.2} {apart:>15.0} {:>15.2}", two / one, apart / one);
    }
    println!("{:<24} {:>15.2} {:>15.2}", "million faults a second", 1e3 / faults[0], 2e3 / faults[1]);
}
