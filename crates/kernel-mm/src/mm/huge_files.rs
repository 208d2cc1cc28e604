//! The files of /sys/kernel/mm/transparent_hugepage: what is done about huge pages, and which areas get them.
//!
//! Only which areas get them can be set to more than one value; the other files tell what is done here, and refuse the rest of what Linux knows.
//! Linux 6.12: mm/huge_memory.c (`enabled_store`, `defrag_show`, `hpage_pmd_size_show`), mm/shmem.c (`shmem_enabled_show`).

use core::fmt::{self, Write};

use address_space::{HugePolicy, MmError};
use page_allocator::Hooks;
use platform::Platform;

use super::MemoryManager;

/// A file about huge pages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HugeFile {
    /// Which areas get them.
    Enabled,
    /// For which areas a fault waits until there is a free one.
    Defrag,
    /// Whether shared memory gets them.
    ShmemEnabled,
    /// Whether there is a huge page of zeros.
    UseZeroPage,
    /// Their size.
    PmdSize,
}

const ENABLED: [&str; 3] = ["always", "madvise", "never"];
const DEFRAG: [&str; 5] = ["always", "defer", "defer+madvise", "madvise", "never"];
const SHMEM_ENABLED: [&str; 6] = ["always", "within_size", "advise", "never", "deny", "force"];

impl HugeFile {
    /// All of them with their names and permissions.
    pub const ALL: [(&'static str, Self, u32); 5] = [
        ("enabled", Self::Enabled, 0o644),
        ("defrag", Self::Defrag, 0o644),
        ("shmem_enabled", Self::ShmemEnabled, 0o644),
        ("use_zero_page", Self::UseZeroPage, 0o644),
        ("hpage_pmd_size", Self::PmdSize, 0o444),
    ];
}

impl<P: Platform, H: Hooks + Sync> MemoryManager<'_, P, H> {
    /// Writes the text of a file.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write_huge_file(&self, file: HugeFile, out: &mut dyn Write) -> fmt::Result {
        let settings = self.spaces.settings();
        match file {
            HugeFile::Enabled => write_choices(out, &ENABLED, name_of(self.spaces.huge_policy())),
            HugeFile::Defrag => write_choices(out, &DEFRAG, "madvise"),
            HugeFile::ShmemEnabled => write_choices(out, &SHMEM_ENABLED, "never"),
            HugeFile::UseZeroPage => writeln!(out, "{}", u8::from(settings.use_zero_page)),
            HugeFile::PmdSize => writeln!(out, "{}", settings.huge_page),
        }
    }

    /// Takes what was written to a file.
    ///
    /// # Errors
    /// [`MmError::Invalid`] for what Linux does not know, [`MmError::NotSupported`] for what it knows and is not here, [`MmError::Io`] for a file that is only read.
    pub fn set_huge_file(&self, file: HugeFile, text: &[u8]) -> Result<(), MmError> {
        let word = word_of(text).ok_or(MmError::Invalid)?;
        match file {
            HugeFile::Enabled => {
                let policy = [HugePolicy::Always, HugePolicy::Madvise, HugePolicy::Never]
                    .into_iter()
                    .find(|&policy| name_of(policy) == word)
                    .ok_or(MmError::Invalid)?;
                self.spaces.set_huge_policy(policy);
                Ok(())
            }
            HugeFile::Defrag => only(word, &DEFRAG, "madvise"),
            HugeFile::ShmemEnabled => only(word, &SHMEM_ENABLED, "never"),
            HugeFile::UseZeroPage => {
                only(word, &["0", "1"], if self.spaces.settings().use_zero_page { "1" } else { "0" })
            }
            HugeFile::PmdSize => Err(MmError::Io),
        }
    }
}

const fn name_of(policy: HugePolicy) -> &'static str {
    match policy {
        HugePolicy::Always => ENABLED[0],
        HugePolicy::Madvise => ENABLED[1],
        HugePolicy::Never => ENABLED[2],
    }
}

/// Writes all choices, the one that is made in brackets.
fn write_choices(out: &mut dyn Write, choices: &[&str], made: &str) -> fmt::Result {
    for (choice, index) in choices.iter().zip(0..) {
        let space = if index == 0 { "" } else { " " };
        if *choice == made { write!(out, "{space}[{choice}]")? } else { write!(out, "{space}{choice}")? }
    }
    writeln!(out)
}

/// Takes the word of a text: up to its first zero, without one end of line (Linux: `sysfs_streq`).
fn word_of(text: &[u8]) -> Option<&str> {
    let text = text.split(|&byte| byte == 0).next()?;
    core::str::from_utf8(text.strip_suffix(b"\n").unwrap_or(text)).ok()
}

/// Accepts the only choice that is here.
fn only(word: &str, known: &[&str], here: &str) -> Result<(), MmError> {
    match word {
        word if word == here => Ok(()),
        word if known.contains(&word) => Err(MmError::NotSupported),
        _ => Err(MmError::Invalid),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_end_at_a_zero_or_the_end_of_the_line() {
        for text in [&b"never"[..], b"never\n", b"never\0", b"never\n\0rest"] {
            assert_eq!(word_of(text), Some("never"));
        }
        assert_eq!(word_of(b"\xff"), None);
        assert_eq!(word_of(b""), Some(""));
    }

    #[test]
    fn what_is_not_here_is_told_from_what_nobody_knows() {
        assert_eq!(only("madvise", &DEFRAG, "madvise"), Ok(()));
        assert_eq!(only("defer", &DEFRAG, "madvise"), Err(MmError::NotSupported));
        assert_eq!(only("often", &DEFRAG, "madvise"), Err(MmError::Invalid));
    }
}
