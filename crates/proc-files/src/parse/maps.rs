//! Parser of /proc/PID/maps.
//!
//! Linux 6.12: fs/proc/task_mmu.c (`show_map_vma`).

use std::fmt;
use std::string::String;

use units::{VirtAddr, VirtRange};

use super::{Cursor, Lines, ParseError};
use crate::maps::{Device, MapsLine, Permissions};

/// A parsed maps file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Maps {
    lines: Lines<MapsLine<String>>,
}

impl Maps {
    /// Reads the file's text.
    ///
    /// # Errors
    /// At a line that is not `start-end permissions offset device inode [name]`.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let lines = Lines::parse(text, |cursor| if cursor.at_end() { Ok(None) } else { area(cursor).map(Some) })?;
        Ok(Self { lines })
    }

    /// Iterates over the areas.
    pub fn areas(&self) -> impl Iterator<Item = &MapsLine<String>> {
        self.lines.items()
    }

    /// Returns the number of lines that are not in the kernel's form.
    pub fn nr_verbatim(&self) -> usize {
        self.lines.nr_verbatim()
    }
}

impl fmt::Display for Maps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines.fmt(f)
    }
}

/// Reads one line.
pub(super) fn area(cursor: &mut Cursor<'_>) -> Result<MapsLine<String>, ParseError> {
    let start = cursor.hex("the start of an area")?;
    cursor.literal("-")?;
    let here = *cursor;
    let end = cursor.hex("the end of an area")?;
    if end < start {
        return Err(here.error("an end that is not below the start"));
    }
    let here = *cursor;
    let letters = cursor.word("permissions such as `r-xp`")?;
    let permissions = Permissions::from_letters(letters).ok_or_else(|| here.error("permissions such as `r-xp`"))?;
    let offset = cursor.hex("an offset in a file")?;
    let major = device_number(cursor)?;
    cursor.literal(":")?;
    let device = Device { major, minor: device_number(cursor)? };
    let inode = cursor.number("the number of an inode")?;
    let range = VirtRange::new(VirtAddr::new(start), VirtAddr::new(end));
    Ok(MapsLine { range, permissions, offset, device, inode, name: cursor.rest().trim_start_matches(' ').into() })
}

fn device_number(cursor: &mut Cursor<'_>) -> Result<u32, ParseError> {
    const EXPECTED: &str = "the number of a device";
    let here = *cursor;
    u32::try_from(cursor.hex(EXPECTED)?).map_err(|_| here.error(EXPECTED))
}

#[cfg(test)]
mod tests {
    use std::string::ToString;
    use std::vec::Vec;

    use super::*;

    #[test]
    fn an_area_has_its_parts() {
        let text = "7ffff7fb6000-7ffff7fc0000 rw-s 0000a000 fe:1a 247857                     /tmp/a b (deleted)\n";
        let parsed = Maps::parse(text).unwrap();
        let area = parsed.areas().next().unwrap();
        assert_eq!(area.range, VirtRange::new(VirtAddr::new(0x7fff_f7fb_6000), VirtAddr::new(0x7fff_f7fc_0000)));
        assert_eq!(area.permissions, Permissions::READ | Permissions::WRITE | Permissions::SHARED);
        assert_eq!((area.offset, area.device, area.inode), (0xa000, Device { major: 0xfe, minor: 0x1a }, 247_857));
        assert_eq!((area.name.as_str(), parsed.nr_verbatim()), ("/tmp/a b (deleted)", 0));
        assert_eq!(parsed.to_string(), text);
    }

    #[test]
    fn a_long_number_pushes_the_name_by_one_blank() {
        let text = "7ffff7fb6000-7ffff7fc0000 rw-p 7fffffffffff000 1234:56789 18446744073709551615  /x\n";
        assert_eq!(Maps::parse(text).unwrap().nr_verbatim(), 0);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        let errors: Vec<_> =
            ["zz", "1000-800 rw-p", "1000-2000 rwp", "1000-2000 rwxp 0 1ffffffff:0 0", "1000-2000 rwxp 0 0:0"]
                .map(|text| Maps::parse(text).unwrap_err().to_string())
                .into_iter()
                .collect();
        assert_eq!(
            errors,
            [
                "line 1, column 1: expected the start of an area, found `zz`",
                "line 1, column 6: expected an end that is not below the start, found `800 rw-p`",
                "line 1, column 11: expected permissions such as `r-xp`, found `rwp`",
                "line 1, column 18: expected the number of a device, found `1ffffffff:0 0`",
                "line 1, column 21: expected the number of an inode, found the end of the line",
            ]
        );
    }
}
