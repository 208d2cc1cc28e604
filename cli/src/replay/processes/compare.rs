//! Maps, flags and sizes of ours beside the recorded ones.
//!
//! What calls that are not recorded change is left out: names of anonymous areas (prctl), and whether a file's path was removed.

use std::collections::BTreeMap;

use address_space::{PAGE_SHIFT, VmCounters};
use proc_files::maps::MapsLine;
use proc_files::parse::{Maps, Smaps, SmapsArea};
use recordings::processes::Counts;
use units::VmFlags;

use super::opened::SHARED_ANONYMOUS;

/// Ending of the path of a file that was removed.
const DELETED: &str = " (deleted)";
/// Flags of smaps that the recorded kernel was built without (marks of writes), or that no call of a recording sets.
const NOT_COMPARED: VmFlags = VmFlags::SOFTDIRTY.union(VmFlags::UFFD);

/// Returns the lines that only one side has, in words.
pub(super) fn maps(ours: &Maps, recorded: &Maps) -> Vec<String> {
    let [ours, recorded] = [ours, recorded].map(|maps| maps.areas().collect::<Vec<_>>());
    let only_recorded = recorded.iter().filter(|line| !ours.iter().any(|other| same(other, line)));
    let only_ours = ours.iter().filter(|line| !recorded.iter().any(|other| same(line, other)));
    let described =
        only_recorded.map(|line| format!("Linux {line}")).chain(only_ours.map(|line| format!("ours  {line}")));
    described.collect()
}

fn same(ours: &MapsLine<String>, recorded: &MapsLine<String>) -> bool {
    ours.range == recorded.range
        && ours.permissions == recorded.permissions
        && ours.offset == recorded.offset
        && (ours.name == recorded_name(&recorded.name) || recorded.name.strip_suffix(DELETED) == Some(&ours.name))
}

/// Returns the name of an area without what prctl gave it.
fn recorded_name(name: &str) -> &str {
    match name {
        _ if name.starts_with("[anon:") => "",
        _ if name.starts_with("[anon_shmem:") => SHARED_ANONYMOUS,
        _ => name,
    }
}

/// Returns how many areas both sides have at the same addresses, and those whose VmFlags differ, in words.
pub(super) fn flags(ours: &Smaps, recorded: &Smaps) -> (u64, Vec<String>) {
    let mut compared = 0;
    let mut differing = Vec::new();
    for (ours, theirs) in pairs(ours, recorded) {
        let [ours, recorded] = [ours.flags, theirs.flags].map(|flags| flags.unwrap_or_default() - NOT_COMPARED);
        compared += 1;
        if ours != recorded {
            differing.push(format!("{}: Linux {recorded}, ours {ours}", theirs.area));
        }
    }
    (compared, differing)
}

/// Returns how many values were compared, and those that differ, in words: resident, anonymous and huge pages of areas that both sides have.
pub(super) fn pages(ours: &Smaps, recorded: &Smaps) -> (u64, Vec<String>) {
    let mut compared = 0;
    let mut differing = Vec::new();
    for (ours, theirs) in pairs(ours, recorded) {
        for name in ["Rss", "Anonymous", "AnonHugePages"] {
            let (Some(recorded), Some(ours)) = (theirs.get(name), ours.get(name)) else { continue };
            compared += 1;
            if recorded != ours {
                differing.push(format!("{}: {name}: Linux {recorded} kB, ours {ours} kB", theirs.area));
            }
        }
    }
    (compared, differing)
}

/// Returns the areas that both sides have at the same addresses.
fn pairs<'s>(ours: &'s Smaps, recorded: &'s Smaps) -> impl Iterator<Item = (SmapsArea<'s>, SmapsArea<'s>)> {
    let ours: BTreeMap<_, _> = ours.areas().map(|area| (area.area.range.start, area)).collect();
    recorded.areas().filter_map(move |theirs| {
        let ours = ours.get(&theirs.area.range.start)?;
        (ours.area.range == theirs.area.range).then(|| (ours.clone(), theirs))
    })
}

/// Returns each size of /proc/PID/status that follows from areas: its name, ours and the recorded one in kB.
pub(super) fn sizes(ours: &VmCounters, recorded: &Counts) -> Vec<(&'static str, u64, u64)> {
    let code = recorded.get("VmExe").zip(recorded.get("VmLib")).map(|(program, libraries)| program + libraries);
    let rows = [
        ("VmSize", ours.total, recorded.get("VmSize")),
        ("VmLck", ours.locked, recorded.get("VmLck")),
        ("VmPin", ours.pinned, recorded.get("VmPin")),
        ("VmData", ours.data, recorded.get("VmData")),
        ("VmStk", ours.stack, recorded.get("VmStk")),
        ("VmExe+VmLib", ours.exec, code),
    ];
    let kb = |pages: u64| pages << (PAGE_SHIFT - 10);
    rows.into_iter().filter_map(|(name, pages, recorded)| Some((name, kb(pages), recorded?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Maps {
        Maps::parse(text).unwrap()
    }

    const OURS: &str = "1000-2000 rw-p 00000000 00:00 0 \n3000-4000 r--p 00001000 fe:00 7 /tmp/a\n";

    #[test]
    fn lines_that_one_side_lacks_are_told() {
        let recorded =
            Maps::parse("1000-2000 rw-p 00000000 00:00 0 \n3000-4000 r--p 00002000 fe:00 7 /tmp/a\n").unwrap();
        let differing = maps(&lines(OURS), &recorded);
        assert_eq!(differing.len(), 2, "{differing:?}");
        assert!(differing[0].starts_with("Linux 00003000-00004000 r--p 00002000"), "{differing:?}");
    }

    #[test]
    fn names_by_prctl_and_removed_files_are_no_differences() {
        let recorded =
            "1000-2000 rw-p 00000000 00:00 0 [anon:heap]\n3000-4000 r--p 00001000 fe:00 7 /tmp/a (deleted)\n";
        assert_eq!(maps(&lines(OURS), &Maps::parse(recorded).unwrap()), Vec::<String>::new());
    }

    #[test]
    fn other_flags_and_pages_of_the_same_area_are_told() {
        let area = |rss: u64, flags: &str| {
            Smaps::parse(&format!("1000-2000 rw-p 00000000 00:00 0 \nRss: {rss} kB\nVmFlags: {flags}\n")).unwrap()
        };
        let recorded = area(4, "rd wr mr sd");
        assert_eq!(super::flags(&area(4, "rd wr mr"), &recorded), (1, Vec::new()));
        assert_eq!(super::flags(&area(4, "rd"), &recorded).1.len(), 1);
        assert_eq!(super::pages(&area(4, "rd"), &recorded), (1, Vec::new()));
        assert_eq!(super::pages(&area(0, "rd"), &recorded).1.len(), 1);
    }
}
