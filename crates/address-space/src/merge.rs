//! When neighbouring areas become one.
//!
//! A range joins a neighbour that has the same properties, continues its file offsets and whose anonymous pages can
//! share a reverse map. Two ways: a range that has no area yet ([`Call::merge_new`]), and a part of an area that changes ([`Call::modify`]).
//! Linux 6.12: mm/vma.c (`is_mergeable_vma`, `can_vma_merge_before`, `can_vma_merge_after`, `vma_merge_new_range`,
//! `vma_merge_existing_range`, `vma_modify`).

use collections::range_tree::{Around, Entry};
use page_allocator::Hooks;
use platform::Platform;
use units::{VirtAddr, VirtRange, VmFlags};

use crate::backing::{PageTables, Pager};
use crate::call::Call;
use crate::error::MmError;
use crate::limits::Release;
use crate::vma::{Among, AnonVma, Area, PAGE_SHIFT, Slot, Vma};

/// Which neighbours a range joins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Joins {
    /// None: it stays or becomes an area of its own.
    Neither,
    /// The one before.
    Before,
    /// The one behind.
    Behind,
    /// Both, and all three become one.
    Both,
}

/// Properties that must be equal (Linux: `is_mergeable_vma`). That one was written to is none.
fn is_alike(one: &Vma, other: &Vma) -> bool {
    let same_flags = one.flags - VmFlags::SOFTDIRTY == other.flags - VmFlags::SOFTDIRTY;
    same_flags && one.file == other.file && one.uffd == other.uffd && one.name == other.name
}

/// Returns true if the anonymous pages of `range` can share the reverse map of `neighbour` (Linux: `is_mergeable_anon_vma`).
///
/// An area whose chain holds a parent's anon_vma is left alone, so that reverse maps of families of processes do not grow into each other.
fn is_anon_compatible(release: Release, range: &Vma, neighbour: &Vma) -> bool {
    let same = range.anon.map(|anon| anon.id) == neighbour.anon.map(|anon| anon.id);
    match (range.anon, neighbour.anon) {
        (Some(_), Some(_)) | (None, None) => same,
        (None, Some(_)) => neighbour.has_one_anon_vma(),
        // Before 6.16 the chain of the neighbour was asked, which is empty.
        (Some(_), None) => release >= Release::V6_18 && range.has_one_anon_vma(),
    }
}

/// Decides which neighbours `range` joins; `before` and `behind` are the areas that touch it, where it may join at all.
pub(crate) fn joins(release: Release, range: &Vma, before: Option<&Vma>, behind: Option<&Vma>) -> Joins {
    if range.flags.intersects(VmFlags::SPECIAL) {
        return Joins::Neither;
    }
    let before = before.filter(|before| {
        before.end() == range.start()
            && is_alike(before, range)
            && is_anon_compatible(release, range, before)
            && before.pgoff.wrapping_add(before.nr_pages()) == range.pgoff
    });
    let behind = behind.filter(|behind| {
        range.end() == behind.start()
            && is_alike(behind, range)
            && is_anon_compatible(release, range, behind)
            && range.pgoff.wrapping_add(range.nr_pages()) == behind.pgoff
    });
    match (before, behind) {
        (None, None) => Joins::Neither,
        (Some(_), None) => Joins::Before,
        (None, Some(_)) => Joins::Behind,
        // Each fits the range, which does not mean that they fit each other.
        (Some(before), Some(behind)) => match (before.anon, behind.anon) {
            (Some(one), Some(other)) if one.id != other.id => Joins::Before,
            _ => Joins::Both,
        },
    }
}

/// The anonymous pages of areas that become one: the first that has any.
fn joined_anon(of: [Option<AnonVma>; 3]) -> Option<AnonVma> {
    of.into_iter().flatten().next()
}

/// Returns the area before `at` if it ends there. Others are not looked at.
fn touching_before<'k>(before: Option<Entry<Slot<'k>>>, at: VirtAddr) -> Option<Area<'k>> {
    before.filter(|before| before.range.end == at).map(|before| Area::at(before.value))
}

/// Returns the area behind `at` if it begins there.
fn touching_behind<'k>(behind: Option<Entry<Slot<'k>>>, at: VirtAddr) -> Option<Area<'k>> {
    behind.filter(|behind| behind.range.start == at).map(|behind| Area::at(behind.value))
}

