//! How much a shrinker scans: the arithmetic of pressure, cost and deferred work.
//!
//! Linux 6.12: `do_shrink_slab`.

use core::sync::atomic::{AtomicU64, Ordering};

use super::{Scanned, ShrinkControl, Shrinker, ShrinkerParams};

/// Objects scanned at a time if the shrinker does not say (Linux: SHRINK_BATCH).
pub const SHRINK_BATCH: u64 = 128;

/// Cost of an object that takes a disk read to make again (Linux: DEFAULT_SEEKS).
pub const DEFAULT_SEEKS: u32 = 2;

/// What one call is to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Scan {
    /// Objects that could be given up.
    freeable: u64,
    /// Objects at a time.
    batch: u64,
    /// Objects still to scan in this call.
    left: u64,
    /// Objects that pressure asks for, this call and those before.
    owed: u64,
    /// Objects scanned in this call.
    scanned: u64,
}

impl Scan {
    /// Computes the work of a call at reclaim's `priority`: the lower, the larger the share of the cache. `deferred` is what earlier calls
    /// left undone.
    pub fn new(params: &ShrinkerParams, freeable: u64, deferred: u64, priority: u32) -> Self {
        let delta = match u64::from(params.seeks) {
            // Objects that cost nothing go first.
            0 => freeable / 2,
            seeks => (shift(freeable, priority)).saturating_mul(4) / seeks,
        };
        let most = freeable.saturating_mul(2);
        Self {
            freeable,
            batch: if params.batch == 0 { SHRINK_BATCH } else { params.batch },
            left: shift(deferred, priority).saturating_add(delta).min(most),
            owed: deferred.saturating_add(delta),
            scanned: 0,
        }
    }

    /// Returns the objects to scan now, or `None` when the rest waits for a later call: less than a batch is not worth the way, unless it is
    /// the whole cache.
    pub fn next_batch(&self) -> Option<u64> {
        let worth = self.left > 0 && (self.left >= self.batch || self.left >= self.freeable);
        worth.then(|| self.batch.min(self.left))
    }

    /// Notes what a batch did.
    pub const fn note(&mut self, scanned: u64) {
        self.left = self.left.saturating_sub(scanned);
        self.scanned = self.scanned.saturating_add(scanned);
    }

    /// Returns what is left for later calls: never more than it takes to scan the cache twice.
    pub fn deferred(&self) -> u64 {
        self.owed.saturating_sub(self.scanned).min(self.freeable.saturating_mul(2))
    }
}

fn shift(objects: u64, priority: u32) -> u64 {
    objects.checked_shr(priority).unwrap_or(0)
}

/// What shrinking brought.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Shrunk {
    /// Objects given up.
    pub freed: u64,
    /// Objects looked at (Linux: slabs_scanned of /proc/vmstat).
    pub scanned: u64,
}

/// Runs one shrinker. `deferred` is its deferred work on the node.
pub fn shrink_one(
    shrinker: &dyn Shrinker,
    params: &ShrinkerParams,
    deferred: &AtomicU64,
    control: &ShrinkControl<'_>,
    priority: u32,
) -> Shrunk {
    let freeable = shrinker.count_objects(control);
    if freeable == 0 {
        return Shrunk::default();
    }
    // Relaxed: a count. Taken whole, so that two CPUs do not do the same work.
    let mut scan = Scan::new(params, freeable, deferred.swap(0, Ordering::Relaxed), priority);
    let mut done = Shrunk::default();
    while let Some(batch) = scan.next_batch() {
        let Scanned::Objects { scanned, freed } = shrinker.scan_objects(control, batch) else { break };
        done.freed += freed;
        done.scanned += scanned;
        scan.note(scanned);
        // A shrinker that looks at nothing would be asked for ever.
        if scanned == 0 {
            break;
        }
    }
    // Relaxed: as above.
    deferred.fetch_add(scan.deferred(), Ordering::Relaxed);
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(seeks: u32, batch: u64) -> ShrinkerParams {
        ShrinkerParams { seeks, batch, ..ShrinkerParams::default() }
    }

    #[test]
    fn pressure_is_a_share_of_the_cache_by_priority_and_cost() {
        let asked = |seeks, priority| Scan::new(&params(seeks, 0), 4096, 0, priority).owed;
        assert_eq!([asked(2, 12), asked(2, 6), asked(2, 0)], [2, 128, 8192]);
        assert_eq!([asked(1, 6), asked(4, 6), asked(0, 6)], [256, 64, 2048]);
    }

    #[test]
    fn small_work_is_put_off_until_a_batch_is_due() {
        let first = Scan::new(&params(2, 0), 4096, 0, 7);
        assert_eq!((first.next_batch(), first.deferred()), (None, 64));
        let second = Scan::new(&params(2, 0), 4096, 64 << 7, 7);
        assert_eq!(second.next_batch(), Some(128));
    }

    #[test]
    fn a_cache_smaller_than_a_batch_is_scanned_whole() {
        let mut scan = Scan::new(&params(2, 0), 10, 0, 0);
        assert_eq!((scan.left, scan.next_batch()), (20, Some(20)));
        scan.note(20);
        assert_eq!((scan.next_batch(), scan.deferred()), (None, 0));
    }

    #[test]
    fn work_and_what_is_left_of_it_stay_below_twice_the_cache() {
        let mut scan = Scan::new(&params(0, 100), 1000, 1 << 40, 2);
        assert_eq!(scan.left, 2000);
        scan.note(100);
        assert_eq!((scan.left, scan.deferred()), (1900, 2000));
        let extreme = Scan::new(&params(1, 1), u64::MAX, u64::MAX, 0);
        assert_eq!((extreme.left, extreme.deferred()), (u64::MAX, u64::MAX));
        assert_eq!(Scan::new(&params(1, 1), 100, 100, 64).left, 0);
    }
}
