//! Page tables of address spaces: the tables, their entries, the pages that entries own, and the flush that comes before anything is freed.
//!
//! Guarantee first: a page that an entry maps is held by that entry, and is let go only through a [`Gather`], which flushes every TLB that may remember
//! the entry before the page can be freed. A table is freed only when moreover every [`Walk`] that may have seen it has ended. So no
//! use of this module from safe code lets a processor or a walk reach memory that belongs to somebody else.
//! Locking: none. Entries change by compare-and-swap, and who loses looks again; where that is not enough the callers hold the locks of address
//! spaces. Linux 6.12: mm/pgtable-generic.c, mm/mmu_gather.c, mm/memory.c (`set_pte_at`, `ptep_get_and_clear`), mm/gup.c (`gup_fast`).

mod deposit;
mod duplicate;
mod entry;
mod gather;
mod held;
mod huge_zero;
mod move_table;
mod readers;
mod relocate;
mod row;
mod rss;
mod split;
mod table;
mod user_tables;
mod walk;

use core::sync::atomic::{AtomicU64, Ordering};

use frame_table::FrameTable;
use page_allocator::Hooks;
use platform::{KernelTables, Platform, TableFormat};
use sync::Cpu;
use units::{Gfp, Order, Pfn, PhysAddr};

use crate::ObjectAllocator;
use crate::direct_map::DirectMap;
use crate::error::ObjectError;
use readers::Readers;

pub use entry::{EntryRef, PageFacts, PageKind, Pte, Taken};
pub use gather::{Dropped, Gather};
pub use row::Row;
pub use rss::Rss;
pub use table::FreshTable;
pub use user_tables::UserTables;
pub use walk::{Found, MakeError, Walk};

/// No frame: the page of zeros is not there yet.
const NO_PAGE: u64 = u64::MAX;

/// What page tables need of a machine, made by [`ObjectAllocator::start_mmu`].
#[derive(Debug)]
pub(crate) struct MmuState<F> {
    kernel: Option<KernelTables<F>>,
    readers: Readers,
    /// Frame of zeros that many entries may map and none owns; it stays for ever.
    zero_page: AtomicU64,
    /// First frame of a large page of that kind, once somebody needed it.
    huge_zero: AtomicU64,
}

impl<F: TableFormat> MmuState<F> {
    pub(crate) fn new(platform: &impl Platform<Format = F>) -> Self {
        let [zero_page, huge_zero] = [const { AtomicU64::new(NO_PAGE) }; 2];
        Self { kernel: platform.kernel_tables(), readers: Readers::new(), zero_page, huge_zero }
    }
}

/// Proof that page tables of address spaces can be made on a machine.
#[derive(Debug)]
pub struct MmuReady<'k, P: Platform, H: Hooks> {
    objects: &'k ObjectAllocator<P, H>,
    kernel: KernelTables<P::Format>,
    zero_page: Pfn,
}

impl<'k, P: Platform, H: Hooks> MmuReady<'k, P, H> {
    /// Works on page tables as `cpu`.
    #[inline]
    pub const fn on<'a>(&self, cpu: &'a Cpu) -> Mmu<'a, P, H>
    where
        'k: 'a,
    {
        Mmu { objects: self.objects, cpu, kernel: self.kernel, zero_page: self.zero_page }
    }
}

/// Page tables as one CPU works on them.
#[derive(Debug)]
pub struct Mmu<'a, P: Platform, H: Hooks> {
    objects: &'a ObjectAllocator<P, H>,
    cpu: &'a Cpu,
    kernel: KernelTables<P::Format>,
    zero_page: Pfn,
}

impl<P: Platform, H: Hooks> Clone for Mmu<'_, P, H> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<P: Platform, H: Hooks> Copy for Mmu<'_, P, H> {}

impl<P: Platform, H: Hooks> ObjectAllocator<P, H> {
    /// Makes what page tables of address spaces need: the page of zeros, and the marks of CPUs that walk tables. May be repeated.
    ///
    /// # Errors
    /// [`ObjectError`]; [`ObjectError::Impossible`] on a machine that translates nothing.
    pub fn start_mmu(&self, cpu: &Cpu) -> Result<MmuReady<'_, P, H>, ObjectError> {
        let kernel = self.mmu.kernel.ok_or(ObjectError::Impossible)?;
        self.mmu.readers.start(self, cpu)?;
        // Relaxed: read by the only CPU that starts.
        if self.mmu.zero_page.load(Ordering::Relaxed) == NO_PAGE {
            let page = self.pages().alloc(cpu, Gfp::KERNEL | Gfp::ZERO, Order::ZERO)?;
            let pfn = page.into_raw(self.frames());
            // Relaxed: whoever gets the result to another CPU orders it.
            self.mmu.zero_page.store(pfn.raw(), Ordering::Relaxed);
        }
        // Relaxed: as above.
        let zero_page = Pfn::new(self.mmu.zero_page.load(Ordering::Relaxed));
        Ok(MmuReady { objects: self, kernel, zero_page })
    }
}

impl<'a, P: Platform, H: Hooks> Mmu<'a, P, H> {
    /// Returns the format of the tables.
    #[inline]
    pub const fn format(&self) -> P::Format {
        self.kernel.format
    }

    /// Returns the CPU.
    #[inline]
    pub const fn cpu(&self) -> &'a Cpu {
        self.cpu
    }

    /// Returns the allocator of the machine.
    #[inline]
    pub const fn objects(&self) -> &'a ObjectAllocator<P, H> {
        self.objects
    }

    /// Returns the frame of zeros (Linux: ZERO_PAGE).
    #[inline]
    pub const fn zero_page(&self) -> Pfn {
        self.zero_page
    }

    /// Gives a page back that an entry did not take (Linux: put_page).
    pub fn put(&self, page: frame_table::PageRef) {
        self.objects.pages().put(self.cpu, page);
    }

    #[inline]
    fn view(&self, root: PhysAddr) -> View<'a, P::Format> {
        let frames = self.objects.frames();
        View { frames, map: *self.objects.map(), format: self.kernel.format, zero_page: self.zero_page, root }
    }
}

/// What an entry is read with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View<'a, F> {
    pub(crate) frames: &'a FrameTable,
    pub(crate) map: DirectMap,
    pub(crate) format: F,
    pub(crate) zero_page: Pfn,
    /// Root of the tables that the entry is in.
    pub(crate) root: PhysAddr,
}
