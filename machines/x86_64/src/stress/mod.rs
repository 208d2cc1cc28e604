//! The allocation stress: all CPUs and their timer interrupts at once, every page stamped by its holder.
//!
//! Passes if no page ever had two holders, zeroed memory was zero, and at the end all memory is free again in lists that obey
//! their laws. Run by `start` through `smp::run_on_all`.

mod exhaustion;
mod interrupt;
mod objects;
mod rng;
mod stamp;
#[cfg(test)]
mod tests;
mod vmalloc;
mod worker;

use core::sync::atomic::{AtomicU64, Ordering};

use page_allocator::Zone;

pub(crate) use interrupt::InterruptWork;

use crate::console::print_line;
use crate::cpu_area::{CpuArea, this_cpu};
use crate::instructions::{interrupts_enable, interrupts_save};
use crate::kernel::{BareKernel, booted};
use crate::{smp, timer};
use interrupt::Activity;
use objects::{ObjectExchange, ObjectWorker, new_object_exchange};
use worker::{Exchange, Fault, Worker, new_exchange};

/// Steps of each CPU if the command line does not say.
pub(crate) const DEFAULT_STEPS: u64 = 20_000;
/// Steps of the page stress for one of the vmalloc stress, which does more in it.
const STEPS_PER_AREA: u64 = 20;
/// Steps of the objects' stress between two intervals of the vmstat worker.
const STEPS_PER_VMSTAT: u64 = 500;
/// Numbers of the interrupt handlers' workers start here, above those of the CPUs.
const INTERRUPT_WORKERS: u64 = 1 << 16;

static EXCHANGE: Exchange = new_exchange();
static OBJECTS: ObjectExchange = new_object_exchange();
static STEPS: AtomicU64 = AtomicU64::new(0);
static TOTALS: Totals = Totals {
    allocated: AtomicU64::new(0),
    objects: AtomicU64::new(0),
    failed: AtomicU64::new(0),
    in_interrupts: AtomicU64::new(0),
    exhausted: AtomicU64::new(0),
    faults: AtomicU64::new(0),
};

/// Sums over all CPUs. Statistics, read after the jobs, which synchronise; so every access is Relaxed.
struct Totals {
    allocated: AtomicU64,
    objects: AtomicU64,
    failed: AtomicU64,
    in_interrupts: AtomicU64,
    exhausted: AtomicU64,
    faults: AtomicU64,
}

fn add(total: &AtomicU64, count: u64) {
    // Relaxed: see `Totals`.
    total.fetch_add(count, Ordering::Relaxed);
}

fn sum(total: &AtomicU64) -> u64 {
    // Relaxed: see `Totals`.
    total.load(Ordering::Relaxed)
}

/// Counts and prints a fault.
fn report(fault: Fault) {
    add(&TOTALS.faults, 1);
    print_line!(this_cpu(), "stress: {fault:?}");
}

/// Runs the stress with `steps` on each CPU; true if nothing was found wrong.
pub(crate) fn run(kernel: &BareKernel, steps: u64) -> bool {
    let cpu = this_cpu();
    let pages = kernel.pages();
    // Relaxed: read in jobs, which synchronise.
    STEPS.store(steps, Ordering::Relaxed);
    let areas_passed = vmalloc::run(kernel, steps / STEPS_PER_AREA);
    kernel.objects().shrink_caches(cpu);
    let before = pages.check_invariants(cpu);
    interrupt::set_active(Activity::On);
    smp::run_on_all(|area| on_one_cpu(area, work));
    smp::run_on_all(|area| on_one_cpu(area, work_with_objects));
    smp::run_on_all(|area| on_one_cpu(area, exhaust));
    interrupt::set_active(Activity::Off);
    smp::run_on_all(give_back);
    kernel.objects().shrink_caches(cpu);
    let after = pages.check_invariants(cpu);
    print_line!(
        cpu,
        "stress: {} blocks allocated, {} of them in interrupts; {} requests failed",
        sum(&TOTALS.allocated) + sum(&TOTALS.in_interrupts),
        sum(&TOTALS.in_interrupts),
        sum(&TOTALS.failed)
    );
    print_line!(cpu, "stress: {} objects of 1 B to 16 KiB allocated", sum(&TOTALS.objects));
    print_line!(cpu, "stress: {} single pages taken until none was left", sum(&TOTALS.exhausted));
    let managed: u64 = pages.zones().iter().map(Zone::managed).sum();
    print_line!(cpu, "stress: free pages {before:?} before and {after:?} after, {managed} managed");
    areas_passed && before.is_ok() && before == after && sum(&TOTALS.faults) == 0
}

/// Runs `job` with this CPU's timer on.
fn on_one_cpu(area: &'static CpuArea, job: fn(&'static BareKernel) -> Result<(), Fault>) {
    let Some(kernel) = booted() else { return };
    timer::start();
    let enabled = interrupts_save();
    interrupts_enable();
    if let Err(fault) = job(kernel) {
        report(fault);
    }
    interrupts_save();
    timer::stop();
    if enabled {
        interrupts_enable();
    }
    let _ = area;
}

fn work(kernel: &'static BareKernel) -> Result<(), Fault> {
    let cpu = this_cpu();
    let mut worker = Worker::new(kernel.pages(), &EXCHANGE, u64::from(cpu.id().raw()));
    for _ in 0..STEPS.load(Ordering::Relaxed) {
        worker.step(cpu)?;
    }
    worker.finish(cpu)?;
    add(&TOTALS.allocated, worker.counts.allocated);
    add(&TOTALS.failed, worker.counts.failed);
    Ok(())
}

fn work_with_objects(kernel: &'static BareKernel) -> Result<(), Fault> {
    let cpu = this_cpu();
    let mut worker = ObjectWorker::new(kernel.objects(), &OBJECTS, u64::from(cpu.id().raw()));
    for step in 1..=STEPS.load(Ordering::Relaxed) {
        worker.step(cpu)?;
        if step.is_multiple_of(STEPS_PER_VMSTAT) {
            kernel.vmstat_update(cpu);
        }
    }
    worker.finish(cpu)?;
    add(&TOTALS.objects, worker.counts.allocated);
    Ok(())
}

fn exhaust(kernel: &'static BareKernel) -> Result<(), Fault> {
    add(&TOTALS.exhausted, exhaustion::run(kernel.pages(), this_cpu())?);
    Ok(())
}

/// Frees what the CPU's interrupt handler keeps and what waits in the exchange.
fn give_back(area: &'static CpuArea) {
    let Some(kernel) = booted() else { return };
    let cpu = this_cpu();
    // SAFETY: the job runs on the CPU that the area belongs to.
    add(&TOTALS.in_interrupts, unsafe { area.interrupt_work.finish(cpu) });
    let blocks = Worker::new(kernel.pages(), &EXCHANGE, 0).finish(cpu);
    let objects = ObjectWorker::new(kernel.objects(), &OBJECTS, 0).finish(cpu);
    [blocks, objects].into_iter().filter_map(Result::err).for_each(report);
}
