//! Zonelists: in which order an allocation on a node tries the zones of the machine.
//!
//! A list is a plain slice of [`ZoneRef`]; the zones themselves are named by an index that the allocator chooses. After
//! memory is added or removed the lists are built again from scratch into the same storage.
//! Linux 6.12: mm/page_alloc.c (`build_zonerefs_node`, `build_all_zonelists`), include/linux/mmzone.h (`next_zones_zonelist`).

use units::{NodeId, NodeMask, ZoneType};

use super::zone_limits::ZoneSet;

/// Entry of a zonelist: which zone, and what a walk filters by.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ZoneRef {
    /// The allocator's own number of the zone.
    pub zone: u16,
    /// Node of the zone.
    pub node: NodeId,
    /// Kind of the zone.
    pub kind: ZoneType,
}

impl ZoneRef {
    /// Fills storage that no list reaches.
    pub const UNUSED: Self = Self { zone: u16::MAX, node: NodeId::ZERO, kind: ZoneType::Device };
}

/// Zones in the order in which an allocation tries them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Zonelist<'a>(&'a [ZoneRef]);

impl<'a> Zonelist<'a> {
    /// Takes entries that [`write_zonelist`] wrote.
    pub const fn new(entries: &'a [ZoneRef]) -> Self {
        Self(entries)
    }

    /// Returns all entries.
    pub const fn entries(self) -> &'a [ZoneRef] {
        self.0
    }

    /// Iterates over the zones of kind `highest` and lower on `nodes`, best first.
    ///
    /// The first one is the preferred zone (Linux: first_zones_zonelist). Cloning the iterator keeps a place in the list.
    #[inline]
    pub fn walk(self, highest: ZoneType, nodes: NodeMask) -> ZonelistWalk<'a> {
        ZonelistWalk { rest: self.0, highest, nodes }
    }
}

/// Walk over a zonelist. See [`Zonelist::walk`].
#[derive(Clone, Debug)]
pub struct ZonelistWalk<'a> {
    rest: &'a [ZoneRef],
    highest: ZoneType,
    nodes: NodeMask,
}

impl Iterator for ZonelistWalk<'_> {
    type Item = ZoneRef;

    #[inline]
    fn next(&mut self) -> Option<ZoneRef> {
        while let Some((&entry, rest)) = self.rest.split_first() {
            self.rest = rest;
            if entry.kind <= self.highest && self.nodes.contains(entry.node) {
                return Some(entry);
            }
        }
        None
    }
}

/// The two lists of one node, as parts of one table (Linux: ZONELIST_FALLBACK, ZONELIST_NOFALLBACK).
///
/// The node's own zones come first in its fallback order, but only if it has memory; `own` is kept apart for `__GFP_THISNODE`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct NodeZonelists {
    start: u16,
    fallback: u16,
    own: u16,
}

impl NodeZonelists {
    /// Entries of a table that has room for the lists of `nr_nodes` nodes with `nr_zones` zones in all.
    pub const fn table_len(nr_nodes: usize, nr_zones: usize) -> usize {
        nr_nodes * nr_zones + nr_zones
    }

    /// Returns the list with every zone of the machine.
    pub fn fallback(self, table: &[ZoneRef]) -> Zonelist<'_> {
        self.part(table, self.start, self.fallback)
    }

    /// Returns the list with the node's own zones only.
    pub fn this_node(self, table: &[ZoneRef]) -> Zonelist<'_> {
        self.part(table, self.start + self.fallback, self.own)
    }

    fn part(self, table: &[ZoneRef], start: u16, len: u16) -> Zonelist<'_> {
        let start = usize::from(start);
        Zonelist(table.get(start..start + usize::from(len)).unwrap_or(&[]))
    }
}

/// Table of zonelists while it is written: `table[..used]` holds finished lists.
#[derive(Debug)]
pub struct ZonelistWriter<'a> {
    table: &'a mut [ZoneRef],
    used: usize,
}

impl<'a> ZonelistWriter<'a> {
    /// Starts at the front of `table`, which needs [`NodeZonelists::table_len`] entries.
    pub const fn new(table: &'a mut [ZoneRef]) -> Self {
        Self { table, used: 0 }
    }

    /// Writes both lists of node `local`, whose fallback order is `order`.
    ///
    /// `zone_of` gives the number of a zone that has memory. Returns `None`, with the table unchanged in the used part, if
    /// there is no room.
    pub fn write(
        &mut self,
        local: NodeId,
        order: &[NodeId],
        configured: ZoneSet,
        zone_of: impl Fn(NodeId, ZoneType) -> Option<u16>,
    ) -> Option<NodeZonelists> {
        let start = self.used;
        let fallback = write_zonelist(self.table.get_mut(start..)?, order, configured, &zone_of)?;
        let own = write_zonelist(self.table.get_mut(start + fallback..)?, &[local], configured, &zone_of)?;
        let lists = NodeZonelists {
            start: u16::try_from(start).ok()?,
            fallback: u16::try_from(fallback).ok()?,
            own: u16::try_from(own).ok()?,
        };
        self.used = start + fallback + own;
        Some(lists)
    }
}

/// Writes the zones of `order`'s nodes into `entries`, highest kind first on each node; returns how many, `None` without room.
pub fn write_zonelist(
    entries: &mut [ZoneRef],
    order: &[NodeId],
    configured: ZoneSet,
    zone_of: impl Fn(NodeId, ZoneType) -> Option<u16>,
) -> Option<usize> {
    let mut len = 0;
    for &node in order {
        for kind in configured.iter().rev() {
            if let Some(zone) = zone_of(node, kind) {
                *entries.get_mut(len)? = ZoneRef { zone, node, kind };
                len += 1;
            }
        }
    }
    Some(len)
}

/// Returns the zone kind that memory policies apply to: the highest one with memory, Movable not counted.
///
/// Linux: policy_zone. The lowest kind configured if nothing has memory.
pub fn policy_zone(populated: impl Iterator<Item = ZoneType>, configured: ZoneSet) -> ZoneType {
    let lowest = configured.iter().next().unwrap_or(ZoneType::Normal);
    populated.filter(|&kind| kind != ZoneType::Movable).fold(lowest, ZoneType::max)
}

/// Whether free lists are kept by migratetype (Linux: page_group_by_mobility_disabled).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum MobilityGrouping {
    /// By migratetype.
    On,
    /// All memory counts as unmovable: there are too few pageblocks to keep the types apart.
    Off,
}

impl MobilityGrouping {
    /// Decides for a machine of `total_pages`: on, if every migratetype can have a pageblock.
    ///
    /// `nr_migrate_types` counts the types that the kernel was built with: 4, and one each for CMA and isolation.
    pub const fn decide(total_pages: u64, pageblock_pages: u64, nr_migrate_types: u64) -> Self {
        if total_pages < pageblock_pages * nr_migrate_types { Self::Off } else { Self::On }
    }
}
