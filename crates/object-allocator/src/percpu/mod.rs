//! Per-CPU memory: an area of it exists once for each CPU, near that CPU, and is found from the CPU's number.
//!
//! [`PercpuAllocator`] hands out areas of 4 bytes to 32 KiB. The first chunk is cut from memblock (`first_chunk`): one unit for each
//! CPU with the static, the reserved and the first dynamic part. Later chunks take single pages of the machine, each on the node of
//! its CPU, when an area first touches them, and give empty ones back (`balance`). Linux maps those pages side by side; here every page
//! has a row of pointers, one a CPU, and an area of up to a page lies within one page, so that no mapping is needed and none is
//! flushed. Larger areas take contiguous pages for each CPU, as Linux does without an MMU (mm/percpu-km.c).
//! Locking: `rank::PERCPU` guards the chunks; it is not held while pages are allocated or freed. An area whose pages are on their way
//! keeps them marked busy, which nobody waits for: others use other pages.
//! Linux 6.12: mm/percpu.c, mm/percpu-internal.h.

mod allocator;
mod area;
mod area_map;
mod balance;
mod bits;
mod chunk;
mod chunk_list;
mod chunks;
mod dynamic_chunk;
mod first_chunk;
mod population;
mod row;
mod sizes;
mod statistics;

pub use allocator::{PercpuAllocator, PercpuError};
pub use area::{AreaLayout, PerCpu, PercpuArea};
pub use balance::Balanced;
pub use first_chunk::{FirstChunk, FirstChunkPlan};
pub use sizes::{EmbedRule, UnitSizes, write_embedded, write_unit_map};
pub use statistics::{ChunkFigures, ChunkLabel, PercpuFigures};

/// Step of allocation in bytes (Linux: PCPU_MIN_ALLOC_SIZE).
const MIN_ALLOC_SIZE: usize = 4;

/// Largest area in bytes (Linux: PCPU_MIN_UNIT_SIZE).
pub const MAX_AREA: usize = 32 << 10;

/// Fewest populated pages without an area that are kept ready for atomic requests (Linux: PCPU_EMPTY_POP_PAGES_LOW).
const EMPTY_POPULATED_LOW: usize = 2;

/// Most populated pages without an area that are kept (Linux: PCPU_EMPTY_POP_PAGES_HIGH).
const EMPTY_POPULATED_HIGH: usize = 4;
