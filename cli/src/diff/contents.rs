//! What pages of a process hold, page by page.

use std::hash::{DefaultHasher, Hasher};

/// A page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct PageContents {
    /// Its address.
    pub(super) page: u64,
    /// Hash of its bytes; `None` if they cannot be read.
    pub(super) hash: Option<u64>,
}

/// Returns the hash of a page's bytes.
pub(super) fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish()
}

/// Returns the first page that differs, in words.
pub(super) fn compare(theirs: &[PageContents], ours: &[PageContents]) -> Option<String> {
    let (theirs, ours) = theirs.iter().zip(ours).find(|(theirs, ours)| theirs != ours)?;
    Some(format!("  the page at {:#x}: host {:x?}, ours {:x?}\n", theirs.page, theirs.hash, ours.hash))
}
