//! `mmkit.bench=pair`: the cost of an allocation and its free, in ticks of the time-stamp counter.
//!
//! Under QEMU's `-icount shift=0` a tick is one guest instruction, so the figure is a path length that repeats exactly.
//! Runs on the boot CPU with interrupts off; the others wait.

use units::{Gfp, Order, Pfn};

use crate::console::print_line;
use crate::cpu_area::this_cpu;
use crate::instructions::{interrupts_enable, interrupts_save, rdtsc};
use crate::kernel::BareKernel;

/// Measurements of which the median is taken.
const SAMPLES: usize = 1001;
/// Pairs before measuring, so that lists and caches are as they stay.
const WARM_UP: usize = 100;
/// Orders that are measured: those that per-CPU lists keep, one that comes from the zone, a huge page, and the
/// largest.
const ORDERS: [u8; 7] = [0, 1, 2, 3, 4, 9, 10];

/// Numbers of live blocks that are measured with: that a pair takes as long with all of them is the point.
const LIVE: [usize; 3] = [100, 1_000, 10_000];
/// Orders that are measured with live blocks: kept per CPU, taken from the zone, a huge page.
const LIVE_ORDERS: [u8; 3] = [0, 4, 9];
/// Numbers that a block of order 9 has room for.
const ROOM: usize = (1 << 21) / size_of::<u64>();

/// Times of one kind of operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Times {
    least: u64,
    median: u64,
    most: u64,
}

impl Times {
    /// Measures `operation`, less `overhead` for each measurement; `None` if it fails.
    fn measure(overhead: u64, mut operation: impl FnMut() -> Option<()>) -> Option<Self> {
        for _ in 0..WARM_UP {
            operation()?;
        }
        let mut samples = [0; SAMPLES];
        for sample in &mut samples {
            let start = rdtsc();
            operation()?;
            *sample = rdtsc().saturating_sub(start).saturating_sub(overhead);
        }
        Some(Self::of(&mut samples))
    }

    fn of(samples: &mut [u64; SAMPLES]) -> Self {
        samples.sort_unstable();
        let [least, .., most] = *samples;
        Self { least, median: samples[SAMPLES / 2], most }
    }
}

/// Measures pairs of several orders, first with all memory free, then with ever more blocks live; prints a line for each. Returns false if
/// an allocation failed.
pub(crate) fn pairs(kernel: &BareKernel) -> bool {
    let cpu = this_cpu();
    let enabled = interrupts_save();
    let overhead = Times::measure(0, || Some(())).map_or(0, |times| times.median);
    print_line!(cpu, "bench: an empty measurement takes {overhead} ticks, which are subtracted");
    let measured = ORDERS.iter().all(|&order| pair(kernel, overhead, Order::new_truncate(order), 0).is_some())
        && LIVE.iter().all(|&live| pairs_with_live(kernel, overhead, live).is_some());
    if enabled {
        interrupts_enable();
    }
    measured
}

/// Measures pairs of one order and prints the line; `live` is only printed.
fn pair(kernel: &BareKernel, overhead: u64, order: Order, live: usize) -> Option<()> {
    let (cpu, pages) = (this_cpu(), kernel.pages());
    let Times { least, median, most } = Times::measure(overhead, || {
        pages.free(cpu, pages.alloc(cpu, Gfp::KERNEL, order).ok()?);
        Some(())
    })?;
    print_line!(cpu, "bench: order-{order} alloc+free pair, {live} live: {median} ticks (least {least}, most {most})");
    Some(())
}

/// Measures pairs while every other page of a long run is live, so that as many free blocks lie between them.
fn pairs_with_live(kernel: &BareKernel, overhead: u64, live: usize) -> Option<()> {
    let (cpu, pages) = (this_cpu(), kernel.pages());
    let room = pages.alloc(cpu, Gfp::KERNEL, Order::new_truncate(9)).ok()?;
    let start = pages.address(&room)?.cast::<u64>();
    // SAFETY: the block is owned and in the direct map: nobody else reaches its bytes, which have no invalid values.
    let held = unsafe { core::slice::from_raw_parts_mut(start.as_ptr(), ROOM.min(2 * live)) };
    for slot in held.iter_mut() {
        *slot = pages.alloc(cpu, Gfp::KERNEL, Order::ZERO).ok()?.into_raw(&pages.map().frames).raw();
    }
    let free = |pfn: &u64| pages.free_raw(cpu, Pfn::new(*pfn), Order::ZERO).ok();
    held.iter().step_by(2).try_for_each(free)?;
    pages.drain_local_pages(cpu);
    let measured = LIVE_ORDERS.iter().try_for_each(|&order| pair(kernel, overhead, Order::new_truncate(order), live));
    held.iter().skip(1).step_by(2).try_for_each(free)?;
    pages.drain_local_pages(cpu);
    pages.free(cpu, room);
    measured
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_of_the_sorted_samples() {
        let mut samples = [0; SAMPLES];
        for (index, sample) in samples.iter_mut().enumerate() {
            *sample = ((index * 8) % SAMPLES) as u64;
        }
        assert_eq!(Times::of(&mut samples), Times { least: 0, median: 500, most: 1000 });
    }

    #[test]
    fn an_operation_that_fails_has_no_times() {
        assert_eq!(Times::measure(0, || None), None);
    }
}
