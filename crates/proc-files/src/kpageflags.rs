//! Scans of /proc/kpageflags as runs of frames of one kind: `start(hex) frames kind`.
//!
//! mmkit's own text form of that binary file. Written by machines and by recording scripts.
//! Linux 6.12: fs/proc/page.c (`stable_page_flags`).

use core::fmt;

use units::PfnRange;

/// What a frame is used for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum PageKind {
    /// Free, on a buddy list.
    Free,
    /// Anonymous memory.
    Anon,
    /// Page cache, or another page on a reclaim list.
    File,
    /// Slab.
    Slab,
    /// Page table.
    PageTable,
    /// Mapped into a process, of no other kind.
    Mapped,
    /// Held by the kernel in a way that flags do not tell, or on a per-CPU list.
    Kernel,
    /// Never handed to the page allocator.
    Reserved,
    /// Offline.
    Offline,
    /// No memory.
    Hole,
}

impl PageKind {
    /// Every kind.
    pub const ALL: [Self; 10] = [
        Self::Free,
        Self::Anon,
        Self::File,
        Self::Slab,
        Self::PageTable,
        Self::Mapped,
        Self::Kernel,
        Self::Reserved,
        Self::Offline,
        Self::Hole,
    ];

    /// Returns the kind's letter.
    pub const fn letter(self) -> char {
        match self {
            Self::Free => 'b',
            Self::Anon => 'a',
            Self::File => 'f',
            Self::Slab => 's',
            Self::PageTable => 't',
            Self::Mapped => 'm',
            Self::Kernel => 'k',
            Self::Reserved => 'r',
            Self::Offline => 'o',
            Self::Hole => '-',
        }
    }

    /// Reads a kind's letter.
    pub fn from_letter(letter: char) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.letter() == letter)
    }
}

/// Frames of one kind, one after the other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PageRun {
    /// The frames.
    pub range: PfnRange,
    /// What they are used for.
    pub kind: PageKind,
}

impl fmt::Display for PageRun {
    /// Writes the line without its newline.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x} {} {}", self.range.start, self.range.nr_pages(), self.kind.letter())
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::string::ToString;

    use units::Pfn;

    use super::*;

    #[test]
    fn every_kind_has_its_own_letter() {
        for kind in PageKind::ALL {
            assert_eq!(PageKind::from_letter(kind.letter()), Some(kind));
        }
        assert_eq!(PageKind::from_letter('z'), None);
    }

    #[test]
    fn a_run_is_hexadecimal_then_decimal() {
        let run = PageRun { range: PfnRange::with_len(Pfn::new(0x2e0a), 246), kind: PageKind::Free };
        assert_eq!(run.to_string(), "2e0a 246 b");
    }
}
