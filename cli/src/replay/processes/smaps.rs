//! /proc/PID/smaps of an address space of the replay.
//!
//! How many map a page counts the recorded processes only; others that ran shared the C library with them.
//! Linux 6.12: fs/proc/task_mmu.c (`smaps_account`).

use address_space::{PAGE_SIZE, Vma};
use object_allocator::mmu::PageKind;
use page_allocator::Hooks;
use platform::Prot;
use proc_files::maps::MapsLine;
use proc_files::parse::Smaps;
use proc_files::smaps::SmapsArea;
use proc_files::{Config, Profile, Release};
use units::VmFlags;

use super::space::{Host, Space};

/// Bits behind the point of a proportional share (Linux: PSS_SHIFT).
const SHARE_BITS: u32 = 12;

/// Pages of an area, in bytes; proportional shares with [`SHARE_BITS`] more bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct AreaPages {
    rss: u64,
    share: u64,
    dirty_share: u64,
    shared_clean: u64,
    shared_dirty: u64,
    private_clean: u64,
    private_dirty: u64,
    referenced: u64,
    anonymous: u64,
}

/// An area at an exit.
#[derive(Clone, Debug)]
pub(super) struct Area {
    /// Its line of maps.
    pub(super) line: MapsLine<String>,
    /// VmFlags.
    pub(super) flags: VmFlags,
    /// Its pages.
    pub(super) pages: AreaPages,
}

impl AreaPages {
    /// Counts the pages of an area.
    pub(super) fn of<'k, H: Hooks + Sync>(host: Host<'_, 'k, H>, space: &Space<'k>, area: &Vma) -> Self {
        let mut pages = Self::default();
        host.manager.tables(host.cpu, &space.mm).for_each_mapped(area.range, |page| {
            if let Some(facts) = page.page {
                pages.add(facts.kind, page.attributes.prot, page.mapcount());
            }
        });
        pages
    }

    fn add(&mut self, kind: PageKind, prot: Prot, mapcount: u64) {
        let share = (PAGE_SIZE << SHARE_BITS) / mapcount.max(1);
        // Nothing is written back here, so an anonymous page is dirty as long as it is mapped.
        let is_dirty = prot.contains(Prot::DIRTY) || kind == PageKind::Anon;
        self.rss += PAGE_SIZE;
        self.share += share;
        self.dirty_share += if is_dirty { share } else { 0 };
        self.anonymous += if kind == PageKind::Anon { PAGE_SIZE } else { 0 };
        self.referenced += if prot.contains(Prot::ACCESSED) { PAGE_SIZE } else { 0 };
        let counter = match (mapcount > 1, is_dirty) {
            (true, true) => &mut self.shared_dirty,
            (true, false) => &mut self.shared_clean,
            (false, true) => &mut self.private_dirty,
            (false, false) => &mut self.private_clean,
        };
        *counter += PAGE_SIZE;
    }
}

impl Area {
    /// Returns a value by the file's name for it, in kB.
    fn value(&self, name: &str) -> u64 {
        let pages = &self.pages;
        let bytes = match name {
            "Size" => self.line.range.len(),
            "KernelPageSize" | "MMUPageSize" => PAGE_SIZE,
            "Rss" => pages.rss,
            "Pss" => pages.share >> SHARE_BITS,
            "Pss_Dirty" => pages.dirty_share >> SHARE_BITS,
            "Shared_Clean" => pages.shared_clean,
            "Shared_Dirty" => pages.shared_dirty,
            "Private_Clean" => pages.private_clean,
            "Private_Dirty" => pages.private_dirty,
            "Referenced" => pages.referenced,
            "Anonymous" => pages.anonymous,
            "Locked" if self.flags.contains(VmFlags::LOCKED) => pages.share >> SHARE_BITS,
            _ => 0,
        };
        bytes >> 10
    }

    /// Returns the area as smaps of the recorded kernel has it.
    pub(super) fn text(&self) -> String {
        let profile = Profile::new(Release::V6_18, Config::default());
        let values = |name: &str| self.value(name);
        let (area, flags) = (&self.line, self.flags);
        SmapsArea { profile, area, values: &values, protection_key: None, flags }.to_string()
    }
}

/// Returns how many values were compared, and those that differ, in words: resident and anonymous pages of areas that both sides have.
pub(super) fn compare(ours: &[Area], recorded: &Smaps) -> (u64, Vec<String>) {
    let mut compared = 0;
    let mut differing = Vec::new();
    for theirs in recorded.areas() {
        let Some(ours) = ours.iter().find(|ours| ours.line.range == theirs.area.range) else { continue };
        for name in ["Rss", "Anonymous"] {
            let (Some(recorded), ours) = (theirs.get(name), ours.value(name)) else { continue };
            compared += 1;
            if recorded != ours {
                differing.push(format!("{}: {name}: Linux {recorded} kB, ours {ours} kB", theirs.area));
            }
        }
    }
    (compared, differing)
}

#[cfg(test)]
mod tests {
    use proc_files::parse::Maps;

    use super::*;

    fn area() -> Area {
        let maps = Maps::parse("1000-5000 rw-p 00000000 00:00 0 \n").unwrap();
        let mut pages = AreaPages::default();
        pages.add(PageKind::Anon, Prot::ACCESSED, 1);
        pages.add(PageKind::File, Prot::ACCESSED, 2);
        pages.add(PageKind::File, Prot::DIRTY, 3);
        Area { line: maps.areas().next().unwrap().clone(), flags: VmFlags::READ, pages }
    }

    #[test]
    fn a_page_counts_by_its_kind_its_marks_and_how_many_map_it() {
        let area = area();
        let values =
            ["Rss", "Pss", "Pss_Dirty", "Shared_Clean", "Shared_Dirty", "Private_Dirty", "Referenced", "Anonymous"];
        assert_eq!(values.map(|name| area.value(name)), [12, 7, 5, 4, 4, 4, 8, 4]);
    }

    #[test]
    fn the_text_is_one_that_the_parser_of_smaps_reads_and_compares_equal() {
        let area = area();
        let text = area.text();
        let parsed = Smaps::parse(&text).unwrap();
        assert_eq!((parsed.nr_verbatim(), compare(std::slice::from_ref(&area), &parsed)), (0, (2, Vec::new())));
        let other = Smaps::parse(&text.replace("Anonymous:             4 kB", "Anonymous:             8 kB")).unwrap();
        assert_eq!(compare(&[area], &other).1.len(), 1);
    }
}
