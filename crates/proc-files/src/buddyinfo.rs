//! /proc/buddyinfo: free blocks of each populated zone by order.
//!
//! Counts are a slice, an array or (in the parser) a vector. Written by whoever walks the zones, one [`FreeBlocks`] a zone; the parser prints its rows through the same type.
//! Linux 6.12: mm/vmstat.c (`frag_show_print`).

use core::fmt;

use units::{NodeId, ZoneType};

/// One line: the free blocks of one zone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FreeBlocks<C> {
    /// Node of the zone.
    pub node: NodeId,
    /// Kind of the zone.
    pub zone: ZoneType,
    /// Number of free blocks, indexed by order, up to the machine's largest order.
    pub nr_free: C,
}

impl<C: AsRef<[u64]>> fmt::Display for FreeBlocks<C> {
    /// Writes the line without its newline; like the kernel's, it ends in a space.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Node {}, zone {:>8} ", self.node, self.zone.name())?;
        self.nr_free.as_ref().iter().try_for_each(|count| write!(f, "{count:6} "))
    }
}
