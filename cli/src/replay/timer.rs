//! The once-a-second work of Linux's vmstat timer, which lets the high marks of per-CPU lists decay.
//!
//! When in the second it runs is the recorded machine's secret; the end state depends on it, so a replay is run at several phases.
//! Linux 6.12: mm/vmstat.c (`vmstat_update`), vm.stat_interval.

use units::CpuId;

/// Interval of the timer (vm.stat_interval).
const INTERVAL_NS: u64 = 1_000_000_000;
/// How much earlier each further CPU runs its timer; measured on the recorded machine, whose kernel staggers them.
const STAGGER_NS: u64 = 12_000_000;

/// Intervals after which nothing is left to decay; what a longer gap in a trace has more is skipped.
const LONGEST_GAP: u64 = 4096;

/// Timers of all CPUs.
pub(super) struct VmstatTimers {
    next_ns: Vec<u64>,
    earliest_ns: u64,
}

impl VmstatTimers {
    /// Makes timers of `nr_cpus` CPUs that run `phase_ms` after each full second of the recorded machine's clock, from
    /// `start_mono_ns` on.
    pub(super) fn new(nr_cpus: usize, phase_ms: u64, start_mono_ns: u64) -> Self {
        let next = |cpu: usize| {
            let phase_ns = (phase_ms * 1_000_000 + INTERVAL_NS).saturating_sub(cpu as u64 * STAGGER_NS) % INTERVAL_NS;
            let seconds = start_mono_ns.saturating_sub(phase_ns).div_ceil(INTERVAL_NS);
            seconds * INTERVAL_NS + phase_ns - start_mono_ns
        };
        let mut timers = Self { next_ns: (0..nr_cpus).map(next).collect(), earliest_ns: 0 };
        timers.find_earliest();
        timers
    }

    /// Calls `work` for each timer that is due by `time_ns`, in the order of time. Times count from the start.
    #[inline]
    pub(super) fn run_due(&mut self, time_ns: u64, work: impl FnMut(CpuId)) {
        if time_ns >= self.earliest_ns {
            self.run(time_ns, work);
        }
    }

    #[cold]
    fn run(&mut self, time_ns: u64, mut work: impl FnMut(CpuId)) {
        let skipped = ((time_ns - self.earliest_ns) / INTERVAL_NS).saturating_sub(LONGEST_GAP);
        for next in &mut self.next_ns {
            *next = next.saturating_add(skipped * INTERVAL_NS);
        }
        self.find_earliest();
        while time_ns >= self.earliest_ns {
            let earliest = self.earliest_ns;
            for (cpu, next) in self.next_ns.iter_mut().enumerate().filter(|(_, next)| **next == earliest) {
                *next = next.saturating_add(INTERVAL_NS);
                if let Some(cpu) = CpuId::try_new(cpu as u64) {
                    work(cpu);
                }
            }
            self.find_earliest();
        }
    }

    fn find_earliest(&mut self) {
        self.earliest_ns = self.next_ns.iter().copied().min().unwrap_or(u64::MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due(timers: &mut VmstatTimers, time_ns: u64) -> Vec<u16> {
        let mut cpus = Vec::new();
        timers.run_due(time_ns, |cpu| cpus.push(cpu.raw()));
        cpus
    }

    #[test]
    fn each_cpu_runs_once_a_second_at_its_phase() {
        let start = 5_000_000_000;
        let mut timers = VmstatTimers::new(2, 70, start);
        assert!(due(&mut timers, 57_999_999).is_empty());
        assert_eq!(due(&mut timers, 58_000_000), [1]);
        assert_eq!(due(&mut timers, 70_000_000), [0]);
        assert_eq!(due(&mut timers, 1_070_000_000), [1, 0]);
    }

    #[test]
    fn a_gap_of_years_ends() {
        let mut timers = VmstatTimers::new(2, 0, 1);
        let mut ticks = 0;
        timers.run_due(u64::MAX - 2 * INTERVAL_NS, |_| ticks += 1);
        assert!(ticks <= 2 * (LONGEST_GAP + 2), "{ticks}");
        assert_eq!(due(&mut timers, u64::MAX - INTERVAL_NS), [1, 0]);
    }

    #[test]
    fn a_late_call_runs_every_missed_second() {
        let mut timers = VmstatTimers::new(1, 0, 1);
        assert_eq!(due(&mut timers, 3_000_000_000), [0, 0, 0]);
    }
}
