//! Page faults: the decision table, and what is done about each case.
//!
//! [`decide()`] looks at an access, an area and an entry, and says what has to happen; [`FaultContext::make_possible`] reads the entry, asks, and acts, until the access
//! can go on or is refused. [`MmPages`] is what calls on areas see as their page tables: unmapping, copying, protecting, populating.
//! Locking: the caller keeps the area as it is (its own lock for reading, or the address space's); entries change by compare-and-swap, and a
//! fault that finds another entry than it expected decides anew. Linux 6.12: mm/memory.c (`handle_mm_fault`, `handle_pte_fault`), mm/gup.c.
#![no_std]
#![forbid(unsafe_code)]

mod act;
mod around;
mod backing;
mod cached_files;
mod collapse;
mod context;
mod decide;
mod file_pages;
mod front_end;
mod huge;
mod wp;

pub use backing::MmPages;
pub use collapse::KhugepagedLimits;
pub use context::{FaultContext, FaultError};
pub use decide::{AccessKind, Behind, EntryState, FaultAction, MappedWhat, Situation, decide, may_force};
pub use file_pages::FilePages;
pub use front_end::{Arm64Abort, Signal, SignalCode, X86FaultCode};
