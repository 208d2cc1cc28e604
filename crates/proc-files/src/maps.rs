//! /proc/PID/maps, the heading of /proc/PID/smaps areas, and the flags of an area.
//!
//! Columns are those of a 64-bit kernel. Linux 6.12: fs/proc/task_mmu.c (`show_map_vma`, `show_vma_header_prefix`, `show_smap_vma_flags`).

use core::fmt::{self, Write};

use units::VirtRange;

/// Column of the name.
const NAME_COLUMN: usize = 73;

bitflags::bitflags! {
    /// What a process may do with an area, and whether it shares it.
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
    pub struct Permissions: u8 {
        /// `r`
        const READ = 1 << 0;
        /// `w`
        const WRITE = 1 << 1;
        /// `x`
        const EXEC = 1 << 2;
        /// `s`; `p` if not.
        const SHARED = 1 << 3;
    }
}

impl Permissions {
    /// Bits in the order of the letters, with the letters of a set and a clear one.
    const LETTERS: [(Self, char, char); 4] =
        [(Self::READ, 'r', '-'), (Self::WRITE, 'w', '-'), (Self::EXEC, 'x', '-'), (Self::SHARED, 's', 'p')];

    /// Reads four letters such as `rw-p`.
    pub fn from_letters(letters: &str) -> Option<Self> {
        let mut permissions = Self::empty();
        let mut found = letters.chars();
        for (bit, set, clear) in Self::LETTERS {
            let letter = found.next()?;
            if letter != set && letter != clear {
                return None;
            }
            permissions.set(bit, letter == set);
        }
        found.next().is_none().then_some(permissions)
    }
}

impl fmt::Display for Permissions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Self::LETTERS
            .iter()
            .try_for_each(|&(bit, set, clear)| f.write_char(if self.contains(bit) { set } else { clear }))
    }
}

/// Number of a device.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Device {
    /// Driver's number.
    pub major: u32,
    /// Number within the driver.
    pub minor: u32,
}

/// One line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MapsLine<N> {
    /// Addresses.
    pub range: VirtRange,
    /// Access.
    pub permissions: Permissions,
    /// Bytes from the file's start to the area's; 0 for an anonymous area.
    pub offset: u64,
    /// Device of the file's file system.
    pub device: Device,
    /// File; 0 for an anonymous area.
    pub inode: u64,
    /// Path, `[heap]`, `[stack]` and the like; empty if the area has no name.
    pub name: N,
}

/// Writer that counts columns.
struct Columns<'a, 'f> {
    f: &'a mut fmt::Formatter<'f>,
    written: usize,
}

impl Write for Columns<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.written += text.len();
        self.f.write_str(text)
    }
}

impl<N: AsRef<str>> fmt::Display for MapsLine<N> {
    /// Writes the line without its newline.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = Columns { f, written: 0 };
        let (start, end) = (self.range.start.raw(), self.range.end.raw());
        write!(line, "{start:08x}-{end:08x} {} {:08x} ", self.permissions, self.offset)?;
        write!(line, "{:02x}:{:02x} {} ", self.device.major, self.device.minor, self.inode)?;
        let name = self.name.as_ref();
        if name.is_empty() {
            return Ok(());
        }
        // A prefix that reaches the column is followed by one more blank.
        let blanks = NAME_COLUMN.saturating_sub(line.written).max(1);
        write!(line, "{:blanks$}{name}", "")
    }
}

