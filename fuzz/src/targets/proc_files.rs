//! Parsers of /proc files. What is accepted has to print back byte for byte.

use proc_files::parse::{BuddyInfo, PageTypeInfo, VmStat, ZoneInfo};

use super::{Target, outcome};
use crate::corpus::Seed;

macro_rules! round_trip {
    ($parser:ty) => {
        |input| {
            let text = String::from_utf8_lossy(input);
            outcome(<$parser>::parse(&text).inspect(|parsed| assert_eq!(parsed.to_string(), text, "printed differs")))
        }
    };
}

/// `BuddyInfo`.
pub(super) const BUDDYINFO: Target = Target {
    name: "buddyinfo",
    seeds: &[Seed::Each("data/pages", "buddyinfo"), Seed::Each("data/boots", "buddyinfo")],
    tokens: &["Node 0, zone ", "DMA32", "Normal", "Movable", "HighMem", "Device", "\n", "  "],
    run: round_trip!(BuddyInfo),
};

/// `PageTypeInfo`.
pub(super) const PAGETYPEINFO: Target = Target {
    name: "pagetypeinfo",
    seeds: &[Seed::Each("data/pages", "pagetypeinfo"), Seed::Each("data/boots", "pagetypeinfo")],
    tokens: &[
        "Page block order: ",
        "Pages per block:  ",
        "Free pages count",
        ", type ",
        "Number of blocks type",
        ">",
        "Isolate",
    ],
    run: round_trip!(PageTypeInfo),
};

/// `ZoneInfo`.
pub(super) const ZONEINFO: Target = Target {
    name: "zoneinfo",
    seeds: &[Seed::Each("data/pages", "zoneinfo"), Seed::Each("data/boots", "zoneinfo")],
    tokens: &[
        "Node ",
        ", zone ",
        "pages free",
        "protection: (",
        "pagesets",
        "cpu: ",
        "high_max:",
        "nr_free_pages ",
        "per-node stats",
    ],
    run: round_trip!(ZoneInfo),
};

/// `VmStat`.
pub(super) const VMSTAT: Target = Target {
    name: "vmstat",
    seeds: &[Seed::Each("data/pages", "vmstat"), Seed::Each("data/boots", "vmstat")],
    tokens: &["nr_free_pages ", "pgalloc_dma ", "\n", " "],
    run: round_trip!(VmStat),
};
