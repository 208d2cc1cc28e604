//! Names of the counters: those of a node, of a zone, and events of the whole machine.
//!
//! Linux 6.12: `enum node_stat_item`, `enum zone_stat_item`, `enum vm_event_item`, `vmstat_text`. Free pages and the events of allocation are not
//! among them: the page allocator counts those itself.

/// Defines an enumeration of counters with their names in /proc/vmstat.
macro_rules! counters {
    ($(#[$doc:meta])* $name:ident { $($variant:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        #[repr(u8)]
        pub enum $name {
            $(#[doc = concat!("`", $text, "`")] $variant,)*
        }

        impl $name {
            /// All counters, in the order of /proc/vmstat.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// Number of counters.
            pub const COUNT: usize = Self::ALL.len();

            /// Returns the name in /proc/vmstat.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)*
                }
            }

            /// Finds a counter by its name in /proc/vmstat.
            pub fn from_name(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|counter| counter.name() == name)
            }

            pub(super) const fn index(self) -> usize {
                self as usize
            }
        }
    };
}

counters! {
    /// Counters of a node, in pages where a name says so.
    NodeItem {
        NrInactiveAnon = "nr_inactive_anon",
        NrActiveAnon = "nr_active_anon",
        NrInactiveFile = "nr_inactive_file",
        NrActiveFile = "nr_active_file",
        NrUnevictable = "nr_unevictable",
        NrSlabReclaimable = "nr_slab_reclaimable",
        NrSlabUnreclaimable = "nr_slab_unreclaimable",
        NrIsolatedAnon = "nr_isolated_anon",
        NrIsolatedFile = "nr_isolated_file",
        WorkingsetNodes = "workingset_nodes",
        WorkingsetRefaultAnon = "workingset_refault_anon",
        WorkingsetRefaultFile = "workingset_refault_file",
        WorkingsetActivateAnon = "workingset_activate_anon",
        WorkingsetActivateFile = "workingset_activate_file",
        WorkingsetRestoreAnon = "workingset_restore_anon",
        WorkingsetRestoreFile = "workingset_restore_file",
        WorkingsetNodereclaim = "workingset_nodereclaim",
        NrAnonPages = "nr_anon_pages",
        NrMapped = "nr_mapped",
        NrFilePages = "nr_file_pages",
        NrDirty = "nr_dirty",
        NrWriteback = "nr_writeback",
        NrWritebackTemp = "nr_writeback_temp",
        NrShmem = "nr_shmem",
        NrShmemHugepages = "nr_shmem_hugepages",
        NrShmemPmdmapped = "nr_shmem_pmdmapped",
        NrFileHugepages = "nr_file_hugepages",
        NrFilePmdmapped = "nr_file_pmdmapped",
        NrAnonTransparentHugepages = "nr_anon_transparent_hugepages",
        NrVmscanWrite = "nr_vmscan_write",
        NrVmscanImmediateReclaim = "nr_vmscan_immediate_reclaim",
        NrDirtied = "nr_dirtied",
        NrWritten = "nr_written",
        NrThrottledWritten = "nr_throttled_written",
        NrKernelMiscReclaimable = "nr_kernel_misc_reclaimable",
        NrFollPinAcquired = "nr_foll_pin_acquired",
        NrFollPinReleased = "nr_foll_pin_released",
        NrKernelStack = "nr_kernel_stack",
        NrPageTablePages = "nr_page_table_pages",
        NrSecPageTablePages = "nr_sec_page_table_pages",
        NrIommuPages = "nr_iommu_pages",
        NrSwapcached = "nr_swapcached",
        PgpromoteSuccess = "pgpromote_success",
        PgpromoteCandidate = "pgpromote_candidate",
        PgdemoteKswapd = "pgdemote_kswapd",
        PgdemoteDirect = "pgdemote_direct",
        PgdemoteKhugepaged = "pgdemote_khugepaged",
    }
}

counters! {
    /// Counters of a zone, in pages where a name says so.
    ZoneItem {
        NrZoneInactiveAnon = "nr_zone_inactive_anon",
        NrZoneActiveAnon = "nr_zone_active_anon",
        NrZoneInactiveFile = "nr_zone_inactive_file",
        NrZoneActiveFile = "nr_zone_active_file",
        NrZoneUnevictable = "nr_zone_unevictable",
        NrZoneWritePending = "nr_zone_write_pending",
        NrMlock = "nr_mlock",
        NrBounce = "nr_bounce",
        NrZspages = "nr_zspages",
        NrUnaccepted = "nr_unaccepted",
    }
}

