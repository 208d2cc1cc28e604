//! Why a machine did not boot.

use core::fmt;

use frame_table::{ArenaError, BadFree, TableError};
use object_allocator::ObjectError;
use object_allocator::percpu::PercpuError;
use units::PhysRange;

/// Why a machine did not boot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BootError {
    /// There is not one whole frame of memory.
    NoMemory,
    /// No room for a table.
    Arena(ArenaError),
    /// Descriptors cannot be laid out.
    FrameTable(TableError),
    /// The machine could not put this memory behind the descriptors.
    Memmap(PhysRange),
    /// A range given as free is not free boot memory.
    HandOver(BadFree),
    /// More zones than zonelists can number; carries how many.
    TooManyZones(usize),
    /// The machine has no CPU.
    NoCpu,
    /// The units of per-CPU memory do not hold what boot puts there.
    Percpu(PercpuError),
    /// The first caches or counters could not be made.
    Objects(ObjectError),
}

impl fmt::Display for BootError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoMemory => f.write_str("the machine has no whole frame of memory"),
            Self::Arena(error) => write!(f, "no boot memory for a table: {error}"),
            Self::FrameTable(error) => write!(f, "frame descriptors: {error}"),
            Self::Memmap(range) => write!(f, "frame descriptors cannot be backed by {range:?}"),
            Self::HandOver(error) => write!(f, "hand-over of boot memory: {error}"),
            Self::TooManyZones(zones) => write!(f, "{zones} zones are more than zonelists can number"),
            Self::NoCpu => f.write_str("the machine has no CPU"),
            Self::Percpu(error) => write!(f, "per-CPU memory: {error}"),
            Self::Objects(error) => write!(f, "the first kernel objects: {error}"),
        }
    }
}

impl core::error::Error for BootError {}

impl From<ArenaError> for BootError {
    fn from(error: ArenaError) -> Self {
        Self::Arena(error)
    }
}

impl From<PercpuError> for BootError {
    fn from(error: PercpuError) -> Self {
        Self::Percpu(error)
    }
}

impl From<ObjectError> for BootError {
    fn from(error: ObjectError) -> Self {
        Self::Objects(error)
    }
}

impl From<TableError> for BootError {
    fn from(error: TableError) -> Self {
        Self::FrameTable(error)
    }
}

impl From<BadFree> for BootError {
    fn from(error: BadFree) -> Self {
        Self::HandOver(error)
    }
}
