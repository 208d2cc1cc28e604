//! Resident pages of an address space, counted where CPUs do not meet.
//!
//! Each page fault counts one page; on one counter the CPUs of a process would wait for its cache line. So there are several, and the sum is the count.
//! Linux 6.12: mm/memory.c (`add_mm_rss_vec`), include/linux/mm.h (`add_mm_counter`: a percpu_counter for each kind).

use core::sync::atomic::{AtomicI64, Ordering};

use sync::Cpu;

use super::entry::PageKind;

/// Counters of each kind. CPUs whose numbers are alike modulo this share one.
const SHARDS: usize = 8;

/// Resident pages of an address space by kind (Linux: MM_FILEPAGES, MM_ANONPAGES, MM_SWAPENTS, MM_SHMEMPAGES).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Rss {
    /// Pages of files (RssFile).
    pub file: u64,
    /// Anonymous pages (RssAnon).
    pub anon: u64,
    /// Pages that are swapped out (VmSwap).
    pub swap: u64,
    /// Pages of shared memory (RssShmem).
    pub shmem: u64,
}

impl Rss {
    /// Returns the pages in memory (Linux: `get_mm_rss`).
    pub const fn resident(&self) -> u64 {
        self.file + self.anon + self.shmem
    }
}

/// What some CPUs counted: one cache line.
#[derive(Debug)]
#[repr(align(64))]
struct Shard {
    file: AtomicI64,
    anon: AtomicI64,
    shmem: AtomicI64,
}

impl Shard {
    const fn new() -> Self {
        Self { file: AtomicI64::new(0), anon: AtomicI64::new(0), shmem: AtomicI64::new(0) }
    }

    const fn counter(&self, kind: PageKind) -> &AtomicI64 {
        match kind {
            PageKind::File => &self.file,
            PageKind::Anon => &self.anon,
            PageKind::Shmem => &self.shmem,
        }
    }
}

/// The counters of an address space.
#[derive(Debug)]
pub(super) struct RssCounters([Shard; SHARDS]);

impl RssCounters {
    pub(super) const fn new() -> Self {
        Self([const { Shard::new() }; SHARDS])
    }

    /// Counts `nr_pages` more, or fewer.
    #[inline]
    pub(super) fn add(&self, cpu: &Cpu, kind: PageKind, nr_pages: i64) {
        // Relaxed: a statistic.
        self.0[cpu.id().index() % SHARDS].counter(kind).fetch_add(nr_pages, Ordering::Relaxed);
    }

    /// Returns the sums. A page that comes on one CPU and goes on another meanwhile may be seen to go only, so a sum that looks negative is 0.
    pub(super) fn read(&self) -> Rss {
        // Relaxed: as above.
        let sum = |kind| self.0.iter().map(|shard| shard.counter(kind).load(Ordering::Relaxed)).sum::<i64>();
        let [file, anon, shmem] =
            [PageKind::File, PageKind::Anon, PageKind::Shmem].map(|kind| u64::try_from(sum(kind)).unwrap_or(0));
        Rss { file, anon, swap: 0, shmem }
    }
}
