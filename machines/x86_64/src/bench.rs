//! `mmkit.bench=pair`: the cost of an allocation and its free, in ticks of the time-stamp counter.
//!
//! Under QEMU's `-icount shift=0` a tick is one guest instruction, so the figure is a path length that repeats exactly.
//! Runs on the boot CPU with interrupts off; the others wait.

use units::{Gfp, Order};

use crate::console::print_line;
use crate::cpu_area::this_cpu;
use crate::instructions::{interrupts_enable, interrupts_save, rdtsc};
use crate::kernel::BareKernel;

/// Measurements of which the median is taken.
const SAMPLES: usize = 1001;
/// Pairs before measuring, so that lists and caches are as they stay.
const WARM_UP: usize = 100;
/// Orders that are measured: those that per-CPU lists keep, a huge page, and the largest.
const ORDERS: [u8; 6] = [0, 1, 2, 3, 9, 10];

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

/// Measures pairs of several orders and prints a line for each; false if an allocation failed.
pub(crate) fn pairs(kernel: &BareKernel) -> bool {
    let cpu = this_cpu();
    let pages = kernel.pages();
    let enabled = interrupts_save();
    let overhead = Times::measure(0, || Some(())).map_or(0, |times| times.median);
    print_line!(cpu, "bench: an empty measurement takes {overhead} ticks, which are subtracted");
    let mut measured = true;
    for order in ORDERS.map(Order::new_truncate) {
        let pair = || {
            pages.free(cpu, pages.alloc(cpu, Gfp::KERNEL, order).ok()?);
            Some(())
        };
        match Times::measure(overhead, pair) {
            Some(Times { least, median, most }) => {
                print_line!(cpu, "bench: order-{order} alloc+free pair: {median} ticks (least {least}, most {most})");
            }
            None => measured = false,
        }
    }
    if enabled {
        interrupts_enable();
    }
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
