//! A range of the host's address space whose pages the host supplies when they are touched. Used by `memory`.
//!
//! Locking: none; the value describes the range and never reads or writes it.
//! Linux: mmap(2) with MAP_NORESERVE, madvise(2), /proc/self/smaps.

use std::fs;
use std::io;
use std::ops::Range;
use std::ptr::{self, NonNull};

use rustix::mm::{Advice, MapFlags, MprotectFlags, ProtFlags, madvise, mmap_anonymous, mprotect, munmap};

/// Alignment of the usable part, the size of a huge page of the host.
const ALIGN: usize = 2 << 20;

/// Which pages the host backs a reservation with.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum HostPages {
    /// The host's smallest pages: least memory in use.
    #[default]
    Small,
    /// Huge pages where the host has them: fewer misses of the host's TLB, more memory in use.
    Huge,
}

/// Reserved address space, zero-filled and writable, with a guard on both sides that faults.
///
/// # Invariants
/// `[start, start + len)` is readable and writable inside the mapping `[outer, outer + outer_len)`, which this value alone
/// unmaps. `start` is a multiple of [`ALIGN`].
#[derive(Debug)]
pub(crate) struct Reservation {
    outer: NonNull<u8>,
    outer_len: usize,
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: the value holds addresses only; the mapping belongs to the process, not to a thread.
unsafe impl Send for Reservation {}

// SAFETY: no method reads or writes the mapping through `&self` but `release`, whose caller owns the bytes.
unsafe impl Sync for Reservation {}

impl Reservation {
    /// Reserves `len` bytes, rounded up to the alignment.
    pub(crate) fn new(len: u64, pages: HostPages) -> io::Result<Self> {
        let len = usize::try_from(len)
            .ok()
            .and_then(|len| len.max(1).checked_next_multiple_of(ALIGN))
            .ok_or(io::ErrorKind::OutOfMemory)?;
        // The guards keep the host from merging neighbours into one mapping, which `resident_bytes` relies on.
        let outer_len = len.checked_add(3 * ALIGN).ok_or(io::ErrorKind::OutOfMemory)?;
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        // SAFETY: a mapping at an address of the host's choice replaces nothing.
        let outer = unsafe { mmap_anonymous(ptr::null_mut(), outer_len, ProtFlags::empty(), flags) }?;
        let outer = NonNull::new(outer.cast::<u8>()).ok_or(io::ErrorKind::OutOfMemory)?;
        let skip = ALIGN + outer.align_offset(ALIGN);
        // SAFETY: `skip < 2 * ALIGN`, so this and the `len` bytes after it are inside the mapping.
        let start = unsafe { outer.add(skip) };
        // INVARIANT: `start` was aligned above; it becomes writable below, and an error unmaps on drop.
        let reservation = Self { outer, outer_len, start, len };
        // SAFETY: the range is inside the mapping that was just made, which nobody uses yet.
        unsafe { mprotect(start.as_ptr().cast(), len, MprotectFlags::READ | MprotectFlags::WRITE) }?;
        let advice = match pages {
            HostPages::Small => Advice::LinuxNoHugepage,
            HostPages::Huge => Advice::LinuxHugepage,
        };
        // A host without huge pages refuses the advice and has nothing to avoid, so its answer does not matter.
        // SAFETY: the advice changes how the range is backed, not what it holds.
        let _ = unsafe { madvise(start.as_ptr().cast(), len, advice) };
        Ok(reservation)
    }

    /// Returns the address of the first byte.
    #[inline]
    pub(crate) fn start(&self) -> *mut u8 {
        self.start.as_ptr()
    }

    /// Returns the address of byte `offset`, or `None` if `len` bytes from there are not all inside.
    #[inline]
    pub(crate) fn at(&self, offset: u64, len: u64) -> Option<NonNull<u8>> {
        let (offset, len) = (usize::try_from(offset).ok()?, usize::try_from(len).ok()?);
        if offset.checked_add(len)? > self.len {
            return None;
        }
        // SAFETY: `offset <= self.len`, so by the type invariant the result is inside the mapping or one past its end.
        Some(unsafe { self.start.add(offset) })
    }

