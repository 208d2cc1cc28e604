//! What one CPU asks of every other, by NMI: memory barriers here, flushes in `tlb`.
//!
//! An NMI, because a CPU that waits with interrupts off for a lock which the caller holds must still answer. Each CPU
//! counts barriers asked of it and barriers done; NMIs that merge into one answer all requests that came before it.

use core::sync::atomic::{AtomicU64, Ordering};

use crate::apic::{self, Message};
use crate::cpu_area::{self, CpuArea};
use crate::instructions::memory_fence;

/// What other CPUs asked of one CPU, of one kind: barriers, or flushes of its TLB.
///
/// # Invariants
/// `done` <= `requested`; a CPU did what was asked after request number `done` was counted.
pub(crate) struct Requests {
    requested: AtomicU64,
    done: AtomicU64,
}

impl Requests {
    pub(crate) const fn new() -> Self {
        Self { requested: AtomicU64::new(0), done: AtomicU64::new(0) }
    }

    /// Answers all requests so far by one `act`, on the CPU that they are asked of; none if nothing is asked.
    pub(crate) fn answer(&self, act: impl FnOnce()) {
        // SeqCst: the request must be seen to have happened before the act that answers it.
        let requested = self.requested.load(Ordering::SeqCst);
        // Relaxed: written by this CPU only.
        if requested == self.done.load(Ordering::Relaxed) {
            return;
        }
        act();
        // Release: pairs with the Acquire load in `is_done`; only this CPU writes `done`, so it never goes back.
        self.done.store(requested, Ordering::Release);
    }

    /// Counts a request; returns its number.
    fn ask(&self) -> u64 {
        // SeqCst: the caller's earlier stores come before what the other CPU does.
        self.requested.fetch_add(1, Ordering::SeqCst) + 1
    }

    fn is_done(&self, number: u64) -> bool {
        // Acquire: pairs with the Release store in `answer`.
        self.done.load(Ordering::Acquire) >= number
    }

    /// Returns how many requests were answered.
    pub(crate) fn answered(&self) -> u64 {
        // Relaxed: a statistic.
        self.done.load(Ordering::Relaxed)
    }
}

/// Makes every other CPU that runs execute a full memory barrier before this returns.
pub(crate) fn fence_other_cpus() {
    memory_fence();
    ask_other_cpus(|area| Some(&area.fence));
}

/// Asks something of other CPUs that run, by NMI, and waits until all have done it: of those for which `kind` names where to ask.
pub(crate) fn ask_other_cpus(kind: impl Fn(&'static CpuArea) -> Option<&'static Requests>) {
    let myself = cpu_area::this_area();
    let mut tickets = [None; cpu_area::MAX_CPUS];
    for (area, ticket) in cpu_area::online().zip(&mut tickets) {
        if core::ptr::eq(area, myself) {
            continue;
        }
        if let Some(requests) = kind(area) {
            *ticket = Some((requests, requests.ask()));
            apic::send(area.apic_id(), Message::Nmi);
        }
    }
    for (requests, number) in tickets.iter().flatten() {
        while !requests.is_done(*number) {
            core::hint::spin_loop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_stored_before_a_request_is_seen_after_its_answer() {
        extern crate std;
        use core::sync::atomic::AtomicBool;

        static REQUESTS: Requests = Requests::new();
        static DATA: AtomicU64 = AtomicU64::new(0);
        static STOP: AtomicBool = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut seen = 0;
                while !STOP.load(Ordering::Relaxed) {
                    REQUESTS.answer(memory_fence);
                    // Request n is made after n was stored.
                    let (answered, data) = (REQUESTS.answered(), DATA.load(Ordering::Relaxed));
                    assert!(answered >= seen && data >= answered, "{seen} {answered} {data}");
                    seen = answered;
                    std::thread::yield_now();
                }
            });
            for value in 1..=200 {
                DATA.store(value, Ordering::Relaxed);
                let number = REQUESTS.ask();
                while !REQUESTS.is_done(number) {
                    std::thread::yield_now();
                }
            }
            STOP.store(true, Ordering::Relaxed);
        });
        assert_eq!(REQUESTS.answered(), 200);
    }

    #[test]
    fn one_answer_serves_every_earlier_request_and_no_later_one() {
        let requests = Requests::new();
        let mut acts = 0;
        let (first, second) = (requests.ask(), requests.ask());
        requests.answer(|| acts += 1);
        requests.answer(|| acts += 1);
        let third = requests.ask();
        assert!(requests.is_done(first) && requests.is_done(second));
        assert!(!requests.is_done(third));
        assert_eq!((requests.answered(), acts), (2, 1));
    }
}
