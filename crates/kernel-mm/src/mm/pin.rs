//! Pages of a process that a device, or anything else that does not go through its page tables, reads or writes for a while.
//!
//! The process goes on seeing the pages that were pinned: fork copies them at once, and a page that others have too is copied before it is pinned.
//! A page is pinned under the lock of its area, which fork and whatever else would put another page in its place hold for writing.
//! Linux 6.12: mm/gup.c (`pin_user_pages`, `unpin_user_pages_dirty_lock`, `gup_must_unshare`), Documentation/core-api/pin_user_pages.rst.

use address_space::{Access, Mm, Process};
use frame_table::{PageFlags, Pin};
use object_allocator::vmstat::NodeItem;
use page_allocator::Hooks;
use page_fault::AccessKind;
use platform::Platform;
use sync::Cpu;
use units::{Pfn, VirtAddr};

use super::MemoryManager;
use super::fault::UserPlace;
use super::user_access::{BadUserAddress, UserPage};

/// A page that is pinned until [`MemoryManager::unpin_user_page`].
#[derive(PartialEq, Eq, Debug)]
#[must_use = "dropping a pinned page leaks it"]
pub struct PinnedPage {
    frame: Pfn,
    /// `None` for the page of zeros, which stays for ever.
    pin: Option<Pin>,
}

impl PinnedPage {
    /// Returns the frame that the process's address shows, perhaps one inside a larger page.
    pub const fn frame(&self) -> Pfn {
        self.frame
    }
}

/// A page has as many pins as can be counted.
struct TooManyPins;

/// Whether a pinned page was written to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Dirtied {
    /// It was.
    Yes,
    /// It was only read.
    No,
}

impl<'k, P: Platform, H: Hooks + Sync> MemoryManager<'k, P, H> {
    /// Pins the pages from the one at `start` on, one for each place in `pages`, faulting in what is missing; returns how many were pinned (Linux:
    /// pin_user_pages). [`Access::Write`] is for who writes to them.
    ///
    /// Not while the CPU holds the lock of this address space, or walks page tables.
    ///
    /// # Errors
    /// [`BadUserAddress`] if not even the first could be. Nothing is pinned then.
    pub fn pin_user_pages(
        &self,
        cpu: &Cpu,
        mm: &Mm<'k>,
        process: &Process,
        start: VirtAddr,
        access: Access,
        pages: &mut [Option<PinnedPage>],
    ) -> Result<usize, BadUserAddress> {
        let access = if access == Access::Write { AccessKind::Write } else { AccessKind::Unshare };
        let mut done = 0;
        for page in pages.iter_mut() {
            let offset = (done as u64) << self.objects.pages().map().geometry.page_shift;
            let addr = start.checked_add(offset);
            let pinned = addr.and_then(|addr| self.pin_user_page(UserPlace { cpu, mm, process, addr }, access));
            match pinned {
                Some(pinned) => *page = Some(pinned),
                None if done == 0 => return Err(BadUserAddress { done }),
                None => break,
            }
            done += 1;
        }
        Ok(done)
    }

    fn pin_user_page(&self, place: UserPlace<'_, 'k>, access: AccessKind) -> Option<PinnedPage> {
        loop {
            if let Some(pinned) = self.pin_locked(place, access) {
                return pinned.ok();
            }
            self.fault(place.cpu, place.mm, place.process, place.addr, access).ok()?;
        }
    }

    /// Pins what is mapped, under the lock of the area, or of the address space where that one is not to be had. `None` if it takes a fault first.
    fn pin_locked(&self, place: UserPlace<'_, 'k>, access: AccessKind) -> Option<Result<PinnedPage, TooManyPins>> {
        let UserPlace { cpu, mm, addr, .. } = place;
        let area = mm.lock_area(cpu, addr);
        let whole = area.is_none().then(|| mm.read(cpu));
        // Before the lock is open to whoever takes it for writing next.
        mm.tables().note_pinned();
        let page = self.find_user_page(place, access)?;
        let pinned = self.pin(cpu, page);
        drop((area, whole));
        Some(pinned)
    }

    fn pin(&self, cpu: &Cpu, page: UserPage) -> Result<PinnedPage, TooManyPins> {
        let UserPage::Held(page, offset) = page else {
            return Ok(PinnedPage { frame: self.mmu(cpu).zero_page(), pin: None });
        };
        let pages = self.objects.pages();
        let frame = page.pfn().add(offset as u64 >> pages.map().geometry.page_shift);
        match Pin::new(page, &pages.map().frames) {
            Ok(pin) => {
                self.count_pins(cpu, frame, NodeItem::NrFollPinAcquired);
                Ok(PinnedPage { frame, pin: Some(pin) })
            }
            Err(page) => {
                pages.put(cpu, page);
                Err(TooManyPins)
            }
        }
    }

    /// Ends a pin (Linux: unpin_user_pages_dirty_lock).
    pub fn unpin_user_page(&self, cpu: &Cpu, page: PinnedPage, dirtied: Dirtied) {
        let Some(pin) = page.pin else { return };
        let frames = &self.objects.pages().map().frames;
        let head = frames.at(pin.page().pfn());
        if dirtied == Dirtied::Yes && !head.flags().contains(PageFlags::DIRTY) {
            head.set_flags(PageFlags::DIRTY);
        }
        self.count_pins(cpu, page.frame, NodeItem::NrFollPinReleased);
        self.objects.pages().put(cpu, pin.into_ref(frames));
    }

    fn count_pins(&self, cpu: &Cpu, frame: Pfn, item: NodeItem) {
        let node = self.objects.pages().map().frames.at(frame).place().node();
        self.objects.vmstat().mod_node(cpu, node, item, 1);
    }
}
