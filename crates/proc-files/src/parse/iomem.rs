//! Parser of /proc/iomem.

use std::fmt;
use std::string::String;

use units::PhysAddr;

use super::{Cursor, Lines, ParseError};
use crate::iomem::Resource;

/// A parsed /proc/iomem.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Iomem {
    lines: Lines<Resource<String>>,
}

impl Iomem {
    /// Reads the file's text.
    ///
    /// # Errors
    /// At a line that is not `start-last : name` in hexadecimal, a range that ends before it starts, or one that is more
    /// than one level below the line before it.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let mut deepest = 0;
        let lines = Lines::parse(text, |cursor| {
            if cursor.at_end() {
                return Ok(None);
            }
            let resource = resource(cursor, deepest)?;
            deepest = resource.depth + 1;
            Ok(Some(resource))
        })?;
        Ok(Self { lines })
    }

    /// Iterates over the ranges, parents before children.
    pub fn resources(&self) -> impl Iterator<Item = &Resource<String>> {
        self.lines.items()
    }

    /// Returns the number of lines that are not in the kernel's form.
    pub fn nr_verbatim(&self) -> usize {
        self.lines.nr_verbatim()
    }
}

fn resource(cursor: &mut Cursor<'_>, deepest: usize) -> Result<Resource<String>, ParseError> {
    let line = cursor.rest();
    let indent = line.len() - line.trim_start().len();
    let here = *cursor;
    let start = cursor.hex("the first address of a range")?;
    cursor.literal("-")?;
    let last = cursor.hex("the last address of a range")?;
    if last < start {
        return Err(here.error("a range that does not end before it starts"));
    }
    if indent / 2 > deepest {
        return Err(here.error("a range at most one level below the one before"));
    }
    cursor.literal(":")?;
    let name = cursor.rest();
    let name = String::from(name.strip_prefix(' ').unwrap_or(name));
    Ok(Resource { depth: indent / 2, start: PhysAddr::new(start), last: PhysAddr::new(last), name })
}

impl fmt::Display for Iomem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use std::string::ToString;
    use std::vec::Vec;

    use super::*;

    #[test]
    fn ranges_keep_their_place_in_the_tree() {
        let text = "00000000-0009fbff : System RAM\n  00001000-00001fff : a\n    00001800-00001fff : b\n100000000-13fffffff : c\n";
        let parsed = Iomem::parse(text).unwrap();
        assert_eq!((parsed.to_string().as_str(), parsed.nr_verbatim()), (text, 0));
        let depths: Vec<_> = parsed.resources().map(|resource| (resource.depth, resource.name.as_str())).collect();
        assert_eq!(depths, [(0, "System RAM"), (1, "a"), (2, "b"), (0, "c")]);
        let last = parsed.resources().last().unwrap();
        assert_eq!((last.start.raw(), last.last.raw()), (0x1_0000_0000, 0x1_3fff_ffff));
    }

    #[test]
    fn a_file_read_without_rights_shows_zeros() {
        let parsed = Iomem::parse("00000000-00000000 : System RAM\n").unwrap();
        assert_eq!(parsed.resources().count(), 1);
    }
}
