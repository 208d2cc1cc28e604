//! What was taken out of page tables: kept until no TLB remembers it, then freed.
//!
//! Pages are kept in a batch; when that is full, or at the end, the addresses are flushed and the pages let go. Tables wait with them, and moreover for the
//! walks that may have seen them. Linux 6.12: mm/mmu_gather.c, include/asm-generic/tlb.h (`tlb_gather_mmu`, `tlb_finish_mmu`).

use core::mem::MaybeUninit;
use core::sync::atomic::Ordering;

use frame_table::{Frame, PageRef, Put};
use page_allocator::Hooks;
use platform::{Attributes, Level, Platform, Prot, TableFormat};
use units::{Pfn, PhysAddr, VirtAddr, VirtRange};

use super::entry::{EntryRef, PageKind, Pte, Taken};
use super::{Mmu, UserTables};

/// Pages that wait for one flush.
const BATCH: usize = 254;

/// No addresses, which what is noted may be joined with.
const NOTHING: VirtRange = VirtRange::new(VirtAddr::new(u64::MAX), VirtAddr::ZERO);

/// No frame.
const END: u64 = u64::MAX;

/// What became of a page that nobody was to miss.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Dropped {
    /// It goes.
    Taken(Taken),
    /// It stays: somebody has it.
    Held,
    /// The entry holds something else.
    Changed,
}

/// Pages and tables of one address space on their way out. Dropping it flushes and frees.
///
/// # Invariants
/// `batch` has `len` references that entries held. `dead` is the first of a list of tables that no entry points to, linked by the descriptors'
/// private words.
#[derive(Debug)]
pub struct Gather<'a, P: Platform, H: Hooks> {
    mmu: Mmu<'a, P, H>,
    tables: &'a UserTables,
    root: Option<PhysAddr>,
    flush: VirtRange,
    batch: [MaybeUninit<PageRef>; BATCH],
    len: usize,
    dead: u64,
}

impl<'a, P: Platform, H: Hooks> Mmu<'a, P, H> {
    /// Begins to take pages out of an address space.
    pub fn gather(&self, tables: &'a UserTables) -> Gather<'a, P, H> {
        Gather {
            mmu: *self,
            tables,
            root: tables.root_of(self.cpu.machine()),
            flush: NOTHING,
            batch: [const { MaybeUninit::uninit() }; BATCH],
            len: 0,
            dead: END,
        }
    }

    /// Takes a reference to the page that an entry maps now, with what the entry held; `None` for no page and for the page of zeros (Linux: gup_fast).
    #[inline]
    pub fn page(&self, entry: &EntryRef<'_, P::Format>) -> Option<(PageRef, Pte)> {
        let (pfn, _) = entry.leaf(entry.load())?;
        if entry.shows_zeros(pfn) { None } else { self.page_seen(entry, pfn) }
    }

    /// Takes a reference to the page that frame `pfn` is part of, if `entry`, where it was seen, still maps it.
    #[inline(always)]
    pub(super) fn page_seen(&self, entry: &EntryRef<'_, P::Format>, pfn: Pfn) -> Option<(PageRef, Pte)> {
        let page = PageRef::try_get(self.objects.frames(), pfn)?;
        // After the reference was taken: if the page that is held has the frame, nothing else has it, and the entry may still map it.
        let has_frame = page.pfn() <= pfn && pfn < page.pfn().add(page.order().nr_pages());
        // Acquire: whoever gets the page from here sees what was done with it in `while_mapped` before.
        let again = entry.load_as(Ordering::Acquire);
        if has_frame && entry.leaf(again).is_some_and(|(now, _)| now == pfn) {
            return Some((page, again));
        }
        self.put(page);
        None
    }
}

impl<'a, P: Platform, H: Hooks> Gather<'a, P, H> {
    /// Returns the address space.
    pub const fn tables(&self) -> &'a UserTables {
        self.tables
    }

