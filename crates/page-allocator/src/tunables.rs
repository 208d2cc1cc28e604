//! The vm.* settings that the page allocator obeys, under their sysctl names.

use boot_memory::firmware::TransparentHugepage;
use units::ZoneType;

use crate::geometry::Geometry;
use crate::layout::{DEFAULT_BOOST_FACTOR, DEFAULT_RATIOS, DEFAULT_SCALE_FACTOR, Release, WatermarkRule};

/// Values of the sysctls, with Linux's defaults.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tunables {
    /// vm.min_free_kbytes; `None` computes it from the memory size.
    pub min_free_kbytes: Option<u64>,
    /// vm.watermark_scale_factor, in 1/10,000 of a zone's pages, 1 to 3000.
    pub watermark_scale_factor: u64,
    /// vm.watermark_boost_factor, in 1/10,000 of the high watermark; 0 switches boosting off.
    pub watermark_boost_factor: u64,
    /// vm.lowmem_reserve_ratio by zone: 1/ratio of the higher zones' pages is kept; 0 keeps none.
    pub lowmem_reserve_ratio: [u64; ZoneType::COUNT],
    /// vm.percpu_pagelist_high_fraction; 0 lets the limits follow the watermarks and the load.
    pub percpu_pagelist_high_fraction: u64,
    /// /sys/kernel/mm/transparent_hugepage/enabled: raises a vm.min_free_kbytes that nobody chose.
    pub transparent_hugepage: TransparentHugepage,
    /// log2 of how far a pcp batch may grow (Linux: CONFIG_PCP_BATCH_SCALE_MAX).
    pub pcp_batch_scale_max: u32,
}

impl Tunables {
    /// Returns what the watermarks of `zones`, kind and managed pages of each zone with memory, follow from: the chosen
    /// vm.min_free_kbytes, or the one that boot settles.
    pub fn watermark_rule(
        &self,
        zones: impl Iterator<Item = (ZoneType, u64)> + Clone,
        movable_source: ZoneType,
        geometry: Geometry,
        release: Release,
    ) -> WatermarkRule {
        let rule = WatermarkRule {
            min_free_kbytes: self.min_free_kbytes.unwrap_or_default(),
            scale_factor: self.watermark_scale_factor,
            page_shift: geometry.page_shift,
            movable_source,
            release,
        };
        match self.min_free_kbytes {
            Some(_) => rule,
            None => rule.settled(zones, self.transparent_hugepage, geometry.pageblock_pages()),
        }
    }
}

impl Default for Tunables {
    fn default() -> Self {
        Self {
            min_free_kbytes: None,
            watermark_scale_factor: DEFAULT_SCALE_FACTOR,
            watermark_boost_factor: DEFAULT_BOOST_FACTOR,
            lowmem_reserve_ratio: DEFAULT_RATIOS,
            percpu_pagelist_high_fraction: 0,
            transparent_hugepage: TransparentHugepage::default(),
            pcp_batch_scale_max: 5,
        }
    }
}
