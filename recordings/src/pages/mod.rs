//! Page-allocator traces of real kernels: events, the /proc files around them, and what follows from both.
//!
//! A recording is `NAME.trace.zst` with the directories `NAME.before` and `NAME.after`; data/README.md describes the
//! format. [`TraceReader`] streams the events, [`PfnKinds`] reads what each frame was used for.

mod cpu_nodes;
mod event;
mod free_map;
mod guided;
mod initial;
mod pcp_list;
mod pfn_kinds;
mod present;
mod profile;
mod recording;
mod snapshot;
mod trace;

pub use crate::input_error::{InputError, Place, read_text};
pub use crate::lines::Progress;
pub use cpu_nodes::{CpuListConflict, CpuNodeSource, CpuNodes};
pub use event::{Action, Batch, Context, Event, ExtFrag};
pub use free_map::{FreeBlock, FreeMap};
pub use guided::{GuidedCounts, GuidedOutcome, GuidedReplay, ZoneOutcome, pcp_holds};
pub use initial::{BulkPage, InitialBlock, InitialPageSet, InitialState, ListOrder, Surroundings};
pub use pcp_list::PcpList;
pub use pfn_kinds::PfnKinds;
pub use present::{PresentRange, present_ranges};
pub use proc_files::kpageflags::{PageKind, PageRun};
pub use recording::Recording;
pub use snapshot::{Snapshot, ZoneSnapshot};
pub use trace::{TraceHeader, TraceReader};
