//! Tolerant parsers, for hosted tools.
//!
//! Each type reads one file with `parse(&str)` and prints it back byte for byte: lines in the kernel's form are printed
//! from what was read, others are kept. No input makes a parser panic; an error names line and column.

mod buddyinfo;
mod cursor;
mod error;
mod lines;
mod log;
mod pagetypeinfo;
mod vmstat;
mod zoneinfo;

pub use buddyinfo::BuddyInfo;
pub(crate) use cursor::Cursor;
pub use error::ParseError;
pub(crate) use lines::Lines;
pub use log::{Log, MemInfoReport, ReportNode, ReportZone, Trigger, TriggerKind};
pub use pagetypeinfo::PageTypeInfo;
pub use vmstat::VmStat;
pub use zoneinfo::{Zone, ZoneInfo};
