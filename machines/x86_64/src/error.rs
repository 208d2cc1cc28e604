//! Why the machine did not boot.

use core::fmt;

use boot_memory::firmware::{FirmwareError, MapFull};
use boot_memory::memblock::MemblockError;
use boot_memory::page_tables::MapError;

use crate::pit::NoTimer;
use crate::ram::BadRanges;

/// Why the machine did not boot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum BootError {
    /// The loader or the firmware said something that cannot be used.
    Firmware(FirmwareError),
    /// The memory map has too many ranges.
    MapFull(MapFull),
    /// An option of the command line has a bad value; the console says which.
    BadOption,
    /// There is too little memory for the machine itself.
    Memory(MemblockError),
    /// The page tables could not be built.
    Paging(MapError),
    /// Memory comes in too many pieces.
    Ranges(BadRanges),
    /// The memory manager did not boot.
    Kernel(kernel_mm::BootError),
    /// The memory manager was booted twice.
    BootedTwice,
    /// There is no program to run.
    Program(userland::InitError),
    /// There is no timer.
    Timer(NoTimer),
}

impl fmt::Display for BootError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Firmware(error) => error.fmt(f),
            Self::MapFull(error) => error.fmt(f),
            Self::BadOption => f.write_str("bad option on the command line"),
            Self::Memory(error) => write!(f, "memory for the machine itself: {error}"),
            Self::Paging(error) => write!(f, "page tables: {error}"),
            Self::Ranges(BadRanges) => f.write_str("memory map: too many ranges"),
            Self::Kernel(error) => write!(f, "memory manager: {error}"),
            Self::BootedTwice => f.write_str("memory manager: booted twice"),
            Self::Program(error) => error.fmt(f),
            Self::Timer(NoTimer) => f.write_str("interval timer: it does not count"),
        }
    }
}

macro_rules! from {
    ($($error:ty => $variant:ident),*) => {
        $(impl From<$error> for BootError {
            fn from(error: $error) -> Self {
                Self::$variant(error)
            }
        })*
    };
}

from!(FirmwareError => Firmware, kernel_mm::BootError => Kernel, MapFull => MapFull, MemblockError => Memory, MapError => Paging, BadRanges => Ranges, NoTimer => Timer, userland::InitError => Program);

#[cfg(test)]
mod tests {
    extern crate std;

    use std::string::ToString;

    use units::VirtAddr;

    use super::*;

    #[test]
    fn an_error_says_which_part_of_the_boot_failed() {
        let memory = BootError::from(MemblockError::NoMemory { size: 4096 });
        assert_eq!(memory.to_string(), "memory for the machine itself: no free range of 4096 bytes");
        let paging = BootError::from(MapError::AlreadyMapped(VirtAddr::new(0x1000)));
        assert!(paging.to_string().starts_with("page tables: "));
        assert!(BootError::from(kernel_mm::BootError::NoCpu).to_string().starts_with("memory manager: "));
    }
}
