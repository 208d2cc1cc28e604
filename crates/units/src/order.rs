//! Block sizes as powers of two pages.

use core::fmt;

/// Base-2 logarithm of a block's size in pages, 0 to 13.
///
/// 13 is the largest MAX_PAGE_ORDER of a supported configuration (arm64 with 64 KiB pages); x86 and arm64 with 4 KiB
/// pages stop at 10. The machine's own limit is checked by the allocator, not by this type.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(transparent)]
pub struct Order(u8);

/// An order above [`Order::MAX`]; carries the value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TooLargeOrder(pub u64);

impl fmt::Display for TooLargeOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "order {} is above {}", self.0, Order::MAX.0)
    }
}

impl core::error::Error for TooLargeOrder {}

impl Order {
    /// One page.
    pub const ZERO: Self = Self(0);
    /// Largest order of any supported configuration.
    pub const MAX: Self = Self(13);
    /// Number of orders that arrays indexed by order have room for.
    pub const COUNT: usize = 14;
    /// Orders above this are costly: the allocator does not insist on them (Linux: PAGE_ALLOC_COSTLY_ORDER).
    pub const COSTLY: Self = Self(3);

    /// Checks `raw` against [`Order::MAX`].
    ///
    /// # Errors
    /// [`TooLargeOrder`] with the value.
    #[inline]
    pub const fn try_new(raw: u64) -> Result<Self, TooLargeOrder> {
        if raw > Self::MAX.0 as u64 { Err(TooLargeOrder(raw)) } else { Ok(Self(raw as u8)) }
    }

    /// Takes `raw`, or [`Order::MAX`] if it is larger.
    #[inline]
    pub const fn new_truncate(raw: u8) -> Self {
        if raw > Self::MAX.0 { Self::MAX } else { Self(raw) }
    }

    /// Reads an order from the low four bits of `bits`; [`Order::MAX`] for the two numbers that are none. By a table, so without comparisons.
    #[inline]
    pub const fn from_low_bits(bits: u8) -> Self {
        const ORDERS: [Order; 16] = {
            let mut orders = [Order::MAX; 16];
            let mut raw = 0;
            while raw < Order::COUNT {
                orders[raw] = Order(raw as u8);
                raw += 1;
            }
            orders
        };
        ORDERS[(bits & 0xf) as usize]
    }

    /// Returns the smallest order whose block holds `nr_pages`, or `None` above [`Order::MAX`] (Linux: get_order).
    pub const fn covering(nr_pages: u64) -> Option<Self> {
        if nr_pages <= 1 {
            return Some(Self::ZERO);
        }
        let raw = u64::BITS - (nr_pages - 1).leading_zeros();
        if raw > Self::MAX.0 as u32 { None } else { Some(Self(raw as u8)) }
    }

    /// Returns the exponent.
    #[inline]
    pub const fn raw(self) -> u8 {
        self.0
    }

    /// Returns the exponent as an array index, below [`Order::COUNT`].
    #[inline]
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// Returns the block size in pages.
    #[inline]
    pub const fn nr_pages(self) -> u64 {
        1 << self.0
    }

    /// Returns the next larger order, or `None` at [`Order::MAX`].
    #[inline]
    pub const fn up(self) -> Option<Self> {
        if self.0 < Self::MAX.0 { Some(Self(self.0 + 1)) } else { None }
    }

    /// Returns the next smaller order, or `None` at 0.
    #[inline]
    pub const fn down(self) -> Option<Self> {
        if self.0 > 0 { Some(Self(self.0 - 1)) } else { None }
    }

    /// Iterates from this order up to and including `last`.
    pub fn through(self, last: Self) -> impl DoubleEndedIterator<Item = Self> + use<> {
        (self.0..=last.0).map(Self)
    }
}

impl fmt::Debug for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "order:{}", self.0)
    }
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn covering_rounds_up_to_the_next_power() {
        assert_eq!(Order::covering(1), Some(Order::ZERO));
        assert_eq!(Order::covering(3).map(Order::raw), Some(2));
        assert_eq!(Order::covering(1 << 13).map(Order::raw), Some(13));
        assert_eq!(Order::covering((1 << 13) + 1), None);
    }

    #[test]
    fn an_order_above_the_limit_is_refused_with_its_value() {
        assert_eq!(Order::try_new(14), Err(TooLargeOrder(14)));
    }
}
