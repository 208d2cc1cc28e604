//! Where the pages of a chunk lie for each CPU. Read without a lock by everybody who has an area.

use core::ptr::NonNull;
use core::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

use units::{CpuId, Pfn};

/// In the table of frames: no frame.
const NO_FRAME: u64 = u64::MAX;

/// Where one page of a chunk lies for each CPU.
///
/// # Invariants
/// `first` points to `nr_cpus` pointers that exist as long as the chunk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Row {
    first: NonNull<AtomicPtr<u8>>,
    nr_cpus: u16,
}

impl Row {
    pub(super) const fn nr_cpus(self) -> u16 {
        self.nr_cpus
    }

    /// Returns where the page lies for a CPU; `None` for a CPU that the machine lacks, or if the page is not populated.
    ///
    /// # Safety
    /// The chunk exists.
    #[inline]
    pub(super) unsafe fn get(self, cpu: CpuId) -> Option<NonNull<u8>> {
        if cpu.raw() >= self.nr_cpus {
            return None;
        }
        // SAFETY: the CPU's number is below `nr_cpus`; by the type invariant the row has that many pointers.
        let slot = unsafe { self.first.add(cpu.index()) };
        // SAFETY: by the type invariant and the caller's contract the pointer is there.
        let slot = unsafe { slot.as_ref() };
        // Relaxed: written before the area was handed out, which is how the reader came to know of it.
        NonNull::new(slot.load(Ordering::Relaxed))
    }
}

/// The rows of a chunk's pages and the frames behind them. Frames are kept by whoever allocated the pages; boot memory has none.
///
/// # Invariants
/// `rows` points to a row for each page of a chunk, one after the other, and `frames`, if there, to a frame number for each pointer in them;
/// both exist as long as the chunk.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rows {
    rows: NonNull<AtomicPtr<u8>>,
    frames: Option<NonNull<AtomicU64>>,
    nr_cpus: u16,
}

impl Rows {
    /// Takes over tables without a page in them, or with pages of boot memory.
    ///
    /// # Safety
    /// The type's invariant.
    pub(super) const unsafe fn new(
        rows: NonNull<AtomicPtr<u8>>,
        frames: Option<NonNull<AtomicU64>>,
        nr_cpus: u16,
    ) -> Self {
        // INVARIANT: the caller's contract.
        Self { rows, frames, nr_cpus }
    }

    pub(super) const fn nr_cpus(self) -> u16 {
        self.nr_cpus
    }

    /// Iterates over the CPUs of a row.
    pub(super) fn cpus(self) -> impl Iterator<Item = CpuId> + use<> {
        (0..u64::from(self.nr_cpus)).filter_map(CpuId::try_new)
    }

    /// Returns the rows from a later page on.
    ///
    /// # Safety
    /// The chunk has the page.
    pub(super) const unsafe fn behind(self, page: usize) -> Self {
        let entries = page * self.nr_cpus as usize;
        // SAFETY: by the type invariant the rows of all pages of the chunk follow each other.
        let rows = unsafe { self.rows.add(entries) };
        let frames = match self.frames {
            // SAFETY: by the type invariant there are as many frames as pointers.
            Some(frames) => Some(unsafe { frames.add(entries) }),
            None => None,
        };
        // INVARIANT: the tables of the chunk's later pages.
        Self { rows, frames, nr_cpus: self.nr_cpus }
    }

    /// Returns the row of a page.
    ///
    /// # Safety
    /// The chunk has the page.
    pub(super) const unsafe fn row(self, page: usize) -> Row {
        // SAFETY: the caller's contract.
        let first = unsafe { self.behind(page) }.rows;
        // INVARIANT: a row of the chunk.
        Row { first, nr_cpus: self.nr_cpus }
    }

    /// Notes where a page lies for a CPU, and the frame there.
    ///
    /// # Safety
    /// The chunk exists and has the page, which is the caller's alone; the CPU is one of the row's.
    pub(super) unsafe fn set(self, page: usize, cpu: CpuId, place: Option<NonNull<u8>>, frame: Option<Pfn>) {
        // SAFETY: the caller's contract.
        let rows = unsafe { self.behind(page) };
        // SAFETY: the CPU is one of the row's, which by the type invariant has a pointer for each.
        let slot = unsafe { rows.rows.add(cpu.index()) };
        // SAFETY: as above.
        let slot = unsafe { slot.as_ref() };
        // Relaxed: published with the area.
        slot.store(place.map_or(core::ptr::null_mut(), NonNull::as_ptr), Ordering::Relaxed);
        let Some(frames) = rows.frames else { return };
        // SAFETY: as above, by the type invariant there is a frame number for each pointer.
        let slot = unsafe { frames.add(cpu.index()) };
        // SAFETY: as above.
        let slot = unsafe { slot.as_ref() };
        // Relaxed: read by the next owner of the page, who takes the chunks' lock in between.
        slot.store(frame.map_or(NO_FRAME, Pfn::raw), Ordering::Relaxed);
    }

    /// Takes a page and its frame out of the tables for a CPU, if there is one.
    ///
    /// # Safety
    /// As [`Rows::set`].
    pub(super) unsafe fn take(self, page: usize, cpu: CpuId) -> Option<Pfn> {
        // SAFETY: the caller's contract.
        let frames = unsafe { self.behind(page) }.frames?;
        // SAFETY: the CPU is one of the row's; by the type invariant it has a frame number.
        let slot = unsafe { frames.add(cpu.index()) };
        // SAFETY: as above.
        let slot = unsafe { slot.as_ref() };
        // Relaxed: written by the owner of the page before, who took the chunks' lock since.
        let raw = slot.load(Ordering::Relaxed);
        // SAFETY: the caller's contract.
        unsafe { self.set(page, cpu, None, None) };
        (raw != NO_FRAME).then(|| Pfn::new(raw))
    }
}
