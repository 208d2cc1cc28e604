//! Figures of the per-CPU allocator.
//!
//! Linux 6.12: mm/percpu-stats.c, `pcpu_nr_pages`.

use sync::Cpu;

use super::MIN_ALLOC_SIZE;
use super::allocator::PercpuAllocator;
use super::chunk::{Chunk, ChunkKind};
use super::chunk_list::Slot;
use super::sizes::UnitSizes;

/// What the allocator counts as it goes. Sizes in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Counts {
    nr_alloc: u64,
    nr_dealloc: u64,
    nr_max_alloc: u64,
    nr_chunks: usize,
    nr_max_chunks: usize,
    min_alloc_size: Option<usize>,
    max_alloc_size: usize,
}

impl Counts {
    pub(super) const fn new() -> Self {
        Self {
            nr_alloc: 0,
            nr_dealloc: 0,
            nr_max_alloc: 0,
            nr_chunks: 0,
            nr_max_chunks: 0,
            min_alloc_size: None,
            max_alloc_size: 0,
        }
    }

    pub(super) fn note_alloc(&mut self, size: usize) {
        self.nr_alloc += 1;
        self.nr_max_alloc = self.nr_max_alloc.max(self.nr_alloc - self.nr_dealloc);
        self.min_alloc_size = Some(self.min_alloc_size.map_or(size, |least| least.min(size)));
        self.max_alloc_size = self.max_alloc_size.max(size);
    }

    pub(super) const fn note_free(&mut self) {
        self.nr_dealloc += 1;
    }

    pub(super) fn note_chunk(&mut self) {
        self.nr_chunks += 1;
        self.nr_max_chunks = self.nr_max_chunks.max(self.nr_chunks);
    }

    pub(super) const fn note_chunk_gone(&mut self) {
        self.nr_chunks -= 1;
    }
}

/// Figures of the whole allocator, as /sys/kernel/debug/percpu_stats has them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PercpuFigures {
    /// Sizes of the first chunk's units; `None` without one.
    pub sizes: Option<UnitSizes>,
    /// Areas handed out so far.
    pub nr_alloc: u64,
    /// Areas taken back so far.
    pub nr_dealloc: u64,
    /// Most areas at a time.
    pub nr_max_alloc: u64,
    /// Chunks.
    pub nr_chunks: usize,
    /// Most chunks at a time.
    pub nr_max_chunks: usize,
    /// Size of the smallest area ever.
    pub min_alloc_size: usize,
    /// Size of the largest area ever.
    pub max_alloc_size: usize,
    /// Populated pages of a unit without an area.
    pub empty_pop_pages: usize,
    /// Populated pages of a unit, the static part included.
    pub populated: usize,
}

/// Which chunk figures are about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ChunkLabel {
    /// That of the modules.
    Reserved,
    /// The first dynamic one.
    First,
    /// Its empty pages are about to be given back.
    ToDepopulate,
    /// Used only when all others are full.
    Sidelined,
    /// Any other.
    Plain,
}

/// Figures of a chunk, as /sys/kernel/debug/percpu_stats has them. Sizes in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ChunkFigures {
    /// Which chunk it is.
    pub label: ChunkLabel,
    /// Areas.
    pub nr_alloc: usize,
    /// Largest area ever.
    pub max_alloc_size: usize,
    /// Populated pages without an area.
    pub empty_pop_pages: usize,
    /// First free step of 4 bytes.
    pub first_bit: usize,
    /// Free bytes.
    pub free_bytes: usize,
    /// Size above which nothing fits.
    pub contig_bytes: usize,
    /// Free bytes below the last area.
    pub sum_frag: usize,
    /// Largest free run below the last area.
    pub max_frag: usize,
    /// Smallest, median and largest area.
    pub cur_alloc: [usize; 3],
}

impl PercpuAllocator {
    /// Returns the figures of the whole allocator.
    pub fn figures(&self, cpu: &Cpu) -> PercpuFigures {
        let chunks = self.chunks.lock(cpu);
        let counts = chunks.counts;
        PercpuFigures {
            sizes: self.first.as_ref().map(|first| *first.sizes()),
            nr_alloc: counts.nr_alloc,
            nr_dealloc: counts.nr_dealloc,
            nr_max_alloc: counts.nr_max_alloc,
            nr_chunks: counts.nr_chunks,
            nr_max_chunks: counts.nr_max_chunks,
            min_alloc_size: counts.min_alloc_size.unwrap_or(0),
            max_alloc_size: counts.max_alloc_size,
            empty_pop_pages: chunks.nr_empty_populated,
            populated: chunks.nr_populated,
        }
    }

    /// Calls `visit` with the figures of each chunk, the reserved one first, under the allocator's lock.
    pub fn for_each_chunk(&self, cpu: &Cpu, mut visit: impl FnMut(ChunkFigures)) {
        let mut chunks = self.chunks.lock(cpu);
        for reserved in [true, false] {
            chunks.lists.for_each(|chunk| {
                if (chunk.kind == ChunkKind::Reserved) == reserved {
                    visit(chunk_figures(chunk));
                }
            });
        }
    }
}

fn chunk_figures(chunk: &Chunk) -> ChunkFigures {
    let label = match (chunk.kind, chunk.slot) {
        (ChunkKind::Reserved, _) => ChunkLabel::Reserved,
        (ChunkKind::First, _) => ChunkLabel::First,
        (_, Slot::TO_DEPOPULATE) => ChunkLabel::ToDepopulate,
        (_, Slot::SIDELINED) => ChunkLabel::Sidelined,
        _ => ChunkLabel::Plain,
    };
    let map = &chunk.map;
    ChunkFigures {
        label,
        nr_alloc: chunk.nr_alloc,
        max_alloc_size: chunk.max_alloc_size,
        empty_pop_pages: chunk.nr_empty_populated,
        first_bit: map.first_free_step(),
        free_bytes: map.free_bytes(),
        contig_bytes: map.largest_bytes(),
        sum_frag: map.gaps().sum(),
        max_frag: map.gaps().max().unwrap_or(0),
        cur_alloc: [map.sizes().min().unwrap_or(0), median(chunk), map.sizes().max().unwrap_or(0)],
    }
}

/// Returns the median of the areas' sizes: the least size that half of the areas do not exceed, found without room to sort them.
fn median(chunk: &Chunk) -> usize {
    let half = chunk.nr_alloc / 2;
    let (mut low, mut high) = (0, super::MAX_AREA / MIN_ALLOC_SIZE);
    while low < high {
        let middle = low.midpoint(high);
        let up_to = chunk.map.sizes().filter(|&size| size <= middle * MIN_ALLOC_SIZE).count();
        if up_to > half || up_to == chunk.nr_alloc {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    low * MIN_ALLOC_SIZE
}
