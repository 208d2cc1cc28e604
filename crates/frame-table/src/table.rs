//! The table of all frame descriptors.
//!
//! One virtually contiguous array (vmemmap, or mem_map in the flat model), so a frame number becomes a descriptor by one
//! subtraction. Linux 6.12: pfn_to_page, page_to_pfn, memmap_init_zone, __free_pages_core.

use core::fmt;

use collections::BootSlice;
use platform::PhysMemory;
use units::{Order, Pfn, PfnRange};

use crate::frame::NIL;
use crate::{BadFree, Frame, FramePlace, FreeBlock, OwnedBlock, PageFlags, PageType, SectionMap};

/// A table could not be made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TableError {
    /// More frames than a 32-bit index reaches; carries the number of frames.
    TooManyFrames(u64),
    /// The machine has no room for this many bytes of descriptors.
    NoRoom(u64),
}

impl fmt::Display for TableError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooManyFrames(nr_pages) => write!(f, "{nr_pages} frames, but links reach {NIL} at most"),
            Self::NoRoom(bytes) => write!(f, "no room for {bytes} bytes of frame descriptors"),
        }
    }
}

impl core::error::Error for TableError {}

/// All descriptors of a machine.
#[derive(Debug)]
pub struct FrameTable {
    frames: BootSlice<Frame>,
    span: PfnRange,
    sections: SectionMap,
}

impl FrameTable {
    /// Bytes of one descriptor.
    pub const FRAME_BYTES: u64 = size_of::<Frame>() as u64;

    /// Makes the table of all frames of `span` in the room that `memory` supplies. No descriptor is touched.
    ///
    /// # Errors
    /// [`TableError`] if the span is too large for 32-bit links, or the machine has no room.
    pub fn new(memory: &impl PhysMemory, span: PfnRange, sections: SectionMap) -> Result<Self, TableError> {
        let nr_pages = span.nr_pages();
        let len = u32::try_from(nr_pages).ok().filter(|&len| len < NIL);
        let len = len.ok_or(TableError::TooManyFrames(nr_pages))? as usize;
        let bytes = BootSlice::<Frame>::bytes(len);
        let room = memory.memmap(span.start, bytes).ok_or(TableError::NoRoom(bytes))?;
        // Loom's atomics are not zeroes: they are entered in the running model one by one.
        // SAFETY: as below, but for the initialisation, which happens here.
        #[cfg(loom)]
        let frames = unsafe { BootSlice::init_raw(room.cast(), len, |_| Frame::zeroed()) };
        // SAFETY: `PhysMemory::memmap` gives `bytes` of zeroed, aligned room that lives as long as the machine and is handed out
        // once; zeroes are a valid `Frame`. Frames outside populated sections are not touched: every way in checks the section.
        #[cfg(not(loom))]
        let frames = unsafe { BootSlice::from_raw(room.cast(), len) };
        Ok(Self { frames, span, sections })
    }

    /// Returns the frames that the table covers, holes included.
    pub const fn span(&self) -> PfnRange {
        self.span
    }

    /// Returns which frames are valid.
    pub const fn sections(&self) -> &SectionMap {
        &self.sections
    }

    /// Returns the descriptor of a frame inside the span (Linux: pfn_to_page). Does not ask whether the frame is valid.
    #[inline]
    pub fn get(&self, pfn: Pfn) -> Option<&Frame> {
        self.frames.get(pfn.raw().wrapping_sub(self.span.start.raw()) as usize)
    }

    /// Returns the descriptor of the frame `index` frames after the span's first.
    #[inline]
    pub fn get_index(&self, index: usize) -> Option<&Frame> {
        self.frames.get(index)
    }

    /// Returns the descriptor of a valid frame (Linux: pfn_to_online_page).
    pub fn get_valid(&self, pfn: Pfn) -> Option<&Frame> {
        if self.sections.is_valid(pfn) { self.get(pfn) } else { None }
    }

    /// Returns the descriptor of a frame that a block or a list of this table names.
    ///
    /// # Panics
    /// If the frame is outside the span, which no such frame is.
    #[inline]
    pub fn at(&self, pfn: Pfn) -> &Frame {
        &self.frames[pfn.raw().wrapping_sub(self.span.start.raw()) as usize]
    }