    /// Gives the host's pages that lie wholly in `bytes` back; they read as zeros afterwards. Returns the bytes given back.
    ///
    /// # Safety
    /// Nobody relies on the contents of the range or accesses it during the call.
    pub(crate) unsafe fn release(&self, bytes: Range<u64>) -> io::Result<u64> {
        let page = rustix::param::page_size() as u64;
        let Some(first) = bytes.start.checked_next_multiple_of(page) else { return Ok(0) };
        let end = bytes.end - bytes.end % page;
        let Some(len) = end.checked_sub(first).filter(|&len| len > 0) else { return Ok(0) };
        let Some(start) = self.at(first, len) else { return Err(io::ErrorKind::InvalidInput.into()) };
        // SAFETY: `at` placed the range inside the mapping; its contents are the caller's to lose.
        unsafe { madvise(start.as_ptr().cast(), len as usize, Advice::LinuxDontNeed) }?;
        Ok(len)
    }

    /// Returns the bytes that the host has supplied so far, read from /proc/self/smaps.
    pub(crate) fn resident_bytes(&self) -> io::Result<u64> {
        let start = self.start.as_ptr().addr() as u64;
        resident_in(&fs::read_to_string("/proc/self/smaps")?, start..start + self.len as u64)
            .ok_or_else(|| io::Error::other("/proc/self/smaps does not list the reservation"))
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        // SAFETY: by the type invariant the mapping is this value's alone, and every user of its bytes borrows the value.
        let unmapped = unsafe { munmap(self.outer.as_ptr().cast(), self.outer_len) };
        debug_assert!(unmapped.is_ok(), "a reservation is one mapping made by mmap");
    }
}

/// Sums the resident sizes of the mappings inside `range`, or `None` if the text lists none.
fn resident_in(smaps: &str, range: Range<u64>) -> Option<u64> {
    let mut sum = None;
    let mut inside = false;
    for line in smaps.lines() {
        if let Some(mapping) = mapping_of(line) {
            inside = range.start <= mapping.start && mapping.end <= range.end;
        } else if inside && let Some(size) = line.strip_prefix("Rss:") {
            let kib: u64 = size.trim().strip_suffix("kB")?.trim().parse().ok()?;
            sum = Some(sum.unwrap_or(0) + kib * 1024);
        }
    }
    sum
}

/// Returns the addresses of a mapping's first line, or `None` for any other line.
fn mapping_of(line: &str) -> Option<Range<u64>> {
    let (start, end) = line.split(' ').next()?.split_once('-')?;
    Some(u64::from_str_radix(start, 16).ok()?..u64::from_str_radix(end, 16).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn touched_pages_become_resident_and_released_ones_read_as_zeros() {
        let reservation = Reservation::new(64 << 20, HostPages::Small).unwrap();
        assert_eq!(reservation.resident_bytes().unwrap(), 0);
        let byte = reservation.at(8192, 1).unwrap();
        // SAFETY: byte 8192 is inside, and the test is the only user.
        unsafe { byte.write(7) };
        assert_eq!(reservation.resident_bytes().unwrap(), 4096);
        // SAFETY: the test is the only user and expects zeros.
        assert_eq!(unsafe { reservation.release(8191..12289) }.unwrap(), 4096);
        assert_eq!(reservation.resident_bytes().unwrap(), 0);
        // SAFETY: as for the write.
        assert_eq!(unsafe { byte.read() }, 0);
    }

    #[test]
    fn a_partly_covered_host_page_is_kept() {
        let reservation = Reservation::new(1 << 20, HostPages::Small).unwrap();
        // SAFETY: the test is the only user.
        assert_eq!(unsafe { reservation.release(1..4096) }.unwrap(), 0);
    }

    #[test]
    fn more_than_the_address_space_is_an_error() {
        assert!(Reservation::new(u64::MAX, HostPages::Small).is_err());
        assert!(Reservation::new(1 << 60, HostPages::Small).is_err());
    }

    #[test]
    fn only_mappings_inside_the_range_count() {
        let smaps = "1000-2000 rw-p 0 00:00 0\nRss:    4 kB\n2000-4000 rw-p 0 00:00 0 [x]\nRss:    8 kB\nVmFlags: rd\n";
        assert_eq!(resident_in(smaps, 0x2000..0x5000), Some(8192));
        assert_eq!(resident_in(smaps, 0x1000..0x5000), Some(12288));
        assert_eq!(resident_in(smaps, 0x5000..0x6000), None);
    }
}
