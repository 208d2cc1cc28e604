//! What a memblock call gets from its caller: room for grown arrays, a log, and the caller's name.

use core::fmt;

use collections::BootSlice;
use units::PhysRange;

use super::region::Region;

/// Turns boot memory into region arrays. Machines implement it.
pub trait RegionMemory {
    /// Returns the whole of `at`, a page-aligned range that memblock just set aside, as an array of regions.
    ///
    /// `None` if the range is not mapped. The contents do not matter. The slice must have room for `at.len()` divided by
    /// [`super::REGION_BYTES`] regions.
    fn region_slice(&self, at: PhysRange) -> Option<BootSlice<Region>>;
}

/// Takes the lines of the kernel log, without time stamp and line end.
pub trait BootLog {
    /// Takes one line.
    fn line(&mut self, args: fmt::Arguments<'_>);
}

/// Log that keeps nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct SilentLog;

impl BootLog for SilentLog {
    fn line(&mut self, _args: fmt::Arguments<'_>) {}
}

/// Machine without a place for grown arrays: a full array is an error.
impl RegionMemory for () {
    fn region_slice(&self, _at: PhysRange) -> Option<BootSlice<Region>> {
        None
    }
}

/// Surroundings of one memblock call.
pub struct BootContext<'a> {
    /// Where region arrays grow.
    pub memory: &'a dyn RegionMemory,
    /// Where log lines go.
    pub log: &'a mut dyn BootLog,
    /// Name of the caller, as debug lines end with it (Linux: the return address as `symbol+offset/size`).
    pub caller: &'a str,
}

impl<'a> BootContext<'a> {
    /// Puts the surroundings together.
    pub fn new(memory: &'a dyn RegionMemory, log: &'a mut dyn BootLog, caller: &'a str) -> Self {
        Self { memory, log, caller }
    }

    /// Returns the same surroundings for a call that memblock makes itself, from its function `caller`.
    pub(super) fn inner<'b>(&'b mut self, caller: &'b str) -> BootContext<'b> {
        BootContext { memory: self.memory, log: self.log, caller }
    }
}

impl fmt::Debug for BootContext<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BootContext").field("caller", &self.caller).finish_non_exhaustive()
    }
}