counters! {
    /// Events, which only ever grow.
    VmEvent {
        Pgpgin = "pgpgin",
        Pgpgout = "pgpgout",
        Pswpin = "pswpin",
        Pswpout = "pswpout",
        AllocstallDma = "allocstall_dma",
        AllocstallDma32 = "allocstall_dma32",
        AllocstallNormal = "allocstall_normal",
        AllocstallHigh = "allocstall_high",
        AllocstallMovable = "allocstall_movable",
        AllocstallDevice = "allocstall_device",
        PgskipDma = "pgskip_dma",
        PgskipDma32 = "pgskip_dma32",
        PgskipNormal = "pgskip_normal",
        PgskipHigh = "pgskip_high",
        PgskipMovable = "pgskip_movable",
        PgskipDevice = "pgskip_device",
        Pgactivate = "pgactivate",
        Pgdeactivate = "pgdeactivate",
        Pglazyfree = "pglazyfree",
        Pgfault = "pgfault",
        Pgmajfault = "pgmajfault",
        Pglazyfreed = "pglazyfreed",
        Pgrefill = "pgrefill",
        Pgreuse = "pgreuse",
        PgstealKswapd = "pgsteal_kswapd",
        PgstealDirect = "pgsteal_direct",
        PgstealKhugepaged = "pgsteal_khugepaged",
        PgscanKswapd = "pgscan_kswapd",
        PgscanDirect = "pgscan_direct",
        PgscanKhugepaged = "pgscan_khugepaged",
        PgscanDirectThrottle = "pgscan_direct_throttle",
        PgscanAnon = "pgscan_anon",
        PgscanFile = "pgscan_file",
        PgstealAnon = "pgsteal_anon",
        PgstealFile = "pgsteal_file",
        ZoneReclaimSuccess = "zone_reclaim_success",
        ZoneReclaimFailed = "zone_reclaim_failed",
        Pginodesteal = "pginodesteal",
        SlabsScanned = "slabs_scanned",
        KswapdInodesteal = "kswapd_inodesteal",
        KswapdLowWmarkHitQuickly = "kswapd_low_wmark_hit_quickly",
        KswapdHighWmarkHitQuickly = "kswapd_high_wmark_hit_quickly",
        Pageoutrun = "pageoutrun",
        Pgrotated = "pgrotated",
        DropPagecache = "drop_pagecache",
        DropSlab = "drop_slab",
        OomKill = "oom_kill",
        NumaPteUpdates = "numa_pte_updates",
        NumaHugePteUpdates = "numa_huge_pte_updates",
        NumaHintFaults = "numa_hint_faults",
        NumaHintFaultsLocal = "numa_hint_faults_local",
        NumaPagesMigrated = "numa_pages_migrated",
        PgmigrateSuccess = "pgmigrate_success",
        PgmigrateFail = "pgmigrate_fail",
        ThpMigrationSuccess = "thp_migration_success",
        ThpMigrationFail = "thp_migration_fail",
        ThpMigrationSplit = "thp_migration_split",
        CompactMigrateScanned = "compact_migrate_scanned",
        CompactFreeScanned = "compact_free_scanned",
        CompactIsolated = "compact_isolated",
        CompactStall = "compact_stall",
        CompactFail = "compact_fail",
        CompactSuccess = "compact_success",
        CompactDaemonWake = "compact_daemon_wake",
        CompactDaemonMigrateScanned = "compact_daemon_migrate_scanned",
        CompactDaemonFreeScanned = "compact_daemon_free_scanned",
        HtlbBuddyAllocSuccess = "htlb_buddy_alloc_success",
        HtlbBuddyAllocFail = "htlb_buddy_alloc_fail",
        CmaAllocSuccess = "cma_alloc_success",
        CmaAllocFail = "cma_alloc_fail",
        UnevictablePgsCulled = "unevictable_pgs_culled",
        UnevictablePgsScanned = "unevictable_pgs_scanned",
        UnevictablePgsRescued = "unevictable_pgs_rescued",
        UnevictablePgsMlocked = "unevictable_pgs_mlocked",
        UnevictablePgsMunlocked = "unevictable_pgs_munlocked",
        UnevictablePgsCleared = "unevictable_pgs_cleared",
        UnevictablePgsStranded = "unevictable_pgs_stranded",
        ThpFaultAlloc = "thp_fault_alloc",
        ThpFaultFallback = "thp_fault_fallback",
        ThpFaultFallbackCharge = "thp_fault_fallback_charge",
        ThpCollapseAlloc = "thp_collapse_alloc",
        ThpCollapseAllocFailed = "thp_collapse_alloc_failed",
        ThpFileAlloc = "thp_file_alloc",
        ThpFileFallback = "thp_file_fallback",
        ThpFileFallbackCharge = "thp_file_fallback_charge",
        ThpFileMapped = "thp_file_mapped",
        ThpSplitPage = "thp_split_page",
        ThpSplitPageFailed = "thp_split_page_failed",
        ThpDeferredSplitPage = "thp_deferred_split_page",
        ThpUnderusedSplitPage = "thp_underused_split_page",
        ThpSplitPmd = "thp_split_pmd",
        ThpScanExceedNonePte = "thp_scan_exceed_none_pte",
        ThpScanExceedSwapPte = "thp_scan_exceed_swap_pte",
        ThpScanExceedSharePte = "thp_scan_exceed_share_pte",
        ThpSplitPud = "thp_split_pud",
        ThpZeroPageAlloc = "thp_zero_page_alloc",
        ThpZeroPageAllocFailed = "thp_zero_page_alloc_failed",
        ThpSwpout = "thp_swpout",
        ThpSwpoutFallback = "thp_swpout_fallback",
        BalloonInflate = "balloon_inflate",
        BalloonDeflate = "balloon_deflate",
        BalloonMigrate = "balloon_migrate",
        SwapRa = "swap_ra",
        SwapRaHit = "swap_ra_hit",
        SwpinZero = "swpin_zero",
        SwpoutZero = "swpout_zero",
        KsmSwpinCopy = "ksm_swpin_copy",
        CowKsm = "cow_ksm",
        Zswpin = "zswpin",
        Zswpout = "zswpout",
        Zswpwb = "zswpwb",
        DirectMapLevel2Splits = "direct_map_level2_splits",
        DirectMapLevel3Splits = "direct_map_level3_splits",
    }
}
