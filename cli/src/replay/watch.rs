//! The replay loop's link to the user: a progress bar on a terminal, and Ctrl-C.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use recordings::pages::Progress;

/// Events between two looks at the bar and at Ctrl-C.
const INTERVAL: u64 = 8192;

/// Shows progress on standard error if that is a terminal, and notes Ctrl-C.
pub(super) struct Watch {
    bar: ProgressBar,
    interrupted: Arc<AtomicBool>,
}

impl Watch {
    /// Starts watching; `what` stands before the bar.
    pub(super) fn start(what: &'static str, interrupted: &Arc<AtomicBool>) -> Self {
        // indicatif draws nothing when standard error is no terminal.
        let bar = ProgressBar::new(0).with_message(what);
        if let Ok(style) = ProgressStyle::with_template("{msg} [{bar:40}] {percent}% {elapsed}") {
            bar.set_style(style);
        }
        Self { bar, interrupted: Arc::clone(interrupted) }
    }

    /// Called for every event; returns false once the user pressed Ctrl-C.
    #[inline]
    pub(super) fn goes_on(&self, events: u64, progress: impl Fn() -> Progress) -> bool {
        !events.is_multiple_of(INTERVAL) || self.look(progress())
    }

    /// Removes the bar.
    pub(super) fn finish(self) {
        self.bar.finish_and_clear();
    }

    #[cold]
    fn look(&self, progress: Progress) -> bool {
        self.bar.set_length(progress.total);
        self.bar.set_position(progress.done);
        self.bar.tick();
        // Relaxed: the flag carries no data; a late look only delays the end.
        !self.interrupted.load(Ordering::Relaxed)
    }
}

/// Makes the flag that Ctrl-C sets from now on; without the handler (no signals on this host) Ctrl-C ends the process.
pub(super) fn note_ctrl_c() -> Arc<AtomicBool> {
    let interrupted = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&interrupted);
    // Relaxed: see `Watch::look`.
    let set = ctrlc::set_handler(move || flag.store(true, Ordering::Relaxed));
    if set.is_err() {
        eprintln!("mmkit: Ctrl-C will end the command without figures");
    }
    interrupted
}

/// Returns the processor time that this thread has used: what a rate is worth on a machine that others share.
pub(super) fn thread_cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Returns a rate of events.
pub(super) fn events_per_second(events: u64, elapsed: Duration) -> f64 {
    events as f64 / elapsed.as_secs_f64().max(1e-9)
}
