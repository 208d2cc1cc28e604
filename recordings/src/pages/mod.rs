//! Page-allocator traces of real kernels: events, the /proc files around them, and what follows from both.
//!
//! A recording is `NAME.trace.zst` with the directories `NAME.before` and `NAME.after`; data/README.md describes the
//! format. [`TraceReader`] streams the events, [`PfnKinds`] reads what each frame was used for.

mod event;
mod fields;
mod free_map;
mod guided;
mod input_error;
mod lines;
mod pfn_kinds;
mod recording;
mod trace;

pub use event::{Action, Batch, Context, Event, ExtFrag};
pub use free_map::{FreeBlock, FreeMap};
pub use guided::{GuidedCounts, GuidedOutcome, GuidedReplay, pcp_holds};
pub use input_error::{InputError, Place};
pub use lines::Progress;
pub use pfn_kinds::{KindRun, PageKind, PfnKinds};
pub use recording::Recording;
pub use trace::{TraceHeader, TraceReader};
