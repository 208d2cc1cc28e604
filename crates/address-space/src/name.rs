//! Names of anonymous areas.
//!
//! The names themselves are kept by the [`Pager`](crate::Pager), which gives equal names equal numbers, so that areas compare by number, and hears of
//! every area that gets or loses one.
//! Linux 6.12: `struct anon_vma_name`, PR_SET_VMA_ANON_NAME.

use core::num::NonZeroU64;

use crate::error::MmError;

/// Number of a name. Equal names have equal numbers.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct AreaName(NonZeroU64);

/// Most bytes of a name, with the 0 behind it (ANON_VMA_NAME_MAX_LEN).
const MAX_BYTES: usize = 80;

impl AreaName {
    /// Checks the bytes of a name, without the 0 behind them: printable, and nothing that maps or a shell gives a meaning to (Linux:
    /// `is_valid_name_char`).
    ///
    /// # Errors
    /// [`MmError::Invalid`].
    pub fn check(name: &[u8]) -> Result<(), MmError> {
        let is_valid = |byte: &u8| (b' '..=b'~').contains(byte) && !b"\\`$[]".contains(byte);
        if name.len() < MAX_BYTES && name.iter().all(is_valid) { Ok(()) } else { Err(MmError::Invalid) }
    }

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
