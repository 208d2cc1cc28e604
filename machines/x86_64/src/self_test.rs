//! Checks of the machine itself, run at every boot: every CPU answers, is interrupted by its timer, and executes barriers.
//!
//! Runs on the boot CPU, before the memory manager needs any of it.

use core::sync::atomic::{AtomicU64, Ordering};

use crate::console::print_line;
use crate::cpu_area::{self, CpuArea, this_cpu};
use crate::exit::Outcome;
use crate::fence::fence_other_cpus;
use crate::instructions::{interrupts_enable, interrupts_save, rdtsc};
use crate::options::MachineOptions;
use crate::{smp, timer};

/// Timer interrupts that every CPU has to see.
const MIN_INTERRUPTS: u64 = 5;
/// Barriers that every CPU asks of the others, all at the same time and with interrupts off.
const FENCES: u64 = 100;
/// Time-stamp ticks after which a CPU without timer interrupts is given up.
const MAX_TICKS: u64 = 20_000_000_000;

/// Runs the checks; prints one line for each. `nodes` is what the firmware reported.
pub(crate) fn run(options: &MachineOptions<'_>, nodes: u64) -> Outcome {
    let cpu = this_cpu();
    let mut passed = true;
    for (name, found, expected) in [("CPUs", nr_online(), options.expect_cpus), ("nodes", nodes, options.expect_nodes)]
    {
        if let Some(expected) = expected.filter(|&expected| expected != found) {
            print_line!(cpu, "self-test: {found} {name}, expected {expected}: FAILED");
            passed = false;
        }
    }
    for (name, check) in [("roll call", roll_call as fn() -> bool), ("timer interrupts", timers), ("barriers", fences)]
    {
        let held = check();
        print_line!(cpu, "self-test: {name}: {}", if held { "ok" } else { "FAILED" });
        passed &= held;
    }
    if passed { Outcome::Pass } else { Outcome::Fail }
}

fn nr_online() -> u64 {
    cpu_area::online().count() as u64
}

/// Every CPU runs a job once, with its own token.
fn roll_call() -> bool {
    static SEEN: AtomicU64 = AtomicU64::new(0);
    smp::run_on_all(|_| {
        // Relaxed: read after the job, which synchronises.
        SEEN.fetch_add(1 << (8 * u64::from(this_cpu().id().raw())), Ordering::Relaxed);
    });
    let expected = cpu_area::online().fold(0, |sum, area| sum | 1 << (8 * area.id().index()));
    SEEN.load(Ordering::Relaxed) == expected
}

/// Every CPU is interrupted by its timer.
fn timers() -> bool {
    smp::run_on_all(|area| {
        timer::start();
        interrupts_enable();
        let start = rdtsc();
        while interrupts(area) < MIN_INTERRUPTS && rdtsc() - start < MAX_TICKS {
            core::hint::spin_loop();
        }
        interrupts_save();
        timer::stop();
    });
    cpu_area::online().all(|area| interrupts(area) >= MIN_INTERRUPTS)
}

fn interrupts(area: &CpuArea) -> u64 {
    // Relaxed: a statistic.
    area.timer_interrupts.load(Ordering::Relaxed)
}

/// All CPUs ask each other for barriers at once with interrupts off; every request is answered.
fn fences() -> bool {
    smp::run_on_all(|_| {
        let enabled = interrupts_save();
        for _ in 0..FENCES {
            fence_other_cpus();
        }
        if enabled {
            interrupts_enable();
        }
    });
    let expected = FENCES * (nr_online() - 1);
    cpu_area::online().all(|area| area.fence.answered() == expected)
}
