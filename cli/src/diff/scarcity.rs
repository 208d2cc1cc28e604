//! Low limits that a seed sets for some processes, so that calls meet them.

use std::fmt;

use address_space::{Limits, PAGE_SIZE};
use sim::Rng;

/// Limits that are lower than those of this process, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Scarcity {
    /// RLIMIT_AS, above what the process has at the start.
    pub(super) room: Option<u64>,
    /// RLIMIT_DATA.
    pub(super) data: Option<u64>,
    /// RLIMIT_STACK.
    pub(super) stack: Option<u64>,
    /// RLIMIT_MEMLOCK.
    pub(super) locked: Option<u64>,
}

impl Scarcity {
    /// Sets limits for every other process of a seed.
    pub(super) fn choose(rng: &mut Rng) -> Self {
        if rng.one_in(2) {
            return Self::default();
        }
        let mut pages = |most| rng.one_in(2).then(|| rng.below(most) * PAGE_SIZE);
        Self { room: pages(600), data: pages(120), stack: pages(24), locked: pages(40) }
    }

    /// Returns `limits` with those that are lower; `size` is what the process has.
    pub(super) fn apply(&self, limits: Limits, size: u64) -> Limits {
        let lower = |limit: u64, low: Option<u64>| low.map_or(limit, |low| low.min(limit));
        Limits {
            address_space: lower(limits.address_space, self.room.map(|room| size + room)),
            data: lower(limits.data, self.data),
            stack: lower(limits.stack, self.stack),
            locked: lower(limits.locked, self.locked),
            ..limits
        }
    }
}

impl fmt::Display for Scarcity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = [("AS", self.room), ("DATA", self.data), ("STACK", self.stack), ("MEMLOCK", self.locked)];
        let mut set = all.iter().filter_map(|(name, limit)| Some((name, (*limit)?))).peekable();
        if set.peek().is_none() {
            return f.write_str("no low limits");
        }
        f.write_str("low limits:")?;
        set.try_for_each(|(name, bytes)| write!(f, " {name} {bytes}"))
    }
}
