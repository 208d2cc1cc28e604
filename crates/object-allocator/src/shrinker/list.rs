//! The registered shrinkers, and how one is removed while it may run.
//!
//! A scan holds each shrinker that it runs. One that is being removed takes no new scan, and leaves the list only when none holds it, so a
//! scan always finds its way to the next. Linux 6.12: `shrinker_list`, `shrinker_try_get`, `shrinker_put`, `shrinker_free`.

use core::fmt;
use core::ptr::NonNull;
use core::sync::atomic::AtomicU64;

use sync::{Cpu, SpinLock, rank};

use super::Shrinker;
use super::ShrinkerParams;

/// Links and state of a shrinker, in front of it in its own memory.
pub(super) struct Entry {
    next: Option<NonNull<Entry>>,
    previous: Option<NonNull<Entry>>,
    /// Scans that run it.
    holders: usize,
    state: State,
    pub(super) shrinker: NonNull<dyn Shrinker>,
    pub(super) params: ShrinkerParams,
    /// Deferred work by node; one count for all nodes if the shrinker does not look at them.
    pub(super) deferred: NonNull<AtomicU64>,
    pub(super) nr_deferred: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Registered,
    /// Being removed: no scan may take it.
    Closing,
}

/// What a new entry is made of.
pub(super) struct NewEntry {
    pub(super) shrinker: NonNull<dyn Shrinker>,
    pub(super) params: ShrinkerParams,
    pub(super) deferred: NonNull<AtomicU64>,
    pub(super) nr_deferred: usize,
}

impl Entry {
    pub(super) const fn new(new: NewEntry) -> Self {
        let NewEntry { shrinker, params, deferred, nr_deferred } = new;
        Self {
            next: None,
            previous: None,
            holders: 0,
            state: State::Registered,
            shrinker,
            params,
            deferred,
            nr_deferred,
        }
    }
}

/// Ends of the list.
///
/// # Invariants
/// Entries on the list exist, with shrinker and counts, and their links and states are touched only under the list's lock.
struct Ends {
    head: Option<NonNull<Entry>>,
    tail: Option<NonNull<Entry>>,
}

// SAFETY: the entries are reached through the list alone, so they move with it.
unsafe impl Send for Ends {}

/// The shrinkers of a machine, in the order of registration.
pub(crate) struct ShrinkerList(SpinLock<{ rank::SHRINKERS }, Ends>);

impl fmt::Debug for ShrinkerList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShrinkerList").finish_non_exhaustive()
    }
}

/// A shrinker that a scan runs.
///
/// # Invariants
/// The entry is held, so it stays on the list.
pub(super) struct Held(NonNull<Entry>);

impl Held {
    pub(super) const fn entry(&self) -> NonNull<Entry> {
        self.0
    }
}

impl ShrinkerList {
    /// Makes an empty list.
    pub(crate) fn new() -> Self {
        Self(SpinLock::new(Ends { head: None, tail: None }))
    }

    /// Puts an entry at the end.
    ///
    /// # Safety
    /// The entry exists, with shrinker and counts, until [`ShrinkerList::remove`] has returned true for it; it is on no list.
    pub(super) unsafe fn insert(&self, cpu: &Cpu, mut entry: NonNull<Entry>) {
        let mut ends = self.0.lock(cpu);
        // SAFETY: the caller's contract; nobody else knows the entry yet.
        let inserted = unsafe { entry.as_mut() };
        inserted.previous = ends.tail;
        match ends.tail {
            // SAFETY: the tail is on the list, whose lock is held.
            Some(mut tail) => unsafe { tail.as_mut() }.next = Some(entry),
            None => ends.head = Some(entry),
        }
        ends.tail = Some(entry);
    }

    /// Lets go of a shrinker and takes the next one that is not being removed; the first one if none was held.
    pub(super) fn next(&self, cpu: &Cpu, held: Option<Held>) -> Option<Held> {
        let ends = self.0.lock(cpu);
        let mut at = match held {
            None => ends.head,
            Some(Held(mut entry)) => {
                // SAFETY: held, so on the list, whose lock is held.
                let entry = unsafe { entry.as_mut() };
                entry.holders -= 1;
                entry.next
            }
        };
        while let Some(mut entry) = at {
            // SAFETY: on the list, whose lock is held.
            let found = unsafe { entry.as_mut() };
            if found.state == State::Registered {
                found.holders += 1;
                // INVARIANT: just held.
                return Some(Held(entry));
            }
            at = found.next;
        }
        None
    }

    /// Closes an entry for scans and takes it off the list. Returns false while a scan still runs it: then it stays, closed.
    ///
    /// # Safety
    /// The entry is on this list.
    pub(super) unsafe fn remove(&self, cpu: &Cpu, mut entry: NonNull<Entry>) -> bool {
        let mut ends = self.0.lock(cpu);
        // SAFETY: the caller's contract, and the lock is held.
        let removed = unsafe { entry.as_mut() };
        removed.state = State::Closing;
        if removed.holders > 0 {
            return false;
        }
        let (next, previous) = (removed.next.take(), removed.previous.take());
        match next {
            // SAFETY: neighbours are on the list.
            Some(mut next) => unsafe { next.as_mut() }.previous = previous,
            None => ends.tail = previous,
        }
        match previous {
            // SAFETY: neighbours are on the list.
            Some(mut previous) => unsafe { previous.as_mut() }.next = next,
            None => ends.head = next,
        }
        true
    }
}

#[cfg(all(test, loom))]
mod model;
