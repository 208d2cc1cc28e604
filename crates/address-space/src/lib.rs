//! Address spaces: the areas of a process, and every call that changes them.
//!
//! [`Mm`] keeps areas in a range tree; objects and nodes come from slab caches. A [`Call`] is one system call under way: it checks its arguments in
//! Linux's order and changes areas; pages and files lie behind [`PageTables`] and [`Pager`], which the layers above implement.
//! Locking: `&mut Mm` is the lock of an address space. Every allocation can fail; each call says what has happened then.
//! Linux 6.12: mm/mmap.c, mm/vma.c, mm/mprotect.c, mm/mremap.c, mm/mlock.c, mm/madvise.c, mm/mseal.c, mm/msync.c, mm/util.c.
#![no_std]
#![forbid(unsafe_code)]

mod advise;
mod backing;
mod edit;
mod error;
mod fault_entry;
mod flags;
mod heap;
mod lifetime;
mod limits;
mod lock;
mod map;
mod merge;
mod mm;
mod name;
mod overcommit;
mod place;
mod protect;
mod remap;
mod seal;
mod sync_call;
mod unmap;
mod vma;

pub use advise::Advice;
pub use backing::{Access, FileFacts, FileTraits, PageAdvice, PageTables, Pager, Reserve};
pub use error::{Absent, MmError};
pub use flags::{LockAllFlags, MapFlags, Prot, RemapFlags, SyncFlags};
pub use limits::{HugePolicy, Limits, NO_LIMIT, Process, Release, Rights, Settings, SwapSupport};
pub use lock::LockWhen;
pub use map::MapRequest;
pub use mm::{AddressSpaces, Call, Direction, Mm, MmapLayout, ProgramRanges, VmCounters};
pub use name::AreaName;
pub use overcommit::{CommitRules, Overcommit, OvercommitMode};
pub use place::PlaceRequest;
pub use remap::RemapRequest;
pub use vma::{AnonVma, AnonVmaId, FileId, PAGE_SHIFT, PAGE_SIZE, Vma, VmaSlot};
