//! Tolerant parsers, for hosted tools.
//!
//! Each type reads one file with `parse(&str)` and prints it back byte for byte: lines in the kernel's form are printed
//! from what was read, others are kept. No input makes a parser panic; an error names line and column.

mod buddyinfo;
mod cursor;
mod error;
mod iomem;
mod kpageflags;
mod lines;
mod log;
mod maps;
mod meminfo;
mod numa_maps;
mod pagemap;
mod pagetypeinfo;
mod slabinfo;
mod smaps;
mod statm;
mod status;
mod vmallocinfo;
mod vmstat;
mod zoneinfo;

pub use buddyinfo::BuddyInfo;
pub(crate) use cursor::Cursor;
pub use error::ParseError;
pub use iomem::Iomem;
pub use kpageflags::PageRuns;
pub(crate) use lines::Lines;
pub use log::{Log, MemInfoReport, ReportNode, ReportZone, Trigger, TriggerKind};
pub use maps::Maps;
pub use meminfo::MemInfo;
pub use numa_maps::{NumaArea, NumaMaps};
pub use pagemap::{CutPagemap, Pagemap};
pub use pagetypeinfo::PageTypeInfo;
pub use slabinfo::{SlabCache, SlabInfo};
pub use smaps::{Smaps, SmapsArea};
pub use status::{Status, StatusLine};
pub use vmallocinfo::{VmallocArea, VmallocInfo};
pub use vmstat::VmStat;
pub use zoneinfo::{Zone, ZoneInfo};
