//! /proc/PID/maps, and the heading of /proc/PID/smaps areas.
//!
//! Columns are those of a 64-bit kernel. Linux 6.12: fs/proc/task_mmu.c (`show_map_vma`, `show_vma_header_prefix`).

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
