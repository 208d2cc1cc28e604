//! The per-CPU allocator: finds an area in the fullest chunk that has room, makes chunks and takes areas back.
//!
//! Linux 6.12: `pcpu_alloc`, `free_percpu`, `pcpu_alloc_first_chunk`.

use core::fmt;
use core::sync::atomic::{AtomicBool, Ordering};

use page_allocator::{AllocError, Hooks, PageAllocator};
use platform::Platform;
use sync::{Cpu, SpinLock, rank};
use units::{CpuId, Gfp};

use super::area::{AreaLayout, PerCpu, PercpuArea};
use super::chunk::{Ended, MissingPages};
use super::chunk_list::Slot;
use super::chunks::{Balance, Chunks, Found, Part, Want};
use super::dynamic_chunk;
use super::first_chunk::FirstChunk;
use super::population::{Claim, page_flags};
use super::{EMPTY_POPULATED_LOW, MAX_AREA, MIN_ALLOC_SIZE};

/// Why there is no area. One variant per reaction of the caller.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PercpuError {
    /// No memory now; later it may work. An atomic request may work once [`PercpuAllocator::balance`] has run.
    OutOfMemory,
    /// The layout can never be served: more than [`MAX_AREA`] bytes or none, or an alignment that is no power of two or above a page.
    BadLayout(AreaLayout),
    /// The area came from another allocator, or is static.
    Foreign,
}

impl fmt::Display for PercpuError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfMemory => f.write_str("out of memory"),
            Self::BadLayout(AreaLayout { size, align }) => {
                write!(f, "no per-CPU area can have {size} bytes at a multiple of {align}")
            }
            Self::Foreign => f.write_str("the per-CPU area is none that this allocator handed out"),
        }
    }
}

impl core::error::Error for PercpuError {}

impl From<AllocError> for PercpuError {
    fn from(_: AllocError) -> Self {
        Self::OutOfMemory
    }
}

/// Per-CPU memory of a machine.
pub struct PercpuAllocator {
    pub(super) chunks: SpinLock<{ rank::PERCPU }, Chunks>,
    pub(super) first: Option<FirstChunk>,
    balance_wanted: AtomicBool,
}

impl fmt::Debug for PercpuAllocator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PercpuAllocator").field("first", &self.first).finish_non_exhaustive()
    }
}

impl Default for PercpuAllocator {
    fn default() -> Self {
        Self::new()
    }
}

impl PercpuAllocator {
    /// Makes an allocator without memory from boot: every chunk comes from pages.
    pub fn new() -> Self {
        Self { chunks: SpinLock::new(Chunks::new()), first: None, balance_wanted: AtomicBool::new(false) }
    }

    /// Makes an allocator that starts with the memory of boot.
    pub fn with_first_chunk(first: FirstChunk) -> Self {
        let mut chunks = Chunks::new();
        chunks.list_first(&first);
        Self { chunks: SpinLock::new(chunks), first: Some(first), balance_wanted: AtomicBool::new(false) }
    }

    /// Returns the static part of the first chunk, which the kernel's image fills; `None` without one.
    pub fn static_area(&self) -> Option<PercpuArea> {
        self.first.as_ref().and_then(FirstChunk::static_area)
    }

    /// Returns true if a request found no populated page or left too few, or pages can be given back: then
    /// [`PercpuAllocator::balance`] should run (Linux: pcpu_schedule_balance_work).
    pub fn wants_balance(&self) -> bool {
        // Relaxed: a hint; the balance itself takes the lock.
        self.balance_wanted.load(Ordering::Relaxed)
    }

    pub(super) fn note(&self, balance: Balance) {
        if balance == Balance::Wanted {
            // Relaxed: see `wants_balance`.
            self.balance_wanted.store(true, Ordering::Relaxed);
        }
    }

    pub(super) fn balance_starts(&self) {
        // Relaxed: see `wants_balance`. Cleared first, so that what comes up meanwhile is not forgotten.
        self.balance_wanted.store(false, Ordering::Relaxed);
    }

