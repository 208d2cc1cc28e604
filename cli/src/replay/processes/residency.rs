//! Which pages of files are in memory: an input that a recording tells only by its consequences.
//!
//! A read fault maps up to 16 neighbours that are in memory. Before each, the page cache gets as many pages of the window as the recorded step says:
//! first those that later fault for their protection, then those that nothing is known of, lowest first; those that later fault as absent never, unless
//! nothing else is left. Pages stay in memory once they were. Linux 6.12: mm/memory.c (`do_fault_around`).

use std::collections::BTreeMap;

use address_space::{Access, FileId, MmError, PAGE_SHIFT, PAGE_SIZE, Process, Vma};
use object_allocator::mmu::PageKind;
use page_allocator::Hooks;
use page_tables::ZapWhat;
use recordings::processes::Call;
use units::{VirtAddr, VirtRange, VmFlags};

use super::foresight::{Foresight, Later, Steps};
use super::space::{Host, Space};
use super::tasks::SpaceId;

/// Pages that a fault maps at most.
const AROUND: u64 = 16;
/// MADV_POPULATE_READ and MADV_POPULATE_WRITE.
const POPULATE_READ: u64 = 22;
const POPULATE_WRITE: u64 = 23;
/// MCL_CURRENT and MCL_ONFAULT.
const LOCK_CURRENT: u64 = 1;
const LOCK_ONFAULT: u64 = 4;
/// Bytes that one table of entries maps.
const TABLE_BYTES: u64 = 2 << 20;

/// What became of the pages around a fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Neighbours {
    /// The fault maps no neighbours, or those that were in memory are those of the recording.
    AsTheyWere,
    /// Pages came into memory.
    Entered,
    /// More are in memory than the recorded kernel mapped.
    TooMany,
}

/// A fault, and where it stands.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub(super) space: SpaceId,
    pub(super) line: u64,
    pub(super) addr: VirtAddr,
}

/// A page of the window that is not mapped.
struct Candidate {
    index: u64,
    is_fault: bool,
    is_resident: bool,
    later: Later,
}

/// Brings the pages into memory that the fault at `place` finds there.
pub(super) fn bring_in<'k, H: Hooks + Sync>(
    host: Host<'_, 'k, H>,
    process: &Process,
    space: &Space<'k>,
    place: Place,
    foresight: &Foresight,
) -> Result<Neighbours, MmError> {
    let area = space.read(host.cpu).lookup(place.addr);
    let Some((area, file)) = area.and_then(|area| Some((area, area.file?))) else { return Ok(Neighbours::AsTheyWere) };
    let candidates = candidates(host, process, space, (&area, file), place, foresight);
    let is_empty = candidates.iter().any(|candidate| candidate.is_fault);
    let more = foresight.after(place.line).more_of_files(space.rss());
    let Some(more) = more.filter(|_| is_empty) else { return Ok(Neighbours::AsTheyWere) };
    // The page of the fault itself is made if it is missing.
    let found = candidates.iter().filter(|candidate| candidate.is_resident || candidate.is_fault).count() as i64;
    if more < found {
        return Ok(Neighbours::TooMany);
    }
    let mut missing: Vec<_> =
        candidates.iter().filter(|candidate| !candidate.is_resident && !candidate.is_fault).collect();
    missing.sort_by_key(|candidate| (candidate.later, candidate.index));
    let wanted = usize::try_from(more - found).unwrap_or(0).min(missing.len());
    let files = host.manager.files(host.cpu, process);
    for candidate in missing.iter().take(wanted) {
        let page = files.page(file, candidate.index, Access::Read)?;
        files.put_page(page);
    }
    Ok(if wanted == 0 { Neighbours::AsTheyWere } else { Neighbours::Entered })
}

/// Takes pages of files out of an address space of which `steps` count fewer than there are, as when a file is cut off: from the first page of a file on that
/// later faults as absent, in all areas of the file.
pub(super) fn let_go<'k, H: Hooks + Sync>(
    host: Host<'_, 'k, H>,
    space: &Space<'k>,
    place: (SpaceId, u64),
    steps: &Steps,
    foresight: &Foresight,
) {
    let (id, line) = place;
    let tables = host.manager.tables(host.cpu, &space.mm);
    let mut mapped = Vec::new();
    for area in space.read(host.cpu).areas() {
        let Some(file) = area.file else { continue };
        tables.for_each_mapped(area.range, |page| {
            if page.page.is_some_and(|page| page.kind != PageKind::Anon) {
                mapped.push((file.raw(), area.pgoff_at(page.range.start), page.range));
            }
        });
    }
    let mut ends: BTreeMap<u64, u64> = BTreeMap::new();
    for (file, index, range) in &mapped {
        if foresight.later(id, range.start, line) == Later::Absent {
            let end = ends.entry(*file).or_insert(u64::MAX);
            *end = (*end).min(*index);
        }
    }
    let surplus = steps.more_of_files(space.rss()).map_or(0, |more| more.min(0).unsigned_abs());
    let gone = mapped.iter().filter(|(file, index, _)| ends.get(file).is_some_and(|end| index >= end));
    for (_, _, range) in gone.take(usize::try_from(surplus).unwrap_or(usize::MAX)) {
        tables.zap(&mut tables.gather(), *range, ZapWhat::NotAnon);
    }
}

