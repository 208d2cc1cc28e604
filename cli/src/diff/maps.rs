//! /proc/PID/maps and smaps of the host's process, read; and lines that both sides can be compared by.
//!
//! Inode and device are left out; files are named by what they are.

use std::collections::BTreeMap;
use std::fmt;

use address_space::VmFlags;

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

fn bad(line: &str, expected: &str) -> Failure {
    Failure::Host(format!("a line of maps: expected {expected}: {line}"))
}

/// Reads one line of maps; `files` has the names of inodes.
fn parse_line(line: &str, files: &BTreeMap<u64, String>) -> Result<MapLine, Failure> {
    let mut words = line.splitn(6, ' ');
    let mut word = |expected| words.next().ok_or_else(|| bad(line, expected));
    let (start, end) = word("addresses")?.split_once('-').ok_or_else(|| bad(line, "addresses"))?;
    let hex = |text| u64::from_str_radix(text, 16).map_err(|_| bad(line, "a hexadecimal number"));
    let perms = word("permissions")?.to_owned();
    let offset = hex(word("an offset")?)?;
    word("a device")?;
    let inode: u64 = word("an inode")?.parse().map_err(|_| bad(line, "an inode"))?;
    let name = words.next().unwrap_or_default().trim();
    let what = match files.get(&inode) {
        Some(file) => file.clone(),
        None if name == "/dev/zero (deleted)" => "shared".to_owned(),
        None => name.to_owned(),
    };
    Ok(MapLine { start: hex(start)?, end: hex(end)?, perms, offset, what })
}

/// Reads maps, without the page of vsyscall, which no call reaches.
pub(super) fn parse(text: &str, files: &BTreeMap<u64, String>) -> Result<Vec<MapLine>, Failure> {
    text.lines().filter(|line| !line.ends_with("[vsyscall]")).map(|line| parse_line(line, files)).collect()
}

/// An area as smaps tells of it.
pub(super) struct Smap {
    /// The line that it begins with.
    pub(super) line: MapLine,
    /// VmFlags.
    pub(super) flags: VmFlags,
    /// Anonymous pages are in it.
    pub(super) has_anon: bool,
}

/// Reads smaps, without the page of vsyscall.
pub(super) fn parse_smaps(text: &str, files: &BTreeMap<u64, String>) -> Result<Vec<Smap>, Failure> {
    let mut areas: Vec<Smap> = Vec::new();
    for line in text.lines() {
        let first = line.split(' ').next().unwrap_or_default();
        if !first.ends_with(':') {
            areas.push(Smap { line: parse_line(line, files)?, flags: VmFlags::empty(), has_anon: false });
            continue;
        }
        let Some(area) = areas.last_mut() else { return Err(bad(line, "an area before its fields")) };
        match first {
            "VmFlags:" => area.flags = line.split_whitespace().skip(1).filter_map(flag).collect(),
            "Anonymous:" => area.has_anon = line.split_whitespace().nth(1) != Some("0"),
            _ => {}
        }
    }
    areas.retain(|area| area.line.what != "[vsyscall]");
    Ok(areas)
}

/// Linux 6.12: fs/proc/task_mmu.c (`show_smap_vma_flags`). Flags that are not here change nothing that is compared.
fn flag(name: &str) -> Option<VmFlags> {
    Some(match name {
        "rd" => VmFlags::READ,
        "wr" => VmFlags::WRITE,
        "ex" => VmFlags::EXEC,
        "sh" => VmFlags::SHARED,
        "mr" => VmFlags::MAYREAD,
        "mw" => VmFlags::MAYWRITE,
        "me" => VmFlags::MAYEXEC,
        "ms" => VmFlags::MAYSHARE,
        "gd" => VmFlags::GROWSDOWN,
        "pf" => VmFlags::PFNMAP,
        "lo" => VmFlags::LOCKED,
        "io" => VmFlags::IO,
        "sr" => VmFlags::SEQ_READ,
        "rr" => VmFlags::RAND_READ,
        "dc" => VmFlags::DONTCOPY,
        "de" => VmFlags::DONTEXPAND,
        "lf" => VmFlags::LOCKONFAULT,
        "ac" => VmFlags::ACCOUNT,
        "nr" => VmFlags::NORESERVE,
        "sf" => VmFlags::SYNC,
        "wf" => VmFlags::WIPEONFORK,
        "dd" => VmFlags::DONTDUMP,
        "mm" => VmFlags::MIXEDMAP,
        "hg" => VmFlags::HUGEPAGE,
        "nh" => VmFlags::NOHUGEPAGE,
        "mg" => VmFlags::MERGEABLE,
        "dp" => VmFlags::DROPPABLE,
        "sl" => VmFlags::SEALED,
        _ => return None,
    })
}
