//! What a program without a tree of its own would use: a `BTreeMap` by start, and the `rangemap` crate.

use std::collections::BTreeMap;

use rangemap::RangeMap;

use super::AreaStore;

/// Start to end and value.
#[derive(Default)]
pub(crate) struct Map(BTreeMap<u64, (u64, u64)>);

impl AreaStore for Map {
    fn find(&self, addr: u64) -> Option<u64> {
        self.0.range(..=addr).next_back().filter(|(_, area)| area.0 > addr).map(|(_, area)| area.1)
    }

    fn insert(&mut self, start: u64, end: u64, value: u64) -> bool {
        if self.0.range(..end).next_back().is_some_and(|(_, area)| area.0 > start) {
            return false;
        }
        self.0.insert(start, (end, value)).is_none()
    }

    fn erase(&mut self, start: u64, _end: u64) -> bool {
        self.0.remove(&start).is_some()
    }

    fn split(&mut self, start: u64, at: u64, end: u64, upper: u64) -> bool {
        let Some(area) = self.0.get_mut(&start) else { return false };
        area.0 = at;
        self.0.insert(at, (end, upper)).is_none()
    }

    fn restore(&mut self, start: u64, at: u64, end: u64, _value: u64) -> bool {
        let Some(area) = self.0.get_mut(&start) else { return false };
        area.0 = end;
        self.0.remove(&at).is_some()
    }

    fn highest_gap(&self, low: u64, high: u64, len: u64) -> Option<u64> {
        let mut to = high;
        for (&start, &(end, _)) in self.0.range(..high).rev() {
            if end <= low {
                break;
            }
            if to.saturating_sub(end) >= len {
                return Some(to - len);
            }
            to = start;
        }
        to.checked_sub(len).filter(|&place| place >= low)
    }
}

/// The crate's map; areas with different values do not join.
#[derive(Default)]
pub(crate) struct Ranges(RangeMap<u64, u64>);

impl AreaStore for Ranges {
    fn find(&self, addr: u64) -> Option<u64> {
        self.0.get(&addr).copied()
    }

    fn insert(&mut self, start: u64, end: u64, value: u64) -> bool {
        if self.0.overlaps(&(start..end)) {
            return false;
        }
        self.0.insert(start..end, value);
        true
    }

    fn erase(&mut self, start: u64, end: u64) -> bool {
        self.0.remove(start..end);
        true
    }

    fn split(&mut self, _start: u64, at: u64, end: u64, upper: u64) -> bool {
        self.0.insert(at..end, upper);
        true
    }

    fn restore(&mut self, start: u64, _at: u64, end: u64, value: u64) -> bool {
        self.0.insert(start..end, value);
        true
    }

    fn highest_gap(&self, low: u64, high: u64, len: u64) -> Option<u64> {
        // Gaps can be walked upward only.
        let outer = low..high;
        self.0.gaps(&outer).filter(|gap| gap.end - gap.start >= len).last().map(|gap| gap.end - len)
    }
}
