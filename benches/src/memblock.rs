//! memblock with 10,000 regions, beside Linux's own figures.
//!
//! Linux's column is what its mm/memblock.c, built in user space, took on the machine of the project's first measurements; it
//! is printed, not measured, so compare it on a machine of that kind only.

use clap::Args;
use collections::BootSlice;
use memblock::{BootContext, Memblock, MemblockConfig, REGION_BYTES, Region, RegionMemory, SilentLog};
use units::{PhysAddr, PhysRange};

use boot_memory::memblock;

use crate::clock::{median, per_operation};

/// What to run.
#[derive(Args)]
pub(crate) struct Options {
    /// Rounds; the table shows medians.
    #[arg(long, default_value_t = 15)]
    rounds: usize,
}

const REGIONS: u64 = 10_000;
const CALLS: u64 = 500;
/// Distance of the reserved regions, and where the first one's slot begins.
const SLOT: u64 = 0x4000;
const BASE: u64 = 0x10_0000;

/// Region arrays on the host's heap; they are not given back.
struct HeapArrays;

impl RegionMemory for HeapArrays {
    fn region_slice(&self, at: PhysRange) -> Option<BootSlice<Region>> {
        let len = usize::try_from(at.len() / REGION_BYTES).ok()?;
        Some(BootSlice::from_static(Box::leak(vec![Region::default(); len].into_boxed_slice())))
    }
}

/// One cell of the table: what is measured, Linux's nanoseconds, and the measurement.
type Cell = (&'static str, f64, fn(&mut fastrand::Rng) -> f64);

const CELLS: [Cell; 7] = [
    ("reserve, disjoint", 3600.0, |random| spread_calls(random, 0x3400, 0x200, Change::Reserve)),
    ("reserve, overlapping", 2700.0, |random| spread_calls(random, 0x800, 0x3000, Change::Reserve)),
    ("free, overlapping", 7600.0, |random| spread_calls(random, 0x1800, 0x400, Change::Free)),
    ("is_reserved", 66.0, is_reserved),
    ("alloc 4 KiB, 10,000 gaps too small", 12_000.0, |_| alloc_among_fragments(Between::Nothing)),
    ("the same, after a free each time", 12_000.0, |_| alloc_among_fragments(Between::Free)),
    ("alloc top-down, merging", 23.0, |_| alloc_merging()),
];

/// Measures every cell and prints the table.
pub(crate) fn run(options: &Options) {
    let mut random = fastrand::Rng::with_seed(1);
    println!("{:<38}{:>12}{:>12}{:>8}", "memblock, 10,000 regions", "mmkit ns", "Linux ns", "ratio");
    for (name, linux, measure) in CELLS {
        let mut rounds: Vec<f64> = (0..options.rounds).map(|_| measure(&mut random)).collect();
        let ours = median(&mut rounds);
        println!("{name:<38}{ours:>12.1}{linux:>12.1}{:>8.2}", ours / linux);
    }
}

#[derive(Clone, Copy)]
enum Change {
    Reserve,
    Free,
}

#[derive(Clone, Copy)]
enum Between {
    Nothing,
    Free,
}

fn addr(raw: u64) -> PhysAddr {
    PhysAddr::new(raw)
}

/// Makes a memblock with `memory` and runs `body` on it. Grown arrays come from far above.
fn with_memblock<T>(memory: PhysRange, body: impl FnOnce(&mut Memblock, &mut BootContext<'_>) -> T) -> T {
    let mut log = SilentLog;
    let mut cx = BootContext::new(&HeapArrays, &mut log, "bench");
    let mut memblock = Memblock::new(MemblockConfig::new());
    memblock.allow_resize();
    let added = memblock.add(memory.start, memory.len(), &mut cx);
    assert!(added.is_ok(), "the first region always fits");
    body(&mut memblock, &mut cx)
}

/// Reserves the middle of every slot, in random order, and returns that order.
fn reserve_spread(memblock: &mut Memblock, cx: &mut BootContext<'_>, random: &mut fastrand::Rng) -> Vec<u64> {
    let mut order: Vec<u64> = (0..REGIONS).collect();
    random.shuffle(&mut order);
    let reserved =
        order.iter().filter(|&&slot| memblock.reserve(addr(BASE + slot * SLOT + 0x1000), 0x2000, cx).is_ok());
    assert_eq!(reserved.count() as u64, REGIONS, "every reservation fits");
    order
}

fn spread_memory() -> PhysRange {
    PhysRange::new(addr(BASE), addr(1 << 40))
}

fn spread_calls(random: &mut fastrand::Rng, offset: u64, size: u64, change: Change) -> f64 {
    with_memblock(spread_memory(), |memblock, cx| {
        let order = reserve_spread(memblock, cx, random);
        per_operation(CALLS, || {
            for slot in order.iter().take(CALLS as usize) {
                let base = addr(BASE + slot * SLOT + offset);
                let outcome = match change {
                    Change::Reserve => memblock.reserve(base, size, cx),
                    Change::Free => memblock.phys_free(base, size, cx),
                };
                assert!(outcome.is_ok(), "the arrays have room");
            }
        })
    })
}

fn is_reserved(random: &mut fastrand::Rng) -> f64 {
    with_memblock(spread_memory(), |memblock, cx| {
        let order = reserve_spread(memblock, cx, random);
        per_operation(REGIONS, || {
            let hits = order.iter().filter(|&&slot| memblock.is_reserved(addr(BASE + slot * SLOT + 0x1800)));
            assert_eq!(hits.count() as u64, REGIONS, "every slot is reserved");
        })
    })
}

/// Allocates below gaps of 2 KiB each, which every search from the top meets first.
fn alloc_among_fragments(between: Between) -> f64 {
    let fragments = addr(1 << 30);
    let end = fragments.saturating_add(REGIONS * 0x2000);
    with_memblock(PhysRange::new(addr(BASE), end), |memblock, cx| {
        for index in 0..REGIONS {
            let taken = memblock.reserve(fragments.saturating_add(index * 0x2000), 0x1800, cx);
            assert!(taken.is_ok(), "the arrays have room");
        }
        per_operation(CALLS, || {
            for _ in 0..CALLS {
                let found = memblock.alloc(0x1000, 0x1000, cx);
                if let (Ok(range), Between::Free) = (found, between) {
                    assert!(memblock.phys_free(range.start, range.len(), cx).is_ok(), "what was allocated is reserved");
                }
                assert!(found.is_ok_and(|range| range.end <= fragments), "nothing fits between the fragments");
            }
        })
    })
}

fn alloc_merging() -> f64 {
    with_memblock(PhysRange::new(addr(BASE), addr(1 << 36)), |memblock, cx| {
        per_operation(REGIONS, || {
            for _ in 0..REGIONS {
                assert!(memblock.alloc(64, 64, cx).is_ok(), "there is room");
            }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cell_measures_something() {
        let mut random = fastrand::Rng::with_seed(1);
        for (name, _, measure) in CELLS {
            assert!(measure(&mut random) > 0.0, "{name}");
        }
    }
}
