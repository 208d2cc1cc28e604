//! The page tables of an address space, range by range: what a call on areas does to the pages that are mapped there.
//!
//! [`Tables`] is one address space as one CPU works on it. Entries and the pages that they hold are `object_allocator::mmu`'s; here are the
//! walks over ranges and Linux's rules for each. Counts of resident pages follow every change. Locking: each method says what its caller holds.
//! Linux 6.12: mm/memory.c, mm/mprotect.c, mm/mremap.c (`move_page_tables`), mm/pagewalk.c.
#![no_std]
#![forbid(unsafe_code)]

mod copy;
mod copy_pinned;
mod drop_unheld;
mod each;
mod free;
mod marks;
mod migrate;
mod page;
mod protect;
mod protection;
mod relocate;
mod split;
mod survey;
mod zap;

use object_allocator::mmu::{Gather, Mmu, PageKind, Taken, UserTables};
use page_allocator::Hooks;
use platform::Platform;
use sync::Cpu;

pub use free::Bounds;
pub use migrate::{Migration, Unmoved};
pub use protection::{WriteTracking, attributes_of};
pub use survey::MappedPage;
pub use zap::ZapWhat;

/// Page tables of one address space, as one CPU works on them.
#[derive(Debug)]
pub struct Tables<'a, P: Platform, H: Hooks> {
    /// Works on entries.
    pub mmu: Mmu<'a, P, H>,
    /// The address space's tables.
    pub tables: &'a UserTables,
}

impl<P: Platform, H: Hooks> Clone for Tables<'_, P, H> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<P: Platform, H: Hooks> Copy for Tables<'_, P, H> {}

impl<'a, P: Platform, H: Hooks> Tables<'a, P, H> {
    /// Begins to take pages out of these tables.
    pub fn gather(&self) -> Gather<'a, P, H> {
        self.mmu.gather(self.tables)
    }
}

/// Why pages could not be mapped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NoMemory;

impl core::fmt::Display for NoMemory {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("no memory for page tables")
    }
}

impl core::error::Error for NoMemory {}

/// Changes of the counts of resident pages that one walk makes, added at its end (Linux: `add_mm_rss_vec`).
#[derive(Clone, Copy, Default)]
struct RssDelta {
    file: i64,
    anon: i64,
    shmem: i64,
}

impl RssDelta {
    fn add(&mut self, kind: PageKind, nr_pages: i64) {
        match kind {
            PageKind::File => self.file += nr_pages,
            PageKind::Anon => self.anon += nr_pages,
            PageKind::Shmem => self.shmem += nr_pages,
        }
    }

    /// Counts what an entry mapped no longer.
    fn remove(&mut self, taken: &Taken) {
        if let Some(kind) = taken.kind {
            self.add(kind, -taken.order.nr_pages().cast_signed());
        }
    }

    fn is_empty(&self) -> bool {
        self.file | self.anon | self.shmem == 0
    }

    fn apply(self, cpu: &Cpu, tables: &UserTables) {
        for (kind, nr_pages) in
            [(PageKind::File, self.file), (PageKind::Anon, self.anon), (PageKind::Shmem, self.shmem)]
        {
            if nr_pages != 0 {
                tables.add_rss(cpu, kind, nr_pages);
            }
        }
    }
}
