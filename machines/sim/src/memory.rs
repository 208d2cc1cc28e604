//! The machine's physical memory: real bytes in a reserved, sparsely backed range of the host's address space.
//!
//! Used by `platform`. Physical address `a` is byte `a - origin` of one reservation that covers all memory, holes included, so
//! a machine of many terabytes costs only what is touched. The frame descriptors have a second reservation of their own.
//! Locking: none after creation, but for the list of ranges handed out.

use std::io;
use std::ptr::NonNull;
use std::sync::{Mutex, OnceLock, PoisonError};

use boot_memory::memblock::{Region, RegionMemory};
use collections::BootSlice;
use platform::PhysMemory;
use units::{Pfn, PhysAddr, PhysRange};

use crate::MachineError;
use crate::reservation::{HostPages, Reservation};

/// Boundary that a machine's memory starts at in its reservation, so that addresses keep their alignment up to this.
const ORIGIN_ALIGN: u64 = 2 << 20;

/// Where a hosted machine has memory, and how the host backs it.
#[derive(Clone, Debug, Default)]
pub struct MemoryLayout {
    /// Ranges of memory, in any order; the rest of the address space is holes.
    pub ram: Vec<PhysRange>,
    /// End of the memory that the kernel maps permanently; memory above is HighMem. `None` on machines without HighMem.
    pub direct_map_end: Option<PhysAddr>,
    /// Pages that back the memory itself.
    pub ram_pages: HostPages,
    /// Pages that back the frame descriptors.
    pub memmap_pages: HostPages,
}

/// Host memory that a machine takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct HostUse {
    /// Bytes behind the machine's memory.
    pub ram: u64,
    /// Bytes behind the frame descriptors.
    pub memmap: u64,
}

/// Memory of a hosted machine.
///
/// # Invariants
/// `ram` is sorted, without overlaps or touching ranges, and lies in `[origin, origin + backing)`.
#[derive(Debug)]
pub struct SimMemory {
    ram: Box<[PhysRange]>,
    direct_map_end: PhysAddr,
    origin: PhysAddr,
    backing: Reservation,
    memmap: OnceLock<Option<Reservation>>,
    memmap_pages: HostPages,
    /// Ranges that became region arrays, none overlapping another.
    region_arrays: Mutex<Vec<PhysRange>>,
}

impl SimMemory {
    /// Reserves the host's address space for `layout`. Takes no host memory beyond page tables.
    ///
    /// # Errors
    /// [`MachineError::NoMemory`], [`MachineError::Overlap`] or [`MachineError::AddressSpace`].
    pub fn new(layout: &MemoryLayout) -> Result<Self, MachineError> {
        let ram = merged(&layout.ram)?;
        let (Some(first), Some(last)) = (ram.first(), ram.last()) else { return Err(MachineError::NoMemory) };
        let origin = first.start.align_down(ORIGIN_ALIGN);
        let bytes = last.end.since(origin);
        let backing =
            Reservation::new(bytes, layout.ram_pages).map_err(|source| MachineError::AddressSpace { bytes, source })?;
        // INVARIANT: `merged` sorts and joins; the reservation reaches from below the first range to the end of the last.
        Ok(Self {
            direct_map_end: layout.direct_map_end.unwrap_or(PhysAddr::new(u64::MAX)),
            ram,
            origin,
            backing,
            memmap: OnceLock::new(),
            memmap_pages: layout.memmap_pages,
            region_arrays: Mutex::default(),
        })
    }

    /// Returns the ranges of memory in ascending order; ranges that touch are joined.
    pub fn ram(&self) -> &[PhysRange] {
        &self.ram
    }

    /// Returns true if every byte of `range` is memory. An empty range is none.
    pub fn is_memory(&self, range: PhysRange) -> bool {
        let after = self.ram.partition_point(|ram| ram.start <= range.start);
        let candidate = after.checked_sub(1).and_then(|index| self.ram.get(index));
        !range.is_empty() && candidate.is_some_and(|ram| range.end <= ram.end)
    }

    /// Gives the host's pages that lie wholly in `range` back to the host; they read as zeros afterwards.
    ///
    /// Returns the bytes given back: 0 if `range` is no memory.
    ///
    /// # Safety
    /// The caller owns the frames of `range` and nobody reads or writes them during the call.
    ///
    /// # Errors
    /// What madvise(2) said.
    pub unsafe fn release(&self, range: PhysRange) -> io::Result<u64> {
        if !self.is_memory(range) {
            return Ok(0);
        }
        let bytes = range.start.since(self.origin)..range.end.since(self.origin);
        // SAFETY: the caller owns the bytes, by this function's contract.
        unsafe { self.backing.release(bytes) }
    }