    /// Allocates an area of zeroed bytes (Linux: __alloc_percpu_gfp).
    ///
    /// Requests whose flags lack part of `Gfp::KERNEL` are atomic: they get memory that is populated already, or none.
    ///
    /// # Errors
    /// [`PercpuError`]; nothing is taken then.
    pub fn alloc<P: Platform, H: Hooks>(
        &self,
        pages: &PageAllocator<P, H>,
        cpu: &Cpu,
        layout: AreaLayout,
        gfp: Gfp,
    ) -> Result<PercpuArea, PercpuError> {
        let missing = if gfp.contains(Gfp::KERNEL) { MissingPages::Accept } else { MissingPages::Refuse };
        let want = want(layout, Part::Dynamic, missing, pages.map().geometry.page_shift)?;
        loop {
            match self.find(cpu, &want) {
                Some(found) => return self.finish(pages, cpu, found, page_flags(gfp)),
                None if missing == MissingPages::Refuse => {
                    self.note(Balance::Wanted);
                    return Err(PercpuError::OutOfMemory);
                }
                None => self.add_chunk(pages, cpu, page_flags(gfp))?,
            }
        }
    }

    /// Allocates a value for each CPU, made by `init(cpu)` (Linux: alloc_percpu_gfp).
    ///
    /// # Errors
    /// As [`PercpuAllocator::alloc`].
    pub fn alloc_values<'a, T: Send + Sync, P: Platform, H: Hooks>(
        &'a self,
        pages: &'a PageAllocator<P, H>,
        cpu: &Cpu,
        gfp: Gfp,
        init: impl FnMut(CpuId) -> T,
    ) -> Result<PerCpu<'a, T>, PercpuError> {
        let area = self.alloc(pages, cpu, AreaLayout::of::<T>(), gfp)?;
        // SAFETY: allocated for `T`; pages of the machine live as long as the page allocator, which is borrowed for `'a`.
        Ok(unsafe { PerCpu::init(area, self, init) })
    }

    /// Drops and frees what [`PercpuAllocator::alloc_values`] returned.
    ///
    /// # Errors
    /// [`PercpuError::Foreign`] if another allocator returned it; the values stay allocated there.
    pub fn free_values<T: Send + Sync>(&self, cpu: &Cpu, values: PerCpu<'_, T>) -> Result<(), PercpuError> {
        if !core::ptr::eq(values.home, self) {
            return Err(PercpuError::Foreign);
        }
        // SAFETY: the handle was the only way to the area, which this allocator handed out.
        unsafe { self.free(cpu, values.into_area()) }
    }

    /// Allocates an area of zeroed bytes from the part of the first chunk that is kept for modules (Linux: __alloc_reserved_percpu).
    ///
    /// # Errors
    /// As [`PercpuAllocator::alloc`].
    pub fn alloc_reserved(&self, cpu: &Cpu, layout: AreaLayout) -> Result<PercpuArea, PercpuError> {
        self.alloc_embedded(cpu, layout, Part::Reserved)
    }

    /// Allocates an area of zeroed bytes at boot, when there is no page allocator yet, from the first chunk.
    ///
    /// # Errors
    /// As [`PercpuAllocator::alloc`].
    pub fn alloc_early(&self, cpu: &Cpu, layout: AreaLayout) -> Result<PercpuArea, PercpuError> {
        self.alloc_embedded(cpu, layout, Part::Dynamic)
    }

    fn alloc_embedded(&self, cpu: &Cpu, layout: AreaLayout, part: Part) -> Result<PercpuArea, PercpuError> {
        let first = self.first.as_ref().ok_or(PercpuError::OutOfMemory)?;
        let want = want(layout, part, MissingPages::Refuse, first.page_shift())?;
        let found = self.find(cpu, &want).ok_or(PercpuError::OutOfMemory)?;
        zero(&found.area);
        Ok(found.area)
    }

    /// Takes an area from the first chunk where it fits, looking at the fullest chunks first.
    fn find(&self, cpu: &Cpu, want: &Want) -> Option<Found> {
        let mut chunks = self.chunks.lock(cpu);
        let slots = match want.part {
            Part::Reserved => Slot::RESERVED.through(Slot::RESERVED),
            Part::Dynamic => Slot::for_size(want.size).through(Slot::FREE),
        };
        for slot in slots {
            let mut at = chunks.lists.first(slot);
            while let Some(chunk) = at {
                // SAFETY: found on a list, and the lock is held since.
                if let Some(found) = unsafe { chunks.take_from(chunk, want) } {
                    if want.part == Part::Dynamic && chunks.nr_empty_populated < EMPTY_POPULATED_LOW {
                        self.note(Balance::Wanted);
                    }
                    return Some(found);
                }
                // SAFETY: as above; a chunk that gave nothing stayed where it was.
                at = unsafe { chunks.lists.next(chunk) };
            }
        }
        None
    }

    /// Populates what the area lacks and zeroes it.
    fn finish<P: Platform, H: Hooks>(
        &self,
        pages: &PageAllocator<P, H>,
        cpu: &Cpu,
        found: Found,
        gfp: Gfp,
    ) -> Result<PercpuArea, PercpuError> {
        let Found { area, claim } = found;
        if let Some(claim) = claim {
            let populated = claim.populate(pages, cpu, gfp);
            self.end_claim(cpu, claim, if populated.is_ok() { Ended::Populated } else { Ended::Missing });
            if let Err(error) = populated {
                // SAFETY: the area was just found here and has been handed to nobody.
                let freed = unsafe { self.free(cpu, area) };
                debug_assert!(freed.is_ok(), "an area that was just found is no static memory");
                return Err(error.into());
            }
        }
        zero(&area);
        Ok(area)
    }

    /// Gives up a claim.
    pub(super) fn end_claim(&self, cpu: &Cpu, claim: Claim, ended: Ended) {
        let mut chunks = self.chunks.lock(cpu);
        // SAFETY: by the invariant of the claim the chunk exists; chunks with a busy page stay on their list.
        unsafe { chunks.change(claim.chunk, |chunk| chunk.end_claim(claim.pages, ended)) };
    }

    /// Makes a chunk without pages and lists it.
    pub(super) fn add_chunk<P: Platform, H: Hooks>(
        &self,
        pages: &PageAllocator<P, H>,
        cpu: &Cpu,
        gfp: Gfp,
    ) -> Result<(), PercpuError> {
        let unit = self.first.as_ref().map(|first| first.sizes().unit_size);
        let chunk = dynamic_chunk::create(pages, cpu, gfp, unit)?;
        let mut chunks = self.chunks.lock(cpu);
        // SAFETY: just made, on no list; it is destroyed only after it was taken off.
        unsafe { chunks.lists.insert(chunk, Slot::FREE) };
        chunks.counts.note_chunk();
        Ok(())
    }

    /// Frees an area (Linux: free_percpu).
    ///
    /// # Errors
    /// [`PercpuError::Foreign`] for static memory.
    ///
    /// # Safety
    /// The area came from this allocator, and nobody uses it any more.
    pub unsafe fn free(&self, cpu: &Cpu, area: PercpuArea) -> Result<(), PercpuError> {
        let chunk = area.chunk.ok_or(PercpuError::Foreign)?;
        let mut chunks = self.chunks.lock(cpu);
        // SAFETY: the area is allocated from the chunk, which is therefore there and on a list of this allocator.
        let freed = unsafe { chunks.change(chunk, |chunk| chunk.give_back(area.offset as usize)) };
        debug_assert!(freed.is_some(), "an area that its holder owns is in its chunk's map");
        chunks.counts.note_free();
        // SAFETY: as above.
        let balance = unsafe { chunks.settle(chunk) };
        self.note(balance);
        Ok(())
    }

    /// Checks the laws of the allocator. Nothing may be under way on other CPUs.
    ///
    /// # Errors
    /// The rule that is broken.
    pub fn check_invariants(&self, cpu: &Cpu) -> Result<(), &'static str> {
        self.chunks.lock(cpu).check()
    }
}

fn want(layout: AreaLayout, part: Part, missing: MissingPages, page_shift: u32) -> Result<Want, PercpuError> {
    let AreaLayout { size, align } = layout;
    if size == 0 || size > MAX_AREA || !align.is_power_of_two() || align > 1 << page_shift {
        return Err(PercpuError::BadLayout(layout));
    }
    Ok(Want { size: size.next_multiple_of(MIN_ALLOC_SIZE), align: align.max(MIN_ALLOC_SIZE), part, missing })
}

/// Zeroes an area that nobody has yet, for every CPU.
fn zero(area: &PercpuArea) {
    for cpu in area.cpus() {
        // SAFETY: the caller is the allocator.
        if let Some(place) = unsafe { area.ptr(cpu) } {
            // SAFETY: by the invariant of the area these bytes are its own.
            unsafe { place.write_bytes(0, area.size()) };
        }
    }
}
