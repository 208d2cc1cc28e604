//! The periodic interrupt of each CPU, and what happens on it.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::apic;
use crate::cpu_area::{CpuArea, this_area, this_cpu};
use crate::idt::TIMER_VECTOR;
use crate::instructions::rdtsc;
use crate::pit::{self, NoTimer};

/// Interrupts per second and CPU.
pub(crate) const RATE_HZ: u32 = 1000;
const CALIBRATION_MICROS: u64 = 10_000;

/// Ticks of the local timer between two interrupts; 0 until calibrated.
static TICKS_PER_INTERRUPT: AtomicU32 = AtomicU32::new(0);

/// Measures the local timer against the interval timer; returns its frequency after the divider.
///
/// # Errors
/// [`NoTimer`] if there is nothing to measure against.
pub(crate) fn calibrate() -> Result<u64, NoTimer> {
    let mut waited = Ok(());
    let start = rdtsc();
    let ticks = apic::count_ticks(|| waited = pit::wait(CALIBRATION_MICROS));
    let cycles = rdtsc() - start;
    waited?;
    let frequency = u64::from(ticks) * (1_000_000 / CALIBRATION_MICROS);
    let per_interrupt = u32::try_from(frequency / u64::from(RATE_HZ)).map_err(|_| NoTimer)?;
    if per_interrupt == 0 {
        return Err(NoTimer);
    }
    TSC_HZ.store(cycles * (1_000_000 / CALIBRATION_MICROS), Ordering::Relaxed);
    // Relaxed: other CPUs start their timer after a synchronisation of their own.
    TICKS_PER_INTERRUPT.store(per_interrupt, Ordering::Relaxed);
    Ok(frequency)
}

/// Ticks of the time-stamp counter in a second; 0 until calibrated.
static TSC_HZ: AtomicU64 = AtomicU64::new(0);

/// Returns nanoseconds since the time-stamp counter started, which a virtual machine does at its boot; 0 before the calibration.
pub(crate) fn now_ns() -> u64 {
    // Relaxed: see `calibrate`.
    let frequency = u128::from(TSC_HZ.load(Ordering::Relaxed));
    (u128::from(rdtsc()) * 1_000_000_000).checked_div(frequency).unwrap_or(0) as u64
}

/// Starts the interrupts of this CPU, at the calibrated rate.
pub(crate) fn start() {
    // Relaxed: see `calibrate`.
    apic::start_periodic_timer(TIMER_VECTOR, TICKS_PER_INTERRUPT.load(Ordering::Relaxed));
}

/// Stops the interrupts of this CPU.
pub(crate) fn stop() {
    apic::stop_timer();
}

/// Handles one interrupt, with interrupts off.
pub(crate) fn interrupt() {
    let area: &CpuArea = this_area();
    // Relaxed: a statistic, written by this CPU only.
    area.timer_interrupts.fetch_add(1, Ordering::Relaxed);
    // SAFETY: the handler runs on the CPU of the area, with interrupts off until it returns.
    unsafe { area.interrupt_work.interrupt(this_cpu()) };
    apic::end_of_interrupt();
}
