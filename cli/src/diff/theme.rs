//! What the calls on one process are mostly about. Some things are only the same in every run of a kernel if others are left out.

use address_space::Advice;

use super::huge::HugePages;

/// What the calls on one process are mostly about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Theme {
    /// Areas of a few pages.
    Plain,
    /// These, and pages are paged out. That is reclaim: it takes at once what may be freed, and what of a file was only read. So nothing is freed or droppable,
    /// and nobody looks at what is in memory.
    PagesOut,
    /// Areas that fill page tables.
    Large,
    /// Such areas with huge pages.
    Huge,
}

impl Theme {
    /// Returns the theme of a part of a seed.
    pub(super) const fn of(part: u64) -> Self {
        match part % 8 {
            0 | 4 => Self::PagesOut,
            1 | 5 => Self::Large,
            3 => Self::Huge,
            _ => Self::Plain,
        }
    }

    /// Returns true if areas are large.
    pub(super) const fn is_large(self) -> bool {
        matches!(self, Self::Large | Self::Huge)
    }

    /// Returns whether processes get huge pages.
    pub(super) fn huge_pages(self) -> HugePages {
        if self == Self::Huge { HugePages::On } else { HugePages::Off }
    }

    /// Returns true if a call is made.
    pub(super) fn makes(self, call: &str) -> bool {
        match self {
            Self::Plain | Self::Large | Self::Huge => true,
            Self::PagesOut => call != "mincore",
        }
    }

    /// Returns true if advice is given.
    pub(super) fn advises(self, advice: Advice) -> bool {
        match advice {
            Advice::Collapse => self == Self::Huge,
            Advice::PageOut => self == Self::PagesOut,
            Advice::Free => !matches!(self, Self::PagesOut | Self::Huge),
            Advice::Cold => self != Self::Huge,
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_freed_is_never_paged_out() {
        let all = [Theme::Plain, Theme::PagesOut, Theme::Large, Theme::Huge];
        assert!(all.iter().all(|theme| !(theme.advises(Advice::Free) && theme.advises(Advice::PageOut))));
        assert!(all.iter().all(|theme| (0..8).any(|part| Theme::of(part) == *theme)));
    }
}
