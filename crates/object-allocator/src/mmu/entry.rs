//! Entries of page tables, and the pages that they hold.
//!
//! An entry holds nothing, points to a table, or maps memory; if that memory is a page with a descriptor other than the page of zeros, the entry
//! holds one reference to the page and counts as one of its mappings. Hardware may set the marks of use and writing at any time.
//! Linux 6.12: include/linux/pgtable.h, mm/rmap.c (`folio_add_anon_rmap_pte`, `folio_remove_rmap_pte`).

use frame_table::{Frame, FrameTable, PageFlags, PageRef};
use platform::{Attributes, Entry, Level, Prot, TableFormat};
use units::{Order, Pfn, VirtAddr, VirtRange};

use super::View;
use super::huge_zero::is_huge_zero;
use super::table::FreshTable;
use crate::atomic::{AtomicU64, Ordering, spin_loop};

/// What an entry held when it was read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pte(u64);

impl Pte {
    /// Nothing.
    pub const NONE: Self = Self(0);

    /// What an entry holds between two pages, until no TLB remembers the first, and while its page is in somebody's hands: nothing to a processor, and for
    /// everybody else a reason to wait. Never seen outside this file.
    const BUSY: Self = Self(Entry::HELD);

    #[inline]
    pub(super) const fn new(value: u64) -> Self {
        Self(value)
    }

    /// Returns true if the entry held nothing.
    #[inline]
    pub const fn is_none(self) -> bool {
        self.0 == 0
    }

    /// Returns the bits, as the processor reads them.
    pub const fn raw(self) -> u64 {
        self.0
    }
}

/// What a resident page is counted as.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PageKind {
    /// Of a file.
    File,
    /// Anonymous.
    Anon,
    /// Of shared memory.
    Shmem,
}

impl PageKind {
    /// Bit of the mapping's number that anonymous pages have (Linux: PAGE_MAPPING_ANON).
    pub const ANON_MAPPING: u32 = 1 << 31;

    /// Returns the kind of the page that `head` heads, or is.
    #[inline]
    pub fn of_page(head: &Frame) -> Self {
        Self::of(head.flags(), head.mapping().0)
    }

    /// Returns the kind of a page with these flags and this mapping.
    #[inline]
    pub const fn of(flags: PageFlags, mapping: u32) -> Self {
        if mapping & Self::ANON_MAPPING != 0 {
            Self::Anon
        } else if flags.contains(PageFlags::SWAPBACKED) {
            Self::Shmem
        } else {
            Self::File
        }
    }
}

/// What is known of the page that an entry maps, or maps a part of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PageFacts {
    /// What it is counted as.
    pub kind: PageKind,
    /// Its flags.
    pub flags: PageFlags,
    /// References.
    pub count: i32,
    /// Entries that map it or a part of it, in all address spaces.
    pub mapcount: u32,
    /// Order of the whole page.
    pub order: Order,
}

/// What was mapped before an entry was cleared.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Taken {
    /// What the mapping allowed, and whether it was used.
    pub attributes: Attributes,
    /// What the page was counted as; `None` for the page of zeros.
    pub kind: Option<PageKind>,
    /// Order of the memory that the entry mapped.
    pub order: Order,
}

/// An entry of a table, found by a walk.
#[derive(Debug)]
pub struct EntryRef<'w, F> {
    view: &'w View<'w, F>,
    slot: &'w AtomicU64,
    level: Level,
    /// First address that the entry translates.
    virt: VirtAddr,
}

impl<F> Clone for EntryRef<'_, F> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<F> Copy for EntryRef<'_, F> {}

/// The page behind an entry.
pub(super) struct Mapped<'w> {
    pub(super) head: Pfn,
    pub(super) order: Order,
    /// Descriptor of the head.
    pub(super) frame: &'w Frame,
    /// Its flags, as they were read.
    flags: PageFlags,
}

