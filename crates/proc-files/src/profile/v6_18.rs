//! Field names of Linux 6.18 in their order.
//!
//! Source: recorded on x86-64. That machine has no HighMem, CMA or unaccepted memory; their fields are those of 6.12,
//! and the memory report is that of published reports of 6.16 and 6.19.
//! Linux: mm/vmstat.c (`vmstat_text`), fs/proc/meminfo.c, drivers/base/node.c, mm/show_mem.c.

use super::{Config, FieldSets, Names, always, with};

pub(super) const FIELDS: FieldSets = FieldSets {
    zone_stats: ZONE_STATS,
    node_stats: NODE_STATS,
    events: EVENTS,
    meminfo: MEMINFO,
    node_meminfo: NODE_MEMINFO,
    report_totals: REPORT_TOTALS,
    report_node: REPORT_NODE,
    report_zone: REPORT_ZONE,
};

const ZONE_STATS: &[Names] = &[
    always(
        "nr_free_pages nr_free_pages_blocks nr_zone_inactive_anon nr_zone_active_anon nr_zone_inactive_file \
         nr_zone_active_file nr_zone_unevictable nr_zone_write_pending nr_mlock nr_zspages nr_free_cma",
    ),
    with(Config::UNACCEPTED, "nr_unaccepted"),
    with(Config::NUMA, "numa_hit numa_miss numa_foreign numa_interleave numa_local numa_other"),
];

const NODE_STATS: &[Names] = &[
    always(
        "nr_inactive_anon nr_active_anon nr_inactive_file nr_active_file nr_unevictable nr_slab_reclaimable \
         nr_slab_unreclaimable nr_isolated_anon nr_isolated_file workingset_nodes workingset_refault_anon \
         workingset_refault_file workingset_activate_anon workingset_activate_file workingset_restore_anon \
         workingset_restore_file workingset_nodereclaim nr_anon_pages nr_mapped nr_file_pages nr_dirty \
         nr_writeback nr_shmem nr_shmem_hugepages nr_shmem_pmdmapped nr_file_hugepages nr_file_pmdmapped \
         nr_anon_transparent_hugepages nr_vmscan_write nr_vmscan_immediate_reclaim nr_dirtied nr_written \
         nr_throttled_written nr_kernel_misc_reclaimable nr_foll_pin_acquired nr_foll_pin_released \
         nr_kernel_stack nr_page_table_pages nr_sec_page_table_pages",
    ),
    with(Config::IOMMU, "nr_iommu_pages"),
    always("nr_swapcached"),
    with(Config::NUMA_BALANCING, "pgpromote_success pgpromote_candidate pgpromote_candidate_nrl"),
    always(
        "pgdemote_kswapd pgdemote_direct pgdemote_khugepaged pgdemote_proactive nr_hugetlb nr_balloon_pages \
         nr_kernel_file_pages",
    ),
];

const EVENTS: &[Names] = &[
    always(
        "nr_dirty_threshold nr_dirty_background_threshold nr_memmap_pages nr_memmap_boot_pages pgpgin pgpgout \
         pswpin pswpout",
    ),
    with(Config::ZONE_DMA, "pgalloc_dma"),
    with(Config::ZONE_DMA32, "pgalloc_dma32"),
    always("pgalloc_normal"),
    with(Config::HIGHMEM, "pgalloc_high"),
    always("pgalloc_movable"),
    with(Config::ZONE_DEVICE, "pgalloc_device"),
    with(Config::ZONE_DMA, "allocstall_dma"),
    with(Config::ZONE_DMA32, "allocstall_dma32"),
    always("allocstall_normal"),
    with(Config::HIGHMEM, "allocstall_high"),
    always("allocstall_movable"),
    with(Config::ZONE_DEVICE, "allocstall_device"),
    with(Config::ZONE_DMA, "pgskip_dma"),
    with(Config::ZONE_DMA32, "pgskip_dma32"),
    always("pgskip_normal"),
    with(Config::HIGHMEM, "pgskip_high"),
    always("pgskip_movable"),
    with(Config::ZONE_DEVICE, "pgskip_device"),
    always(
        "pgfree pgactivate pgdeactivate pglazyfree pgfault pgmajfault pglazyfreed pgrefill pgreuse \
         pgsteal_kswapd pgsteal_direct pgsteal_khugepaged pgsteal_proactive pgscan_kswapd pgscan_direct \
         pgscan_khugepaged pgscan_proactive pgscan_direct_throttle pgscan_anon pgscan_file pgsteal_anon \
         pgsteal_file",
    ),
    with(Config::NUMA, "zone_reclaim_success zone_reclaim_failed"),
    always(
        "pginodesteal slabs_scanned kswapd_inodesteal kswapd_low_wmark_hit_quickly \
         kswapd_high_wmark_hit_quickly pageoutrun pgrotated drop_pagecache drop_slab oom_kill",
    ),
    with(
        Config::NUMA_BALANCING,
        "numa_pte_updates numa_huge_pte_updates numa_hint_faults numa_hint_faults_local numa_pages_migrated",
    ),
    always(
        "pgmigrate_success pgmigrate_fail thp_migration_success thp_migration_fail thp_migration_split \
         compact_migrate_scanned compact_free_scanned compact_isolated compact_stall compact_fail \
         compact_success compact_daemon_wake compact_daemon_migrate_scanned compact_daemon_free_scanned \
         htlb_buddy_alloc_success htlb_buddy_alloc_fail",
    ),
    with(Config::CMA, "cma_alloc_success cma_alloc_fail"),
    always(
        "unevictable_pgs_culled unevictable_pgs_scanned unevictable_pgs_rescued unevictable_pgs_mlocked \
         unevictable_pgs_munlocked unevictable_pgs_cleared unevictable_pgs_stranded thp_fault_alloc \
         thp_fault_fallback thp_fault_fallback_charge thp_collapse_alloc thp_collapse_alloc_failed \
         thp_file_alloc thp_file_fallback thp_file_fallback_charge thp_file_mapped thp_split_page \
         thp_split_page_failed thp_deferred_split_page thp_underused_split_page thp_split_pmd \
         thp_scan_exceed_none_pte thp_scan_exceed_swap_pte thp_scan_exceed_share_pte",
    ),
    with(Config::THP_PUD, "thp_split_pud"),
    always(
        "thp_zero_page_alloc thp_zero_page_alloc_failed thp_swpout thp_swpout_fallback balloon_inflate \
         balloon_deflate balloon_migrate swap_ra swap_ra_hit swpin_zero swpout_zero ksm_swpin_copy cow_ksm",
    ),
    with(Config::ZSWAP, "zswpin zswpout zswpwb"),
    with(
        Config::DIRECT_MAP,
        "direct_map_level2_splits direct_map_level3_splits direct_map_level2_collapses \
         direct_map_level3_collapses",
    ),
    always("nr_unstable"),
];