impl<'k, P: Platform, H: Hooks, B: PageTables + Pager> Call<'_, 'k, P, H, B> {
    /// Extends a neighbour over `range`, which has no area and lies as `around` says, and returns it as it is then; `None` if no neighbour fits. The whole counts as written to if the neighbour or
    /// `range` does (Linux: `mmap_region` sets VM_SOFTDIRTY on what it extended).
    pub(crate) fn merge_new(&mut self, range: &Vma, around: &Around<'_, Slot<'k>>) -> Option<Vma> {
        debug_assert!(around.first.is_none(), "a range that is new has no area");
        let before = touching_before(around.before, range.start());
        let behind = touching_behind(around.behind, range.end());
        match self.joins(range, before.as_ref(), behind.as_ref()) {
            Joins::Neither => None,
            Joins::Before => before.map(|before| self.grow_up(&before, range, before.vma.flags | range.flags, |_| ())),
            Joins::Behind => {
                behind.map(|behind| self.grow_down(&behind, range, behind.vma.flags | range.flags, |_| ()))
            }
            Joins::Both => before.zip(behind).map(|(before, behind)| {
                let anon = joined_anon([before.vma.anon, behind.vma.anon, range.anon]);
                let flags = before.vma.flags | range.flags;
                let whole = Vma { range: before.vma.range.joined(behind.vma.range), flags, anon, ..before.vma };
                self.join_areas(around, &before, &whole, &[&behind]);
                whole
            }),
        }
    }

    fn joins(&self, range: &Vma, before: Option<&Area<'k>>, behind: Option<&Area<'k>>) -> Joins {
        joins(self.spaces.settings.release, range, before.map(|area| &area.vma), behind.map(|area| &area.vma))
    }

    /// As [`Call::merge_new`], but only with the area before, and not with one that ends at `lowest` or below (Linux: `vma_prev_limit`,
    /// `VMG_FLAG_JUST_EXPAND`, for the heap).
    pub(crate) fn merge_new_before(&mut self, range: &Vma, lowest: VirtAddr) -> Option<Vma> {
        let before = self.mm.area_before(range.start()).filter(|before| before.vma.end() > lowest);
        let fits = self.joins(range, before.as_ref(), None) == Joins::Before;
        before.filter(|_| fits).map(|before| self.grow_up(&before, range, before.vma.flags | range.flags, |_| ()))
    }

    fn grow_up(&mut self, area: &Area<'k>, range: &Vma, flags: VmFlags, make_room: impl FnOnce(&mut Self)) -> Vma {
        let before = &area.vma;
        let anon = joined_anon([before.anon, range.anon, None]);
        let whole = Vma { range: before.range.joined(range.range), flags, anon, ..*before };
        self.rewrite(area, &whole, make_room);
        whole
    }

    fn grow_down(&mut self, area: &Area<'k>, range: &Vma, flags: VmFlags, make_room: impl FnOnce(&mut Self)) -> Vma {
        let behind = &area.vma;
        let anon = joined_anon([behind.anon, range.anon, None]);
        let whole = Vma { range: behind.range.joined(range.range), flags, pgoff: range.pgoff, anon, ..*behind };
        self.rewrite(area, &whole, make_room);
        whole
    }

    /// Makes `range`, a part of `vma` or all of it, an area with what `changed` says, joined with its neighbours or split off
    /// (Linux: `vma_modify`). Returns the area that holds it then, which counts as written to if the range did: its flags are set as a whole.
    ///
    /// The area has the changed properties in the tree already. Counts nothing.
    ///
    /// # Errors
    /// [`MmError::NoMemory`]; the range is as before then, perhaps split off.
    pub(crate) fn modify(&mut self, vma: &Vma, range: VirtRange, changed: &Vma) -> Result<Vma, MmError> {
        let found = self.mm.among(vma.range).filter(|found| found.area.vma.start() == vma.start());
        self.modify_area(&found.ok_or(MmError::NoMemory)?, range, changed)
    }

    /// As [`Call::modify`], of an area that was found by `range` or more.
    pub(crate) fn modify_area(
        &mut self,
        found: &Among<'_, 'k>,
        range: VirtRange,
        changed: &Vma,
    ) -> Result<Vma, MmError> {
        let area = &found.area;
        let vma = &area.vma;
        let part = Vma { flags: changed.flags, uffd: changed.uffd, name: changed.name, ..vma.part(range) };
        self.mm.start_write(&area.slot);
        let before = if range.start == vma.start() { touching_before(found.around.before, range.start) } else { None };
        let behind = if range.end == vma.end() { touching_behind(found.around.behind, range.end) } else { None };
        match self.joins(&part, before.as_ref(), behind.as_ref()) {
            Joins::Neither => {}
            Joins::Before => {
                if let Some(before) = before {
                    let rest = VirtRange::new(range.end, vma.end());
                    self.split_page_at(rest, range.end);
                    return Ok(self.grow_up(&before, &part, part.flags, |call| call.shrink_to(area, rest)));
                }
            }
            Joins::Behind => {
                if let Some(behind) = behind {
                    let rest = VirtRange::new(vma.start(), range.start);
                    self.split_page_at(rest, range.start);
                    return Ok(self.grow_down(&behind, &part, part.flags, |call| call.shrink_to(area, rest)));
                }
            }
            Joins::Both => {
                if let (Some(before), Some(behind)) = (before, behind) {
                    let anon = joined_anon([before.vma.anon, behind.vma.anon, part.anon]);
                    let whole = before.vma.range.joined(behind.vma.range);
                    let whole = Vma { range: whole, flags: part.flags, anon, ..before.vma };
                    self.join_areas(&found.around, &before, &whole, &[area, &behind]);
                    return Ok(whole);
                }
            }
        }
        self.split_off(found, &part)?;
        Ok(part)
    }

    /// Splits a large page across `at`, where `rest` of an area begins or ends from now on, before another area reaches there (Linux: `vma_adjust_trans_huge`).
    fn split_page_at(&mut self, rest: VirtRange, at: VirtAddr) {
        if !rest.is_empty() {
            self.backing.split_at(at);
        }
    }

    /// Leaves of an area only `rest`, at one of its ends; nothing of it if that is empty.
    fn shrink_to(&mut self, area: &Area<'k>, rest: VirtRange) {
        if rest.is_empty() {
            self.take_out(area);
        } else {
            self.rewrite(area, &area.vma.part(rest), |_| ());
        }
    }

    /// Makes a part of an area, or all of it, an area of its own that is as `part` says.
    pub(crate) fn split_off(&mut self, found: &Among<'_, 'k>, part: &Vma) -> Result<(), MmError> {
        let mut area = found.area;
        self.mm.start_write(&area.slot);
        let is_inside = area.vma.start() < part.start() && part.end() < area.vma.end();
        if is_inside && self.split_out(found, part) {
            return Ok(());
        }
        if area.vma.start() < part.start() {
            area = self.split(&area, part.start())?;
        }
        if part.end() < area.vma.end() {
            self.split(&area, part.end())?;
            area.vma = area.vma.part(part.range);
        }
        self.store_in(&area, part);
        Ok(())
    }

    /// Returns the page number of an address.
    pub(crate) const fn page_of(addr: VirtAddr) -> u64 {
        addr.raw() >> PAGE_SHIFT
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vma::{AnonVmaId, PAGE_SIZE};

    fn area(first: u64, nr_pages: u64) -> Vma {
        let start = VirtAddr::new(first * PAGE_SIZE);
        Vma {
            range: VirtRange::with_len(start, nr_pages * PAGE_SIZE),
            flags: VmFlags::READ | VmFlags::WRITE,
            pgoff: first,
            file: None,
            anon: None,
            uffd: 0,
            name: None,
        }
    }

    fn anon(id: u64, links: u32) -> Option<AnonVma> {
        AnonVmaId::new(id).map(|id| AnonVma { id, root: id, links })
    }

    /// Decides for a range between two areas with these anonymous pages, by the rules of 6.12 and of 6.18.
    fn between(low: Option<AnonVma>, range: Option<AnonVma>, high: Option<AnonVma>) -> [Joins; 2] {
        let (low, high) = (Vma { anon: low, ..area(0, 2) }, Vma { anon: high, ..area(3, 2) });
        let range = Vma { anon: range, ..area(2, 1) };
        [Release::V6_12, Release::V6_18].map(|release| joins(release, &range, Some(&low), Some(&high)))
    }

    #[test]
    fn anonymous_pages_decide_who_becomes_one() {
        let (one, other, inherited) = (anon(1, 1), anon(2, 1), anon(3, 2));
        let table = [
            (None, None, None, [Joins::Both, Joins::Both]),
            (one, None, None, [Joins::Both, Joins::Both]),
            (None, None, one, [Joins::Both, Joins::Both]),
            (one, None, one, [Joins::Both, Joins::Both]),
            (one, None, other, [Joins::Before, Joins::Before]),
            (inherited, None, None, [Joins::Behind, Joins::Behind]),
            (inherited, None, inherited, [Joins::Neither, Joins::Neither]),
            (inherited, inherited, inherited, [Joins::Both, Joins::Both]),
            (None, one, None, [Joins::Neither, Joins::Both]),
            (None, inherited, None, [Joins::Neither, Joins::Neither]),
            (one, one, None, [Joins::Before, Joins::Both]),
            (one, other, None, [Joins::Neither, Joins::Behind]),
        ];
        for (low, range, high, expected) in table {
            assert_eq!(between(low, range, high), expected, "{low:?} {range:?} {high:?}");
        }
    }

    #[test]
    fn only_areas_alike_in_all_things_become_one() {
        let low = area(0, 2);
        let range = area(2, 1);
        let decide = |range: Vma| joins(Release::V6_12, &range, Some(&low), None);
        assert_eq!(decide(range), Joins::Before);
        assert_eq!(decide(Vma { flags: range.flags | VmFlags::EXEC, ..range }), Joins::Neither);
        assert_eq!(decide(Vma { flags: range.flags | VmFlags::SOFTDIRTY, ..range }), Joins::Before);
        assert_eq!(decide(Vma { pgoff: 3, ..range }), Joins::Neither);
        assert_eq!(decide(Vma { uffd: 1, ..range }), Joins::Neither);
        assert_eq!(decide(Vma { file: crate::FileId::new(1), ..range }), Joins::Neither);
        assert_eq!(decide(Vma { name: crate::AreaName::from_raw(1), ..range }), Joins::Neither);
        assert_eq!(decide(area(4, 1)), Joins::Neither);
    }

    #[test]
    fn special_areas_stay_alone() {
        let special = |vma: Vma| Vma { flags: vma.flags | VmFlags::PFNMAP, ..vma };
        assert_eq!(joins(Release::V6_12, &special(area(2, 1)), Some(&special(area(0, 2))), None), Joins::Neither);
    }
}
