//! The state of a frame that is not mapped by anyone, with the order of the block that it heads.
//!
//! Shares a word with the map count, as in Linux (`page_type`, `_mapcount`): counts are small integers from -1 up, states have the
//! top byte 0xf0. State and order are one word, so "is this a free buddy of order n" is one comparison.

use units::Order;

/// Who holds the block that a frame heads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum PageType {
    /// Initialised at boot and not handed to the page allocator: reserved, or a hole with a descriptor.
    Boot = 1,
    /// Free, on a zone's list.
    Buddy = 2,
    /// Free, on a per-CPU list.
    Pcp = 3,
    /// Taken off every list; a [`crate::FreeBlock`] stands for it, or for a block that it became part of.
    Detached = 4,
    /// Allocated; an [`crate::OwnedBlock`] stands for it.
    Owned = 5,
    /// Allocated and known by number only (Linux: a page that a caller holds as `struct page *`).
    Raw = 6,
    /// Released from boot inside a block that another frame heads.
    Inner = 7,
    /// Part of a slab; every frame of the slab says so, with the slab's order and its cache's number.
    Slab = 8,
    /// Head of an object that has a block to itself (Linux: a large kmalloc folio).
    LargeObject = 9,
    /// A page table of an address space (Linux: PGTY_table).
    Table = 10,
}

const TAG: u32 = 0xf000_0000;
const TYPE_SHIFT: u32 = 8;
/// Where a slab's frames carry the number of their cache.
const CACHE_SHIFT: u32 = 12;

impl PageType {
    /// The word of a page that is allocated and counted, mapped by nobody.
    pub(crate) const UNMAPPED: u32 = u32::MAX;

    /// Returns the word for a block of `order` in this state.
    #[inline]
    pub(crate) const fn word(self, order: Order) -> u32 {
        TAG | (self as u32) << TYPE_SHIFT | order.raw() as u32
    }

    /// Returns the word of every frame of a slab.
    #[inline]
    pub(crate) const fn slab_word(cache: u16, order: Order) -> u32 {
        Self::Slab.word(order) | (cache as u32) << CACHE_SHIFT
    }

    /// Reads the word of a slab's frame: the number of the cache and the order of the slab.
    #[inline]
    pub(crate) const fn decode_slab(word: u32) -> Option<(u16, Order)> {
        if word & (TAG | 0xf << TYPE_SHIFT) != TAG | (Self::Slab as u32) << TYPE_SHIFT {
            return None;
        }
        Some(((word >> CACHE_SHIFT) as u16, Order::new_truncate(word as u8 & 0xf)))
    }

    /// Reads a word; `None` for map counts and for descriptors that were never initialised.
    pub(crate) const fn decode(word: u32) -> Option<(Self, Order)> {
        let cache = word >> CACHE_SHIFT & 0xffff;
        if word & 0xf000_0000 != TAG {
            return None;
        }
        let Ok(order) = Order::try_new((word & 0xff) as u64) else { return None };
        let page_type = match word >> TYPE_SHIFT & 0xf {
            8 => Self::Slab,
            _ if cache != 0 => return None,
            1 => Self::Boot,
            2 => Self::Buddy,
            3 => Self::Pcp,
            4 => Self::Detached,
            5 => Self::Owned,
            6 => Self::Raw,
            7 => Self::Inner,
            9 => Self::LargeObject,
            10 => Self::Table,
            _ => return None,
        };
        Some((page_type, order))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_reads_back_with_its_order() {
        let order = Order::new_truncate(9);
        for page_type in [PageType::Boot, PageType::Buddy, PageType::Pcp, PageType::Owned, PageType::Raw] {
            assert_eq!(PageType::decode(page_type.word(order)), Some((page_type, order)));
        }
    }

    #[test]
    fn a_slabs_word_carries_cache_and_order() {
        let order = Order::new_truncate(3);
        let word = PageType::slab_word(u16::MAX, order);
        assert_eq!(PageType::decode_slab(word), Some((u16::MAX, order)));
        assert_eq!(PageType::decode(word), Some((PageType::Slab, order)));
        assert_eq!(PageType::decode_slab(PageType::Owned.word(order)), None);
        assert_eq!(PageType::decode_slab(PageType::UNMAPPED), None);
    }

    #[test]
    fn map_counts_and_zeroed_memory_are_no_state() {
        assert_eq!(PageType::decode(PageType::UNMAPPED), None);
        assert_eq!(PageType::decode(0), None);
        assert_eq!(PageType::decode(TAG | 0x2_0e), None);
    }
}
