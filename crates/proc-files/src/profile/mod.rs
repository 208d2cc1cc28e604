//! Which fields a kernel prints: its release and the configuration it was built with.
//!
//! Read by every writer. Counter names live in one table a release; a field that only some configurations have names its
//! need. Linux 6.12: mm/vmstat.c, fs/proc/meminfo.c and their `#ifdef`s.

use crate::zoneinfo::PageSetLayout;

mod meminfo;
mod v6_1;
mod v6_12;
mod v6_18;

bitflags::bitflags! {
    /// Build options that add fields.
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
    pub struct Config: u32 {
        /// More than one node is possible.
        const NUMA = 1 << 0;
        /// Pages migrate to the node that uses them.
        const NUMA_BALANCING = 1 << 1;
        /// There is a DMA zone.
        const ZONE_DMA = 1 << 2;
        /// There is a DMA32 zone.
        const ZONE_DMA32 = 1 << 3;
        /// There is a HighMem zone.
        const HIGHMEM = 1 << 4;
        /// There is a Device zone.
        const ZONE_DEVICE = 1 << 5;
        /// Contiguous-memory areas.
        const CMA = 1 << 6;
        /// Compressed swap cache.
        const ZSWAP = 1 << 7;
        /// Pages with hardware errors are taken out of use.
        const MEMORY_FAILURE = 1 << 8;
        /// Memory that the hypervisor hands over on first use.
        const UNACCEPTED = 1 << 9;
        /// Transparent huge pages of the third level.
        const THP_PUD = 1 << 10;
        /// Transparent huge pages.
        const THP = 1 << 11;
        /// x86: the direct map's page sizes are counted.
        const DIRECT_MAP = 1 << 12;
        /// x86-64: the direct map may use 1 GiB pages.
        const GIGABYTE_PAGES = 1 << 13;
        /// Pages of I/O page tables are counted.
        const IOMMU = 1 << 14;
    }
}

impl Config {
    /// The options of a distribution's x86-64 kernel.
    pub const X86_64: Self = Self::NUMA
        .union(Self::NUMA_BALANCING)
        .union(Self::ZONE_DMA)
        .union(Self::ZONE_DMA32)
        .union(Self::ZONE_DEVICE)
        .union(Self::CMA)
        .union(Self::ZSWAP)
        .union(Self::MEMORY_FAILURE)
        .union(Self::THP)
        .union(Self::THP_PUD)
        .union(Self::DIRECT_MAP)
        .union(Self::GIGABYTE_PAGES)
        .union(Self::IOMMU);
}

/// Linux release whose field sets and wording are printed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Release {
    /// Linux 6.1.
    V6_1,
    /// Linux 6.12.
    V6_12,
    /// Linux 6.18.
    V6_18,
}

/// A release built with a configuration.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Profile {
    /// Release.
    pub release: Release,
    /// Build options.
    pub config: Config,
}

/// A field's name and the option it needs.
struct Field {
    name: &'static str,
    needs: Config,
}

const fn always(name: &'static str) -> Field {
    Field { name, needs: Config::empty() }
}

const fn with(name: &'static str, needs: Config) -> Field {
    Field { name, needs }
}

impl Profile {
    /// Combines a release and a configuration.
    pub const fn new(release: Release, config: Config) -> Self {
        Self { release, config }
    }

    fn names(self, table: &'static [Field]) -> impl Iterator<Item = &'static str> {
        table.iter().filter(move |field| self.config.contains(field.needs)).map(|field| field.name)
    }

    /// Names of a zone's counters, NUMA events included, in the order of /proc/zoneinfo.
    pub fn zone_stats(self) -> impl Iterator<Item = &'static str> {
        self.names(match self.release {
            Release::V6_1 => v6_1::ZONE_STATS,
            Release::V6_12 => v6_12::ZONE_STATS,
            Release::V6_18 => v6_18::ZONE_STATS,
        })
    }

    /// Names of a node's counters, in the order of /proc/zoneinfo.
    pub fn node_stats(self) -> impl Iterator<Item = &'static str> {
        self.names(match self.release {
            Release::V6_1 => v6_1::NODE_STATS,
            Release::V6_12 => v6_12::NODE_STATS,
            Release::V6_18 => v6_18::NODE_STATS,
        })
    }

    /// Names of all counters in the order of /proc/vmstat.
    pub fn vmstat(self) -> impl Iterator<Item = &'static str> {
        let events = self.names(match self.release {
            Release::V6_1 => v6_1::EVENTS,
            Release::V6_12 => v6_12::EVENTS,
            Release::V6_18 => v6_18::EVENTS,
        });
        self.zone_stats().chain(self.node_stats()).chain(events)
    }

    fn names_since(self, table: &'static [meminfo::Since]) -> impl Iterator<Item = &'static str> {
        let known = table.iter().filter(move |(since, _)| *since <= self.release).map(|(_, field)| field);
        known.filter(move |field| self.config.contains(field.needs)).map(|field| field.name)
    }

    /// Names of the fields of /proc/meminfo.
    pub fn meminfo(self) -> impl Iterator<Item = &'static str> {
        self.names_since(meminfo::MACHINE)
    }

    /// Names of the fields of a node's meminfo.
    pub fn node_meminfo(self) -> impl Iterator<Item = &'static str> {
        self.names_since(meminfo::NODE)
    }

    /// Names of the whole machine's counters in a memory report, line by line.
    pub(crate) fn report_totals(self) -> &'static [&'static [&'static str]] {
        match self.release {
            Release::V6_1 => v6_1::REPORT_TOTALS,
            Release::V6_12 => v6_12::REPORT_TOTALS,
            Release::V6_18 => v6_18::REPORT_TOTALS,
        }
    }

    /// Names of a node's counters in a memory report.
    pub(crate) fn report_node(self) -> impl Iterator<Item = &'static str> {
        self.names(match self.release {
            Release::V6_1 => v6_1::REPORT_NODE,
            Release::V6_12 => v6_12::REPORT_NODE,
            Release::V6_18 => v6_18::REPORT_NODE,
        })
    }

    /// Names of a zone's counters in a memory report.
    pub(crate) fn report_zone(self) -> &'static [&'static str] {
        match self.release {
            Release::V6_1 => v6_1::REPORT_ZONE,
            Release::V6_12 => v6_12::REPORT_ZONE,
            Release::V6_18 => v6_18::REPORT_ZONE,
        }
    }

    /// Returns true if /proc/zoneinfo shows the promotion watermark (from 6.12).
    pub(crate) fn prints_promo(self) -> bool {
        self.release >= Release::V6_12
    }

    /// Returns the columns of /proc/zoneinfo's page sets (the bounds of `high` are shown from 6.13).
    pub(crate) fn pageset_layout(self) -> PageSetLayout {
        if self.release >= Release::V6_18 { PageSetLayout::Tuned } else { PageSetLayout::Fixed }
    }
}
