//! Time as a thread uses it, and medians.

use rustix::time::{ClockId, clock_gettime};

/// Returns the CPU time that this thread has used, in nanoseconds.
pub(crate) fn thread_time_ns() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}

/// Returns the nanoseconds per operation that `work`, which does `operations` of them, took on this thread.
#[inline(never)] // A profile finds the measured work by this name.
pub(crate) fn per_operation(operations: u64, work: impl FnOnce()) -> f64 {
    let start = thread_time_ns();
    work();
    (thread_time_ns() - start) as f64 / operations as f64
}

/// Returns the median; 0 for no value.
pub(crate) fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

/// Returns the smallest value; 0 for no value.
pub(crate) fn least(values: &mut [f64]) -> f64 {
    values.iter().copied().min_by(f64::total_cmp).unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_ignores_outliers() {
        assert_eq!(median(&mut [9.0, 1.0, 1000.0, 2.0, 3.0]), 3.0);
        assert_eq!(median(&mut []), 0.0);
        assert_eq!((least(&mut [9.0, 1.0, 2.0]), least(&mut [])), (1.0, 0.0));
    }

    #[test]
    fn time_passes_while_a_thread_works() {
        let spent = per_operation(1, || {
            std::hint::black_box((0..1_000_000u64).fold(0u64, |sum, value| sum.wrapping_mul(31) ^ value));
        });
        assert!(spent > 0.0);
    }
}
