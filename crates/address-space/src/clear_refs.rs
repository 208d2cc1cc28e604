//! What a write to /proc/PID/clear_refs does: takes marks of use and of writes back, so that those set later can be told from older ones.
//!
//! Linux 6.12: fs/proc/task_mmu.c (`clear_refs_write`, `clear_refs_test_walk`, `reset_mm_hiwater_rss`).

use core::fmt;

use page_allocator::Hooks;
use platform::Platform;
use units::VmFlags;

use crate::backing::{PageMark, PageTables, Pager};
use crate::call::Call;
use crate::vma::Vma;

/// What is cleared, with the numbers that are written to the file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ClearRefs {
    /// CLEAR_REFS_ALL: the marks of use of all pages.
    All = 1,
    /// CLEAR_REFS_ANON: those of areas without a file.
    Anon,
    /// CLEAR_REFS_MAPPED: those of areas with one.
    Mapped,
    /// CLEAR_REFS_SOFT_DIRTY: the marks of writes of all pages and areas.
    SoftDirty,
    /// CLEAR_REFS_MM_HIWATER_RSS: the most pages that were ever resident.
    MmHiwaterRss,
}

/// What was written to the file stands for nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BadClearRefs {
    /// No number, or none that means something (EINVAL).
    Unknown,
    /// A number that no int holds (ERANGE).
    TooLarge,
}

impl fmt::Display for BadClearRefs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unknown => "not a number from 1 to 5",
            Self::TooLarge => "the number is too large",
        })
    }
}

impl core::error::Error for BadClearRefs {}

impl ClearRefs {
    /// Bytes of what is written that are looked at (Linux: PROC_NUMBUF without the last).
    pub const TEXT_BYTES: usize = 12;

    const ALL: [Self; 5] = [Self::All, Self::Anon, Self::Mapped, Self::SoftDirty, Self::MmHiwaterRss];

    /// Reads what was written to the file: a decimal number, perhaps with a sign, between white space. What lies behind a zero byte or
    /// [`TEXT_BYTES`](Self::TEXT_BYTES) does not count.
    ///
    /// # Errors
    /// [`BadClearRefs`].
    pub fn parse(text: &[u8]) -> Result<Self, BadClearRefs> {
        let text = text.get(..Self::TEXT_BYTES).unwrap_or(text);
        let text = text.split(|byte| *byte == 0).next().unwrap_or_default();
        let digits = str::from_utf8(text).map_err(|_| BadClearRefs::Unknown)?;
        let is_space = |letter: char| letter.is_ascii_whitespace() || letter == '\x0b';
        // All that fits in the buffer fits in 64 bits.
        let number: i64 = digits.trim_matches(is_space).parse().map_err(|_| BadClearRefs::Unknown)?;
        let number = i32::try_from(number).map_err(|_| BadClearRefs::TooLarge)?;
        Self::ALL.into_iter().find(|what| *what as i32 == number).ok_or(BadClearRefs::Unknown)
    }

    /// Returns true if the pages of the area are concerned: what a driver mapped frame by frame never is.
    fn concerns(self, vma: &Vma) -> bool {
        let is_wanted = match self {
            Self::Anon => vma.file.is_none(),
            Self::Mapped => vma.file.is_some(),
            Self::All | Self::SoftDirty => true,
            Self::MmHiwaterRss => false,
        };
        is_wanted && !vma.flags.contains(VmFlags::PFNMAP)
    }

    const fn mark(self) -> PageMark {
        if matches!(self, Self::SoftDirty) { PageMark::SoftDirty } else { PageMark::Referenced }
    }
}

impl<P: Platform, H: Hooks, B: PageTables + Pager> Call<'_, '_, P, H, B> {
    /// Takes marks back from the pages of this address space (Linux: `clear_refs_write`).
    ///
    /// After [`ClearRefs::SoftDirty`] no TLB allows a write without a fault. Where entries keep no such marks it does nothing, as on Linux.
    pub fn clear_refs(&mut self, what: ClearRefs) {
        if what == ClearRefs::MmHiwaterRss {
            self.mm.mm().tables().reset_peak_rss();
            return;
        }
        if what == ClearRefs::SoftDirty && self.backing.soft_dirty().is_empty() {
            return;
        }
        for entry in self.mm.tree.iter() {
            self.mm.start_write(&entry.value);
            let vma = entry.value.load();
            if what == ClearRefs::SoftDirty && vma.flags.contains(VmFlags::SOFTDIRTY) {
                entry.value.store(&Vma { flags: vma.flags - VmFlags::SOFTDIRTY, ..vma });
            }
        }
        self.backing.clear_marks(&mut self.mm.areas().filter(|vma| what.concerns(vma)), what.mark());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vma::FileId;
    use units::{VirtAddr, VirtRange};

    #[test]
    fn what_is_written_is_a_number_from_1_to_5() {
        assert_eq!(ClearRefs::parse(b"1"), Ok(ClearRefs::All));
        assert_eq!(ClearRefs::parse(b"\t2 \n"), Ok(ClearRefs::Anon));
        assert_eq!(ClearRefs::parse(b"+3\0x"), Ok(ClearRefs::Mapped));
        assert_eq!(ClearRefs::parse(b"000000000004 and more"), Ok(ClearRefs::SoftDirty));
        assert_eq!(ClearRefs::parse(b"\x0b5"), Ok(ClearRefs::MmHiwaterRss));
        for text in
            [&b""[..], b"\n", b"0", b"6", b"-4", b"4x", b"+-4", b"0x4", b"4 4", b"\xff", b"2147483647", b"-2147483648"]
        {
            assert_eq!(ClearRefs::parse(text), Err(BadClearRefs::Unknown), "{text:?}");
        }
        for text in [&b"2147483648"[..], b"-2147483649", b"999999999999"] {
            assert_eq!(ClearRefs::parse(text), Err(BadClearRefs::TooLarge), "{text:?}");
        }
    }

    #[test]
    fn areas_are_chosen_by_what_is_behind_them() {
        let range = VirtRange::with_len(VirtAddr::new(4096), 4096);
        let anon = Vma { range, flags: VmFlags::READ, pgoff: 1, file: None, anon: None, uffd: 0, name: None };
        let mapped = Vma { file: FileId::new(7), ..anon };
        let frames = Vma { flags: VmFlags::READ | VmFlags::PFNMAP, ..mapped };
        let chosen = |what: ClearRefs| [anon, mapped, frames].map(|vma| what.concerns(&vma));
        assert_eq!(chosen(ClearRefs::All), [true, true, false]);
        assert_eq!(chosen(ClearRefs::Anon), [true, false, false]);
        assert_eq!(chosen(ClearRefs::Mapped), [false, true, false]);
        assert_eq!(chosen(ClearRefs::SoftDirty), [true, true, false]);
    }
}
