//! One random call, independent of where anything lies: what it is made on is resolved when it is made.
//!
//! Used by `generate`, `host` and `ours`.

use address_space::{Advice, LockAllFlags, MapFlags, Prot, RemapFlags, SyncFlags};

/// First address of the pages that calls are mostly made on.
pub(super) const ARENA: u64 = 0x1000_0000_0000;
/// Pages of the arena.
pub(super) const ARENA_PAGES: u64 = 48;
/// Places for addresses that the kernels chose.
pub(super) const SLOTS: usize = 8;
/// Files that can be mapped.
pub(super) const FILES: u64 = 2;
/// Pages of each file.
pub(super) const FILE_PAGES: u64 = 16;

/// Generations below the first process.
pub(super) const MOST_CHILDREN: usize = 2;

/// An address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Place {
    /// Bytes into the arena.
    Arena(u64),
    /// Bytes into what a call returned earlier.
    Slot(usize, u64),
    /// This one.
    Exact(u64),
}

/// Addresses that calls returned, and how many bytes are there.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Slots([Option<(u64, u64)>; SLOTS]);

impl Slots {
    /// Keeps what a call returned.
    pub(super) fn keep(&mut self, slot: usize, addr: u64, bytes: u64) {
        if let Some(place) = self.0.get_mut(slot) {
            *place = Some((addr, bytes));
        }
    }

    /// Returns the address; `None` of a slot without one. With `len`, a range that would reach beyond the slot is `None`.
    pub(super) fn resolve(&self, place: Place, len: u64) -> Option<u64> {
        match place {
            Place::Arena(offset) => Some(ARENA + offset),
            Place::Exact(addr) => Some(addr),
            Place::Slot(slot, offset) => {
                let (addr, bytes) = self.0.get(slot).copied().flatten()?;
                (offset.checked_add(len)? <= bytes).then_some(addr + offset)
            }
        }
    }
}

/// A call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Operation {
    /// mmap; the result goes into a slot.
    Mmap { at: Place, len: u64, prot: Prot, flags: MapFlags, file: Option<u64>, offset: u64, slot: usize },
    /// munmap.
    Munmap { at: Place, len: u64 },
    /// mprotect.
    Mprotect { at: Place, len: u64, prot: Prot },
    /// mremap; the result goes into a slot.
    Mremap { at: Place, old_len: u64, new_len: u64, flags: RemapFlags, to: Place, slot: usize },
    /// madvise.
    Madvise { at: Place, len: u64, advice: Advice },
    /// mlock.
    Mlock { at: Place, len: u64 },
    /// mlock2 with MLOCK_ONFAULT.
    MlockOnFault { at: Place, len: u64 },
    /// munlock.
    Munlock { at: Place, len: u64 },
    /// mlockall.
    Mlockall { flags: LockAllFlags },
    /// munlockall.
    Munlockall,
    /// brk to so many bytes above where the heap began.
    Brk { bytes: u64 },
    /// msync.
    Msync { at: Place, len: u64, flags: SyncFlags },
    /// mseal.
    Mseal { at: Place, len: u64 },
    /// remap_file_pages.
    RemapFilePages { at: Place, len: u64, prot: Prot, pgoff: u64, flags: MapFlags },
    /// A byte is written by the kernel.
    Write { at: Place, byte: u8 },
    /// A byte is read by the kernel.
    Read { at: Place },
    /// The process reads a byte.
    Load { at: Place },
    /// The process writes a byte.
    Store { at: Place, byte: u8 },
    /// The process goes there, if nothing can be executed there.
    Fetch { at: Place },
    /// mincore.
    Mincore { at: Place, len: u64 },
    /// process_madvise of a process on itself.
    ProcessMadvise { ranges: [(Place, u64); 2], advice: Advice },
    /// The marks of writes are taken from all pages and areas (4 into /proc/PID/clear_refs).
    ClearMarks,
    /// ftruncate.
    Truncate { file: u64, bytes: u64 },
    /// A child is made, which makes the calls that follow; its parent waits.
    Fork,
    /// The child ends; its parent goes on.
    Exit,
}

impl Operation {
    /// Returns the name that `--only` selects.
    pub(super) const fn call(&self) -> &'static str {
        match self {
            Self::Mmap { .. } => "mmap",
            Self::Munmap { .. } => "munmap",
            Self::Mprotect { .. } => "mprotect",
            Self::Mremap { .. } => "mremap",
            Self::Madvise { .. } => "madvise",
            Self::Mlock { .. } => "mlock",
            Self::MlockOnFault { .. } => "mlock2",
            Self::Munlock { .. } => "munlock",
            Self::Mlockall { .. } => "mlockall",
            Self::Munlockall => "munlockall",
            Self::Brk { .. } => "brk",
            Self::Msync { .. } => "msync",
            Self::Mseal { .. } => "mseal",
            Self::RemapFilePages { .. } => "remap_file_pages",
            Self::Write { .. } => "write",
            Self::Read { .. } => "read",
            Self::Load { .. } => "load",
            Self::Store { .. } => "store",
            Self::Fetch { .. } => "fetch",
            Self::Mincore { .. } => "mincore",
            Self::ProcessMadvise { .. } => "process_madvise",
            Self::ClearMarks => "clear_refs",
            Self::Truncate { .. } => "ftruncate",
            Self::Fork => "fork",
            Self::Exit => "exit",
        }
    }
}
