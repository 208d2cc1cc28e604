//! A page that moves to another frame, and everybody who has it goes on with that.
//!
//! An anonymous page is exchanged entry by entry, and copied while the first entry maps neither frame; who looks at the entry then waits (Linux: migration entries).
//! One that has more entries is read-only everywhere, and stays as it was copied. A page of a file is taken out of the tables, and the next access finds the
//! new frame in the file.
//! Linux 6.12: mm/migrate.c (`migrate_folio`, `folio_migrate_flags`, `folio_expected_refs`), mm/rmap.c (`try_to_migrate`).

use address_space::Process;
use frame_table::{OwnedBlock, PageBytes, PageRef};
use object_allocator::mmu::PageKind;
use object_allocator::vmstat::VmEvent;
use page_allocator::Hooks;
use page_tables::{Migration, Unmoved};
use platform::Platform;
use sync::Cpu;
use units::Order;

use super::MemoryManager;
use super::reverse::Unmap;

/// Why a page stayed where it was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MigrateError {
    /// The new frames are not as many as the old, or the machine does not show them.
    WrongBlock,
    /// Nothing maps it, and it belongs to no file: it is about to be freed, or is not a process's.
    Unmovable,
    /// Somebody else holds it: a pin, or the kernel for a moment.
    Held,
    /// An address space that maps it is being changed, or maps it in parts. Of the entries of an anonymous page that many have, some may be exchanged.
    Busy,
}

impl From<Unmoved> for MigrateError {
    fn from(why: Unmoved) -> Self {
        match why {
            Unmoved::Unmapped => Self::Unmovable,
            Unmoved::Held => Self::Held,
            Unmoved::NotCopied => Self::WrongBlock,
            Unmoved::Mapped => Self::Busy,
        }
    }
}

impl core::fmt::Display for MigrateError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::WrongBlock => "the new frames cannot stand for the old",
            Self::Unmovable => "nothing maps the page, and it belongs to no file",
            Self::Held => "somebody holds the page",
            Self::Busy => "an address space that maps the page is being changed",
        })
    }
}

impl core::error::Error for MigrateError {}

impl<'k, P: Platform, H: Hooks + Sync> MemoryManager<'k, P, H> {
    /// Moves a page, which the caller holds once, to the frames of `to`. The old page goes with the caller's reference; `to` goes if it is not used (Linux:
    /// migrate_pages).
    ///
    /// # Errors
    /// [`MigrateError`].
    pub fn migrate_page(&self, cpu: &Cpu, page: &PageRef, to: OwnedBlock) -> Result<(), MigrateError> {
        let migrated = if to.order() == page.order() {
            let frame = self.objects.pages().map().frames.at(page.pfn());
            match PageKind::of_page(frame) {
                PageKind::Anon => self.migrate_anon(cpu, page, to),
                PageKind::File | PageKind::Shmem => self.migrate_file_page(cpu, page, to),
            }
        } else {
            self.objects.pages().free(cpu, to);
            Err(MigrateError::WrongBlock)
        };
        let (of_pages, of_large) = match migrated {
            Ok(()) => (VmEvent::PgmigrateSuccess, VmEvent::ThpMigrationSuccess),
            Err(_) => (VmEvent::PgmigrateFail, VmEvent::ThpMigrationFail),
        };
        let vmstat = self.objects.vmstat();
        vmstat.count_events(cpu, of_pages, page.order().nr_pages());
        if page.order() > Order::ZERO {
            vmstat.count_events(cpu, of_large, 1);
        }
        migrated
    }

    fn migrate_anon(&self, cpu: &Cpu, from: &PageRef, to: OwnedBlock) -> Result<(), MigrateError> {
        let pages = self.objects.pages();
        let mut migration = match Migration::begin(&pages.map().frames, from, to) {
            Ok(migration) => migration,
            Err((why, to)) => {
                pages.free(cpu, to);
                return Err(why.into());
            }
        };
        let shift = pages.map().geometry.page_shift;
        let copy = |to: &PageRef| PageBytes::copy_page(pages.platform(), to, (from, from.pfn()), shift).is_ok();
        self.for_each_area_of(cpu, from, |tables, mapped| {
            // Whoever changes an address space, fork above all, relies on what its entries map.
            if let Some(_calm) = mapped.mm.try_read(cpu) {
                tables.migrate(&mut tables.gather(), mapped.range, &mut migration, copy);
            }
        });
        let (to, outcome) = migration.end();
        pages.put(cpu, to);
        outcome.map_err(MigrateError::from)
    }

    fn migrate_file_page(&self, cpu: &Cpu, from: &PageRef, to: OwnedBlock) -> Result<(), MigrateError> {
        self.unmap(cpu, from, Unmap::Everywhere);
        let frame = self.objects.pages().map().frames.at(from.pfn());
        let (process, of_file) = (Process::default(), self.files.file_of(from.pfn()).is_some());
        let refused = match () {
            () if !of_file => (MigrateError::Unmovable, to),
            () if frame.mapcount() > 0 => (MigrateError::Busy, to),
            () => match self.files(cpu, &process).migrate_page(from, to) {
                Ok(()) => return Ok(()),
                Err(to) => (MigrateError::Held, to),
            },
        };
        self.objects.pages().free(cpu, refused.1);
        Err(refused.0)
    }
}