    /// Returns where the host has `range`, permanently mapped by the kernel or not; `None` if part of it is no memory.
    pub(crate) fn host(&self, range: PhysRange) -> Option<NonNull<u8>> {
        if self.is_memory(range) { self.backing.at(range.start.since(self.origin), range.len()) } else { None }
    }

    /// Returns the host memory in use.
    ///
    /// # Errors
    /// /proc/self/smaps cannot be read.
    pub fn host_use(&self) -> io::Result<HostUse> {
        let memmap = match self.memmap.get() {
            Some(Some(room)) => room.resident_bytes()?,
            _ => 0,
        };
        Ok(HostUse { ram: self.backing.resident_bytes()?, memmap })
    }
}

// SAFETY: `direct_map` and `memmap` point into reservations that live as long as `self`; distinct physical ranges are distinct
// bytes of one reservation, and the room of the descriptors is another one.
unsafe impl PhysMemory for SimMemory {
    fn direct_map(&self, range: PhysRange) -> Option<NonNull<u8>> {
        if range.end > self.direct_map_end { None } else { self.host(range) }
    }

    #[inline]
    fn direct_map_base(&self) -> *mut u8 {
        self.backing.start().wrapping_sub(self.origin.raw() as usize)
    }

    fn memmap(&self, _start: Pfn, bytes: u64) -> Option<NonNull<u8>> {
        let mut first_call = false;
        let memmap = self.memmap.get_or_init(|| {
            first_call = true;
            Reservation::new(bytes, self.memmap_pages).ok()
        });
        // A second caller would share the first one's bytes.
        memmap.as_ref().filter(|_| first_call)?.at(0, bytes)
    }

    fn populate_memmap(&self, offset: u64, backing: PhysRange) -> bool {
        // The host supplies the room's pages itself, so `backing` stays untouched and costs nothing. Before the room exists there
        // is nothing to compare with.
        let fits = match self.memmap.get() {
            Some(room) => room.as_ref().is_some_and(|room| room.at(offset, backing.len()).is_some()),
            None => true,
        };
        fits && self.is_memory(backing)
    }
}

/// A range becomes an array once in the machine's life: one that shares bytes with an earlier array is refused, even if memblock
/// gave that one up since, because its slice may still exist.
impl RegionMemory for SimMemory {
    fn region_slice(&self, at: PhysRange) -> Option<BootSlice<Region>> {
        let start = self.direct_map(at)?.cast::<Region>();
        let len = usize::try_from(at.len()).ok()? / size_of::<Region>();
        if !start.is_aligned() {
            return None;
        }
        // The list is whole after a panic elsewhere: nothing panics while it is held.
        let mut arrays = self.region_arrays.lock().unwrap_or_else(PoisonError::into_inner);
        if arrays.iter().any(|array| array.overlaps(at)) {
            return None;
        }
        arrays.push(at);
        // SAFETY: the room is aligned, mapped as long as the machine lives, set aside by memblock for this array and, by the list
        // above, in no other array.
        Some(unsafe { BootSlice::init_raw(start, len, |_| Region::default()) })
    }
}

/// Sorts `ranges` and joins those that touch.
fn merged(ranges: &[PhysRange]) -> Result<Box<[PhysRange]>, MachineError> {
    let mut sorted: Vec<PhysRange> = ranges.iter().copied().filter(|range| !range.is_empty()).collect();
    sorted.sort_unstable_by_key(|range| range.start);
    let mut joined: Vec<PhysRange> = Vec::with_capacity(sorted.len());
    for range in sorted {
        match joined.last_mut() {
            Some(last) if last.overlaps(range) => return Err(MachineError::Overlap(*last, range)),
            Some(last) if last.end == range.start => last.end = range.end,
            _ => joined.push(range),
        }
    }
    Ok(joined.into())
}

#[cfg(test)]
mod tests {
    use boot_memory::memblock::REGION_BYTES;

    use super::*;

    const MIB: u64 = 1 << 20;

    fn range(start: u64, end: u64) -> PhysRange {
        PhysRange::new(PhysAddr::new(start), PhysAddr::new(end))
    }

    fn pc() -> SimMemory {
        let layout = MemoryLayout {
            ram: vec![range(MIB, 512 * MIB), range(0, 640 << 10), range(4096 * MIB, 5120 * MIB)],
            ..MemoryLayout::default()
        };
        SimMemory::new(&layout).unwrap()
    }