    #[inline]
    pub(crate) fn at_index(&self, index: u32) -> &Frame {
        &self.frames[index as usize]
    }

    /// Returns the descriptor of a link; `None` at the end of a list.
    #[inline(always)]
    pub(crate) fn linked(&self, index: u32) -> Option<&Frame> {
        self.frames.get(index as usize)
    }

    #[inline]
    pub(crate) fn index(&self, pfn: Pfn) -> u32 {
        pfn.raw().wrapping_sub(self.span.start.raw()) as u32
    }

    #[inline]
    pub(crate) fn pfn(&self, index: u32) -> Pfn {
        self.span.start.add(u64::from(index))
    }

    /// Initialises the descriptors of `range` as boot memory of one zone (Linux: memmap_init_range).
    ///
    /// Frames outside the span are skipped. Not for frames that the allocator already has.
    pub fn init_range(&self, range: PfnRange, place: FramePlace, flags: PageFlags) {
        for pfn in range.intersection(self.span).iter() {
            let frame = self.at(pfn);
            if frame.page_type().is_none_or(|(page_type, _)| page_type == PageType::Boot) && frame.count() == 0 {
                frame.init(place, PageType::Boot, flags);
            }
        }
    }

    /// Turns boot memory into a free block (Linux: __free_pages_core): all of its frames must be in the boot state.
    ///
    /// # Errors
    /// [`BadFree`] naming the first frame that is not; everything is left as it was.
    pub fn release_boot_block(&self, pfn: Pfn, order: Order) -> Result<FreeBlock, BadFree> {
        let range = PfnRange::with_len(pfn, order.nr_pages());
        if !pfn.is_aligned(order) {
            return Err(BadFree { pfn, order, found: self.get(pfn).and_then(Frame::page_type) });
        }
        for inner in range.iter() {
            let frame = self.get(inner);
            if !frame.is_some_and(|frame| frame.is(PageType::Boot, Order::ZERO)) {
                return Err(BadFree { pfn: inner, order, found: frame.and_then(Frame::page_type) });
            }
        }
        // The head leaves the boot state by compare-and-swap, so of two callers that raced here one is refused.
        if !self.at(pfn).change_state(PageType::Boot, PageType::Inner, Order::ZERO) {
            return Err(BadFree { pfn, order, found: self.at(pfn).page_type() });
        }
        for inner in range.iter() {
            let frame = self.at(inner);
            frame.reset_flags(PageFlags::empty());
            frame.set_state(PageType::Inner, Order::ZERO);
        }
        self.at(pfn).set_state(PageType::Detached, order);
        Ok(FreeBlock::new(pfn, order))
    }

    /// Takes back a block that [`OwnedBlock::into_raw`] left as a number.
    ///
    /// # Errors
    /// [`BadFree`] if no raw block of exactly this order starts at `pfn`: freed twice, never allocated, or another order.
    #[inline]
    pub fn adopt_raw(&self, pfn: Pfn, order: Order) -> Result<OwnedBlock, BadFree> {
        let frame = self.get(pfn).ok_or(BadFree { pfn, order, found: None })?;
        if frame.change_state(PageType::Raw, PageType::Owned, order) {
            Ok(OwnedBlock::found(self, pfn, order))
        } else {
            Err(BadFree { pfn, order, found: frame.page_type() })
        }
    }

    /// Returns the order of the compound page that `head` heads; 0 if it heads none (Linux: compound_order).
    #[inline]
    pub fn compound_order(&self, head: Pfn) -> Order {
        let is_head = self.get(head).is_some_and(|frame| frame.flags().contains(PageFlags::HEAD));
        let first_tail = if is_head { self.get(head.add(1)) } else { None };
        first_tail.map_or(Order::ZERO, |tail| Order::new_truncate(tail.prev() as u8))
    }

    /// Returns the head of the compound page that `pfn` belongs to, or `pfn` itself (Linux: compound_head).
    pub fn compound_head(&self, pfn: Pfn) -> Option<Pfn> {
        let frame = self.get_valid(pfn)?;
        Some(if frame.flags().contains(PageFlags::TAIL) { Pfn::new(frame.private()) } else { pfn })
    }
}
