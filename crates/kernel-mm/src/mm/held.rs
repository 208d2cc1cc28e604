//! Pages of a process that somebody keeps beside it, as a pipe does that was given them, and reads later.
//!
//! A page is held by a reference, not pinned: fork shares it, and whoever writes to it afterwards gets a copy, while a process that has it alone goes on writing to it.
//! Linux 6.12: mm/gup.c (`get_user_pages_fast`), lib/iov_iter.c (`iov_iter_get_pages2`).

use address_space::{Mm, Process};
use frame_table::PageBytes;
use page_allocator::Hooks;
use page_fault::AccessKind;
use platform::Platform;
use sync::Cpu;
use units::VirtAddr;

use super::MemoryManager;
use super::fault::UserPlace;
use super::user_access::{BadUserAddress, UserPage};

/// A page that is held until [`MemoryManager::put_held_page`].
#[must_use = "dropping a held page leaks it"]
pub struct HeldPage(UserPage);

impl core::fmt::Debug for HeldPage {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let page = match &self.0 {
            UserPage::Zeros => None,
            UserPage::Held(page, _) => Some(page.pfn()),
        };
        f.debug_tuple("HeldPage").field(&page).finish()
    }
}

impl<'k, P: Platform, H: Hooks + Sync> MemoryManager<'k, P, H> {
    /// Takes hold of the page at `addr` to read it, faulting it in if need be.
    ///
    /// # Errors
    /// [`BadUserAddress`] if the process may not read it.
    pub fn hold_page(
        &self,
        cpu: &Cpu,
        mm: &Mm<'k>,
        process: &Process,
        addr: VirtAddr,
    ) -> Result<HeldPage, BadUserAddress> {
        let addr = addr.align_down(1 << self.page_shift());
        let held = self.hold_user_page(UserPlace { cpu, mm, process, addr }, AccessKind::Read);
        held.map(HeldPage).ok_or(BadUserAddress { done: 0 })
    }

    /// Copies what is now at `offset` of a held page on.
    pub fn read_held_page(&self, page: &HeldPage, offset: usize, to: &mut [u8]) {
        let UserPage::Held(page, start) = &page.0 else { return to.fill(0) };
        let shown = PageBytes::new(self.objects.pages().platform(), page, self.page_shift());
        debug_assert!(shown.is_ok(), "what a process had is mapped here");
        if let Ok(bytes) = shown {
            bytes.read(start + offset, to);
        }
    }

    /// Gives a page back.
    pub fn put_held_page(&self, cpu: &Cpu, page: HeldPage) {
        if let UserPage::Held(page, _) = page.0 {
            self.objects.pages().put(cpu, page);
        }
    }
}