bitflags::bitflags! {
    /// Flags of an area in Linux's numbering, as far as smaps shows them.
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
    pub struct VmFlags: u64 {
        /// Readable.
        const READ = 1 << 0;
        /// Writable.
        const WRITE = 1 << 1;
        /// Executable.
        const EXEC = 1 << 2;
        /// Shared.
        const SHARED = 1 << 3;
        /// mprotect may make it readable.
        const MAYREAD = 1 << 4;
        /// mprotect may make it writable.
        const MAYWRITE = 1 << 5;
        /// mprotect may make it executable.
        const MAYEXEC = 1 << 6;
        /// It may be shared.
        const MAYSHARE = 1 << 7;
        /// Grows downward, as stacks do.
        const GROWSDOWN = 1 << 8;
        /// userfaultfd is told of missing pages.
        const UFFD_MISSING = 1 << 9;
        /// Bare frame numbers without descriptors.
        const PFNMAP = 1 << 10;
        /// userfaultfd is told of writes.
        const UFFD_WP = 1 << 12;
        /// Locked into memory.
        const LOCKED = 1 << 13;
        /// Device memory.
        const IO = 1 << 14;
        /// Read in rising order.
        const SEQ_READ = 1 << 15;
        /// Read in no order.
        const RAND_READ = 1 << 16;
        /// Not inherited by fork.
        const DONTCOPY = 1 << 17;
        /// mremap may not grow it.
        const DONTEXPAND = 1 << 18;
        /// Pages are locked as they are touched.
        const LOCKONFAULT = 1 << 19;
        /// Counts against the commit limit.
        const ACCOUNT = 1 << 20;
        /// Does not count against the commit limit.
        const NORESERVE = 1 << 21;
        /// Pages of a huge-page pool.
        const HUGETLB = 1 << 22;
        /// Page faults write through (DAX).
        const SYNC = 1 << 23;
        /// Belongs to the architecture.
        const ARCH_1 = 1 << 24;
        /// Zeroed in the child of a fork.
        const WIPEONFORK = 1 << 25;
        /// Left out of core dumps.
        const DONTDUMP = 1 << 26;
        /// Written since the mark was cleared.
        const SOFTDIRTY = 1 << 27;
        /// Frame numbers and pages.
        const MIXEDMAP = 1 << 28;
        /// Huge pages are welcome.
        const HUGEPAGE = 1 << 29;
        /// No huge pages.
        const NOHUGEPAGE = 1 << 30;
        /// Equal pages may be merged.
        const MERGEABLE = 1 << 31;
        /// userfaultfd is told of pages without an entry.
        const UFFD_MINOR = 1 << 38;
        /// May be dropped under pressure.
        const DROPPABLE = 1 << 40;
        /// Sealed against changes.
        const SEALED = 1 << 42;
    }
}

impl VmFlags {
    /// Every flag with its two letters, in the order of bits, which is the order of the line.
    const MNEMONICS: [(Self, &'static str); 34] = [
        (Self::READ, "rd"),
        (Self::WRITE, "wr"),
        (Self::EXEC, "ex"),
        (Self::SHARED, "sh"),
        (Self::MAYREAD, "mr"),
        (Self::MAYWRITE, "mw"),
        (Self::MAYEXEC, "me"),
        (Self::MAYSHARE, "ms"),
        (Self::GROWSDOWN, "gd"),
        (Self::UFFD_MISSING, "um"),
        (Self::PFNMAP, "pf"),
        (Self::UFFD_WP, "uw"),
        (Self::LOCKED, "lo"),
        (Self::IO, "io"),
        (Self::SEQ_READ, "sr"),
        (Self::RAND_READ, "rr"),
        (Self::DONTCOPY, "dc"),
        (Self::DONTEXPAND, "de"),
        (Self::LOCKONFAULT, "lf"),
        (Self::ACCOUNT, "ac"),
        (Self::NORESERVE, "nr"),
        (Self::HUGETLB, "ht"),
        (Self::SYNC, "sf"),
        (Self::ARCH_1, "ar"),
        (Self::WIPEONFORK, "wf"),
        (Self::DONTDUMP, "dd"),
        (Self::SOFTDIRTY, "sd"),
        (Self::MIXEDMAP, "mm"),
        (Self::HUGEPAGE, "hg"),
        (Self::NOHUGEPAGE, "nh"),
        (Self::MERGEABLE, "mg"),
        (Self::UFFD_MINOR, "ui"),
        (Self::DROPPABLE, "dp"),
        (Self::SEALED, "sl"),
    ];

    /// Returns the flag that smaps shows as `mnemonic`.
    pub fn from_mnemonic(mnemonic: &str) -> Option<Self> {
        Self::MNEMONICS.iter().find(|(_, letters)| *letters == mnemonic).map(|&(flag, _)| flag)
    }
}

impl fmt::Display for VmFlags {
    /// Writes two letters and a blank for each flag.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let set = Self::MNEMONICS.iter().filter(|(flag, _)| self.contains(*flag));
        set.map(|(_, letters)| letters).try_for_each(|letters| write!(f, "{letters} "))
    }
}
