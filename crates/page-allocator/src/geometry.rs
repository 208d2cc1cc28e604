//! Sizes that the architecture fixes.

use units::{Order, Pfn};

/// Page size, largest block and pageblock size of a machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Geometry {
    /// log2 of the page size in bytes.
    pub page_shift: u32,
    /// Largest block of the buddy lists (Linux: MAX_PAGE_ORDER).
    pub max_order: Order,
    /// Size of a pageblock, which is also that of a huge page (Linux: pageblock_order, HPAGE_PMD_ORDER).
    pub pageblock_order: Order,
}

impl Geometry {
    /// x86-64, and arm64 with 4 KiB pages.
    pub const FOUR_KIB: Self =
        Self { page_shift: 12, max_order: Order::new_truncate(10), pageblock_order: Order::new_truncate(9) };
    /// arm64 with 16 KiB pages.
    pub const SIXTEEN_KIB: Self =
        Self { page_shift: 14, max_order: Order::new_truncate(11), pageblock_order: Order::new_truncate(11) };
    /// arm64 with 64 KiB pages.
    pub const SIXTY_FOUR_KIB: Self =
        Self { page_shift: 16, max_order: Order::new_truncate(13), pageblock_order: Order::new_truncate(13) };
    /// 32-bit x86 with PAE; without huge pages a pageblock would be as large as the largest block.
    pub const I386_PAE: Self = Self::FOUR_KIB;

    /// Returns the pages of a pageblock (Linux: pageblock_nr_pages).
    #[inline]
    pub const fn pageblock_pages(&self) -> u64 {
        self.pageblock_order.nr_pages()
    }

    /// Returns the first frame of the pageblock that `pfn` lies in.
    #[inline]
    pub const fn pageblock_start(&self, pfn: Pfn) -> Pfn {
        pfn.align_down(self.pageblock_order.nr_pages())
    }
}