    /// Returns what works on its tables.
    pub const fn mmu(&self) -> &Mmu<'a, P, H> {
        &self.mmu
    }

    /// Returns the root table.
    pub(super) const fn root(&self) -> Option<PhysAddr> {
        self.root
    }

    /// Returns true if this flushes `tables`: it was made for them, when they had the root that they have.
    pub fn flushes(&self, tables: &UserTables) -> bool {
        self.root.is_some() && self.root == tables.root_of(self.mmu.cpu.machine())
    }

    /// Returns true if `entry` is of the tables that this flushes.
    #[inline]
    pub(super) fn is_of(&self, entry: &EntryRef<'_, P::Format>) -> bool {
        self.root == Some(entry.view().root)
    }

    /// Has `range`, which is not empty, flushed before anything goes, and at the end.
    #[inline]
    pub fn note(&mut self, range: VirtRange) {
        self.flush = VirtRange::new(self.flush.start.min(range.start), self.flush.end.max(range.end));
    }

    /// Empties an entry that maps memory; what it mapped goes after the flush. Returns what that was; `None` if it mapped nothing, or is one of another
    /// address space.
    ///
    /// A page of a file that was written to through the entry is marked as dirty. The address space's counters are the caller's.
    pub fn take(&mut self, entry: &EntryRef<'_, P::Format>) -> Option<Taken> {
        if !self.is_of(entry) {
            return None;
        }
        let pte = entry.clear()?;
        self.release_later(entry, pte)
    }

    /// As [`Gather::take`], if the entry holds `pte`; `None` also if it holds something else.
    #[inline(always)]
    pub fn take_if(&mut self, entry: &EntryRef<'_, P::Format>, pte: Pte) -> Option<Taken> {
        entry.leaf(pte)?;
        if !self.is_of(entry) || !entry.clear_if(pte) {
            return None;
        }
        self.release_later(entry, pte)
    }

    /// Empties an entry that holds `pte` if nobody has its page but the entries that map it; what it mapped goes after the flush. No processor uses the page through the
    /// entry while that is asked, and who takes a reference meanwhile is seen, or finds the entry changed.
    pub fn drop_if_unheld(&mut self, entry: &EntryRef<'_, P::Format>, pte: Pte) -> Dropped {
        if entry.leaf(pte).is_none() || !self.is_of(entry) {
            return Dropped::Held;
        }
        let mapped = entry.mapped(pte);
        if mapped.as_ref().is_some_and(|mapped| mapped.order != entry.order()) {
            // The references of its parts that were taken so far are still here.
            self.flush_pages();
        }
        if !entry.hold_if(pte) {
            return Dropped::Changed;
        }
        self.flush_now(entry.range());
        let is_held = |frame: &Frame| i64::from(frame.latest_count()) != i64::from(frame.mapcount());
        if entry.mapped(pte).is_some_and(|mapped| is_held(mapped.frame)) {
            entry.let_go(pte);
            return Dropped::Held;
        }
        entry.let_go(Pte::new(0));
        self.release_later(entry, pte).map_or(Dropped::Held, Dropped::Taken)
    }

    /// Puts `page` in the place of what `entry` maps, if it still holds `expected`; no processor uses what it mapped once `page` is there. Returns what that was.
    ///
    /// # Errors
    /// Gives the page back if the entry holds something else or is one of another address space, or if the page has another size than what an entry of
    /// this level maps.
    // Where the level is known, as in each caller, nearly all of it is computed by the compiler.
    #[inline(always)]
    pub fn replace(
        &mut self,
        entry: &EntryRef<'_, P::Format>,
        expected: Pte,
        page: PageRef,
        attributes: Attributes,
    ) -> Result<Option<Taken>, PageRef> {
        self.replace_when(entry, expected, page, attributes, || true)
    }

    /// As [`Gather::replace`]. `ready` runs when no processor uses either page and nobody finds the old one in the entry any more; if it returns false, everything is left
    /// as it was, and the page given back (Linux: set_migration_pte, remove_migration_pte).
    ///
    /// # Errors
    /// As [`Gather::replace`].
    #[inline(always)]
    pub fn replace_when(
        &mut self,
        entry: &EntryRef<'_, P::Format>,
        expected: Pte,
        page: PageRef,
        attributes: Attributes,
        ready: impl FnOnce() -> bool,
    ) -> Result<Option<Taken>, PageRef> {
        if !self.is_of(entry) {
            return Err(page);
        }
        entry.exchange(expected, page, attributes, || {
            self.flush_now(entry.range());
            ready()
        })?;
        Ok(self.release(entry, expected))
    }

    fn flush_now(&self, range: VirtRange) {
        let platform = self.mmu.objects.pages().platform();
        self.root.into_iter().for_each(|root| platform.flush_user_range(root, range));
    }

    /// Lets go of what `entry`, which the caller emptied, held as `pte`, after the flush; the table that waited for it goes too.
    #[inline(always)]
    pub(super) fn release_later(&mut self, entry: &EntryRef<'_, P::Format>, pte: Pte) -> Option<Taken> {
        self.note(entry.range());
        if entry.level() != Level::PTE {
            self.free_deposit(*entry, pte);
        }
        self.release(entry, pte)
    }

    /// Lets go of what `entry` held as `pte`, after the flush of what was noted.
    #[inline(always)]
    pub(super) fn release(&mut self, entry: &EntryRef<'_, P::Format>, pte: Pte) -> Option<Taken> {
        let (pfn, attributes) = entry.leaf(pte)?;
        let mut taken = Taken { attributes, kind: None, order: entry.order() };
        let Some(mapped) = entry.mapped_frame(pfn) else { return Some(taken) };
        let kind = mapped.kind();
        if kind != PageKind::Anon && attributes.prot.contains(Prot::DIRTY) {
            mapped.mark_dirty();
        }
        mapped.frame.remove_mapping();
        taken.kind = Some(kind);
        // SAFETY: the reference that the entry held, which was emptied.
        self.keep(unsafe { PageRef::from_raw(mapped.head, mapped.order) });
        Some(taken)
    }

    /// Keeps a reference that an entry held until the flush.
    #[inline]
    fn keep(&mut self, page: PageRef) {
        if self.len == BATCH {
            self.flush_pages();
        }
        if let Some(slot) = self.batch.get_mut(self.len) {
            slot.write(page);
            self.len += 1;
        }
    }

    /// Takes the table that `entry` points to out; it goes after the flush. The table holds no entry, and nobody may be about to fill it.
    ///
    /// Returns false if the entry points to no table, or is one of another address space. What the table still holds stays allocated.
    pub fn take_table(&mut self, entry: &EntryRef<'_, P::Format>) -> bool {
        if !self.is_of(entry) {
            return false;
        }
        let maps_memory = entry.leaf(entry.load()).is_some();
        debug_assert!(
            maps_memory || entry.load().is_none() || entry.is_empty_table(),
            "a table that is taken out holds nothing"
        );
        let Some(table) = entry.unlink() else { return false };
        self.note(entry.range());
        self.tables.add_table_below(entry.level(), -1);
        self.add_dead(table);
        true
    }

    pub(super) fn add_dead_root(&mut self, root: PhysAddr) {
        self.flush = VirtRange::new(VirtAddr::ZERO, VirtAddr::new(u64::MAX));
        self.add_dead(root.pfn_down(self.mmu.format().page_shift()));
    }

    fn add_dead(&mut self, table: Pfn) {
        // INVARIANT: the table becomes the first of the list.
        self.mmu.objects.frames().at(table).set_private(self.dead);
        self.dead = table.raw();
    }

    /// Flushes what was noted, and frees the pages and tables that waited for it.
    pub fn finish(&mut self) {
        self.flush_pages();
        let mut dead = core::mem::replace(&mut self.dead, END);
        if dead == END {
            return;
        }
        if !self.await_walks() {
            debug_assert!(false, "tables are not freed during a walk of the same CPU");
            return;
        }
        while dead != END {
            let table = Pfn::new(dead);
            dead = self.mmu.objects.frames().at(table).private();
            // SAFETY: no entry points to it, TLBs were flushed since, and the walks that may have seen it have ended.
            unsafe { self.mmu.free_unreachable(table) };
        }
    }

    fn await_walks(&self) -> bool {
        self.mmu.objects.wait_for_walks(self.mmu.cpu)
    }

    /// Flushes what was noted, and waits for the walks that may have seen what was taken out. Returns false during a walk of the same CPU.
    pub(super) fn settle(&mut self) -> bool {
        self.flush_pages();
        self.await_walks()
    }

    #[inline(never)]
    fn flush_pages(&mut self) {
        if let Some(root) = self.root.filter(|_| !self.flush.is_empty()) {
            self.mmu.objects.pages().platform().flush_user_range(root, self.flush);
            self.flush = NOTHING;
        }
        let (objects, kept) = (self.mmu.objects, core::mem::take(&mut self.len));
        let last = self.batch.iter().take(kept).filter_map(|slot| {
            // SAFETY: by the type invariant the first `len` were written; they are read once, since the batch was emptied.
            match unsafe { slot.assume_init_read() }.put(objects.frames()) {
                Put::Last(block) => Some(block),
                Put::Shared => None,
            }
        });
        objects.pages().free_bulk(self.mmu.cpu, last);
    }
}

impl<P: Platform, H: Hooks> Drop for Gather<'_, P, H> {
    fn drop(&mut self) {
        self.finish();
    }
}
