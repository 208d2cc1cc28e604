//! Field names of /proc/meminfo and of the nodes' meminfo files, in their order.
//!
//! One table serves all releases, because fields were only added. Source: recordings of 6.1 and 6.18, and published
//! files of the releases between for `Unaccepted`. Read by `profile` only.
//! Linux: fs/proc/meminfo.c, drivers/base/node.c.

use super::{Config, Field, Release, always, with};

/// Field with the release that added it.
pub(super) type Since = (Release, Field);

const fn old(name: &'static str) -> Since {
    (Release::V6_1, always(name))
}

const fn old_with(name: &'static str, needs: Config) -> Since {
    (Release::V6_1, with(name, needs))
}

/// Fields of /proc/meminfo.
pub(super) const MACHINE: &[Since] = &[
    old("MemTotal"),
    old("MemFree"),
    old("MemAvailable"),
    old("Buffers"),
    old("Cached"),
    old("SwapCached"),
    old("Active"),
    old("Inactive"),
    old("Active(anon)"),
    old("Inactive(anon)"),
    old("Active(file)"),
    old("Inactive(file)"),
    old("Unevictable"),
    old("Mlocked"),
    old_with("HighTotal", Config::HIGHMEM),
    old_with("HighFree", Config::HIGHMEM),
    old_with("LowTotal", Config::HIGHMEM),
    old_with("LowFree", Config::HIGHMEM),
    old("SwapTotal"),
    old("SwapFree"),
    old_with("Zswap", Config::ZSWAP),
    old_with("Zswapped", Config::ZSWAP),
    old("Dirty"),
    old("Writeback"),
    old("AnonPages"),
    old("Mapped"),
    old("Shmem"),
    old("KReclaimable"),
    old("Slab"),
    old("SReclaimable"),
    old("SUnreclaim"),
    old("KernelStack"),
    old("PageTables"),
    old("SecPageTables"),
    old("NFS_Unstable"),
    old("Bounce"),
    old("WritebackTmp"),
    old("CommitLimit"),
    old("Committed_AS"),
    old("VmallocTotal"),
    old("VmallocUsed"),
    old("VmallocChunk"),
    old("Percpu"),
    old_with("HardwareCorrupted", Config::MEMORY_FAILURE),
    old_with("AnonHugePages", Config::THP),
    old_with("ShmemHugePages", Config::THP),
    old_with("ShmemPmdMapped", Config::THP),
    old_with("FileHugePages", Config::THP),
    old_with("FilePmdMapped", Config::THP),
    old_with("CmaTotal", Config::CMA),
    old_with("CmaFree", Config::CMA),
    (Release::V6_12, with("Unaccepted", Config::UNACCEPTED)),
    (Release::V6_18, always("Balloon")),
    old("HugePages_Total"),
    old("HugePages_Free"),
    old("HugePages_Rsvd"),
    old("HugePages_Surp"),
    old("Hugepagesize"),
    old("Hugetlb"),
    old_with("DirectMap4k", Config::DIRECT_MAP),
    old_with("DirectMap2M", Config::DIRECT_MAP),
    old_with("DirectMap1G", Config::GIGABYTE_PAGES),
];

/// Fields of /sys/devices/system/node/nodeN/meminfo.
pub(super) const NODE: &[Since] = &[
    old("MemTotal"),
    old("MemFree"),
    old("MemUsed"),
    old("SwapCached"),
    old("Active"),
    old("Inactive"),
    old("Active(anon)"),
    old("Inactive(anon)"),
    old("Active(file)"),
    old("Inactive(file)"),
    old("Unevictable"),
    old("Mlocked"),
    old_with("HighTotal", Config::HIGHMEM),
    old_with("HighFree", Config::HIGHMEM),
    old_with("LowTotal", Config::HIGHMEM),
    old_with("LowFree", Config::HIGHMEM),
    old("Dirty"),
    old("Writeback"),
    old("FilePages"),
    old("Mapped"),
    old("AnonPages"),
    old("Shmem"),
    old("KernelStack"),
    old("PageTables"),
    old("SecPageTables"),
    old("NFS_Unstable"),
    old("Bounce"),
    old("WritebackTmp"),
    old("KReclaimable"),
    old("Slab"),
    old("SReclaimable"),
    old("SUnreclaim"),
    old_with("AnonHugePages", Config::THP),
    old_with("ShmemHugePages", Config::THP),
    old_with("ShmemPmdMapped", Config::THP),
    old_with("FileHugePages", Config::THP),
    old_with("FilePmdMapped", Config::THP),
    (Release::V6_12, with("Unaccepted", Config::UNACCEPTED)),
    old("HugePages_Total"),
    old("HugePages_Free"),
    old("HugePages_Surp"),
];
