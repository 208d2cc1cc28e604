//! Processes of real kernels: their system calls and faults, and what /proc said of them at each exec and exit.
//!
//! A recording is `NAME.vmtrace.zst` with the directory `NAME.vm`; data/README.md describes the format. [`TraceReader`] streams the
//! events in the order in which they happened, [`Recording`] reads the states beside them. Used by the replay of processes.

mod call;
mod event;
mod recording;
mod state;
#[cfg(test)]
mod tests;
mod trace;

pub use crate::input_error::{InputError, Place};
pub use crate::lines::Progress;
pub use call::{Call, CallName};
pub use event::{Action, CallResult, Event, FaultError, MappedFile, MmId, RssMember, TaskId};
pub use recording::{Moment, Recording};
pub use state::{Counts, ProcessState};
pub use trace::{TraceHeader, TraceReader};
