//! /proc/pagetypeinfo: free blocks by order and migratetype, and pageblocks by migratetype.
//!
//! The kernel writes one section a node: [`Heading`], a [`FreeRow`] for each zone and type, [`BlocksHeading`], a
//! [`BlocksRow`] for each zone. Rows are values, so that a kernel without a heap can write them one at a time.
//! Linux 6.12: mm/vmstat.c (`pagetypeinfo_show`).

use core::fmt;

use units::{MigrateType, NodeId, Order, ZoneType};

/// Free blocks at which the kernel stops counting a list, because it holds the zone lock meanwhile.
const COUNT_LIMIT: u64 = 100_000;

/// Length of one free list, as far as the kernel counts it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FreeCount {
    /// The whole list was counted.
    Exact(u64),
    /// Counting stopped here; the list is at least this long. Printed with a `>` in front.
    Stopped(u64),
}

impl FreeCount {
    /// Makes the count that the kernel prints for a list of `nr_free` blocks.
    pub const fn capped(nr_free: u64) -> Self {
        if nr_free < COUNT_LIMIT { Self::Exact(nr_free) } else { Self::Stopped(COUNT_LIMIT) }
    }

    /// Returns the number as printed: the length, or the least length of a list whose counting stopped.
    pub const fn at_least(self) -> u64 {
        match self {
            Self::Exact(count) | Self::Stopped(count) => count,
        }
    }
}

impl fmt::Display for FreeCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(count) => write!(f, "{count:6}"),
            Self::Stopped(count) => write!(f, ">{count:6}"),
        }
    }
}

/// The lines above the free counts of a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Heading {
    /// Order of a pageblock.
    pub pageblock_order: Order,
    /// Largest order of the machine.
    pub max_order: Order,
}

impl fmt::Display for Heading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", BlockOrder(u64::from(self.pageblock_order.raw())))?;
        writeln!(f, "{}\n", PagesPerBlock(self.pageblock_order.nr_pages()))?;
        writeln!(f, "{}", OrderHeading(self.max_order))
    }
}

/// First line of a section.
pub(crate) struct BlockOrder(pub(crate) u64);

impl fmt::Display for BlockOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Page block order: {}", self.0)
    }
}

/// Second line of a section.
pub(crate) struct PagesPerBlock(pub(crate) u64);

impl fmt::Display for PagesPerBlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pages per block:  {}", self.0)
    }
}

/// Column heads of the free counts.
pub(crate) struct OrderHeading(pub(crate) Order);

impl fmt::Display for OrderHeading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<43} ", "Free pages count per migrate type at order")?;
        Order::ZERO.through(self.0).try_for_each(|order| write!(f, "{:6} ", order.raw()))
    }
}

/// Free lists of one migratetype of one zone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FreeRow<C> {
    /// Node of the zone.
    pub node: NodeId,
    /// Kind of the zone.
    pub zone: ZoneType,
    /// Migratetype of the lists.
    pub migrate_type: MigrateType,
    /// Length of the list of each order.
    pub nr_free: C,
}

impl<C: AsRef<[FreeCount]>> fmt::Display for FreeRow<C> {
    /// Writes the line without its newline.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Node {:>4}, zone {:>8}, ", self.node.raw(), self.zone.name())?;
        write!(f, "type {:>12} ", self.migrate_type.name())?;
        self.nr_free.as_ref().iter().try_for_each(|count| write!(f, "{count} "))
    }
}

/// Column heads of the pageblock counts, with the empty line above them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BlocksHeading<C> {
    /// Migratetypes of the machine's configuration, in numeric order.
    pub types: C,
}

impl<C: AsRef<[MigrateType]>> fmt::Display for BlocksHeading<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n{}", TypeHeading(self.types.as_ref()))
    }
}

/// The second of the lines of [`BlocksHeading`].
pub(crate) struct TypeHeading<C>(pub(crate) C);

impl<C: AsRef<[MigrateType]>> fmt::Display for TypeHeading<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<23}", "Number of blocks type ")?;
        self.0.as_ref().iter().try_for_each(|migrate_type| write!(f, "{:>12} ", migrate_type.name()))
    }
}

/// Pageblocks of one zone by migratetype.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BlocksRow<C> {
    /// Node of the zone.
    pub node: NodeId,
    /// Kind of the zone.
    pub zone: ZoneType,
    /// Number of pageblocks, in the order of [`BlocksHeading::types`].
    pub nr_blocks: C,
}

impl<C: AsRef<[u64]>> fmt::Display for BlocksRow<C> {
    /// Writes the line without its newline.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Node {}, zone {:>8} ", self.node, self.zone.name())?;
        self.nr_blocks.as_ref().iter().try_for_each(|count| write!(f, "{count:12} "))
    }
}
