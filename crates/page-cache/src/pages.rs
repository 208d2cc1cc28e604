//! The page at an index: found, or made and entered.
//!
//! A page is allocated and filled before it is entered, so no page has to be locked. One that was only set aside is filled too; that it is not up to date says that nobody has
//! asked for it.
//! Linux 6.12: mm/filemap.c (`__filemap_get_folio`, `filemap_add_folio`, `filemap_fault`), mm/shmem.c (`shmem_get_folio`, `shmem_add_to_page_cache`).

use address_space::{Access, FileId, MmError, PAGE_SHIFT, PAGE_SIZE};
use collections::xarray::Refused;
use frame_table::{PageBytes, PageFlags, PageRef};
use page_allocator::Hooks;
use platform::Platform;
use units::{Gfp, Order};

use crate::file::{FileKind, FileState, MAX_INDEX, SpareNodes, pages_of};
use crate::files::FileCall;
use crate::source::PageSource;

/// How far pages may be made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Reach {
    /// Up to the file's end: a process touches a mapping.
    ToEnd,
    /// Beyond it: a write is about to move the end.
    Beyond,
    /// Beyond it, for somebody who will not look at the page: one that is made is not up to date until it is first asked for (Linux: SGP_FALLOC).
    Unseen,
}

/// What a missing page is made of.
#[derive(Clone, Copy, Debug)]
struct Recipe<'k> {
    source: Option<&'k dyn PageSource>,
    charge: u64,
}

impl<'k> FileState<'k> {
    fn check_index(&self, index: u64, reach: Reach) -> Result<(), MmError> {
        if reach == Reach::ToEnd && index >= pages_of(self.size) {
            return Err(MmError::BadAddress);
        }
        if index >= MAX_INDEX { Err(MmError::NoSpace) } else { Ok(()) }
    }

    fn recipe(&self, index: u64) -> Recipe<'k> {
        let source = match self.kind {
            Some(FileKind::Backed(source)) if index < pages_of(self.backed) => Some(source),
            _ => None,
        };
        Recipe { source, charge: self.charge_per_page() }
    }

    /// Bytes of a page that the source still has.
    fn backed_bytes(&self, index: u64) -> usize {
        self.backed.saturating_sub(index << PAGE_SHIFT).min(PAGE_SIZE) as usize
    }
}

/// Whose page is at the index after an attempt to enter one.
enum Entered {
    Ours(PageRef),
    Theirs(PageRef),
}

/// Where a page goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) file: FileId,
    pub(crate) index: u64,
    pub(crate) reach: Reach,
}