const MEMINFO: &[Names] = &[
    always(
        "MemTotal MemFree MemAvailable Buffers Cached SwapCached Active Inactive Active(anon) \
         Inactive(anon) Active(file) Inactive(file) Unevictable Mlocked",
    ),
    with(Config::HIGHMEM, "HighTotal HighFree LowTotal LowFree"),
    always("SwapTotal SwapFree"),
    with(Config::ZSWAP, "Zswap Zswapped"),
    always(
        "Dirty Writeback AnonPages Mapped Shmem KReclaimable Slab SReclaimable SUnreclaim KernelStack \
         PageTables SecPageTables NFS_Unstable Bounce WritebackTmp CommitLimit Committed_AS VmallocTotal \
         VmallocUsed VmallocChunk Percpu",
    ),
    with(Config::MEMORY_FAILURE, "HardwareCorrupted"),
    with(Config::THP, "AnonHugePages ShmemHugePages ShmemPmdMapped FileHugePages FilePmdMapped"),
    with(Config::CMA, "CmaTotal CmaFree"),
    with(Config::UNACCEPTED, "Unaccepted"),
    always("Balloon HugePages_Total HugePages_Free HugePages_Rsvd HugePages_Surp Hugepagesize Hugetlb"),
    with(Config::DIRECT_MAP, "DirectMap4k DirectMap2M"),
    with(Config::GIGABYTE_PAGES, "DirectMap1G"),
];

const NODE_MEMINFO: &[Names] = &[
    always(
        "MemTotal MemFree MemUsed SwapCached Active Inactive Active(anon) Inactive(anon) Active(file) \
         Inactive(file) Unevictable Mlocked",
    ),
    with(Config::HIGHMEM, "HighTotal HighFree LowTotal LowFree"),
    always(
        "Dirty Writeback FilePages Mapped AnonPages Shmem KernelStack PageTables SecPageTables NFS_Unstable \
         Bounce WritebackTmp KReclaimable Slab SReclaimable SUnreclaim",
    ),
    with(Config::THP, "AnonHugePages ShmemHugePages ShmemPmdMapped FileHugePages FilePmdMapped"),
    with(Config::UNACCEPTED, "Unaccepted"),
    always("HugePages_Total HugePages_Free HugePages_Surp"),
];

const REPORT_TOTALS: &[&str] = &[
    "active_anon inactive_anon isolated_anon",
    "active_file inactive_file isolated_file",
    "unevictable dirty writeback",
    "slab_reclaimable slab_unreclaimable",
    "mapped shmem pagetables",
    "sec_pagetables bounce",
    "kernel_misc_reclaimable",
    "free free_pcp free_cma",
];

const REPORT_NODE: &[Names] = &[
    always(
        "active_anon inactive_anon active_file inactive_file unevictable isolated(anon) isolated(file) mapped \
         dirty writeback shmem",
    ),
    with(Config::THP, "shmem_thp shmem_pmdmapped anon_thp"),
    always("kernel_stack pagetables sec_pagetables"),
];

const REPORT_ZONE: &str = "free boost min low high reserved_highatomic free_highatomic active_anon inactive_anon \
     active_file inactive_file unevictable writepending zspages present managed mlocked \
     bounce free_pcp local_pcp free_cma";
