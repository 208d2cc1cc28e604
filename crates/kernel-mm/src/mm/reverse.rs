//! What happens to a page wherever it is mapped: it is asked for its use, made clean, taken out.
//!
//! The areas are found by the reverse map, under whose lock each is worked on; no address space or area is locked, so faults go on, and may map the page again.
//! Linux 6.12: mm/rmap.c (`folio_referenced`, `folio_mkclean`, `try_to_unmap`).

use address_space::Mapped;
use frame_table::PageRef;
use object_allocator::mmu::PageKind;
use page_allocator::Hooks;
use page_tables::Tables;
use platform::Platform;
use sync::Cpu;
use units::VmFlags;

use super::MemoryManager;

/// How a page was used since it was asked before.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct References {
    /// Entries through which it was.
    pub entries: u32,
    /// Flags of the areas of those entries, and `LOCKED` if any area that may map it has that.
    pub flags: VmFlags,
}

/// Which areas lose a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Unmap {
    /// All.
    Everywhere,
    /// Those that are not locked in memory.
    NotLocked,
}

/// Why a page is still mapped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum UnmapError {
    /// A locked area maps it (Linux: VM_LOCKED).
    Locked,
    /// It is anonymous: without swap there is no other place for it.
    Anonymous,
    /// A fault mapped it again.
    Mapped,
}

impl core::fmt::Display for UnmapError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Locked => "a locked area maps the page",
            Self::Anonymous => "the page is anonymous, and there is no swap",
            Self::Mapped => "the page was mapped again",
        })
    }
}

impl core::error::Error for UnmapError {}

impl<'k, P: Platform, H: Hooks + Sync> MemoryManager<'k, P, H> {
    /// Tells how a page was used since this was asked last, and begins anew (Linux: folio_referenced).
    pub fn referenced(&self, cpu: &Cpu, page: &PageRef) -> References {
        let mut found = References::default();
        self.for_each_area_of(cpu, page, |tables, mapped| {
            let entries = tables.take_referenced(mapped.range, page);
            found.entries += entries;
            found.flags |= if entries > 0 { mapped.vma.flags } else { mapped.vma.flags & VmFlags::LOCKED };
        });
        found
    }

    /// Makes a file's page read-only and clean in all shared mappings, so that whoever writes to it next is seen; returns in how many it could be, or was,
    /// written to. Such a page is dirty, whatever its descriptor says (Linux: folio_mkclean).
    pub fn make_clean(&self, cpu: &Cpu, page: &PageRef) -> u32 {
        let mut cleaned = 0;
        self.for_each_area_of(cpu, page, |tables, mapped| {
            if mapped.vma.flags.contains(VmFlags::SHARED) {
                cleaned += tables.make_clean(&mut tables.gather(), mapped.range, page);
            }
        });
        cleaned
    }

    /// Takes a file's page out of all page tables. If it was written to through one, its descriptor says so then (Linux: try_to_unmap).
    ///
    /// # Errors
    /// [`UnmapError`]; the page may have been taken out of some.
    pub fn try_to_unmap(&self, cpu: &Cpu, page: &PageRef) -> Result<(), UnmapError> {
        let frame = self.objects.pages().map().frames.at(page.pfn());
        if PageKind::of_page(frame) == PageKind::Anon {
            return Err(UnmapError::Anonymous);
        }
        let is_locked = self.unmap(cpu, page, Unmap::NotLocked);
        match frame.mapcount() {
            0 => Ok(()),
            _ if is_locked => Err(UnmapError::Locked),
            _ => Err(UnmapError::Mapped),
        }
    }

    /// Takes a file's page out of the page tables; returns true if a locked area kept it.
    pub(super) fn unmap(&self, cpu: &Cpu, page: &PageRef, from: Unmap) -> bool {
        let mut is_locked = false;
        self.for_each_area_of(cpu, page, |tables, mapped| {
            if from == Unmap::NotLocked && mapped.vma.flags.contains(VmFlags::LOCKED) {
                is_locked = true;
            } else {
                tables.unmap_page(&mut tables.gather(), mapped.range, page);
            }
        });
        is_locked
    }

    /// Shows each area that may map a page, and the tables of its address space.
    pub(super) fn for_each_area_of(
        &self,
        cpu: &Cpu,
        page: &PageRef,
        mut visit: impl FnMut(&Tables<'_, P, H>, &Mapped<'_, 'k>),
    ) {
        let frame = self.objects.pages().map().frames.at(page.pfn());
        let (number, index) = frame.mapping();
        let numbers = index..=index.saturating_add(page.order().nr_pages() - 1);
        let visit = |mapped: Mapped<'_, 'k>| visit(&self.tables(cpu, mapped.mm), &mapped);
        if PageKind::of(frame.flags(), number) == PageKind::Anon {
            self.spaces.for_each_anon_area(cpu, number & !PageKind::ANON_MAPPING, numbers, visit);
        } else if let Some((file, _)) = self.files.file_of(page.pfn()) {
            self.spaces.for_each_file_area(cpu, file, numbers, visit);
        }
    }
}