impl<'w> Mapped<'w> {
    /// Returns the larger page that a frame is part of. Takes no entry, which would then have to lie in memory for every page.
    #[cold]
    #[inline(never)]
    fn of_part(frames: &'w FrameTable, pfn: Pfn, frame: &Frame) -> Option<Self> {
        let head = if frame.flags().contains(PageFlags::TAIL) { Pfn::new(frame.private()) } else { pfn };
        let frame = frames.get(head)?;
        let flags = frame.flags();
        // The large page of zeros belongs to nobody.
        let is_owned = !flags.contains(PageFlags::RESERVED);
        is_owned.then(|| Self { head, order: frames.compound_order(head), frame, flags })
    }

    /// Returns true if the page is no part of a larger one, and none.
    #[inline]
    pub(super) fn is_plain(&self) -> bool {
        !self.flags.intersects(PageFlags::HEAD.union(PageFlags::TAIL))
    }

    /// As [`Mapped::is_plain`], as the page is now.
    #[inline]
    pub(super) fn is_still_plain(&self) -> bool {
        !self.frame.flags().intersects(PageFlags::HEAD.union(PageFlags::TAIL))
    }

    /// Lets an anonymous page belong to no address space alone.
    #[inline]
    pub(super) fn make_shared(&self) {
        if self.flags.contains(PageFlags::ANON_EXCLUSIVE) && self.kind() == PageKind::Anon {
            self.frame.clear_flags(PageFlags::ANON_EXCLUSIVE);
        }
    }

    /// Lets an anonymous page that nobody else has belong to one address space alone, by the mark of the frame `shown` that its entry shows. Returns whether it does.
    /// The caller holds the entry.
    #[inline]
    pub(super) fn become_own(&self, shown: &Frame) -> bool {
        if self.kind() != PageKind::Anon {
            return false;
        }
        let is_marked = shown.flags().contains(PageFlags::ANON_EXCLUSIVE);
        // One reference is this entry's: whoever shared the page let go of it.
        let is_own = is_marked || self.frame.is_only_reference();
        if is_own && !is_marked {
            shown.set_flags(PageFlags::ANON_EXCLUSIVE);
        }
        is_own
    }

    /// Returns what the page is counted as.
    #[inline]
    pub(super) fn kind(&self) -> PageKind {
        PageKind::of(self.flags, self.frame.mapping().0)
    }

    /// Marks a page of a file as written.
    #[inline]
    pub(super) fn mark_dirty(&self) {
        if !self.flags.contains(PageFlags::DIRTY) {
            self.frame.set_flags(PageFlags::DIRTY);
        }
    }
}

/// Returns true if the page that frame `head` heads is anonymous. As in [`Mapped::of_part`], no entry is taken.
#[cold]
#[inline(never)]
fn is_anon(frames: &FrameTable, head: Pfn) -> bool {
    PageKind::of_page(frames.at(head)) == PageKind::Anon
}

impl<'w, F: TableFormat> EntryRef<'w, F> {
    #[inline]
    pub(super) const fn new(view: &'w View<'w, F>, slot: &'w AtomicU64, level: Level, virt: VirtAddr) -> Self {
        Self { view, slot, level, virt }
    }

