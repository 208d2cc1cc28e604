//! Address spaces: the areas of a process, and every call that changes them.
//!
//! [`Mm`] keeps areas in a range tree; objects and nodes come from slab caches. A [`Call`] is one system call under way: it checks its arguments in
//! Linux's order and changes areas; pages and files lie behind [`PageTables`] and [`Pager`], which the layers above implement.
//! Locking: a call holds the lock of its address space for writing ([`MmWrite`]) and locks each area that it changes; a fault locks its area alone
//! ([`Mm::lock_area`]), or the address space for reading. Every allocation can fail; each call says what has happened then.
//! Linux 6.12: mm/mmap.c, mm/vma.c, mm/mprotect.c, mm/mremap.c, mm/mlock.c, mm/madvise.c, mm/mseal.c, mm/msync.c, mm/util.c.
#![no_std]
#![forbid(unsafe_code)]

mod advise;
mod atomic;
mod backing;
mod call;
mod clear_refs;
mod counters;
mod edit;
mod error;
mod fault_entry;
mod flags;
mod heap;
mod huge;
mod lifetime;
mod limits;
mod lock;
mod lock_area;
mod map;
mod merge;
mod mm;
mod mm_flags;
mod mm_ref;
mod name;
mod overcommit;
mod place;
mod prctl;
mod program;
mod protect;
mod remap;
mod remap_file;
mod rmap;
mod seal;
mod spaces;
mod sync_call;
mod sysctl;
mod unmap;
mod vma;

pub use advise::{Advice, Whose};
pub use backing::{Access, FileFacts, FileTraits, PageAdvice, PageMark, PageTables, Pager, Reserve};
pub use call::Call;
pub use clear_refs::{BadClearRefs, ClearRefs};
pub use counters::VmCounters;
pub use error::{Absent, MmError};
pub use flags::{LockAllFlags, MapFlags, Prot, RemapFlags, SyncFlags};
pub use huge::{HugePolicy, HugeRules, HugeZeros};
pub use limits::{Limits, NO_LIMIT, Process, ProtectionKeys, Release, Rights, Settings, SwapSupport};
pub use lock::LockWhen;
pub use lock_area::{AreaRead, PrepareError};
pub use map::MapRequest;
pub use mm::{Mm, MmGuard, MmRead, MmState, MmWrite};
pub use mm_flags::MmFlags;
pub use mm_ref::{MmGrab, MmRef};
pub use name::AreaName;
pub use overcommit::{CommitRules, CommitSize, Overcommit, OvercommitMode};
pub use place::PlaceRequest;
pub use program::{Direction, MmapLayout, ProgramRanges};
pub use remap::RemapRequest;
pub use rmap::Mapped;
pub use spaces::AddressSpaces;
pub use vma::{AnonVma, AnonVmaId, FileId, PAGE_SHIFT, PAGE_SIZE, Vma, VmaSlot};
