//! Pins: references of whoever reads or writes a page not through an entry of a page table, a device for instance.
//!
//! Who sees a pin must not put another page in the place of this one. A plain page counts its pins among its references, each as many as a page
//! has sharers at most in practice, so the answer may be yes by mistake; a compound page counts them in the descriptor of its first tail.
//! Linux 6.12: Documentation/core-api/pin_user_pages.rst, include/linux/mm.h (`GUP_PIN_COUNTING_BIAS`, `folio_maybe_dma_pinned`), mm/gup.c (`try_grab_folio`).

use crate::{Frame, FrameTable, PageFlags, PageRef};

/// References that a pin of a plain page stands for (Linux: GUP_PIN_COUNTING_BIAS).
const BIAS: u32 = 1024;
/// References from which on no more pins are taken, far from where the count would overflow.
const MAX_REFERENCES: i32 = i32::MAX / 2;

/// A reference that is a pin as well (Linux: FOLL_PIN).
#[derive(PartialEq, Eq, Debug)]
#[must_use = "dropping a pin leaks it"]
pub struct Pin(PageRef);

impl Pin {
    /// Makes a pin of a reference.
    ///
    /// # Errors
    /// Gives the reference back if the page has a thousand million of them.
    pub fn new(page: PageRef, frames: &FrameTable) -> Result<Self, PageRef> {
        let head = frames.at(page.pfn());
        if head.count() >= MAX_REFERENCES {
            return Err(page);
        }
        match frames.pin_counter(page.pfn(), head) {
            Some(first_tail) => first_tail.add_pins(1),
            None => head.get_many(BIAS - 1),
        }
        Ok(Self(page))
    }

    /// Returns the page.
    pub const fn page(&self) -> &PageRef {
        &self.0
    }

    /// Ends the pin; the reference stays (Linux: gup_put_folio).
    pub fn into_ref(self, frames: &FrameTable) -> PageRef {
        let head = frames.at(self.0.pfn());
        match frames.pin_counter(self.0.pfn(), head) {
            Some(first_tail) => first_tail.remove_pins(1),
            None => head.put_many(BIAS - 1),
        }
        self.0
    }
}

impl FrameTable {
    /// Tells whether the page that `head` heads, or is, may be pinned (Linux: folio_maybe_dma_pinned). Never no of a page that is.
    pub fn maybe_pinned(&self, head: units::Pfn) -> bool {
        let Some(frame) = self.get(head) else { return false };
        match self.pin_counter(head, frame) {
            Some(first_tail) => first_tail.pins() > 0,
            None => frame.count() >= BIAS.cast_signed(),
        }
    }

    /// Returns the descriptor that counts the pins of a compound page; `None` if `head` is a plain one.
    fn pin_counter(&self, head: units::Pfn, frame: &Frame) -> Option<&Frame> {
        if frame.flags().contains(PageFlags::HEAD) { self.get(head.add(1)) } else { None }
    }
}
