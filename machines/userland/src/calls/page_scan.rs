//! The ioctl of /proc/PID/pagemap that looks for pages by category.
//!
//! Linux 6.12: fs/proc/task_mmu.c (`do_pagemap_scan`, `pagemap_scan_get_args`), include/uapi/linux/fs.h (`struct pm_scan_arg`).

use kernel_mm::ScanStop;
use proc_files::page_scan::{PageCategories, PageFilter, PageRegion, PageScan};
use units::{VirtAddr, VirtRange};

use super::{Context, Outcome};
use crate::errno::Errno;
use crate::files::Subject;
use crate::machine::Machine;
use crate::memory::Memory;
use crate::user_memory::{CHUNK, PROGRAM_END};

/// PAGEMAP_SCAN: both ways, 96 bytes.
pub(super) const PAGEMAP_SCAN: u64 = 0xc060_6610;
/// Words of its argument, and which of them is where it stopped.
const WORDS: usize = 12;
const WALK_END: u64 = 4;
/// Words of a region.
const REGION_WORDS: usize = 3;
/// Regions that are gathered before they are written to the program.
const ROOM: usize = 64;
const WP_MATCHING: u64 = 1;
const CHECK_WPASYNC: u64 = 2;

/// What a program asks for.
#[derive(Clone, Copy, Debug)]
struct Request {
    flags: u64,
    range: VirtRange,
    /// Where the regions go, and how many fit.
    output: u64,
    room: u64,
    max_pages: u64,
    filter: PageFilter,
}

impl Request {
    /// Takes the words of the argument.
    ///
    /// # Errors
    /// EINVAL, EFAULT for addresses that no program has.
    fn try_new(words: [u64; WORDS]) -> Result<Self, Errno> {
        let [bytes, flags, start, end, _, output, room, max_pages, inverted, all, any, shown] = words;
        let is_known = flags & !(WP_MATCHING | CHECK_WPASYNC) == 0;
        if bytes != 8 * WORDS as u64 || !is_known {
            return Err(Errno::EINVAL);
        }
        let categories = |raw| PageCategories::from_bits(raw).ok_or(Errno::EINVAL);
        let (inverted, all) = (categories(inverted)?, categories(all)?);
        let filter = PageFilter { inverted, all, any: categories(any)?, shown: categories(shown)? };
        if !start.is_multiple_of(CHUNK as u64) {
            return Err(Errno::EINVAL);
        }
        check_range(start, end.wrapping_sub(start))?;
        if output == 0 && room > 0 {
            return Err(Errno::EINVAL);
        }
        if output != 0 {
            check_range(output, room.saturating_mul(8 * REGION_WORDS as u64))?;
        }
        let end = end.next_multiple_of(CHUNK as u64);
        let range = VirtRange::new(VirtAddr::new(start), VirtAddr::new(end));
        let max_pages = if max_pages == 0 { u64::MAX } else { max_pages };
        Ok(Self { flags, range, output, room, max_pages, filter })
    }
}

fn check_range(start: u64, bytes: u64) -> Result<(), Errno> {
    start.checked_add(bytes).filter(|&end| end <= PROGRAM_END).map(|_| ()).ok_or(Errno::EFAULT)
}

impl<M: Memory, D: Machine> Context<'_, M, D> {
    /// Looks for pages; returns how many regions were found, and tells where it stopped.
    pub(super) fn page_scan(&self, subject: Subject, argument: u64) -> Outcome {
        if self.world().sharer(subject.space).is_none() {
            return Err(Errno::ESRCH.into());
        }
        let request = Request::try_new(self.read_words(argument)?)?;
        let mut stopped = request.range.end;
        let found = self.scan_for(subject, &request, &mut stopped);
        self.write_words(argument.wrapping_add(8 * WALK_END), &[stopped.raw()])?;
        Ok(found?)
    }

    fn scan_for(&self, subject: Subject, request: &Request, stopped: &mut VirtAddr) -> Result<u64, Errno> {
        let memory = self.userland.memory();
        if request.flags != 0 {
            // Writes to no area are watched: that is an error, or all are passed over.
            let is_refused = request.flags & CHECK_WPASYNC != 0
                && self
                    .with_memory_of(
                        |world| world.sharer(subject.space),
                        |mm, _| memory.has_areas(self.cpu, mm, request.range),
                    )
                    .unwrap_or(false);
            return if is_refused { Err(Errno::EPERM) } else { Ok(0) };
        }
        let mut buffer = [PageRegion::default(); ROOM];
        let room = buffer.get_mut(..request.room.min(ROOM as u64) as usize).unwrap_or_default();
        let mut scan = PageScan::new(request.filter, CHUNK.trailing_zeros(), room, request.max_pages);
        let (mut at, mut found) = (request.range.start, 0);
        while at < request.range.end {
            let stop = self.with_memory_of(
                |world| world.sharer(subject.space),
                |mm, _| memory.scan_pages(self.cpu, mm, VirtRange::new(at, request.range.end), &mut scan),
            );
            match stop {
                None => break,
                Some(ScanStop::Reached(reached)) => at = reached,
                Some(ScanStop::Full(full)) => {
                    found += self.write_regions(request, found, scan.regions())?;
                    scan.clear((request.room - found) as usize);
                    at = full;
                    if found == request.room || scan.pages_left() == 0 {
                        *stopped = full;
                        return Ok(found);
                    }
                }
            }
        }
        Ok(found + self.write_regions(request, found, scan.regions())?)
    }

    /// Writes regions behind those before them; returns how many.
    fn write_regions(&self, request: &Request, before: u64, regions: &[PageRegion]) -> Result<u64, Errno> {
        let to = request.output.wrapping_add(before * 8 * REGION_WORDS as u64);
        for (region, index) in regions.iter().zip(0..) {
            let words = [region.start.raw(), region.end.raw(), region.categories.bits()];
            self.write_words(to + index * 8 * REGION_WORDS as u64, &words)?;
        }
        Ok(regions.len() as u64)
    }
}
