//! What was taken out of page tables: kept until no TLB remembers it, then freed.
//!
//! Pages are kept in a batch; when that is full, or at the end, the addresses are flushed and the pages let go. Tables wait with them, and moreover for the
//! walks that may have seen them. Linux 6.12: mm/mmu_gather.c, include/asm-generic/tlb.h (`tlb_gather_mmu`, `tlb_finish_mmu`).

use core::mem::MaybeUninit;

use frame_table::{PageFlags, PageRef};
use page_allocator::Hooks;
use platform::{Attributes, Platform, Prot, TableFormat};
use units::{Order, Pfn, PhysAddr, VirtAddr, VirtRange};

use super::entry::{EntryRef, PageKind, Pte, Taken};
use super::{Mmu, UserTables};

/// Pages that wait for one flush.
const BATCH: usize = 126;

/// No frame.
const END: u64 = u64::MAX;

/// Pages and tables of one address space on their way out. Dropping it flushes and frees.
///
/// # Invariants
/// `batch` has `len` numbers of references that entries held. `dead` is the first of a list of tables that no entry points to, linked by the descriptors'
/// private words.
#[derive(Debug)]
pub struct Gather<'a, P: Platform, H: Hooks> {
    mmu: Mmu<'a, P, H>,
    tables: &'a UserTables,
    root: Option<PhysAddr>,
    flush: VirtRange,
    batch: [MaybeUninit<(Pfn, Order)>; BATCH],
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
            flush: VirtRange::default(),
            batch: [const { MaybeUninit::uninit() }; BATCH],
            len: 0,
            dead: END,
        }
    }

    /// Takes a reference to the page that an entry maps now, with what the entry held; `None` for no page and for the page of zeros (Linux: gup_fast).
    #[inline]
    pub fn page(&self, entry: &EntryRef<'_, P::Format>) -> Option<(PageRef, Pte)> {
        let pte = entry.load();
        let (pfn, _) = entry.leaf(pte)?;
        if pfn == self.zero_page() {
            return None;
        }
        let page = PageRef::try_get(self.objects.frames(), pfn)?;
        // After the reference was taken: if the page that is held has the frame, nothing else has it, and the entry may still map it.
        let has_frame = page.pfn() <= pfn && pfn < page.pfn().add(page.order().nr_pages());
        let again = entry.load();
        if has_frame && entry.leaf(again).is_some_and(|(now, _)| now == pfn) {
            return Some((page, again));
        }
        self.put(page);
        None
    }

    /// Maps what `entry` maps at `child` too, an empty entry of the same level in another address space, with `attributes` (fork). Returns what the page
    /// is counted as; `None` if nothing was mapped, or only the page of zeros.
    ///
    /// The caller keeps others from changing what either entry maps.
    pub fn duplicate(
        &self,
        entry: &EntryRef<'_, P::Format>,
        child: &EntryRef<'_, P::Format>,
        attributes: Attributes,
    ) -> Option<PageKind> {
        let (pfn, _) = entry.leaf(entry.load())?;
        if pfn == self.zero_page() {
            child.install_zero(Pte::NONE, attributes);
            return None;
        }
        let (page, pte) = self.page(entry)?;
        let kind = entry.kind(pte);
        match child.install(Pte::NONE, page, pfn, attributes) {
            Ok(()) => kind,
            Err(page) => {
                self.put(page);
                None
            }
        }
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

    /// Has `range` flushed before anything goes, and at the end.
    #[inline]
    pub fn note(&mut self, range: VirtRange) {
        self.flush = self.flush.joined(range);
    }

    /// Empties an entry that maps memory; what it mapped goes after the flush. Returns what that was; `None` if it mapped nothing, or is one of another
    /// address space.
    ///
    /// A page of a file that was written to through the entry is marked as dirty. The address space's counters are the caller's.
    #[inline]
    pub fn take(&mut self, entry: &EntryRef<'_, P::Format>) -> Option<Taken> {
        if !self.is_of(entry) {
            return None;
        }
        let pte = entry.clear()?;
        self.note(entry.range());
        self.release(entry, pte)
    }

    /// As [`Gather::take`], if the entry still holds `expected`; `None` also if it does not.
    pub fn take_if(&mut self, entry: &EntryRef<'_, P::Format>, expected: Pte) -> Option<Taken> {
        if !self.is_of(entry) || !entry.clear_if(expected) {
            return None;
        }
        self.note(entry.range());
        self.release(entry, expected)
    }

    /// Puts `page` in the place of what `entry` maps, if it still holds `expected`; no processor uses what it mapped once `page` is there. Returns what that was.
    ///
    /// # Errors
    /// Gives the page back if the entry holds something else or is one of another address space, or if the page has another size than what an entry of
    /// this level maps.
    #[inline]
    pub fn replace(
        &mut self,
        entry: &EntryRef<'_, P::Format>,
        expected: Pte,
        page: PageRef,
        attributes: Attributes,
    ) -> Result<Option<Taken>, PageRef> {
        if !self.is_of(entry) {
            return Err(page);
        }
        let platform = self.mmu.objects.pages().platform();
        let flush = || self.root.into_iter().for_each(|root| platform.flush_user_range(root, entry.range()));
        entry.exchange(expected, page, attributes, flush)?;
        Ok(self.release(entry, expected))
    }

    /// Moves what `entry` maps to `to`, an empty entry of the same level and address space (mremap). Returns what was moved; `None` if nothing was.
    ///
    /// The page is held until the old address is flushed, since somebody may take it out at the new one before. The caller keeps others from both entries.
    pub fn relocate(&mut self, entry: &EntryRef<'_, P::Format>, to: &EntryRef<'_, P::Format>) -> Option<Pte> {
        let same_level = entry.level() == to.level();
        if !self.is_of(entry) || !self.is_of(to) || !same_level || !to.load().is_none() {
            return None;
        }
        let pte = entry.clear()?;
        self.note(entry.range());
        if let Some(mapped) = entry.mapped(pte) {
            // SAFETY: the reference that the entry held, which was emptied.
            let page = unsafe { PageRef::from_raw(mapped.head, mapped.order) };
            let (head, order) = page.get(self.mmu.objects.frames()).into_raw();
            self.keep(head, order);
            // Goes with the entry's value.
            page.into_raw();
        }
        if to.change(Pte::NONE, pte.raw()) {
            return Some(pte);
        }
        if !entry.change(Pte::NONE, pte.raw()) {
            self.note(entry.range());
            self.release(entry, pte);
        }
        None
    }

    /// Lets go of what `entry` held as `pte`, after the flush of what was noted.
    #[inline]
    fn release(&mut self, entry: &EntryRef<'_, P::Format>, pte: Pte) -> Option<Taken> {
        let (_, attributes) = entry.leaf(pte)?;
        let mut taken = Taken { attributes, kind: None, order: entry.order() };
        let Some(mapped) = entry.mapped(pte) else { return Some(taken) };
        let (head, kind) = (mapped.frame, mapped.kind());
        if kind != PageKind::Anon && attributes.prot.contains(Prot::DIRTY) && !head.flags().contains(PageFlags::DIRTY) {
            head.set_flags(PageFlags::DIRTY);
        }
        head.remove_mapping();
        taken.kind = Some(kind);
        self.keep(mapped.head, mapped.order);
        Some(taken)
    }

    /// Keeps a reference until the flush.
    fn keep(&mut self, head: Pfn, order: Order) {
        if self.len == BATCH {
            self.flush_pages();
        }
        // INVARIANT: the reference is that of the entry which was emptied.
        if let Some(slot) = self.batch.get_mut(self.len) {
            slot.write((head, order));
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
        self.tables.add_tables(-1);
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

    fn flush_pages(&mut self) {
        if let Some(root) = self.root.filter(|_| !self.flush.is_empty()) {
            self.mmu.objects.pages().platform().flush_user_range(root, self.flush);
            self.flush = VirtRange::default();
        }
        for slot in self.batch.iter().take(core::mem::take(&mut self.len)) {
            // SAFETY: by the type invariant the first `len` were written.
            let (pfn, order) = unsafe { slot.assume_init() };
            // SAFETY: by the type invariant the number of a reference that an entry held; the batch was emptied.
            let page = unsafe { PageRef::from_raw(pfn, order) };
            self.mmu.put(page);
        }
    }
}

impl<P: Platform, H: Hooks> Drop for Gather<'_, P, H> {
    fn drop(&mut self) {
        self.finish();
    }
}
