//! What smaps and status of both sides tell, compared by what is the same in every run of a kernel.
//!
//! Left out: what depends on the neighbours that a read fault maps (Rss, Pss, clean and dirty pages of files), on reclaim (Referenced, LazyFree), and what a
//! process does by running to the areas that it had from the start.

use proc_files::parse::Status;

use super::maps::Smap;
use super::marks::WriteMarks;
use super::operation::{ARENA, ARENA_PAGES};
use address_space::PAGE_SIZE;
use units::VmFlags;

/// Fields of status that both sides must agree on.
pub(super) const FIELDS: [&str; 7] = ["VmSize", "VmLck", "VmPin", "VmData", "VmStk", "VmExe", "VmPTE"];

/// Returns true if an area was there from the start, or joined one that was.
pub(super) fn is_own(area: &Smap, first: &[Smap]) -> bool {
    first.iter().any(|own| own.line.start < area.line.end && area.line.start < own.line.end)
}

/// Returns the areas whose flags, sizes or anonymous pages differ; `first` are those that were there from the start.
pub(super) fn compare_areas(theirs: &[Smap], ours: &[Smap], first: &[Smap], marks: WriteMarks) -> String {
    let differing = theirs.iter().zip(ours).filter(|(theirs, ours)| {
        let is_own = is_own(theirs, first);
        // Linux takes the stack's mark when a program begins.
        let ignored = if is_own { VmFlags::SOFTDIRTY } else { marks.ignored() };
        let facts = |area: &Smap| (area.flags - ignored, area.size, area.huge, area.may_be_huge);
        facts(theirs) != facts(ours) || (theirs.anonymous != ours.anonymous && !is_own)
    });
    let side = |area: &Smap| {
        let (huge, may_be_huge) = (area.huge.unwrap_or(0), area.may_be_huge.unwrap_or(0));
        let size = area.size.unwrap_or(0);
        format!(
            "{:?}, {size} kB, {} kB anonymous, {huge} kB huge, THPeligible {may_be_huge}",
            area.flags, area.anonymous
        )
    };
    differing.map(|(t, o)| format!("  {}\n  host {}\n  ours {}\n", t.line, side(t), side(o))).collect()
}

/// Returns the fields of status that differ. Of resident pages ours must be the sum of `smaps`; the host's own are not all comparable.
pub(super) fn compare_status(theirs: &Status, ours: &Status, smaps: &[Smap]) -> String {
    let shown = |name: &str, theirs: Option<u64>, ours: Option<u64>| {
        if theirs == ours { String::new() } else { format!("  {name}: host {theirs:?}, ours {ours:?}\n") }
    };
    let mut differs: String =
        FIELDS.into_iter().map(|name| shown(name, theirs.number(name), ours.number(name))).collect();
    let anonymous = smaps.iter().map(|area| area.anonymous).sum();
    if ours.number("RssAnon") != Some(anonymous) {
        differs += &format!("  ours: RssAnon {:?}, sum of Anonymous {anonymous}\n", ours.number("RssAnon"));
    }
    differs
}

/// Returns the pages of the arena that may be read.
pub(super) fn readable_pages(areas: &[Smap]) -> Vec<u64> {
    let readable = areas.iter().filter(|area| area.line.perms.starts_with('r'));
    let end = ARENA + ARENA_PAGES * PAGE_SIZE;
    readable.flat_map(|area| (area.line.start.max(ARENA)..area.line.end.min(end)).step_by(PAGE_SIZE as usize)).collect()
}
