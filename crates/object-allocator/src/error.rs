//! Why there is no object, or no cache.
//!
//! One variant per reaction of the caller.

use core::fmt;

use page_allocator::AllocError;

/// A request of this crate failed; nothing of it remains.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ObjectError {
    /// No memory now; later it may work.
    OutOfMemory,
    /// The request can never be served on this machine: too large, or no zone is acceptable.
    Impossible,
    /// `ObjectAllocator::start` has not run.
    NotStarted,
    /// The machine's table of caches is full.
    TooManyCaches,
    /// The alignment is no power of two, or larger than a page.
    BadAlign(usize),
    /// An object size of nothing, or one that no block holds.
    BadSize(usize),
}

impl fmt::Display for ObjectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfMemory => f.write_str("out of memory"),
            Self::Impossible => f.write_str("no block or zone of this machine can serve the request"),
            Self::NotStarted => f.write_str("the object allocator has not been started"),
            Self::TooManyCaches => f.write_str("the table of slab caches is full"),
            Self::BadAlign(align) => write!(f, "alignment {align}: expected a power of two up to the page size"),
            Self::BadSize(size) => write!(f, "object size {size}: expected 1 to the largest block"),
        }
    }
}

impl core::error::Error for ObjectError {}

impl From<AllocError> for ObjectError {
    fn from(error: AllocError) -> Self {
        match error {
            AllocError::OutOfMemory => Self::OutOfMemory,
            AllocError::TooLarge(_) | AllocError::NoZone => Self::Impossible,
        }
    }
}
