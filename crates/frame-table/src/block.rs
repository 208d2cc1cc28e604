//! Who holds a block of frames: `FreeBlock` between lists, `OwnedBlock` outside the allocator.
//!
//! Neither is `Clone`, and each comes into being only by a checked change of the head frame's state, so holding one proves that
//! nobody else holds the frames. Dropping one leaks the frames; nothing breaks.

use core::fmt;
use core::num::NonZeroU64;

use units::{Order, Pfn, PfnRange};

use crate::{FrameTable, PageFlags, PageType};

/// Free block of `1 << order` frames that is on no list.
///
/// The frames' states are settled when the block is listed or handed out; until then they are those of the list that it left.
#[derive(PartialEq, Eq, Debug)]
#[must_use = "dropping a free block leaks its frames"]
pub struct FreeBlock(BlockWord);

/// Allocated block of `1 << order` frames with one owner and no references.
///
/// Proves exclusive use of the frames' contents. It says nothing about zeroing. While it exists, the count of the head frame is 0,
/// so nobody can take a speculative reference (Linux: a frozen page).
#[derive(PartialEq, Eq, Debug)]
#[must_use = "dropping an owned block leaks its frames"]
pub struct OwnedBlock(BlockWord);

/// A block in one machine word: frame number from bit 8 up, bit 7 set for a compound page, order in bits 1 to 4, bit 0 always set.
///
/// One word, so that blocks and options of them travel in registers: put together in memory byte by byte and read back whole, they
/// would make the processor wait. The compound bit mirrors the head's flag, so that freeing need not read the descriptor. Frame numbers
/// have 52 bits at most.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct BlockWord(NonZeroU64);

impl BlockWord {
    const COMPOUND: u64 = 1 << 7;

    #[inline]
    pub(crate) fn new(pfn: Pfn, order: Order) -> Self {
        Self(NonZeroU64::MIN | pfn.raw() << 8 | u64::from(order.raw()) << 1)
    }

    #[inline]
    pub(crate) const fn pfn(self) -> Pfn {
        Pfn::new(self.0.get() >> 8)
    }

    #[inline]
    pub(crate) const fn order(self) -> Order {
        Order::from_low_bits((self.0.get() >> 1) as u8)
    }

    #[inline]
    const fn is_compound(self) -> bool {
        self.0.get() & Self::COMPOUND != 0
    }

    fn compound(self) -> Self {
        Self(self.0 | Self::COMPOUND)
    }
}

/// A block was given back that the allocator did not hand out in this form.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BadFree {
    /// First frame of the block as the caller named it.
    pub pfn: Pfn,
    /// Order as the caller named it.
    pub order: Order,
    /// State that the frame is in; `None` if it is counted, was never initialised or does not exist.
    pub found: Option<(PageType, Order)>,
}

impl fmt::Display for BadFree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "free of pfn {:#x} order {}: expected an allocated block, found ", self.pfn, self.order)?;
        match self.found {
            Some((page_type, order)) => write!(f, "{page_type:?} of order {order}"),
            None => f.write_str("no block"),
        }
    }
}

impl core::error::Error for BadFree {}

impl FreeBlock {
    #[inline]
    pub(crate) fn new(pfn: Pfn, order: Order) -> Self {
        Self(BlockWord::new(pfn, order))
    }

    /// Returns the first frame.
    #[inline]
    pub const fn pfn(&self) -> Pfn {
        self.0.pfn()
    }

    /// Returns the order.
    #[inline]
    pub const fn order(&self) -> Order {
        self.0.order()
    }

    /// Splits off the upper half; an order-0 block has none.
    #[inline]
    pub fn split(self) -> (Self, Option<Self>) {
        let Some(order) = self.order().down() else { return (self, None) };
        let upper = Self::new(self.pfn().add(order.nr_pages()), order);
        (Self::new(self.pfn(), order), Some(upper))
    }

    /// Gives up to `count` blocks of `order` at the lower end up to the caller, who stands for them; what is left goes to `rest` in the
    /// largest aligned pieces, in ascending order. Returns how many the caller got.
    #[inline]
    pub(crate) fn cut_rest(self, order: Order, count: u32, mut rest: impl FnMut(Self)) -> u32 {
        debug_assert!(self.order() >= order, "a block is cut into smaller ones");
        let whole = 1u32 << self.order().raw().saturating_sub(order.raw());
        let cut = count.min(whole);
        let mut at = cut;
        while at < whole {
            // The largest piece that starts here: all of it at the very start.
            let size = (at | whole).trailing_zeros();
            let start = self.pfn().add(u64::from(at) << order.raw());
            rest(Self::new(start, Order::new_truncate(order.raw() + size as u8)));
            at += 1 << size;
        }
        cut
    }

    /// Joins two buddies.
    ///
    /// # Errors
    /// Gives both back if they are not the two halves of one block.
    #[inline]
    pub fn join(self, buddy: Self) -> Result<Self, (Self, Self)> {
        match self.order().up() {
            Some(order) if self.order() == buddy.order() && self.pfn().buddy(self.order()) == buddy.pfn() => {
                Ok(Self::new(self.pfn().merged(self.order()), order))
            }
            _ => Err((self, buddy)),
        }
    }

