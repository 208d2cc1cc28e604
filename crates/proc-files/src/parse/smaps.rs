//! Parser of /proc/PID/smaps and /proc/PID/smaps_rollup.
//!
//! Linux 6.12: fs/proc/task_mmu.c (`show_smap`, `show_smaps_rollup`).

use std::fmt;
use std::string::String;
use std::vec::Vec;

use units::VmFlags;

use super::maps;
use super::{Cursor, Lines, ParseError};
use crate::maps::MapsLine;
use crate::meminfo::{MemInfoLine, MemInfoUnit};

/// A parsed smaps or smaps_rollup file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Smaps {
    lines: Lines<Line>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Line {
    Heading(MapsLine<String>),
    Field(MemInfoLine<String>),
    Flags(VmFlags),
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Heading(area) => area.fmt(f),
            Self::Field(field) => field.fmt(f),
            Self::Flags(flags) => write!(f, "VmFlags: {flags}"),
        }
    }
}

/// One area, or the sum over all.
#[derive(Clone, Debug)]
pub struct SmapsArea<'a> {
    /// Heading.
    pub area: &'a MapsLine<String>,
    /// Fields in the file's order.
    pub fields: Vec<&'a MemInfoLine<String>>,
    /// Flags; `None` if the file has none.
    pub flags: Option<VmFlags>,
}

impl SmapsArea<'_> {
    /// Returns a value in kB, or that of `THPeligible` and `ProtectionKey`.
    pub fn get(&self, name: &str) -> Option<u64> {
        self.fields.iter().find(|field| field.name == name).map(|field| field.value)
    }
}

impl Smaps {
    /// Reads the file's text; any field name is accepted, and two letters that stand for no known flag are passed over.
    ///
    /// # Errors
    /// At a line that is neither a heading nor a field, and at a field before the first heading.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let mut has_heading = false;
        let lines = Lines::parse(text, |cursor| {
            if cursor.at_end() {
                return Ok(None);
            }
            let start = *cursor;
            let line = line(cursor)?;
            has_heading |= matches!(line, Line::Heading(_));
            if has_heading { Ok(Some(line)) } else { Err(start.error("the heading of an area")) }
        })?;
        Ok(Self { lines })
    }

    /// Iterates over the areas.
    pub fn areas(&self) -> impl Iterator<Item = SmapsArea<'_>> {
        let mut lines = self.lines.items().peekable();
        std::iter::from_fn(move || {
            let Line::Heading(area) = lines.next()? else { return None };
            let mut found = SmapsArea { area, fields: Vec::new(), flags: None };
            while let Some(line) = lines.next_if(|line| !matches!(line, Line::Heading(_))) {
                match line {
                    Line::Field(field) => found.fields.push(field),
                    Line::Flags(flags) => found.flags = Some(*flags),
                    Line::Heading(_) => {}
                }
            }
            Some(found)
        })
    }

    /// Returns the number of lines that are not in the kernel's form.
    pub fn nr_verbatim(&self) -> usize {
        self.lines.nr_verbatim()
    }
}

impl fmt::Display for Smaps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines.fmt(f)
    }
}

fn line(cursor: &mut Cursor<'_>) -> Result<Line, ParseError> {
    let first = cursor.rest().split_whitespace().next().unwrap_or("");
    if !first.ends_with(':') {
        return maps::area(cursor).map(Line::Heading);
    }
    if cursor.try_literal("VmFlags:") {
        let known = cursor.rest().split_whitespace().filter_map(VmFlags::from_mnemonic);
        return Ok(Line::Flags(known.collect()));
    }
    let here = *cursor;
    let name = cursor.run(|c| c != ':').ok_or_else(|| here.error("the name of a field"))?;
    cursor.literal(":")?;
    let value = cursor.number("a number")?;
    let unit = if cursor.try_literal("kB") { MemInfoUnit::Kb } else { MemInfoUnit::Pages };
    cursor.end()?;
    Ok(Line::Field(MemInfoLine { node: None, name: name.into(), value, unit }))
}

#[cfg(test)]
mod tests {
    use std::string::ToString;

    use super::*;

    const AREAS: &str = "\
00400000-00401000 r-xp 00000000 fe:00 7                                  /bin/a
Rss:                   8 kB
THPeligible:           1
VmFlags: rd ex mr zz 
00401000-00402000 rw-p 00000000 00:00 0 
NewInLinux9:          12 kB
";

    #[test]
    fn fields_belong_to_the_heading_above_them() {
        let parsed = Smaps::parse(AREAS).unwrap();
        let areas: Vec<_> = parsed.areas().collect();
        assert_eq!((areas.len(), areas[0].fields.len(), areas[1].fields.len()), (2, 2, 1));
        assert_eq!((areas[0].get("Rss"), areas[0].get("THPeligible"), areas[0].get("Pss")), (Some(8), Some(1), None));
        assert_eq!((areas[1].area.range.start.raw(), areas[1].get("NewInLinux9")), (0x40_1000, Some(12)));
        assert_eq!(areas[0].flags, Some(VmFlags::READ | VmFlags::EXEC | VmFlags::MAYREAD));
        assert_eq!(areas[1].flags, None);
    }

    #[test]
    fn a_flag_without_a_name_stays_in_its_place() {
        let parsed = Smaps::parse(AREAS).unwrap();
        assert_eq!((parsed.to_string().as_str(), parsed.nr_verbatim()), (AREAS, 1));
    }

    #[test]
    fn a_field_without_a_heading_is_refused() {
        let error = Smaps::parse("\nRss: 8 kB\n").unwrap_err();
        assert_eq!((error.line, error.expected), (2, "the heading of an area"));
    }
}
