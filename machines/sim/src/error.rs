//! What can go wrong when a hosted machine is made. Used by everything in this crate.

use std::io;

use boot_memory::memblock::MemblockError;
use units::{CpuId, PhysRange};

/// Why a hosted machine was not made.
#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    /// The description names no memory at all.
    #[error("the machine has no memory")]
    NoMemory,
    /// Two memory ranges share bytes.
    #[error("memory ranges {0:?} and {1:?} overlap")]
    Overlap(PhysRange, PhysRange),
    /// The host has no room in its virtual address space.
    #[error("the host cannot reserve {bytes} bytes of address space")]
    AddressSpace {
        /// Bytes that were asked for.
        bytes: u64,
        /// What the host said.
        source: io::Error,
    },
    /// The host cannot make another thread execute a memory barrier.
    #[error("the host lacks membarrier(2) with MEMBARRIER_CMD_PRIVATE_EXPEDITED")]
    NoMembarrier {
        /// What the host said.
        source: io::Error,
    },
    /// The machine has no CPU, or more than the memory manager supports.
    #[error("a machine has 1 to {max} CPUs, not {0}", max = units::MAX_CPUS)]
    CpuCount(usize),
    /// The kernel's command line has an option that cannot be read.
    #[error("{0}")]
    CommandLine(String),
    /// The command line cuts the firmware's map into more ranges than a map holds.
    #[error("mem= and memmap= make too many ranges")]
    MapFull,
    /// The boot allocator has no room.
    #[error("boot memory: {0}")]
    Memblock(#[from] MemblockError),
    /// The kernel did not boot.
    #[error("{0}")]
    Kernel(#[from] kernel_mm::BootError),
    /// Every machine number of this process was used.
    #[error("this process made too many machines")]
    OutOfMachineNumbers,
}

/// A CPU that cannot be taken: the machine has no such CPU, or its token is in use.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0} does not exist or is in use")]
pub struct CpuUnavailable(pub CpuId);
