//! Why there is no area.

use core::fmt;

use boot_memory::page_tables::MapError;
use units::{PhysAddr, PhysRange, VirtAddr};

use crate::error::ObjectError;

/// A request for an area failed; nothing of it remains mapped or allocated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum VmallocError {
    /// The machine has no page tables.
    NoTables,
    /// Nothing was asked for, or more than the machine has memory; carries the bytes.
    BadSize(u64),
    /// The alignment is no power of two.
    BadAlign(u64),
    /// No gap between the areas is long enough.
    NoAddresses,
    /// No memory for pages, tables or descriptors.
    Memory(ObjectError),
    /// Memory of the machine is not mapped as a device.
    IsMemory(PhysRange),
    /// An entry of a page table cannot hold the address.
    PhysTooHigh(PhysAddr),
    /// Something is mapped where no area was: whoever mapped it did so behind vmalloc's back.
    Occupied(VirtAddr),
}

impl fmt::Display for VmallocError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoTables => f.write_str("the machine has no kernel page tables"),
            Self::BadSize(bytes) => write!(f, "an area of {bytes} bytes: expected 1 to the machine's memory"),
            Self::BadAlign(align) => write!(f, "alignment {align}: expected a power of two"),
            Self::NoAddresses => f.write_str("no room between the vmalloc areas"),
            Self::Memory(error) => error.fmt(f),
            Self::IsMemory(range) => write!(f, "{range:?} is memory of the machine, not a device"),
            Self::PhysTooHigh(phys) => write!(f, "physical address {phys:#x} does not fit a page table"),
            Self::Occupied(virt) => write!(f, "something is mapped at {virt:#x} outside of every area"),
        }
    }
}

impl core::error::Error for VmallocError {}

impl From<ObjectError> for VmallocError {
    fn from(error: ObjectError) -> Self {
        Self::Memory(error)
    }
}

impl From<MapError> for VmallocError {
    fn from(error: MapError) -> Self {
        match error {
            MapError::OutOfMemory => Self::Memory(ObjectError::OutOfMemory),
            MapError::PhysTooHigh(phys) => Self::PhysTooHigh(phys),
            MapError::AlreadyMapped(virt) | MapError::Unaligned(virt) | MapError::OutsideAddressSpace(virt) => {
                Self::Occupied(virt)
            }
        }
    }
}

/// An address was given back at which no area of that kind starts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BadVfree(pub VirtAddr);

impl fmt::Display for BadVfree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "free of {:#x}: no area of that kind starts there", self.0)
    }
}

impl core::error::Error for BadVfree {}
