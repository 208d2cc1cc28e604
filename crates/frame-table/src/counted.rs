//! Shared blocks: one holder freed them as a block, others hold references to the head.
//!
//! Linux: get_page, put_page, and the rule of __free_pages for blocks that are not compound.

use units::{Order, Pfn};

use crate::block::BlockWord;
use crate::{FrameTable, OwnedBlock, PageFlags, PageType};

/// The block as its allocator holds it, with other references possible.
#[derive(PartialEq, Eq, Debug)]
#[must_use = "dropping a counted block leaks its frames"]
pub struct CountedBlock {
    pfn: Pfn,
    order: Order,
}

/// One more reference: to the whole block if it is compound, to its head page alone if it is not.
#[derive(PartialEq, Eq, Debug)]
#[must_use = "dropping a reference leaks it"]
pub struct PageRef(BlockWord);

/// What giving a reference back leaves to be freed.
#[derive(PartialEq, Eq, Debug)]
#[must_use]
pub enum Put {
    /// Others still hold the block.
    Shared,
    /// This was the last reference; the block is the caller's.
    Last(OwnedBlock),
}

impl OwnedBlock {
    /// Starts counting references, with one held by the result. Others may take more from then on.
    pub fn into_counted(self, frames: &FrameTable) -> CountedBlock {
        frames.at(self.pfn()).start_counting(1);
        CountedBlock { pfn: self.pfn(), order: self.order() }
    }

    /// Starts counting references, with the result as the only one. A block of several pages becomes a compound page, which its last reference
    /// frees whole.
    pub fn into_ref(mut self, frames: &FrameTable) -> PageRef {
        if self.order() > Order::ZERO {
            self.make_compound(frames);
        }
        frames.at(self.pfn()).start_counting(1);
        PageRef(BlockWord::new(self.pfn(), self.order()))
    }
}

/// Flags of a fresh anonymous page.
const ANON: PageFlags = PageFlags::SWAPBACKED.union(PageFlags::UPTODATE).union(PageFlags::ANON_EXCLUSIVE);

impl OwnedBlock {
    /// Starts counting references to an anonymous page, with the one that is returned: `mapping` and `index` say which (Linux:
    /// `folio_add_new_anon_rmap`). Nobody else can reach the page before, so everything is written without read-modify-writes.
    ///
    /// The index is cut to 40 bits.
    #[inline]
    pub fn into_anon(mut self, frames: &FrameTable, mapping: u32, index: u64) -> PageRef {
        if self.order() > Order::ZERO {
            self.make_compound(frames);
        }
        let (pfn, order) = (self.pfn(), self.order());
        let compound = if order > Order::ZERO { PageFlags::HEAD } else { PageFlags::empty() };
        let head = frames.at(pfn);
        head.start_anon(ANON | compound, mapping, index);
        PageRef(BlockWord::new(pfn, order))
    }
}

impl CountedBlock {
    /// Returns the first frame.
    pub const fn pfn(&self) -> Pfn {
        self.pfn
    }

    /// Returns the order of the block.
    pub const fn order(&self) -> Order {
        self.order
    }

    /// Takes a reference (Linux: get_page).
    pub fn get(&self, frames: &FrameTable) -> PageRef {
        let head = frames.at(self.pfn);
        let taken = head.try_get();
        debug_assert!(taken, "a held block keeps the count above zero");
        let compound = head.flags().contains(PageFlags::HEAD);
        PageRef(BlockWord::new(self.pfn, if compound { self.order } else { Order::ZERO }))
    }

    /// Gives the block back by the rule of Linux's __free_pages; calls `free` for each part that can go.
    ///
    /// Without other references that is the whole block. If the head of a block that is not compound is referenced, everything
    /// but the head goes, in falling orders, and the last [`PageRef`] frees the head. A compound block waits whole.
    pub fn free(self, frames: &FrameTable, mut free: impl FnMut(OwnedBlock)) {
        let plain = !frames.at(self.pfn).flags().contains(PageFlags::HEAD);
        match put(frames, self.pfn, self.order) {
            Put::Last(block) => free(block),
            Put::Shared if plain => {
                for part in (0..self.order.raw()).rev().map(Order::new_truncate) {
                    let upper = self.pfn.add(part.nr_pages());
                    frames.at(upper).set_state(PageType::Owned, part);
                    free(OwnedBlock::new(upper, part));
                }
            }
            Put::Shared => {}
        }
    }
}

impl PageRef {
    /// Returns the first frame.
    #[inline]
    pub const fn pfn(&self) -> Pfn {
        self.0.pfn()
    }

    /// Returns the order of what is held.
    #[inline]
    pub const fn order(&self) -> Order {
        self.0.order()
    }

    /// Takes another reference to the same block (Linux: get_page).
    pub fn get(&self, frames: &FrameTable) -> Self {
        frames.at(self.pfn()).get();
        Self(self.0)
    }

    /// Tries to take a reference to the page that frame `pfn` is part of now; `None` if it is free or has one owner (Linux: folio_try_get).
    ///
    /// The frame may have become part of another page since the caller learnt its number, who looks again at where the number stood.
    #[inline]
    pub fn try_get(frames: &FrameTable, pfn: Pfn) -> Option<Self> {
        let (mut pfn, mut head) = (pfn, frames.get(pfn)?);
        if head.flags().contains(PageFlags::TAIL) {
            pfn = Pfn::new(head.private());
            head = frames.get(pfn)?;
        }
        if !head.try_get() {
            return None;
        }
        // The page cannot change its shape while it is held.
        let is_plain = !head.flags().contains(PageFlags::HEAD);
        let order = if is_plain { Order::ZERO } else { frames.compound_order(pfn) };
        Some(Self(BlockWord::new(pfn, order)))
    }

    /// Leaves the reference to whoever keeps the number: an entry of a page table.
    #[inline]
    pub const fn into_raw(self) -> (Pfn, Order) {
        (self.0.pfn(), self.0.order())
    }

    /// Takes `nr` more references that map the page, and leaves them to whoever keeps the number.
    pub fn get_mapped(&self, frames: &FrameTable, nr: u32) {
        frames.at(self.pfn()).get_mapped(nr);
    }

    /// Takes back what [`PageRef::into_raw`] left.
    ///
    /// # Safety
    /// `pfn` and `order` came from it, and nobody else takes the same reference back.
    #[inline]
    pub unsafe fn from_raw(pfn: Pfn, order: Order) -> Self {
        Self(BlockWord::new(pfn, order))
    }

    /// Gives the reference back (Linux: put_page).
    #[inline]
    pub fn put(self, frames: &FrameTable) -> Put {
        put(frames, self.pfn(), self.order())
    }
}

fn put(frames: &FrameTable, pfn: Pfn, order: Order) -> Put {
    let head = frames.at(pfn);
    if !head.put() {
        return Put::Shared;
    }
    debug_assert!(head.mapcount() == 0, "the last reference goes after the last mapping");
    head.set_state(PageType::Owned, order);
    Put::Last(OwnedBlock::found(frames, pfn, order))
}
