//! Clocks and sleeping. Linux 6.12: kernel/time/time.c, posix-timers.c, hrtimer.c.

use super::{Context, Outcome, Table, add};
use crate::errno::Errno;
use crate::machine::Machine;
use crate::memory::Memory;
use crate::schedule::Stop;
use crate::wait::WaitFor;

const SECOND: u64 = 1_000_000_000;
/// Resolution of the clocks as clock_getres tells it.
const RESOLUTION_NS: u64 = 1;

/// Which time a clock shows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Clock {
    /// Since 1970.
    Real,
    /// Since the boot.
    Monotonic,
}

impl Clock {
    fn of(number: u64) -> Result<Self, Errno> {
        match number {
            // REALTIME, REALTIME_COARSE, TAI.
            0 | 5 | 11 => Ok(Self::Real),
            // MONOTONIC, PROCESS_CPUTIME_ID and THREAD_CPUTIME_ID excepted, MONOTONIC_RAW, MONOTONIC_COARSE, BOOTTIME.
            1 | 4 | 6 | 7 => Ok(Self::Monotonic),
            _ => Err(Errno::EINVAL),
        }
    }
}

impl<M: Memory, D: Machine> Context<'_, M, D> {
    /// Adds the calls of this file to the table.
    #[rustfmt::skip]
    pub(super) const fn time_calls(table: Table<M, D>) -> Table<M, D> {
        add(table, [
            (35, "nanosleep", |cx, [time, left, ..]| cx.nanosleep(time, left)),
            (96, "gettimeofday", |cx, [time, _zone, ..]| {
                    let now = cx.now_ns();
                    if time != 0 {
                        cx.write_words(time, &[now / SECOND, now % SECOND / 1000])?;
                    }
                    Ok(0)
                }),
            (201, "time", |cx, [to, ..]| {
                    let seconds = cx.now_ns() / SECOND;
                    if to != 0 {
                        cx.write_words(to, &[seconds])?;
                    }
                    Ok(seconds)
                }),
            (228, "clock_gettime", |cx, [clock, to, ..]| cx.clock_gettime(clock, to)),
            (229, "clock_getres", |cx, [clock, to, ..]| {
                    Clock::of(clock)?;
                    if to != 0 {
                        cx.write_words(to, &[0, RESOLUTION_NS])?;
                    }
                    Ok(0)
                }),
            (230, "clock_nanosleep", |cx, [clock, flags, time, left, ..]| cx.clock_nanosleep(clock, flags, time, left)),
        ])
    }

    fn clock_gettime(&mut self, clock: u64, to: u64) -> Outcome {
        let now = match Clock::of(clock)? {
            Clock::Real => self.now_ns(),
            Clock::Monotonic => self.userland.machine().now_ns(),
        };
        self.write_words(to, &[now / SECOND, now % SECOND])?;
        Ok(0)
    }

    /// Reads a struct timespec as nanoseconds.
    ///
    /// # Errors
    /// EINVAL for a negative time or too many nanoseconds.
    pub(super) fn read_timespec(&self, addr: u64) -> Result<u64, Errno> {
        let [seconds, nanos] = self.read_words(addr)?;
        if seconds > i64::MAX as u64 || nanos >= SECOND {
            return Err(Errno::EINVAL);
        }
        Ok(seconds.saturating_mul(SECOND).saturating_add(nanos))
    }

    /// Reads a struct timespec that may not be there.
    pub(super) fn read_optional_timespec(&self, addr: u64) -> Result<Option<u64>, Errno> {
        if addr == 0 { Ok(None) } else { self.read_timespec(addr).map(Some) }
    }

    /// Reads a struct timeval as nanoseconds.
    pub(super) fn read_timeval(&self, addr: u64) -> Result<u64, Errno> {
        let [seconds, micros] = self.read_words(addr)?;
        if seconds > i64::MAX as u64 || micros >= 1_000_000 {
            return Err(Errno::EINVAL);
        }
        Ok(seconds.saturating_mul(SECOND).saturating_add(micros * 1000))
    }

    fn nanosleep(&mut self, time: u64, left: u64) -> Outcome {
        let time = self.read_timespec(time)?;
        self.sleep(Some(time), 0, left)
    }

    fn clock_nanosleep(&mut self, clock: u64, flags: u64, time: u64, left: u64) -> Outcome {
        const ABSTIME: u64 = 1;
        let clock = Clock::of(clock)?;
        let time = self.read_timespec(time)?;
        if flags & ABSTIME == 0 {
            return self.sleep(Some(time), 0, left);
        }
        let offset = if clock == Clock::Real { self.userland.machine().boot_time_ns() } else { 0 };
        self.sleep(None, time.saturating_sub(offset), 0)
    }

    /// Sleeps for a time, or until one; a signal that ends the sleep leaves what is left.
    fn sleep(&mut self, time: Option<u64>, until: u64, left: u64) -> Outcome {
        let now = self.userland.machine().now_ns();
        let deadline = self.thread.progress.deadline.unwrap_or(time.map_or(until, |time| now.saturating_add(time)));
        self.thread.progress.deadline = Some(deadline);
        if deadline <= now {
            return Ok(0);
        }
        if left != 0 {
            // Written at every try: what a handler finds after EINTR is what was left at the last look.
            let rest = deadline - now;
            self.write_words(left, &[rest / SECOND, rest % SECOND])?;
        }
        let wait = self.world().wait_for(WaitFor::Signal);
        Err(Stop::Wait(crate::wait::Wait { deadline: Some(deadline), ..wait }))
    }
}
