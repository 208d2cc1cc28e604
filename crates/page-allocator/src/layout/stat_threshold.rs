//! How far per-CPU counters may drift before they are folded into the zone's.
//!
//! Linux 6.12: mm/vmstat.c (`calculate_normal_threshold`, `calculate_pressure_threshold`, `refresh_zone_stat_thresholds`).

/// Counters are per CPU signed bytes; this keeps two additions from overflowing one.
const MAX_THRESHOLD: u64 = 125;
/// Base-2 logarithm of the 128 MiB units in which a zone's size counts.
const UNIT_SHIFT: u32 = 27;

/// Returns the drift allowed to one CPU of `online_cpus` in a zone of `managed` pages.
///
/// Grows with the logarithms of both, as more CPUs and more memory make exact counters dearer and less needed.
pub fn normal_threshold(managed: u64, online_cpus: u64, page_shift: u32) -> u64 {
    let units = managed >> (UNIT_SHIFT - page_shift);
    (2 * bit_length(online_cpus) * (1 + bit_length(units))).min(MAX_THRESHOLD)
}

/// Returns the drift allowed while reclaim works near the watermarks: all CPUs together cannot hide the min from the low mark.
pub fn pressure_threshold(min_watermark: u64, low_watermark: u64, online_cpus: u64) -> u64 {
    let distance = low_watermark.saturating_sub(min_watermark);
    (distance / online_cpus.max(1)).clamp(1, MAX_THRESHOLD)
}

/// Returns the free count below which a watermark check must add up all CPUs, or `None` if drift cannot hide the min mark.
///
/// Linux: percpu_drift_mark.
pub fn drift_mark(threshold: u64, online_cpus: u64, marks: &super::Watermarks) -> Option<u64> {
    let drift = online_cpus * threshold;
    (drift > marks.low - marks.min).then_some(marks.high + drift)
}

/// Returns the position of the highest set bit, counted from 1; 0 for 0 (Linux: fls).
fn bit_length(value: u64) -> u64 {
    u64::from(u64::BITS - value.leading_zeros())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::Watermarks;

    #[test]
    fn drift_grows_with_memory_and_cpus_to_125() {
        assert_eq!(normal_threshold(3840, 1, 12), 2);
        assert_eq!(normal_threshold(5_394_266, 2, 12), 36);
        assert_eq!(normal_threshold(1 << 32, 1024, 12), MAX_THRESHOLD);
    }

    #[test]
    fn pressure_shrinks_the_drift_to_the_distance_of_the_marks() {
        assert_eq!(pressure_threshold(100, 180, 4), 20);
        assert_eq!(pressure_threshold(100, 101, 4), 1);
    }

    #[test]
    fn close_marks_need_an_exact_count() {
        let marks = Watermarks { min: 10, low: 12, high: 14, promo: 16 };
        assert_eq!(drift_mark(4, 2, &marks), Some(22));
        assert_eq!(drift_mark(1, 2, &marks), None);
    }
}
