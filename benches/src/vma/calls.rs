//! Pairs of calls on an address space with many areas, beside what Linux's own code for areas takes, built in user space.
//!
//! Areas of four untouched pages with a hole of one page between them. Through the facade, as system calls arrive, page tables included, which Linux's figures are without.

use address_space::{MapFlags, MapRequest, MmError, MmRef, Process, Prot, Settings};
use fastrand::Rng;
use sync::Cpu;
use units::VirtAddr;

use super::linux::{self, Linux};
use super::processes::{self, Manager};
use crate::clock::{median, per_operation};
use crate::machine;

const PAGE: u64 = 4096;
/// Bytes from the start of an area to the next.
const STEP: u64 = 5 * PAGE;
const START: u64 = 0x10_0000_0000;
const PAIRS: u64 = 20_000;

/// Linux's nanoseconds a pair by number of areas, in the order of [`PAIR_NAMES`].
const LINUX: [(u64, [f64; 3]); 4] = [
    (100, [562.0, 515.0, 344.0]),
    (1_000, [652.0, 673.0, 398.0]),
    (10_000, [830.0, 829.0, 527.0]),
    (65_000, [1143.0, 1140.0, 755.0]),
];
const PAIR_NAMES: [&str; 3] = ["munmap in the middle, mmap", "mprotect in the middle, back", "mmap, munmap"];

/// An address space with areas, as one process's calls see it.
struct Space<'a, 'k> {
    manager: &'a Manager<'k>,
    cpu: &'a Cpu,
    mm: MmRef<'k>,
    areas: u64,
}

impl Space<'_, '_> {
    fn mmap(&self, addr: u64, pages: u64, fixed: MapFlags) -> Result<VirtAddr, MmError> {
        let flags = MapFlags::PRIVATE | MapFlags::ANONYMOUS | fixed;
        let (addr, prot) = (VirtAddr::new(addr), Prot::READ | Prot::WRITE);
        let request = MapRequest { addr, len: pages * PAGE, prot, flags, file: None, offset: 0 };
        self.manager.call(self.cpu, &self.mm, &Process::default()).mmap(&request)
    }

    fn munmap(&self, addr: VirtAddr, pages: u64) -> Result<(), MmError> {
        self.manager.call(self.cpu, &self.mm, &Process::default()).munmap(addr, pages * PAGE)
    }

    fn mprotect(&self, addr: u64, prot: Prot) -> Result<(), MmError> {
        self.manager.call(self.cpu, &self.mm, &Process::default()).mprotect(VirtAddr::new(addr), PAGE, prot)
    }

    /// Does a pair on the area at `area`.
    fn pair(&self, which: usize, area: u64) -> Result<(), MmError> {
        let inside = area + PAGE;
        match which {
            0 => {
                self.munmap(VirtAddr::new(inside), 1)?;
                self.mmap(inside, 1, MapFlags::FIXED).map(|_| ())
            }
            1 => {
                self.mprotect(inside, Prot::READ)?;
                self.mprotect(inside, Prot::READ | Prot::WRITE)
            }
            // Between two areas there is no room for it.
            _ => self.mmap(0, 8, MapFlags::empty()).and_then(|addr| self.munmap(addr, 8)),
        }
    }

    /// Returns nanoseconds a pair.
    fn measure(&self, which: usize) -> f64 {
        let mut rng = Rng::with_seed(5);
        per_operation(PAIRS, || {
            for _ in 0..PAIRS {
                let area = START + rng.u64(0..self.areas) * STEP;
                self.pair(which, area).unwrap_or_else(|error| machine::fail(&error));
            }
        })
    }
}

/// Measures and prints the table: of the pairs whose name contains `pair`.
pub(crate) fn run(rounds: usize, only_areas: Option<u64>, pair: &str, peer: Option<&Linux>) {
    let machine = processes::boot();
    let cpu = processes::cpu(&machine, 0);
    let manager = processes::manager(&machine, &cpu, Settings { max_map_count: 1 << 20, ..Settings::X86_64 });
    println!("\nns per pair of calls, median; Linux: mm/vma.c, {}", linux::source(peer));
    println!("{:<32} {:>10} {:>12} {:>12}", "pair", "areas", "Linux", "mmkit");
    for (areas, linux) in LINUX.into_iter().filter(|(areas, _)| only_areas.is_none_or(|only| only == *areas)) {
        let space = Space { manager: &manager, cpu: &cpu, mm: processes::address_space(&manager, &cpu), areas };
        for area in 0..areas {
            let made = space.mmap(START + area * STEP, 4, MapFlags::FIXED);
            made.unwrap_or_else(|error| machine::fail(&error));
        }
        let (mut samples, mut beside) = ([const { Vec::new() }; PAIR_NAMES.len()], linux::Rounds::of(linux));
        for _ in 0..rounds {
            (0..).zip(&mut samples).filter(|(which, _)| PAIR_NAMES[*which].contains(pair)).for_each(
                |(which, samples)| {
                    samples.push(space.measure(which));
                },
            );
            beside.extend(peer.map(|peer| peer.calls(areas)));
        }
        let linux = beside.medians();
        for ((name, linux), samples) in PAIR_NAMES.into_iter().zip(linux).zip(&mut samples) {
            if !samples.is_empty() {
                println!("{name:<32} {areas:>10} {linux:>12.0} {:>12.0}", median(samples));
            }
        }
        manager.mmput(&cpu, space.mm);
    }
}
