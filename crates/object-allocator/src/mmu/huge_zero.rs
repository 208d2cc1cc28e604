//! The large page of zeros: any number of entries map it and none owns it. It is made at first use and stays for ever.
//!
//! Its first descriptor is marked as reserved, which no other compound page is, so entries that map it are known without a look at the machine. A table waits for each of
//! them, as for entries of anonymous pages. Linux 6.12: mm/huge_memory.c (`get_huge_zero_page`, `set_huge_zero_folio`, `is_huge_zero_pmd`); there it goes when no
//! address space uses it and memory is short.

use core::sync::atomic::Ordering;

use frame_table::{FrameTable, PageFlags};
use page_allocator::Hooks;
use platform::{Attributes, Level, Platform, Prot, TableFormat};
use units::{Gfp, Order, Pfn, VirtAddr};

use super::entry::{EntryRef, Pte};
use super::table::FreshTable;
use super::{Mmu, NO_PAGE, UserTables};
use crate::vmstat::VmEvent;

/// Flags that the first descriptor has, and no other has both.
const MARK: PageFlags = PageFlags::HEAD.union(PageFlags::RESERVED);

/// Returns true if `pfn`, which an entry above the lowest level shows, is the first frame of the large page of zeros.
#[cold]
#[inline(never)]
pub(super) fn is_huge_zero(frames: &FrameTable, pfn: Pfn) -> bool {
    frames.get(pfn).is_some_and(|frame| frame.flags().contains(MARK))
}

impl<F: TableFormat> EntryRef<'_, F> {
    /// Maps the large page of zeros, whose first frame is `zeros`, if the entry is empty; a table waits for it.
    pub(super) fn install_huge_zero(&self, zeros: Pfn, attributes: Attributes) -> Result<(), ()> {
        let attributes = Attributes { prot: attributes.prot - Prot::WRITE, ..attributes };
        self.change(Pte::NONE, self.encode(self.level(), zeros, attributes)).then_some(()).ok_or(())
    }
}

impl<P: Platform, H: Hooks> Mmu<'_, P, H> {
    /// Returns the first frame of the large page of zeros, making it if it is not there yet; `None` without memory for it (Linux: mm_get_huge_zero_folio).
    pub fn huge_zero_page(&self) -> Option<Pfn> {
        // Acquire: pairs with the Release in `make_huge_zero`, so that the mark is seen.
        match self.objects.mmu.huge_zero.load(Ordering::Acquire) {
            NO_PAGE => self.make_huge_zero(),
            pfn => Some(Pfn::new(pfn)),
        }
    }

    /// Returns the order of a large page.
    pub fn large_order(&self) -> Order {
        let format = self.format();
        Order::new_truncate((format.shift(Level::PMD) - format.page_shift()) as u8)
    }

    #[cold]
    fn make_huge_zero(&self) -> Option<Pfn> {
        let objects = self.objects;
        // It is never moved.
        let gfp = (Gfp::TRANSHUGE - Gfp::MOVABLE) | Gfp::ZERO | Gfp::COMP;
        let Ok(block) = objects.pages().alloc(self.cpu, gfp, self.large_order()) else {
            objects.vmstat().count_events(self.cpu, VmEvent::ThpZeroPageAllocFailed, 1);
            return None;
        };
        let page = block.into_ref(objects.frames());
        let (pfn, head) = (page.pfn(), objects.frames().at(page.pfn()));
        head.set_flags(PageFlags::RESERVED);
        // Release: pairs with the Acquire loads.
        match objects.mmu.huge_zero.compare_exchange(NO_PAGE, pfn.raw(), Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => {
                page.into_raw();
                objects.vmstat().count_events(self.cpu, VmEvent::ThpZeroPageAlloc, 1);
                Some(pfn)
            }
            Err(first) => {
                head.clear_flags(PageFlags::RESERVED);
                self.put(page);
                Some(Pfn::new(first))
            }
        }
    }

    /// Maps the large page of zeros by the entry of the middle level for `virt`, read-only, if that is empty. `table` waits for the entry then, and goes if not. Returns
    /// false if nothing was mapped: the entry holds something, tables above it are missing, or there is no memory.
    pub fn install_large_zeros(
        &self,
        tables: &UserTables,
        virt: VirtAddr,
        attributes: Attributes,
        table: FreshTable,
    ) -> bool {
        let zeros = self.huge_zero_page();
        let walk = self.walk(tables);
        match (zeros, walk.as_ref().and_then(|walk| walk.pmd(virt))) {
            (Some(zeros), Some(entry)) => {
                let install = |()| entry.install_huge_zero(zeros, attributes);
                self.with_deposit(tables, &entry, table, (), install).is_ok()
            }
            _ => {
                self.free_fresh(table);
                false
            }
        }
    }
}
