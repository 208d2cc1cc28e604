//! A page that moves to another frame, and everybody who has it goes on with that.
//!
//! An anonymous page is exchanged entry by entry, and copied while the first entry maps neither frame; who looks at the entry then waits (Linux: migration entries).
//! One that has more entries is read-only everywhere, and stays as it was copied. A page of a file is taken out of the tables, and the next access finds the
//! new frame in the file.
//! Linux 6.12: mm/migrate.c (`migrate_folio`, `folio_migrate_flags`, `folio_expected_refs`), mm/rmap.c (`try_to_migrate`).

use address_space::Process;
use frame_table::{OwnedBlock, PageBytes, PageFlags, PageRef};
use object_allocator::mmu::PageKind;
use object_allocator::vmstat::VmEvent;
use page_allocator::Hooks;
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
        let frames = &pages.map().frames;
        let old = frames.at(from.pfn());
        // One reference each of the entries, and the caller's.
        let is_held = || i64::from(old.count()) != i64::from(old.mapcount()) + 1;
        if old.mapcount() == 0 || is_held() {
            pages.free(cpu, to);
            return Err(if old.mapcount() == 0 { MigrateError::Unmovable } else { MigrateError::Held });
        }
        let (mapping, index) = old.mapping();
        let to = to.into_anon(frames, mapping, index);
        let (mut outcome, mut is_copied) = (Ok(()), false);
        // The first entry maps neither frame when this is called. Of the others nobody writes to what is not exclusive and held here.
        let mut copy = || {
            let shift = pages.map().geometry.page_shift;
            let copy_page = || PageBytes::copy_page(pages.platform(), &to, (from, from.pfn()), shift);
            let copied = match () {
                () if is_held() => Err(MigrateError::Held),
                () if is_copied => Ok(()),
                () => copy_page().map_err(|_| MigrateError::WrongBlock),
            };
            if copied.is_err() {
                outcome = copied;
                return false;
            }
            let is_exclusive = old.flags().contains(PageFlags::ANON_EXCLUSIVE);
            let new = frames.at(to.pfn());
            new.set_flags(old.flags() & PageFlags::MIGRATED);
            if !is_exclusive {
                new.clear_flags(PageFlags::ANON_EXCLUSIVE);
            }
            is_copied = true;
            true
        };
        self.for_each_area_of(cpu, from, |tables, mapped| {
            // Whoever changes an address space, fork above all, relies on what its entries map.
            if let Some(_calm) = mapped.mm.try_read(cpu) {
                tables.migrate(&mut tables.gather(), mapped.range, from, &to, &mut copy);
            }
        });
        pages.put(cpu, to);
        if outcome.is_ok() && old.mapcount() > 0 { Err(MigrateError::Busy) } else { outcome }
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