    #[inline]
    pub(super) const fn slot(&self) -> &'w AtomicU64 {
        self.slot
    }

    #[inline]
    pub(super) const fn view(&self) -> &'w View<'w, F> {
        self.view
    }

    /// Returns the level of the table that the entry is in.
    #[inline]
    pub const fn level(&self) -> Level {
        self.level
    }

    /// Returns the first address that the entry translates.
    #[inline]
    pub const fn virt(&self) -> VirtAddr {
        self.virt
    }

    /// Returns the addresses that the entry translates.
    #[inline]
    pub fn range(&self) -> VirtRange {
        VirtRange::with_len(self.virt, self.view.format.leaf_bytes(self.level))
    }

    /// Reads the entry. Waits while another CPU flushes what the entry held before it enters another page.
    #[inline]
    pub fn load(&self) -> Pte {
        // Relaxed: what is mapped is reached through the descriptor's own protocol.
        self.load_as(Ordering::Relaxed)
    }

    #[inline]
    pub(super) fn load_as(&self, ordering: Ordering) -> Pte {
        loop {
            let pte = Pte(self.slot.load(ordering));
            if pte != Pte::BUSY {
                return pte;
            }
            spin_loop();
        }
    }

    /// Returns the frame and attributes of what `pte`, read from this entry, maps.
    #[inline]
    pub fn leaf(&self, pte: Pte) -> Option<(Pfn, Attributes)> {
        match self.view.format.decode(self.level, pte.0) {
            Entry::Leaf(phys, attributes) => Some((phys.pfn_down(self.view.format.page_shift()), attributes)),
            _ => None,
        }
    }

    /// Returns what the mapping `pte`, read from this entry, allows, and how it was used; `None` if that is none.
    #[inline]
    pub fn prot(&self, pte: Pte) -> Option<Prot> {
        self.view.format.prot(self.level, pte.0)
    }

    /// Returns true if `pte`, read from this entry, maps the page of zeros, or the large one.
    #[inline]
    pub fn is_zero_page(&self, pte: Pte) -> bool {
        self.leaf(pte).is_some_and(|(pfn, _)| self.shows_zeros(pfn))
    }

    /// Returns true if the frame that the entry shows is the page of zeros, or the first of the large one.
    #[inline(always)]
    pub(super) fn shows_zeros(&self, pfn: Pfn) -> bool {
        pfn == self.view.zero_page || self.level != Level::PTE && is_huge_zero(self.view.frames, pfn)
    }

    /// Returns flags and mapping of the page that `pte` maps; `None` for the page of zeros and for no page.
    #[inline]
    pub fn kind(&self, pte: Pte) -> Option<PageKind> {
        self.mapped(pte).map(|mapped| mapped.kind())
    }

    /// Returns true if `pte` maps an anonymous page that belongs to one address space alone (Linux: PageAnonExclusive).
    #[inline]
    pub fn is_exclusive(&self, pte: Pte) -> bool {
        let Some((pfn, _)) = self.leaf(pte) else { return false };
        let Some(frame) = self.view.frames.get(pfn) else { return false };
        let flags = frame.flags();
        if !flags.contains(PageFlags::ANON_EXCLUSIVE) {
            return false;
        }
        // Of a larger page the head says what it is.
        let kind = if flags.intersects(PageFlags::HEAD.union(PageFlags::TAIL)) {
            Mapped::of_part(self.view.frames, pfn, frame).map(|mapped| mapped.kind())
        } else {
            Some(PageKind::of(flags, frame.mapping().0))
        };
        kind == Some(PageKind::Anon)
    }

    /// Lets the anonymous page that `pte` maps, or the part of one, belong to no address space alone.
    #[inline]
    pub(super) fn make_shared(&self, pte: Pte) {
        let Some(frame) = self.leaf(pte).and_then(|(pfn, _)| self.view.frames.get(pfn)) else { return };
        if frame.flags().contains(PageFlags::ANON_EXCLUSIVE) && self.kind(pte) == Some(PageKind::Anon) {
            frame.clear_flags(PageFlags::ANON_EXCLUSIVE);
        }
    }

    /// Returns true if the page that `pte` maps, or maps a part of, may be pinned (Linux: folio_maybe_dma_pinned).
    pub fn is_maybe_pinned(&self, pte: Pte) -> bool {
        self.mapped(pte).is_some_and(|mapped| self.view.frames.maybe_pinned(mapped.head))
    }

    /// Returns how many references and how many mappings the page has that `pte` maps.
    pub fn sharers(&self, pte: Pte) -> Option<(i32, u32)> {
        self.mapped(pte).map(|mapped| (mapped.frame.count(), mapped.frame.mapcount()))
    }

    /// Returns what is known of the page that `pte` maps; `None` for the page of zeros and for no page.
    pub fn page_facts(&self, pte: Pte) -> Option<PageFacts> {
        let Mapped { order, frame, flags, .. } = self.mapped(pte)?;
        let mapping = frame.mapping().0;
        let (count, mapcount) = (frame.count(), frame.mapcount());
        Some(PageFacts { kind: PageKind::of(flags, mapping), flags, count, mapcount, order })
    }

    /// Returns the order of the memory that an entry of this level maps.
    #[inline]
    pub fn order(&self) -> Order {
        let format = self.view.format;
        Order::new_truncate((format.shift(self.level) - format.page_shift()) as u8)
    }

    /// Returns the page that `pte` holds a reference to. If the entry holds `pte` no longer, it may be any page, or none.
    #[inline]
    pub(super) fn mapped(&self, pte: Pte) -> Option<Mapped<'w>> {
        let (pfn, _) = self.leaf(pte)?;
        self.mapped_frame(pfn)
    }

    /// As [`EntryRef::mapped`], for the frame that the entry shows.
    #[inline(always)]
    pub(super) fn mapped_frame(&self, pfn: Pfn) -> Option<Mapped<'w>> {
        if pfn == self.view.zero_page {
            return None;
        }
        let frame = self.view.frames.get(pfn)?;
        let flags = frame.flags();
        if flags.intersects(PageFlags::HEAD.union(PageFlags::TAIL)) {
            return Mapped::of_part(self.view.frames, pfn, frame);
        }
        Some(Mapped { head: pfn, order: Order::ZERO, frame, flags })
    }

    #[inline]
    pub(super) fn change(&self, expected: Pte, value: u64) -> bool {
        // Release: whoever finds the entry sees the page or table as it was made. The failure's value is not used.
        self.slot.compare_exchange(expected.0, value, Ordering::Release, Ordering::Relaxed).is_ok()
    }

    /// Maps `page`, of which the entry shows the part from frame `at` on, if the entry still holds `expected`, which owns nothing (Linux: set_pte_at). For an entry above
    /// the lowest level the caller says so before ([`UserTables::note_large`](super::UserTables::note_large)).
    ///
    /// # Errors
    /// Gives the page back if the entry holds something else, or the page does not have that part.
    #[inline(always)]
    pub fn install(&self, expected: Pte, page: PageRef, at: Pfn, attributes: Attributes) -> Result<(), PageRef> {
        if !self.fits(&page, at) || !self.owns_nothing(expected) || self.needs_deposit(&page) {
            return Err(page);
        }
        self.install_counted(expected, page, at, attributes)
    }

    /// Maps `page`, anonymous and of the size that the entry maps, if the entry is empty; a table waits for it.
    pub(super) fn install_whole(&self, page: PageRef, attributes: Attributes) -> Result<(), PageRef> {
        let at = page.pfn();
        self.install_counted(Pte::NONE, page, at, attributes)
    }

    #[inline(always)]
    fn install_counted(&self, expected: Pte, page: PageRef, at: Pfn, attributes: Attributes) -> Result<(), PageRef> {
        let head = self.view.frames.at(page.pfn());
        let value = self.encode(self.level, at, attributes);
        // Counted before it can be found, so that whoever takes it out finds it counted.
        head.add_mapping();
        if self.change(expected, value) {
            page.into_raw();
            Ok(())
        } else {
            head.remove_mapping();
            Err(page)
        }
    }

    /// Returns true if what the entry maps can be the part of `page` that starts at frame `at`.
    #[inline(always)]
    fn fits(&self, page: &PageRef, at: Pfn) -> bool {
        let (format, order) = (self.view.format, self.order());
        let is_leaf_size = format.leaf_bytes(self.level) == order.nr_pages() << format.page_shift();
        let behind = page.pfn().add(page.order().nr_pages());
        let is_inside = at >= page.pfn() && at.add(order.nr_pages()) <= behind;
        is_leaf_size && self.level <= format.largest_leaf() && at.is_aligned(order) && is_inside
    }

    /// Returns true if a large entry may map `page`, an anonymous one, whole.
    pub(super) fn fits_whole(&self, page: &PageRef) -> bool {
        self.fits(page, page.pfn()) && page.order() == self.order() && self.needs_deposit(page)
    }

    /// Returns true if a table has to wait for the entry while it maps `page`.
    #[inline(always)]
    fn needs_deposit(&self, page: &PageRef) -> bool {
        self.level != Level::PTE && is_anon(self.view.frames, page.pfn())
    }

    /// Returns an entry of `level` that maps memory from frame `at` on. Never for all address spaces: a flush of one would not reach it.
    #[inline]
    pub(super) fn encode(&self, level: Level, at: Pfn, attributes: Attributes) -> u64 {
        let attributes = Attributes { prot: attributes.prot - Prot::GLOBAL, ..attributes };
        self.view.format.encode_leaf(level, at.phys(self.view.format.page_shift()), attributes)
    }

    /// Maps the page of zeros if the entry still holds `expected`, which owns nothing. Returns false if it does not. For entries of the lowest level.
    #[inline]
    pub fn install_zero(&self, expected: Pte, attributes: Attributes) -> bool {
        if self.level != Level::PTE || !self.owns_nothing(expected) || attributes.prot.contains(Prot::WRITE) {
            return false;
        }
        self.change(expected, self.encode(self.level, self.view.zero_page, attributes))
    }

    /// Maps what another entry of this level maps as `pte`, a part of `page`, whose first descriptor is `head`, if this one is empty. The caller's reference to the page
    /// becomes the entry's.
    ///
    /// # Errors
    /// Gives the page back if the entry holds something.
    #[inline(always)]
    pub(super) fn install_same(&self, page: PageRef, head: &Frame, pte: Pte, prot: Prot) -> Result<(), PageRef> {
        // As in `install`.
        head.add_mapping();
        if self.change(Pte::NONE, self.view.format.with_prot(self.level, pte.0, prot - Prot::GLOBAL)) {
            page.into_raw();
            return Ok(());
        }
        head.remove_mapping();
        Err(page)
    }

    #[inline(always)]
    fn owns_nothing(&self, pte: Pte) -> bool {
        match self.view.format.decode(self.level, pte.0) {
            Entry::Empty => true,
            Entry::Table(_) => false,
            // For a large one a table waits.
            Entry::Leaf(phys, _) => {
                self.level == Level::PTE && phys.pfn_down(self.view.format.page_shift()) == self.view.zero_page
            }
        }
    }

    /// Gives the mapping other attributes if the entry still holds `expected`; false if it does not, or maps nothing.
    ///
    /// Taking rights away needs a flush before anybody may rely on it. The page of zeros is never made writable.
    #[inline]
    pub fn set_attributes(&self, expected: Pte, attributes: Attributes) -> bool {
        let Some((pfn, _)) = self.leaf(expected) else { return false };
        if attributes.prot.contains(Prot::WRITE) && self.shows_zeros(pfn) {
            return false;
        }
        self.change(expected, self.encode(self.level, pfn, attributes))
    }

    /// As [`EntryRef::set_attributes`], for permissions and marks of use alone.
    #[inline]
    pub fn set_prot(&self, expected: Pte, prot: Prot) -> bool {
        let prot = prot - Prot::GLOBAL;
        if self.prot(expected).is_none() || prot.contains(Prot::WRITE) && self.is_zero_page(expected) {
            return false;
        }
        self.change(expected, self.view.format.with_prot(self.level, expected.0, prot))
    }

    /// Makes an empty entry point to `table`.
    ///
    /// # Errors
    /// Gives the table back if the entry is not empty.
    pub fn link(&self, table: FreshTable) -> Result<(), FreshTable> {
        if self.level.down().is_none() {
            return Err(table);
        }
        let pfn = table.into_pfn();
        if self.change(Pte::NONE, self.encode_table(pfn)) { Ok(()) } else { Err(FreshTable::of(pfn)) }
    }

    fn encode_table(&self, pfn: Pfn) -> u64 {
        self.view.format.encode_table(self.level, pfn.phys(self.view.format.page_shift()))
    }

    /// Holds an entry that maps memory: whoever reads it waits until it is let go. Returns what it held, which is the caller's; `None` if it maps nothing. The caller
    /// waits for nobody meanwhile.
    pub(super) fn hold(&self) -> Option<Pte> {
        loop {
            let pte = self.load();
            self.leaf(pte)?;
            if self.hold_if(pte) {
                return Some(pte);
            }
        }
    }

    /// As [`EntryRef::hold`], if the entry holds `pte`, which maps memory.
    #[inline]
    pub(super) fn hold_if(&self, pte: Pte) -> bool {
        // Acquire: as in `clear_if`.
        self.slot.compare_exchange(pte.0, Pte::BUSY.0, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    /// Lets the entry go, which the caller holds, with `pte` in it.
    #[inline]
    pub(super) fn let_go(&self, pte: Pte) {
        // Release: as in `change`. Nobody else changes a busy entry.
        self.slot.store(pte.0, Ordering::Release);
    }

    /// Lets the entry go, which the caller holds and which is above the lowest level, pointing to `table`.
    pub(super) fn point_to(&self, table: FreshTable) {
        self.let_go(Pte(self.encode_table(table.into_pfn())));
    }

    /// Empties an entry that points to a table, and returns the table's frame.
    pub(super) fn unlink(&self) -> Option<Pfn> {
        let value = self.slot.load(Ordering::Relaxed);
        let Entry::Table(at) = self.view.format.decode(self.level, value) else { return None };
        let taken = self.slot.compare_exchange(value, 0, Ordering::AcqRel, Ordering::Relaxed).is_ok();
        taken.then(|| at.pfn_down(self.view.format.page_shift()))
    }

    /// Empties an entry that maps memory. What it held is the caller's.
    #[inline]
    pub(super) fn clear(&self) -> Option<Pte> {
        loop {
            let pte = self.load();
            self.leaf(pte)?;
            if self.clear_if(pte) {
                return Some(pte);
            }
        }
    }

    /// Empties the entry if it holds `pte`, which maps memory. What it held is the caller's then.
    #[inline]
    pub(super) fn clear_if(&self, pte: Pte) -> bool {
        // AcqRel: who takes the mapping out sees the page as it is, and whoever finds the entry empty sees that it was taken.
        self.slot.compare_exchange(pte.0, 0, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// Puts `page` in the place of what the entry maps, if it still holds `expected`. In between the entry holds nothing, and `flush` is called: if another CPU could
    /// still use the old page while the new one is written, a thread there would miss what it was told of (Linux: `ptep_clear_flush` in `wp_page_copy`).
    /// If that returns false, everything is left as it was.
    #[inline(always)]
    pub(super) fn exchange(
        &self,
        expected: Pte,
        page: PageRef,
        attributes: Attributes,
        flush: impl FnOnce() -> bool,
    ) -> Result<(), PageRef> {
        if page.order() != self.order() || !self.fits(&page, page.pfn()) || self.leaf(expected).is_none() {
            return Err(page);
        }
        let head = self.view.frames.at(page.pfn());
        let value = self.encode(self.level, page.pfn(), attributes);
        // Acquires: what was done with the page through the entry goes along, if `flush` copies it.
        if !self.hold_if(expected) {
            return Err(page);
        }
        // A table waits for the new page if one did for the old.
        if self.level != Level::PTE && self.needs_deposit(&page) != self.has_deposit(expected) || !flush() {
            self.let_go(expected);
            return Err(page);
        }
        head.add_mapping();
        page.into_raw();
        self.let_go(Pte(value));
        Ok(())
    }
}
