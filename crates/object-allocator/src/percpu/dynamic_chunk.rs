//! Chunks made of pages of the machine: their metadata, and their end.
//!
//! Linux 6.12: `pcpu_alloc_chunk`, `pcpu_free_chunk`, `pcpu_create_chunk`, `pcpu_destroy_chunk`.

use core::ptr::NonNull;
use core::sync::atomic::{AtomicPtr, AtomicU64};

use collections::BootSlice;
use page_allocator::{AllocError, Hooks, PageAllocator};
use platform::Platform;
use sync::Cpu;
use units::{Gfp, PfnRange};

use super::MAX_AREA;
use super::area_map::{AreaMap, MapRoom, PageHint};
use super::bits;
use super::chunk::{Chunk, ChunkKind, ChunkRoom, PageStates, Pages};
use super::population::{Claim, give_frames, take_frames};
use super::row::Rows;

/// Most bytes of a unit: its maps are contiguous, and should not need a block that is hard to get.
const MAX_UNIT: usize = 256 << 10;

/// Most entries of a chunk's tables of pages: with many CPUs a chunk has fewer pages, so that its metadata stay small.
const MAX_ROW_ENTRIES: usize = 4096;

/// Tables are aligned to cache lines.
const TABLE_ALIGN: usize = 64;

/// What a chunk's metadata are made for.
#[derive(Clone, Copy, Debug)]
struct Dimensions {
    pages: usize,
    nr_cpus: u16,
    page_shift: u32,
}

impl Dimensions {
    fn new(unit: usize, nr_cpus: usize, page_shift: u32) -> Self {
        let least = MAX_AREA.div_ceil(1 << page_shift);
        let most = (MAX_ROW_ENTRIES / nr_cpus.max(1)).max(least);
        // CPU numbers have 16 bits.
        let nr_cpus = u16::try_from(nr_cpus).unwrap_or(u16::MAX);
        Self { pages: (unit >> page_shift).clamp(least, most), nr_cpus, page_shift }
    }

    const fn entries(&self) -> usize {
        self.pages * self.nr_cpus as usize
    }

    const fn map_words(&self) -> usize {
        AreaMap::words(self.pages, self.page_shift)
    }

    /// Returns the bytes of all tables.
    const fn bytes(&self) -> usize {
        table_bytes::<Chunk>(1)
            + table_bytes::<AtomicPtr<u8>>(self.entries())
            + table_bytes::<AtomicU64>(self.entries())
            + 2 * table_bytes::<u64>(self.map_words())
            + table_bytes::<PageHint>(self.pages)
            + 3 * table_bytes::<u64>(bits::words(self.pages))
    }
}

const fn table_bytes<T>(len: usize) -> usize {
    (len * size_of::<T>()).next_multiple_of(TABLE_ALIGN)
}

/// Cuts tables from fresh memory.
///
/// # Invariants
/// `at` starts memory that nobody else uses, for all tables that are still to be cut; it is a multiple of [`TABLE_ALIGN`].
struct Cutter {
    at: NonNull<u8>,
}

impl Cutter {
    /// Cuts a table of `len` values.
    ///
    /// # Safety
    /// There is room for it.
    unsafe fn table<T>(&mut self, len: usize, init: impl FnMut(usize) -> T) -> BootSlice<T> {
        let start = self.at.cast::<T>();
        // SAFETY: the caller's contract.
        self.at = unsafe { self.at.add(table_bytes::<T>(len)) };
        // SAFETY: by the type invariant the memory is nobody else's; cache lines are aligned for every type used here.
        unsafe { BootSlice::init_raw(start, len, init) }
    }

    /// Cuts a table that is reached by its address.
    ///
    /// # Safety
    /// There is room for it.
    unsafe fn raw_table<T>(&mut self, len: usize, init: impl FnMut(usize) -> T) -> NonNull<T> {
        let start = self.at.cast::<T>();
        // SAFETY: the caller's contract.
        unsafe { self.table(len, init) };
        start
    }
}

