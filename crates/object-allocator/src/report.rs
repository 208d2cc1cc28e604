//! What was found wrong with an object, and where it is told.
//!
//! A report is a value: whoever runs the machine reads the latest ones, or sets a sink that prints each as Linux's kernel log would.
//! The allocator itself goes on. Locking: `rank::LEAF`; the sink is called with no lock of this file held, but maybe under a
//! slab lock, so it must not allocate. Linux 6.12: mm/slub.c (`slab_bug`, `print_track`, `object_err`, `print_trailer`).

use core::fmt;
use core::panic::Location;

use sync::{Cpu, SpinLock, rank};
use units::{CpuId, Pfn, VirtAddr};

use crate::slab::CacheName;

/// Who did something to an object.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Track {
    /// The call.
    pub caller: &'static Location<'static>,
    /// The CPU it ran on.
    pub cpu: CpuId,
}

/// The first byte that is not what it should be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BadByte {
    /// Where it is.
    pub at: VirtAddr,
    /// What is there.
    pub found: u8,
    /// What should be there.
    pub expected: u8,
}

/// What is wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SlabFault {
    /// Bytes before the object were written.
    LeftRedZone(BadByte),
    /// Bytes behind the object were written.
    RightRedZone(BadByte),
    /// The object was written while it was free.
    Poison(BadByte),
    /// The object was free already.
    DoubleFree,
    /// No object starts at the address that was freed.
    InvalidPointer,
    /// The address that was freed lies in no slab.
    NotSlab,
    /// The object belongs to another cache, whose name this is.
    WrongCache(CacheName),
    /// The cache is to be destroyed, but the object is allocated.
    Remaining,
}

/// A fault with everything known about the object.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SlabReport {
    /// What is wrong.
    pub fault: SlabFault,
    /// The cache; empty if an address was freed that belongs to none.
    pub cache: CacheName,
    /// The object.
    pub object: VirtAddr,
    /// Head of its slab, if it has one.
    pub slab: Option<Pfn>,
    /// Bytes from the start of the slab.
    pub offset: u64,
    /// Who allocated the object last, where the cache keeps that.
    pub allocated: Option<Track>,
    /// Who freed it last, where the cache keeps that.
    pub freed: Option<Track>,
    /// Who made the call that found this.
    pub found_by: Track,
}

impl fmt::Display for SlabFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LeftRedZone(_) => f.write_str("Left Redzone overwritten"),
            Self::RightRedZone(_) => f.write_str("Right Redzone overwritten"),
            Self::Poison(_) => f.write_str("Poison overwritten"),
            Self::DoubleFree => f.write_str("Object already free"),
            Self::InvalidPointer => f.write_str("Invalid object pointer"),
            Self::NotSlab => f.write_str("Not a slab object"),
            Self::WrongCache(actual) => write!(f, "Wrong slab cache, object is from {actual}"),
            Self::Remaining => f.write_str("Objects remaining on __kmem_cache_shutdown()"),
        }
    }
}

impl SlabFault {
    /// Returns the byte that gave the fault away, if it was one.
    pub const fn bad_byte(&self) -> Option<BadByte> {
        match self {
            Self::LeftRedZone(byte) | Self::RightRedZone(byte) | Self::Poison(byte) => Some(*byte),
            _ => None,
        }
    }
}

impl fmt::Display for SlabReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DOUBLE: &str = "=============================================================================";
        const SINGLE: &str = "-----------------------------------------------------------------------------";
        writeln!(f, "{DOUBLE}\nBUG {} (Not tainted): {}\n{SINGLE}\n", self.cache, self.fault)?;
        if let Some(BadByte { at, found, expected }) = self.fault.bad_byte() {
            writeln!(f, "0x{:016x}. First byte 0x{found:x} instead of 0x{expected:x}", at.raw())?;
        }
        if let Some(track) = self.allocated {
            writeln!(f, "Allocated in {} cpu={}", track.caller, track.cpu.raw())?;
        }
        if let Some(track) = self.freed {
            writeln!(f, "Freed in {} cpu={}", track.caller, track.cpu.raw())?;
        }
        if let Some(slab) = self.slab {
            writeln!(f, "Slab pfn=0x{slab:x}")?;
        }
        writeln!(f, "Object 0x{:016x} @offset={}", self.object.raw(), self.offset)?;
        write!(f, "CPU: {} at {}", self.found_by.cpu.raw(), self.found_by.caller)
    }
}

/// Reports that are kept.
const KEPT: usize = 16;

/// Gets each report as it is made.
pub type ReportSink = fn(&SlabReport);

/// The latest reports of a machine.
#[derive(Debug)]
pub(crate) struct ReportLog(SpinLock<{ rank::LEAF }, Log>);

#[derive(Debug)]
struct Log {
    /// Ring: report `n` is in slot `n % KEPT`.
    latest: [Option<SlabReport>; KEPT],
    total: usize,
    sink: Option<ReportSink>,
}

impl ReportLog {
    pub(crate) fn new() -> Self {
        Self(SpinLock::new(Log { latest: [None; KEPT], total: 0, sink: None }))
    }

    pub(crate) fn set_sink(&self, cpu: &Cpu, sink: ReportSink) {
        self.0.lock(cpu).sink = Some(sink);
    }

    #[cold]
    pub(crate) fn add(&self, cpu: &Cpu, report: SlabReport) {
        let mut log = self.0.lock(cpu);
        let slot = log.total % KEPT;
        if let Some(slot) = log.latest.get_mut(slot) {
            *slot = Some(report);
        }
        log.total += 1;
        let sink = log.sink;
        drop(log);
        if let Some(sink) = sink {
            sink(&report);
        }
    }

    /// Returns report number `number`, counted from 0, while it is kept.
    pub(crate) fn get(&self, cpu: &Cpu, number: usize) -> Option<SlabReport> {
        let log = self.0.lock(cpu);
        let is_kept = number < log.total && log.total - number <= KEPT;
        log.latest.get(number % KEPT).copied().flatten().filter(|_| is_kept)
    }

    pub(crate) fn total(&self, cpu: &Cpu) -> usize {
        self.0.lock(cpu).total
    }
}

impl CacheName {
    /// The name in reports about addresses of no cache.
    pub(crate) fn none() -> Self {
        Self::new("")
    }
}
