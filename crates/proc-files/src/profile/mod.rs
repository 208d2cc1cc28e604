//! Which fields a kernel prints: its release and the configuration it was built with.
//!
//! Read by every writer. Names live in one file a release; a field that only some configurations have names its need.
//! Linux 6.12: mm/vmstat.c, fs/proc/meminfo.c and their `#ifdef`s.

use crate::zoneinfo::PageSetLayout;

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

/// What one release prints, as names separated by blanks.
struct FieldSets {
    /// Counters of a zone, then its NUMA events.
    zone_stats: &'static [Names],
    /// Counters of a node.
    node_stats: &'static [Names],
    /// Thresholds and events of the whole machine, which only /proc/vmstat prints.
    events: &'static [Names],
    /// Fields of /proc/meminfo.
    meminfo: &'static [Names],
    /// Fields of a node's meminfo.
    node_meminfo: &'static [Names],
    /// Counters of the whole machine in a memory report, in pages; each string is a line.
    report_totals: &'static [&'static str],
    /// Counters of a node in a memory report, in kB.
    report_node: &'static [Names],
    /// Counters of a zone in a memory report, in kB.
    report_zone: &'static str,
}

/// Names that follow each other and need the same option.
struct Names {
    needs: Config,
    names: &'static str,
}

const fn always(names: &'static str) -> Names {
    Names { needs: Config::empty(), names }
}

const fn with(needs: Config, names: &'static str) -> Names {
    Names { needs, names }
}

impl Profile {
    /// Combines a release and a configuration.
    pub const fn new(release: Release, config: Config) -> Self {
        Self { release, config }
    }

    fn fields(self) -> &'static FieldSets {
        match self.release {
            Release::V6_1 => &v6_1::FIELDS,
            Release::V6_12 => &v6_12::FIELDS,
            Release::V6_18 => &v6_18::FIELDS,
        }
    }

    fn names(self, groups: &'static [Names]) -> impl Iterator<Item = &'static str> {
        let groups = groups.iter().filter(move |group| self.config.contains(group.needs));
        groups.flat_map(|group| group.names.split_ascii_whitespace())
    }

    /// Names of a zone's counters, NUMA events included, in the order of /proc/zoneinfo.
    pub fn zone_stats(self) -> impl Iterator<Item = &'static str> {
        self.names(self.fields().zone_stats)
    }

    /// Names of a node's counters, in the order of /proc/zoneinfo.
    pub fn node_stats(self) -> impl Iterator<Item = &'static str> {
        self.names(self.fields().node_stats)
    }

    /// Names of all counters in the order of /proc/vmstat.
    pub fn vmstat(self) -> impl Iterator<Item = &'static str> {
        self.zone_stats().chain(self.node_stats()).chain(self.names(self.fields().events))
    }

    /// Names of the fields of /proc/meminfo.
    pub fn meminfo(self) -> impl Iterator<Item = &'static str> {
        self.names(self.fields().meminfo)
    }

    /// Names of the fields of a node's meminfo.
    pub fn node_meminfo(self) -> impl Iterator<Item = &'static str> {
        self.names(self.fields().node_meminfo)
    }

    /// Names of the whole machine's counters in a memory report, a line at a time.
    pub(crate) fn report_totals(self) -> impl Iterator<Item = impl Iterator<Item = &'static str>> {
        self.fields().report_totals.iter().map(|line| line.split_ascii_whitespace())
    }

    /// Names of a node's counters in a memory report.
    pub(crate) fn report_node(self) -> impl Iterator<Item = &'static str> {
        self.names(self.fields().report_node)
    }

    /// Names of a zone's counters in a memory report.
    pub(crate) fn report_zone(self) -> impl Iterator<Item = &'static str> {
        self.fields().report_zone.split_ascii_whitespace()
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

#[cfg(test)]
mod tests {
    extern crate std;
    use std::vec::Vec;

    use super::*;

    const RELEASES: [Release; 3] = [Release::V6_1, Release::V6_12, Release::V6_18];

    fn vmstat(release: Release, config: Config) -> Vec<&'static str> {
        Profile::new(release, config).vmstat().collect()
    }

    #[test]
    fn no_release_prints_a_name_twice() {
        for release in RELEASES {
            let profile = Profile::new(release, Config::all());
            for names in
                [profile.vmstat().collect(), profile.meminfo().collect(), profile.node_meminfo().collect::<Vec<_>>()]
            {
                let mut unique = names.clone();
                unique.sort_unstable();
                unique.dedup();
                assert_eq!(unique.len(), names.len(), "{release:?}");
            }
        }
    }

    #[test]
    fn a_larger_configuration_only_adds_fields() {
        for release in RELEASES {
            let all = vmstat(release, Config::all());
            let mut left = all.iter();
            // In the same order, too.
            assert!(vmstat(release, Config::X86_64).iter().all(|name| left.any(|found| found == name)), "{release:?}");
            assert!(vmstat(release, Config::empty()).len() < all.len());
        }
    }

    #[test]
    fn fields_came_and_went_with_the_releases() {
        let has = |name: &str| RELEASES.map(|release| vmstat(release, Config::all()).contains(&name));
        assert_eq!(has("nr_bounce"), [true, true, false]);
        assert_eq!(has("nr_unaccepted"), [false, true, true]);
        assert_eq!(has("zone_reclaim_success"), [false, true, true]);
        assert_eq!(has("nr_memmap_boot_pages"), [false, true, true]);
        assert_eq!(has("nr_free_pages_blocks"), [false, false, true]);
        assert_eq!(has("pgsteal_proactive"), [false, false, true]);
        let meminfo =
            |name: &str| RELEASES.map(|release| Profile::new(release, Config::all()).meminfo().any(|n| n == name));
        assert_eq!(meminfo("Unaccepted"), [false, true, true]);
        assert_eq!(meminfo("Balloon"), [false, false, true]);
    }

    #[test]
    fn demotion_counters_moved_from_events_to_nodes() {
        let node = |release| Profile::new(release, Config::all()).node_stats().any(|name| name == "pgdemote_kswapd");
        assert_eq!(RELEASES.map(node), [false, true, true]);
        assert!(RELEASES.iter().all(|release| vmstat(*release, Config::all()).contains(&"pgdemote_kswapd")));
    }

    #[test]
    fn zones_have_counters_where_they_exist() {
        let config = Config::ZONE_DMA.union(Config::HIGHMEM);
        let allocs: Vec<_> =
            vmstat(Release::V6_12, config).into_iter().filter(|name| name.starts_with("pgalloc")).collect();
        assert_eq!(allocs, ["pgalloc_dma", "pgalloc_normal", "pgalloc_high", "pgalloc_movable"]);
    }
}
