//! Tables out of boot memory: allocates from memblock and hands the memory out as a slice.

use core::fmt;

use boot_memory::memblock::{AllocRequest, BootContext, BootLog, Memblock, MemblockError, RegionMemory};
use collections::BootSlice;
use platform::PhysMemory;
use units::{NodeId, PhysRange};

/// A table could not be allocated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ArenaError {
    /// memblock has no room.
    Memblock(MemblockError),
    /// The machine does not map the memory that memblock gave.
    NotMapped(PhysRange),
}

impl fmt::Display for ArenaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memblock(error) => error.fmt(f),
            Self::NotMapped(range) => write!(f, "boot memory at {range:?} is not mapped"),
        }
    }
}

impl core::error::Error for ArenaError {}

impl From<MemblockError> for ArenaError {
    fn from(error: MemblockError) -> Self {
        Self::Memblock(error)
    }
}

/// A memblock whose free memory nobody uses, from which tables are cut.
///
/// # Invariants
/// Memory that the memblock holds as free is touched by nobody else while the arena exists, and memory that it has reserved for
/// a table stays that table's.
pub struct BootArena<'a> {
    memblock: &'a mut Memblock,
    regions: &'a dyn RegionMemory,
    log: &'a mut dyn BootLog,
}

impl fmt::Debug for BootArena<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BootArena").field("memblock", &self.memblock).finish_non_exhaustive()
    }
}

impl<'a> BootArena<'a> {
    /// Takes over the free memory of `memblock`.
    ///
    /// # Safety
    /// What the memblock holds as free memory is memory of the machine that nobody else uses, now or while a table cut from it
    /// exists; the machine outlives the tables.
    pub unsafe fn new(memblock: &'a mut Memblock, regions: &'a dyn RegionMemory, log: &'a mut dyn BootLog) -> Self {
        // INVARIANT: the caller's contract.
        Self { memblock, regions, log }
    }

    /// Returns what is known about the machine's memory.
    pub const fn memblock(&self) -> &Memblock {
        self.memblock
    }

    /// Returns the boot log.
    pub fn log(&mut self) -> &mut dyn BootLog {
        self.log
    }

    /// Sets aside memory that is not touched, such as that behind frame descriptors.
    ///
    /// # Errors
    /// [`ArenaError`] if memblock has no room.
    pub fn reserve(&mut self, caller: &str, request: AllocRequest) -> Result<PhysRange, ArenaError> {
        let mut context = BootContext::new(self.regions, self.log, caller);
        Ok(self.memblock.alloc_try_nid_raw(&request, &mut context)?)
    }

    /// Gives memory that was set aside back to memblock (Linux: memblock_phys_free).
    ///
    /// # Errors
    /// [`ArenaError`] if the reserved regions need more room than there is.
    ///
    /// # Safety
    /// The range came from [`BootArena::reserve`], and nobody uses it.
    pub unsafe fn give_back(&mut self, caller: &str, range: PhysRange) -> Result<(), ArenaError> {
        let mut context = BootContext::new(self.regions, self.log, caller);
        Ok(self.memblock.phys_free(range.start, range.len(), &mut context)?)
    }

    /// Says that the descriptors of a range that was set aside are not to be initialised
    /// (Linux: memblock_reserved_mark_noinit).
    ///
    /// # Errors
    /// [`ArenaError`] if the reserved regions need more room than there is.
    pub fn leave_uninitialised(&mut self, caller: &str, range: PhysRange) -> Result<(), ArenaError> {
        let mut context = BootContext::new(self.regions, self.log, caller);
        Ok(self.memblock.reserved_mark_noinit(range.start, range.len(), &mut context)?)
    }

    /// Ends memblock's work: see [`Memblock::finish`].
    ///
    /// # Errors
    /// [`ArenaError`] if the reserved regions need more room than there is.
    pub fn finish(&mut self, caller: &str) -> Result<(), ArenaError> {
        let mut context = BootContext::new(self.regions, self.log, caller);
        Ok(self.memblock.finish(&mut context)?)
    }

    /// Allocates a table of `len` values, near `node` if given, and initialises it with `init(index)`.
    ///
    /// # Errors
    /// [`ArenaError`]; memory that cannot be reached stays reserved.
    pub fn table<T>(
        &mut self,
        memory: &impl PhysMemory,
        caller: &str,
        len: usize,
        node: Option<NodeId>,
        init: impl FnMut(usize) -> T,
    ) -> Result<BootSlice<T>, ArenaError> {
        if len == 0 || size_of::<T>() == 0 {
            return Ok(BootSlice::empty());
        }
        let align = (align_of::<T>() as u64).max(64);
        let request = AllocRequest { node, ..AllocRequest::new(BootSlice::<T>::bytes(len), align) };
        let range = self.reserve(caller, request)?;
        let start = memory.direct_map(range).ok_or(ArenaError::NotMapped(range))?;
        // SAFETY: memblock just gave the range, so by the type invariant nobody else uses it; it is aligned for `T`, as long as
        // `len` values, and mapped for as long as the machine lives.
        Ok(unsafe { BootSlice::init_raw(start.cast(), len, init) })
    }
}
