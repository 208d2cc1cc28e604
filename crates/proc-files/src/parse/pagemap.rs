//! Parser of /proc/PID/pagemap.
//!
//! Linux 6.12: fs/proc/task_mmu.c (`pagemap_read`).

use std::fmt;
use std::vec::Vec;

use crate::pagemap::PagemapEntry;

/// Entries of consecutive pages, in the byte order of little-endian machines.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pagemap {
    entries: Vec<u64>,
}

/// A file that ends within an entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CutPagemap {
    /// Byte where the incomplete entry begins.
    pub offset: usize,
    /// Bytes of it that are there.
    pub found: usize,
}

impl fmt::Display for CutPagemap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "byte {}: expected an entry of {} bytes, found {}", self.offset, PagemapEntry::BYTES, self.found)
    }
}

impl std::error::Error for CutPagemap {}

impl Pagemap {
    /// Reads a piece of the file.
    ///
    /// # Errors
    /// The last entry is cut off.
    pub fn parse(bytes: &[u8]) -> Result<Self, CutPagemap> {
        let (whole, rest) = bytes.as_chunks();
        if !rest.is_empty() {
            return Err(CutPagemap { offset: bytes.len() - rest.len(), found: rest.len() });
        }
        Ok(Self { entries: whole.iter().copied().map(u64::from_le_bytes).collect() })
    }

    /// Iterates over the entries.
    pub fn entries(&self) -> impl Iterator<Item = PagemapEntry> {
        self.entries.iter().copied().map(PagemapEntry::from_bits)
    }

    /// Returns the bytes that were read.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.entries.iter().flat_map(|entry| entry.to_le_bytes()).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::string::ToString;
    use std::vec;

    use units::Pfn;

    use super::*;
    use crate::pagemap::{PageBits, PageLocation};

    #[test]
    fn bytes_are_entries() {
        let mut bytes = vec![0; 8];
        bytes.extend(0x8180_0000_0000_0abc_u64.to_le_bytes());
        let parsed = Pagemap::parse(&bytes).unwrap();
        assert_eq!(parsed.to_bytes(), bytes);
        let entries: Vec<_> = parsed.entries().collect();
        assert_eq!(entries[0], PagemapEntry { location: PageLocation::None, bits: PageBits::empty() });
        assert_eq!(entries[1].location, PageLocation::Present(Pfn::new(0xabc)));
    }

    #[test]
    fn a_cut_entry_is_refused() {
        let error = Pagemap::parse(&[0; 11]).unwrap_err();
        assert_eq!(error.to_string(), "byte 8: expected an entry of 8 bytes, found 3");
    }
}
