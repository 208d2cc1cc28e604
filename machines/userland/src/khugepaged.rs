//! The thread khugepaged: a turn of it when its time has come and a CPU has nothing else to do.
//!
//! It goes through the address spaces in the order in which they were made, some pages a turn, and puts small pages into large ones. Linux 6.12: mm/khugepaged.c
//! (`khugepaged_do_scan`, `khugepaged_wait_work`), where it is a thread at the lowest priority.

use core::fmt::{self, Write};

use page_fault::KhugepagedLimits;
use sync::Cpu;
use units::VirtAddr;

use crate::errno::Errno;
use crate::machine::Machine;
use crate::memory::Memory;
use crate::userland::Userland;
use crate::world::World;

/// Nanoseconds of a millisecond.
const MILLISECOND: u64 = 1_000_000;
/// Small pages of a large one (HPAGE_PMD_NR).
const LARGE: u64 = 512;

/// A file of /sys/kernel/mm/transparent_hugepage/khugepaged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum KhugepagedFile {
    FullScans,
    MaxPtesNone,
    MaxPtesShared,
    PagesCollapsed,
    PagesToScan,
    ScanSleepMillisecs,
}

impl KhugepagedFile {
    /// All of them, with their names and permissions.
    pub(crate) const ALL: [(&'static str, Self, u32); 6] = [
        ("full_scans", Self::FullScans, 0o444),
        ("max_ptes_none", Self::MaxPtesNone, 0o644),
        ("max_ptes_shared", Self::MaxPtesShared, 0o644),
        ("pages_collapsed", Self::PagesCollapsed, 0o444),
        ("pages_to_scan", Self::PagesToScan, 0o644),
        ("scan_sleep_millisecs", Self::ScanSleepMillisecs, 0o644),
    ];
}

/// Where khugepaged is, and how it goes on.
#[derive(Debug)]
pub(crate) struct Khugepaged {
    pages_to_scan: u32,
    scan_sleep_millisecs: u32,
    limits: KhugepagedLimits,
    /// When the turn before began, by the machine's clock.
    last_ns: u64,
    /// Number of the address space that has the next turn, or the next one above, and the address in it.
    at: (u64, VirtAddr),
    /// A CPU is at it.
    is_running: bool,
    pages_collapsed: u64,
    full_scans: u64,
}

impl Khugepaged {
    pub(crate) const fn new() -> Self {
        Self {
            pages_to_scan: 4096,
            scan_sleep_millisecs: 10_000,
            limits: KhugepagedLimits::DEFAULT,
            last_ns: 0,
            at: (0, VirtAddr::ZERO),
            is_running: false,
            pages_collapsed: 0,
            full_scans: 0,
        }
    }

    fn is_due(&self, now: u64) -> bool {
        !self.is_running && now.saturating_sub(self.last_ns) >= u64::from(self.scan_sleep_millisecs) * MILLISECOND
    }

    /// Writes the text of a file.
    ///
    /// # Errors
    /// Those of `out`.
    pub(crate) fn write(&self, file: KhugepagedFile, out: &mut dyn Write) -> fmt::Result {
        let value = match file {
            KhugepagedFile::FullScans => self.full_scans,
            KhugepagedFile::MaxPtesNone => self.limits.max_none,
            KhugepagedFile::MaxPtesShared => self.limits.max_shared,
            KhugepagedFile::PagesCollapsed => self.pages_collapsed,
            KhugepagedFile::PagesToScan => self.pages_to_scan.into(),
            KhugepagedFile::ScanSleepMillisecs => self.scan_sleep_millisecs.into(),
        };
        writeln!(out, "{value}")
    }

    /// Takes what was written to a file.
    ///
    /// # Errors
    /// EINVAL for what is no number or out of range; EIO for a file that cannot be set.
    pub(crate) fn set(&mut self, file: KhugepagedFile, text: &[u8]) -> Result<(), Errno> {
        let text = core::str::from_utf8(text).map_err(|_| Errno::EINVAL)?;
        let value: u32 = text.strip_suffix('\n').unwrap_or(text).parse().map_err(|_| Errno::EINVAL)?;
        let entries = u64::from(value);
        match file {
            KhugepagedFile::MaxPtesNone | KhugepagedFile::MaxPtesShared if entries >= LARGE => {
                return Err(Errno::EINVAL);
            }
            KhugepagedFile::MaxPtesNone => self.limits.max_none = entries,
            KhugepagedFile::MaxPtesShared => self.limits.max_shared = entries,
            KhugepagedFile::PagesToScan if value == 0 => return Err(Errno::EINVAL),
            KhugepagedFile::PagesToScan => self.pages_to_scan = value,
            KhugepagedFile::ScanSleepMillisecs => self.scan_sleep_millisecs = value,
            KhugepagedFile::FullScans | KhugepagedFile::PagesCollapsed => return Err(Errno::EIO),
        }
        Ok(())
    }
}

impl<M: Memory> World<M> {
    /// Returns the address space whose turn it is, with one more user, its number, and where to go on; `None` after the last one.
    fn next_to_scan(&self, memory: &M) -> Option<(M::Mm, u64, VirtAddr)> {
        let (number, from) = self.khugepaged.at;
        let spaces = self.threads.iter().filter_map(|(_, thread)| thread.space.as_ref());
        let next = spaces.filter(|space| space.number >= number).min_by_key(|space| space.number)?;
        let from = if next.number == number { from } else { VirtAddr::ZERO };
        Some((memory.mmget(&next.mm), next.number, from))
    }
}

impl<M: Memory, D: Machine> Userland<M, D> {
    /// Gives khugepaged a turn if it is due; returns true if it had one.
    pub(crate) fn khugepaged_turn(&self, cpu: &Cpu) -> bool {
        let now = self.machine().now_ns();
        let (mut left, limits) = {
            let mut world = self.world(cpu);
            if world.threads.len() == 0 || !world.khugepaged.is_due(now) {
                return false;
            }
            world.khugepaged.is_running = true;
            (u64::from(world.khugepaged.pages_to_scan), world.khugepaged.limits)
        };
        while left > 0 {
            let next = self.world(cpu).next_to_scan(&self.memory);
            let Some((mm, number, from)) = next else {
                let khugepaged = &mut self.world(cpu).khugepaged;
                (khugepaged.at, khugepaged.full_scans) = ((0, VirtAddr::ZERO), khugepaged.full_scans + 1);
                break;
            };
            let scan = self.memory.khugepaged_scan(cpu, &mm, from, left.div_ceil(LARGE), limits);
            self.memory.mmput(cpu, mm);
            left = left.saturating_sub(scan.blocks.max(1).saturating_mul(LARGE));
            let mut world = self.world(cpu);
            world.khugepaged.at = scan.next.map_or((number + 1, VirtAddr::ZERO), |next| (number, next));
            world.khugepaged.pages_collapsed += scan.gathered;
        }
        let mut world = self.world(cpu);
        (world.khugepaged.is_running, world.khugepaged.last_ns) = (false, now);
        true
    }
}