    #[test]
    fn holes_and_ranges_that_leave_memory_are_not_mapped() {
        let memory = pc();
        assert!(memory.direct_map(range(0, 4096)).is_some());
        assert!(memory.direct_map(range(640 << 10, MIB)).is_none());
        assert!(memory.direct_map(range(511 * MIB, 513 * MIB)).is_none());
        assert!(memory.direct_map(range(6000 * MIB, 6001 * MIB)).is_none());
        assert!(memory.direct_map(range(MIB, MIB)).is_none());
    }

    #[test]
    fn physical_distance_is_host_distance() {
        let memory = pc();
        let low = memory.direct_map(range(MIB, 2 * MIB)).unwrap().as_ptr().addr();
        let high = memory.direct_map(range(4097 * MIB, 4098 * MIB)).unwrap().as_ptr().addr();
        assert_eq!(high - low, (4096 * MIB) as usize);
        assert_eq!(low % MIB as usize, 0);
    }

    #[test]
    fn high_memory_is_memory_without_a_mapping() {
        let layout = MemoryLayout {
            ram: vec![range(0, 1024 * MIB)],
            direct_map_end: Some(PhysAddr::new(896 * MIB)),
            ..MemoryLayout::default()
        };
        let memory = SimMemory::new(&layout).unwrap();
        assert!(memory.direct_map(range(895 * MIB, 896 * MIB)).is_some());
        assert!(memory.direct_map(range(895 * MIB, 897 * MIB)).is_none());
        assert!(memory.is_memory(range(900 * MIB, 901 * MIB)));
    }

    #[test]
    fn sixty_four_tebibytes_cost_no_host_memory() {
        let layout = MemoryLayout { ram: vec![range(0, 64 << 40)], ..MemoryLayout::default() };
        let memory = SimMemory::new(&layout).unwrap();
        let last = memory.direct_map(range((64 << 40) - 4096, 64 << 40)).unwrap();
        // SAFETY: the last page is memory, and the test is the only user.
        unsafe { last.write(1) };
        assert_eq!(memory.host_use().unwrap(), HostUse { ram: 4096, memmap: 0 });
    }

    #[test]
    fn the_descriptors_room_is_handed_out_once_and_zeroed() {
        let memory = pc();
        assert!(!memory.populate_memmap(0, range(640 << 10, MIB)));
        let room = memory.memmap(Pfn::ZERO, 40 * MIB).unwrap();
        assert_eq!(room.as_ptr().addr() % 64, 0);
        // SAFETY: the first byte of the room, whose only user is the test.
        assert_eq!(unsafe { room.read() }, 0);
        assert!(memory.memmap(Pfn::ZERO, 40 * MIB).is_none());
        assert!(memory.populate_memmap(38 * MIB, range(MIB, 3 * MIB)));
        assert!(!memory.populate_memmap(40 * MIB, range(MIB, 3 * MIB)));
    }

    #[test]
    fn impossible_layouts_are_refused() {
        let new = |ram: Vec<PhysRange>| SimMemory::new(&MemoryLayout { ram, ..MemoryLayout::default() });
        assert!(matches!(new(vec![]), Err(MachineError::NoMemory)));
        assert!(matches!(new(vec![range(4096, 4096)]), Err(MachineError::NoMemory)));
        assert!(matches!(new(vec![range(0, 8192), range(4096, 12288)]), Err(MachineError::Overlap(..))));
        assert!(matches!(new(vec![range(0, 1 << 60)]), Err(MachineError::AddressSpace { .. })));
    }

    #[test]
    fn released_frames_read_as_zeros() {
        let memory = pc();
        let page = memory.direct_map(range(MIB, MIB + 4096)).unwrap();
        // SAFETY: the page is memory, and the test is the only user.
        unsafe { page.write(9) };
        // SAFETY: the test is the only user.
        assert_eq!(unsafe { memory.release(range(MIB, MIB + 4096)) }.unwrap(), 4096);
        // SAFETY: as for the write.
        assert_eq!(unsafe { page.read() }, 0);
        // SAFETY: no memory, so nothing is touched.
        assert_eq!(unsafe { memory.release(range(640 << 10, MIB)) }.unwrap(), 0);
    }

    #[test]
    fn a_range_becomes_a_region_array_once() {
        let memory = pc();
        let array = memory.region_slice(range(MIB, MIB + 8192)).unwrap();
        assert_eq!(array.len() as u64, 8192 / REGION_BYTES);
        assert!(array.iter().all(|region| *region == Region::default()));
        assert!(memory.region_slice(range(MIB + 4096, MIB + 12288)).is_none());
        assert!(memory.region_slice(range(MIB + 8192, MIB + 12288)).is_some());
        assert!(memory.region_slice(range(640 << 10, MIB)).is_none());
    }
}