impl<'k, P: Platform, H: Hooks + Sync> FileCall<'_, 'k, P, H> {
    /// Returns the page at `index` with a reference, making it if it is missing; for `Write` it is dirty then.
    ///
    /// # Errors
    /// [`MmError::BadAddress`] behind the end of the file and [`MmError::NoSpace`] where no memory may be promised, both SIGBUS for a process that
    /// touches a mapping; [`MmError::NoMemory`], [`MmError::Io`], [`MmError::BadFile`].
    #[inline]
    pub fn page(&self, file: FileId, index: u64, access: Access) -> Result<PageRef, MmError> {
        self.find_or_make(Place { file, index, reach: Reach::ToEnd }, access)
    }

    pub(crate) fn find_or_make(&self, place: Place, access: Access) -> Result<PageRef, MmError> {
        let mut state = self.lock(place.file)?;
        state.check_index(place.index, place.reach)?;
        if let Some(page) = self.take_found(&mut state, place.index, access) {
            return Ok(page);
        }
        let recipe = state.recipe(place.index);
        drop(state);
        self.make(place, access, recipe)
    }

    /// Takes a reference to a page that is there.
    fn take_found(&self, state: &mut FileState<'_>, index: u64, access: Access) -> Option<PageRef> {
        let page = state.pages.get(index)?.get(self.frames());
        if state.has_set_aside {
            self.frames().at(page.pfn()).set_flags(PageFlags::UPTODATE);
        }
        if access == Access::Write {
            self.note_dirty(state, index, page.pfn());
        }
        Some(page)
    }

    #[cold]
    fn make(&self, place: Place, access: Access, recipe: Recipe<'k>) -> Result<PageRef, MmError> {
        if recipe.charge != 0 {
            self.commit.charge(recipe.charge, self.process, self.total_vm).map_err(|_| MmError::NoSpace)?;
        }
        let made = self.fresh_page(place.index, recipe).and_then(|page| self.enter(place, access, page));
        if let Ok(Entered::Ours(page)) = made {
            return Ok(page);
        }
        self.commit.uncharge(recipe.charge);
        made.map(|(Entered::Ours(page) | Entered::Theirs(page))| page)
    }

    /// Allocates a page and fills it. Nobody else knows it.
    fn fresh_page(&self, index: u64, recipe: Recipe<'k>) -> Result<PageRef, MmError> {
        let pages = self.files.objects.pages();
        let block = pages.alloc(self.cpu, Gfp::HIGHUSER_MOVABLE | Gfp::ZERO, Order::ZERO);
        let page = block.map_err(|_| MmError::NoMemory)?.into_ref(self.frames());
        let read = recipe.source.map_or(Ok(()), |source| source.read_page(self.cpu, index, &self.bytes(&page)?));
        match read {
            Ok(()) => Ok(page),
            Err(error) => {
                self.put_page(page);
                Err(error)
            }
        }
    }

    /// Shows the bytes of a page.
    pub(crate) fn bytes<'p>(&'p self, page: &'p PageRef) -> Result<PageBytes<'p>, MmError> {
        PageBytes::new(self.files.objects.pages().platform(), page, PAGE_SHIFT).map_err(|_| MmError::NoMemory)
    }

    /// Enters a page, unless another CPU was faster.
    fn enter(&self, place: Place, access: Access, page: PageRef) -> Result<Entered, MmError> {
        let mut spare = SpareNodes::new();
        let entered = self.try_enter(place, access, &page, &mut spare);
        self.free_nodes(spare);
        match entered {
            Ok(None) => Ok(Entered::Ours(page)),
            Ok(Some(other)) => {
                self.put_page(page);
                Ok(Entered::Theirs(other))
            }
            Err(error) => {
                self.put_page(page);
                Err(error)
            }
        }
    }

    /// Enters a page; returns the one that is there already instead.
    fn try_enter(
        &self,
        place: Place,
        access: Access,
        page: &PageRef,
        spare: &mut SpareNodes<'k>,
    ) -> Result<Option<PageRef>, MmError> {
        loop {
            let mut state = self.lock(place.file)?;
            state.check_index(place.index, place.reach)?;
            if let Some(found) = self.take_found(&mut state, place.index, access) {
                return Ok(Some(found));
            }
            let missing = match state.pages.insert(place.index, page.get(self.frames()), spare) {
                Ok(()) => {
                    self.note_entered(&state, place, page);
                    if access == Access::Write {
                        self.note_dirty(&mut state, place.index, page.pfn());
                    }
                    return Ok(None);
                }
                Err(Refused::Occupied(held)) => (held, 0),
                Err(Refused::NodesMissing(held, needed)) => (held, needed),
            };
            drop(state);
            self.put_page(missing.0);
            self.supply(spare, missing.1)?;
        }
    }

    /// Makes a page that was just entered known as the file's.
    fn note_entered(&self, state: &FileState<'_>, place: Place, page: &PageRef) {
        let frame = self.frames().at(page.pfn());
        let fits = frame.set_mapping(Self::number(place.file), place.index);
        debug_assert!(fits, "the index was checked");
        let mut flags = PageFlags::empty();
        flags.set(PageFlags::SWAPBACKED, state.is_shmem());
        flags.set(PageFlags::UPTODATE, place.reach != Reach::Unseen);
        frame.set_flags(flags);
        if matches!(state.kind, Some(FileKind::Backed(_)))
            && let Ok(bytes) = self.bytes(page)
        {
            // The file may have been cut while the page was read.
            bytes.zero(state.backed_bytes(place.index), PAGE_SIZE as usize);
        }
        self.count(page.pfn(), state.page_kind(), 1);
    }
}