    /// Hands the block to an owner.
    #[inline]
    pub fn into_owned(self, frames: &FrameTable) -> OwnedBlock {
        let head = frames.at(self.pfn());
        debug_assert!(head.has_clean_flags(), "a free block has no flags");
        head.set_state(PageType::Owned, self.order());
        OwnedBlock::new(self.pfn(), self.order())
    }
}

impl OwnedBlock {
    #[inline]
    pub(crate) fn new(pfn: Pfn, order: Order) -> Self {
        Self(BlockWord::new(pfn, order))
    }

    /// Takes over a block that was known by number or shared, and may be compound. Its flags end here, but for HWPOISON and HEAD.
    pub(crate) fn found(frames: &FrameTable, pfn: Pfn, order: Order) -> Self {
        let (word, head) = (BlockWord::new(pfn, order), frames.at(pfn));
        head.reset_flags(PageFlags::HEAD);
        Self(if head.flags().contains(PageFlags::HEAD) { word.compound() } else { word })
    }

    /// Returns the first frame.
    #[inline]
    pub const fn pfn(&self) -> Pfn {
        self.0.pfn()
    }

    /// Returns the order.
    #[inline]
    pub const fn order(&self) -> Order {
        self.0.order()
    }

    /// Returns true for a single page that is not compound.
    #[inline(always)]
    pub const fn is_plain_page(&self) -> bool {
        self.0.0.get() & 0xff == 1
    }

    /// Returns a number whose low four bits are the order; for tables by order.
    #[inline(always)]
    pub const fn order_bits(&self) -> u8 {
        (self.0.0.get() >> 1) as u8
    }

    /// Returns all frames.
    pub const fn frames(&self) -> PfnRange {
        PfnRange::with_len(self.pfn(), self.order().nr_pages())
    }

    /// Gives the block back to the allocator.
    ///
    /// Writes the head's descriptor and reads nothing of it: it is often in no cache, and a store does not wait. So flags are cleared
    /// before, where what set them ends: with the last reference, or with the compound page.
    #[inline]
    pub fn into_free(self, frames: &FrameTable) -> FreeBlock {
        self.dissolve(frames);
        frames.at(self.pfn()).set_state(PageType::Detached, self.order());
        FreeBlock::new(self.pfn(), self.order())
    }

    /// Splits the block into its order-0 pages, each owned by itself (Linux: split_page). A compound page becomes plain pages.
    pub fn split_pages(self, frames: &FrameTable) -> impl Iterator<Item = Self> {
        self.dissolve(frames);
        for pfn in self.frames().iter() {
            frames.at(pfn).set_state(PageType::Owned, Order::ZERO);
        }
        self.frames().iter().map(|pfn| Self::new(pfn, Order::ZERO))
    }

    /// Splits off the upper half; an order-0 block has none.
    pub fn split_half(self, frames: &FrameTable) -> (Self, Option<Self>) {
        self.dissolve(frames);
        let Some(order) = self.order().down() else { return (self, None) };
        let upper = Self::new(self.pfn().add(order.nr_pages()), order);
        frames.at(upper.pfn()).set_state(PageType::Owned, order);
        frames.at(self.pfn()).set_state(PageType::Owned, order);
        (Self::new(self.pfn(), order), Some(upper))
    }

    /// Forgets the ownership; the frames are known by number until [`FrameTable::adopt_raw`] takes them back.
    #[inline]
    pub fn into_raw(self, frames: &FrameTable) -> Pfn {
        frames.at(self.pfn()).set_state(PageType::Raw, self.order());
        self.pfn()
    }

    /// Links the tails to the head, so that any frame of the block finds it (Linux: prep_compound_page).
    pub fn make_compound(&mut self, frames: &FrameTable) {
        self.0 = self.0.compound();
        frames.at(self.pfn()).set_flags(PageFlags::HEAD);
        if self.order() > Order::ZERO {
            let first_tail = frames.at(self.pfn().add(1));
            first_tail.set_prev(u32::from(self.order().raw()));
            first_tail.start_pins();
        }
        for tail in self.frames().iter().skip(1) {
            let frame = frames.at(tail);
            frame.set_flags(PageFlags::TAIL);
            frame.set_private(self.pfn().raw());
        }
    }

    /// Returns true for a compound page.
    #[inline(always)]
    pub const fn is_compound(&self) -> bool {
        self.0.is_compound()
    }

    /// Makes plain pages of a compound page, which stay one block.
    pub fn into_plain(self, frames: &FrameTable) -> Self {
        self.dissolve(frames);
        Self::new(self.pfn(), self.order())
    }

    /// Makes plain pages of a compound page.
    #[inline(always)]
    pub(crate) fn dissolve(&self, frames: &FrameTable) {
        if self.0.is_compound() {
            self.dissolve_compound(frames);
        }
    }

    #[cold]
    fn dissolve_compound(&self, frames: &FrameTable) {
        frames.at(self.pfn()).reset_flags(PageFlags::empty());
        for tail in self.frames().iter().skip(1) {
            let frame = frames.at(tail);
            frame.reset_flags(PageFlags::empty());
            frame.set_private(0);
        }
    }
}
