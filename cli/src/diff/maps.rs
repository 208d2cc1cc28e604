//! /proc/PID/maps and smaps of the host's process, read; and lines that both sides can be compared by.
//!
//! Inode and device are left out; files are named by what they are.

use std::collections::BTreeMap;
use std::fmt;

use proc_files::maps::MapsLine;
use proc_files::parse::{Maps, ParseError, Smaps};
use units::VmFlags;

use crate::failure::Failure;

/// A line of maps.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct MapLine {
    /// First address.
    pub(super) start: u64,
    /// Address behind the last.
    pub(super) end: u64,
    /// As `rw-p`.
    pub(super) perms: String,
    /// Bytes into the file.
    pub(super) offset: u64,
    /// What is mapped.
    pub(super) what: String,
}

impl fmt::Display for MapLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:012x}-{:012x} {} {:08x} {}", self.start, self.end, self.perms, self.offset, self.what)
    }
}

impl MapLine {
    /// Leaves out what cannot be compared; `files` has the names of inodes.
    fn of(line: &MapsLine<String>, files: &BTreeMap<u64, String>) -> Self {
        let what = files.get(&line.inode).unwrap_or(&line.name).clone();
        let (start, end) = (line.range.start.raw(), line.range.end.raw());
        Self { start, end, perms: line.permissions.to_string(), offset: line.offset, what }
    }
}

/// The page that no call reaches.
fn is_vsyscall(line: &MapsLine<String>) -> bool {
    line.name == "[vsyscall]"
}

fn unreadable(error: ParseError) -> Failure {
    Failure::Host(format!("the files of its process: {error}"))
}

/// Reads maps, without the page of vsyscall.
pub(super) fn parse(text: &str, files: &BTreeMap<u64, String>) -> Result<Vec<MapLine>, Failure> {
    let maps = Maps::parse(text).map_err(unreadable)?;
    Ok(maps.areas().filter(|line| !is_vsyscall(line)).map(|line| MapLine::of(line, files)).collect())
}

/// An area as smaps tells of it.
pub(super) struct Smap {
    /// The line that it begins with.
    pub(super) line: MapLine,
    /// VmFlags, but for [`NOT_COMPARED`].
    pub(super) flags: VmFlags,
    /// Size in kB.
    pub(super) size: Option<u64>,
    /// Resident pages in kB.
    pub(super) resident: u64,
    /// Anonymous pages in kB, those that are swapped out included.
    pub(super) anonymous: u64,
    /// Anonymous huge pages in kB.
    pub(super) huge: Option<u64>,
    /// Whether it may get such.
    pub(super) may_be_huge: Option<u64>,
}

/// Flags that no call here sets.
const NOT_COMPARED: VmFlags = VmFlags::UFFD.union(VmFlags::HUGETLB).union(VmFlags::ARCH_1);

/// Reads smaps, without the page of vsyscall.
pub(super) fn parse_smaps(text: &str, files: &BTreeMap<u64, String>) -> Result<Vec<Smap>, Failure> {
    let smaps = Smaps::parse(text).map_err(unreadable)?;
    let areas = smaps.areas().filter(|found| !is_vsyscall(found.area));
    let areas = areas.map(|found| Smap {
        line: MapLine::of(found.area, files),
        flags: found.flags.unwrap_or_default() - NOT_COMPARED,
        size: found.get("Size"),
        huge: found.get("AnonHugePages"),
        may_be_huge: found.get("THPeligible"),
        resident: found.get("Rss").unwrap_or(0),
        anonymous: found.get("Anonymous").unwrap_or(0) + found.get("Swap").unwrap_or(0),
    });
    Ok(areas.collect())
}