/// Brings the pages of files into memory that a call is about to map: with it or by reading ahead they all come in.
pub(super) fn bring_in_populated<'k, H: Hooks + Sync>(
    space: &Space<'k>,
    host: Host<'_, 'k, H>,
    process: &Process,
    call: &Call,
) {
    let range = match *call {
        Call::Mlock { addr, len } | Call::Mlock2 { addr, len, flags: 0 } => (addr, len),
        Call::Madvise { addr, len, advice: POPULATE_READ | POPULATE_WRITE } => (addr, len),
        Call::Mlockall { flags } if flags & (LOCK_CURRENT | LOCK_ONFAULT) == LOCK_CURRENT => (0, u64::MAX),
        _ => return,
    };
    let range = VirtRange::new(VirtAddr::new(range.0), VirtAddr::new(range.0.saturating_add(range.1)));
    let areas: Vec<_> = space.read(host.cpu).areas().filter(|area| !area.flags.contains(VmFlags::PFNMAP)).collect();
    let files = host.manager.files(host.cpu, process);
    for area in areas {
        let (Some(file), part) = (area.file, area.range.intersection(range)) else { continue };
        let first = area.pgoff_at(part.start);
        for index in first..first + (part.len() >> PAGE_SHIFT) {
            // What lies behind the end is not brought in, here as there.
            let Ok(page) = files.page(file, index, Access::Read) else { break };
            files.put_page(page);
        }
    }
}

/// Returns the pages around a fault that are not mapped and in the file.
fn candidates<'k, H: Hooks + Sync>(
    host: Host<'_, 'k, H>,
    process: &Process,
    space: &Space<'k>,
    area: (&Vma, FileId),
    place: Place,
    foresight: &Foresight,
) -> Vec<Candidate> {
    let (area, file) = area;
    let fault = place.addr.align_down(PAGE_SIZE);
    let window = window(area.range, fault);
    let files = host.manager.files(host.cpu, process);
    let first = area.pgoff_at(window.start);
    let mut resident = vec![0; (window.len() >> PAGE_SHIFT) as usize];
    let in_file = files.stat(file).map_or(0, |stat| stat.size.div_ceil(PAGE_SIZE));
    // A file that is gone has no pages, which is what the zeros say.
    let _ = files.residency(file, first, &mut resident);
    let mut mapped = vec![false; resident.len()];
    host.manager.tables(host.cpu, &space.mm).for_each_mapped(window, |page| {
        if let Some(slot) = mapped.get_mut((page.range.start.since(window.start) >> PAGE_SHIFT) as usize) {
            *slot = true;
        }
    });
    let pages =
        (0..).zip(resident.iter().zip(&mapped)).filter(|(number, (_, mapped))| !**mapped && first + number < in_file);
    let candidates = pages.map(|(number, (resident, _))| {
        let virt = window.start.saturating_add(number << PAGE_SHIFT);
        Candidate {
            index: first + number,
            is_fault: virt == fault,
            is_resident: *resident != 0,
            later: foresight.later(place.space, virt, place.line),
        }
    });
    candidates.collect()
}

/// Returns the addresses that a read fault at the page `fault` looks at.
fn window(area: VirtRange, fault: VirtAddr) -> VirtRange {
    let start = fault.align_down(AROUND << PAGE_SHIFT).max(area.start);
    let table = VirtRange::with_len(fault.align_down(TABLE_BYTES), TABLE_BYTES);
    VirtRange::with_len(start, AROUND << PAGE_SHIFT).intersection(area).intersection(table)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pages(start: u64, end: u64, fault: u64) -> (u64, u64) {
        let addr = |page: u64| VirtAddr::new(page << PAGE_SHIFT);
        let window = window(VirtRange::new(addr(start), addr(end)), addr(fault));
        (window.start.raw() >> PAGE_SHIFT, window.end.raw() >> PAGE_SHIFT)
    }

    #[test]
    fn the_window_is_aligned_or_begins_with_the_area_and_ends_with_area_and_table() {
        assert_eq!(pages(0, 1000, 37), (32, 48));
        assert_eq!(pages(36, 1000, 37), (36, 52));
        assert_eq!(pages(0, 40, 37), (32, 40));
        assert_eq!(pages(500, 1000, 511), (500, 512));
    }
}
