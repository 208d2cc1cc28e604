//! Names of anonymous areas.
//!
//! The names themselves are kept by the [`Pager`](crate::Pager), which gives equal names equal numbers, so that areas compare by number.
//! Linux 6.12: `struct anon_vma_name`, PR_SET_VMA_ANON_NAME.

use core::num::NonZeroU64;

/// Number of a name. Equal names have equal numbers.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct AreaName(NonZeroU64);

impl AreaName {
    /// Makes the number; `None` of 0.
    pub const fn from_raw(number: u64) -> Option<Self> {
        match NonZeroU64::new(number) {
            Some(number) => Some(Self(number)),
            None => None,
        }
    }

    /// Returns the number.
    pub const fn raw(self) -> u64 {
        self.0.get()
    }
}