/// Makes a chunk whose units are as large as those of the first chunk, `unit`, within bounds; without one as small as can be. No page is
/// populated.
///
/// # Errors
/// As `PageAllocator::alloc_request`.
pub(super) fn create<P: Platform, H: Hooks>(
    pages: &PageAllocator<P, H>,
    cpu: &Cpu,
    gfp: Gfp,
    unit: Option<usize>,
) -> Result<NonNull<Chunk>, AllocError> {
    let page_shift = pages.map().geometry.page_shift;
    let dimensions = Dimensions::new(unit.map_or(MAX_AREA, |unit| unit.min(MAX_UNIT)), pages.nr_cpus(), page_shift);
    let nr_pages = dimensions.bytes().div_ceil(1 << page_shift);
    let metadata = take_frames(pages, cpu, gfp, None, nr_pages)?;
    let Some(start) = pages.platform().direct_map(metadata.phys(page_shift)) else {
        give_frames(pages, cpu, metadata);
        return Err(AllocError::NoZone);
    };
    // SAFETY: the frames were just taken, are mapped, and are as long as the tables; pages are aligned.
    Ok(unsafe { lay_out(start, metadata, &dimensions) })
}

/// Puts an empty chunk with its tables into memory.
///
/// # Safety
/// `start` maps `metadata`, which nobody else uses and which has room for the tables.
unsafe fn lay_out(start: NonNull<u8>, metadata: PfnRange, dimensions: &Dimensions) -> NonNull<Chunk> {
    let place = start.cast::<Chunk>();
    // SAFETY: the chunk itself is the first of the tables.
    let at = unsafe { start.add(table_bytes::<Chunk>(1)) };
    // INVARIANT: the caller's contract; the tables are cut in the order and number of `Dimensions::bytes`.
    let mut cutter = Cutter { at };
    let entries = dimensions.entries();
    // SAFETY: as counted in `Dimensions::bytes`.
    let pointers = unsafe { cutter.raw_table(entries, |_| AtomicPtr::new(core::ptr::null_mut())) };
    // SAFETY: as counted in `Dimensions::bytes`.
    let frames = unsafe { cutter.raw_table(entries, |_| AtomicU64::new(u64::MAX)) };
    // SAFETY: as counted in `Dimensions::bytes`.
    let mut words = |len| unsafe { cutter.table(len, |_| 0) };
    let (taken, starts) = (words(dimensions.map_words()), words(dimensions.map_words()));
    let [populated, busy, joined] = [(); 3].map(|()| words(bits::words(dimensions.pages)));
    // SAFETY: as counted in `Dimensions::bytes`.
    let hints = unsafe { cutter.table(dimensions.pages, |_| PageHint::default()) };
    // SAFETY: the tables have an entry for each page and CPU, and lie in the chunk's own metadata.
    let rows = unsafe { Rows::new(pointers, Some(frames), dimensions.nr_cpus) };
    let map = AreaMap::new(MapRoom { taken, starts, hints }, dimensions.page_shift, 0, 0);
    let room = ChunkRoom { rows, states: PageStates { populated, busy, joined } };
    let chunk = Chunk::new(ChunkKind::Dynamic { metadata }, map, room, Pages::OnDemand);
    // SAFETY: the memory is the caller's, aligned and large enough.
    unsafe { place.write(chunk) };
    place
}

/// Gives a chunk's pages and metadata back.
///
/// # Safety
/// The chunk came from [`create`], is on no list, unused, and reached by nobody else.
pub(super) unsafe fn destroy<P: Platform, H: Hooks>(pages: &PageAllocator<P, H>, cpu: &Cpu, chunk: NonNull<Chunk>) {
    // SAFETY: the caller's contract.
    let found = unsafe { chunk.as_ref() };
    let ChunkKind::Dynamic { metadata } = found.kind else { return };
    // INVARIANT: the chunk is the caller's alone.
    let claim = Claim { chunk, rows: found.rows, pages: 0..found.map.pages() };
    claim.depopulate(pages, cpu);
    give_frames(pages, cpu, metadata);
}
