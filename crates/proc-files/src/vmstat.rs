//! /proc/vmstat: every counter of the machine, one a line.
//!
//! Values come from the caller by name; which names appear is the [`Profile`]'s choice.
//! Linux 6.12: mm/vmstat.c (`vmstat_show`).

use core::fmt;

use crate::{Counters, Profile};

/// The whole file.
#[derive(Clone, Copy)]
pub struct VmStat<'a> {
    /// Release and configuration whose field set is written.
    pub profile: Profile,
    /// Sums over all zones, nodes and CPUs.
    pub counters: Counters<'a>,
}

impl fmt::Display for VmStat<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = self.profile.vmstat();
        lines.map(|name| CounterLine { name, value: (self.counters)(name) }).try_for_each(|line| writeln!(f, "{line}"))
    }
}

/// One counter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CounterLine<N> {
    /// Linux's name.
    pub name: N,
    /// Its value.
    pub value: u64,
}

impl<N: AsRef<str>> fmt::Display for CounterLine<N> {
    /// Writes the line without its newline.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name.as_ref(), self.value)
    }
}
