//! The first chunk: units cut from memblock, one for each CPU, with the static, the reserved and the first dynamic part.
//!
//! Built at boot, before the page allocator. Linux 6.12: `pcpu_embed_first_chunk`, `pcpu_setup_first_chunk`, `pcpu_alloc_first_chunk`.

use core::ops::Range;
use core::ptr::NonNull;
use core::sync::atomic::AtomicPtr;

use boot_memory::memblock::AllocRequest;
use collections::{BootSlice, PerCpuSlice};
use frame_table::{ArenaError, BootArena};
use platform::PhysMemory;
use units::{CpuId, NodeId, PhysAddr, PhysRange};

use super::allocator::PercpuError;
use super::area::{AreaLayout, PercpuArea};
use super::area_map::{AreaMap, MapRoom, PageHint};
use super::bits;
use super::chunk::{Chunk, ChunkKind, ChunkRoom, PageStates, Pages};
use super::row::Rows;
use super::sizes::{UnitSizes, groups, nr_on};

/// What the first chunk is made of.
#[derive(Clone, Copy, Debug)]
pub struct FirstChunkPlan<'a> {
    /// Sizes of a unit.
    pub sizes: UnitSizes,
    /// Binary logarithm of the page size.
    pub page_shift: u32,
    /// Node of each CPU.
    pub cpu_nodes: &'a [NodeId],
    /// Units are kept out of memory below, which devices need.
    pub min_addr: PhysAddr,
    /// What the static part of every unit starts as; bytes behind its end are zeros.
    pub image: &'a [u8],
}

/// The parts of the first chunk, in boot memory for ever.
#[derive(Debug)]
pub struct FirstChunk {
    sizes: UnitSizes,
    page_shift: u32,
    rows: Rows,
    reserved: Option<NonNull<Chunk>>,
    chunk: NonNull<Chunk>,
    /// Whether someone owns the static part.
    static_part: StaticPart,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum StaticPart {
    Free,
    Taken,
}

// SAFETY: the chunks are reached through the allocator's lock alone.
unsafe impl Send for FirstChunk {}

// SAFETY: as for `Send`; shared, it only gives out addresses.
unsafe impl Sync for FirstChunk {}

impl FirstChunkPlan<'_> {
    /// Cuts the units out of memblock, fills them and builds the chunks.
    ///
    /// # Errors
    /// [`ArenaError`]; what was cut before stays reserved.
    pub fn embed(&self, arena: &mut BootArena<'_>, memory: &impl PhysMemory) -> Result<FirstChunk, ArenaError> {
        let pages = self.sizes.used() >> self.page_shift;
        let nr_cpus = self.cpu_nodes.len();
        let mut rows = arena.table(memory, "pcpu_setup_first_chunk", pages * nr_cpus, None, |_| {
            AtomicPtr::new(core::ptr::null_mut())
        })?;
        for group in groups(self.cpu_nodes) {
            self.embed_group(arena, memory, group, |cpu, unit| {
                for page in 0..pages {
                    // SAFETY: the unit has this many pages.
                    let place = unsafe { unit.add(page << self.page_shift) };
                    if let Some(slot) = rows.get_mut(page * nr_cpus + cpu) {
                        *slot = AtomicPtr::new(place.as_ptr());
                    }
                }
            })?;
        }
        let pointers = NonNull::from(&*rows).cast();
        // SAFETY: the table has a pointer for each page and CPU and stays in boot memory; CPU numbers have 16 bits.
        let rows = unsafe { Rows::new(pointers, None, u16::try_from(nr_cpus).unwrap_or(u16::MAX)) };
        let sizes = self.sizes;
        let reserved_end = sizes.static_size + sizes.reserved_size;
        let reserved = match sizes.reserved_size {
            0 => None,
            _ => Some(self.chunk(arena, memory, ChunkKind::Reserved, rows, sizes.static_size..reserved_end)?),
        };
        let chunk = self.chunk(arena, memory, ChunkKind::First, rows, reserved_end..sizes.used())?;
        Ok(FirstChunk { sizes, page_shift: self.page_shift, rows, reserved, chunk, static_part: StaticPart::Free })
    }

    /// Cuts the units of one node's CPUs, gives back what rounding added, and fills the rest.
    fn embed_group(
        &self,
        arena: &mut BootArena<'_>,
        memory: &impl PhysMemory,
        group: NodeId,
        mut place: impl FnMut(usize, NonNull<u8>),
    ) -> Result<(), ArenaError> {
        let (unit, used) = (self.sizes.unit_size as u64, self.sizes.used() as u64);
        let nr_units = nr_on(self.cpu_nodes, group).next_multiple_of(self.sizes.units_per_alloc()) as u64;
        let request = AllocRequest::new(nr_units * unit, self.sizes.atom_size as u64).on_node(group);
        let base = arena.reserve("pcpu_fc_alloc", request.from(self.min_addr))?.start;
        let cpus = self.cpu_nodes.iter().enumerate().filter(|&(_, &node)| node == group).map(|(cpu, _)| Some(cpu));
        for (nth, cpu) in (0..nr_units).zip(cpus.chain(core::iter::repeat(None))) {
            let range = PhysRange::with_len(base.saturating_add(nth * unit), unit);
            let kept = PhysRange::with_len(range.start, if cpu.is_some() { used } else { 0 });
            let rest = PhysRange::new(kept.end, range.end);
            if !rest.is_empty() {
                // SAFETY: part of what was just reserved, and no unit reaches there.
                unsafe { arena.give_back("pcpu_embed_first_chunk", rest) }?;
            }
            let Some(cpu) = cpu else { continue };
            let start = memory.direct_map(kept).ok_or(ArenaError::NotMapped(kept))?;
            // SAFETY: the range was just reserved, is mapped, and nobody else uses it.
            unsafe { start.write_bytes(0, self.sizes.used()) };
            let image = self.image.get(..self.sizes.static_size).unwrap_or(self.image);
            // SAFETY: the image is cut to the static part, which is fresh memory.
            unsafe { start.copy_from_nonoverlapping(NonNull::from(image).cast(), image.len()) };
            place(cpu, start);
        }
        Ok(())
    }

    /// Builds the chunk over `bytes` of every unit.
    fn chunk(
        &self,
        arena: &mut BootArena<'_>,
        memory: &impl PhysMemory,
        kind: ChunkKind,
        rows: Rows,
        bytes: Range<usize>,
    ) -> Result<NonNull<Chunk>, ArenaError> {
        const CALLER: &str = "pcpu_alloc_first_chunk";
        let page = 1 << self.page_shift;
        let pages = bytes.start / page..bytes.end.div_ceil(page);
        let (head, tail) = (bytes.start - pages.start * page, pages.end * page - bytes.end);
        let mut words = |len| arena.table(memory, CALLER, len, None, |_| 0);
        let map_words = AreaMap::words(pages.len(), self.page_shift);
        let (taken, starts) = (words(map_words)?, words(map_words)?);
        let state_words = bits::words(pages.len());
        let (populated, busy, joined) = (words(state_words)?, words(state_words)?, words(state_words)?);
        let hints = arena.table(memory, CALLER, pages.len(), None, |_| PageHint::default())?;
        let map = AreaMap::new(MapRoom { taken, starts, hints }, self.page_shift, head, tail);
        // SAFETY: the unit has these pages.
        let rows = unsafe { rows.behind(pages.start) };
        let room = ChunkRoom { rows, states: PageStates { populated, busy, joined } };
        let mut chunk = Some(Chunk::new(kind, map, room, Pages::Embedded));
        let mut place = arena.table(memory, CALLER, 1, None, |_| chunk.take())?;
        let made = place.first_mut().and_then(Option::as_mut);
        debug_assert!(made.is_some(), "a table of one entry has it");
        // The table is not freed; the chunk stays where it is for ever.
        made.map(NonNull::from).ok_or(ArenaError::NotMapped(PhysRange::default()))
    }
}

impl FirstChunk {
    /// Returns the sizes of a unit.
    pub const fn sizes(&self) -> &UnitSizes {
        &self.sizes
    }

    pub(super) const fn page_shift(&self) -> u32 {
        self.page_shift
    }

    pub(super) const fn reserved(&self) -> Option<NonNull<Chunk>> {
        self.reserved
    }

    pub(super) const fn chunk(&self) -> NonNull<Chunk> {
        self.chunk
    }

    /// Makes `len` values of each CPU in the static part and hands it over; `rows` has an entry for each CPU.
    ///
    /// # Errors
    /// [`PercpuError::BadLayout`] if the part has no room for them, is taken, or `rows` is for another number of CPUs.
    pub fn take_static<T>(
        &mut self,
        mut rows: BootSlice<NonNull<T>>,
        len: usize,
        mut init: impl FnMut(CpuId, usize) -> T,
    ) -> Result<PerCpuSlice<T>, PercpuError> {
        let layout = AreaLayout { size: len.saturating_mul(size_of::<T>()), align: align_of::<T>() };
        let fits = layout.size <= self.sizes.static_size && layout.align <= 1 << self.page_shift;
        if !fits || self.static_part == StaticPart::Taken || rows.len() != usize::from(self.rows.nr_cpus()) {
            return Err(PercpuError::BadLayout(layout));
        }
        self.static_part = StaticPart::Taken;
        for (row, cpu) in rows.iter_mut().zip(self.rows.cpus()) {
            *row = self.unit(cpu).ok_or(PercpuError::BadLayout(layout))?.cast();
            for at in 0..len {
                // SAFETY: the static part has room for `len` values.
                let place = unsafe { row.add(at) };
                // SAFETY: as above; units start at pages, and the part has no other owner.
                unsafe { place.write(init(cpu, at)) };
            }
        }
        // SAFETY: just filled; units of CPUs do not overlap, boot memory stays, and the part was marked as taken.
        Ok(unsafe { PerCpuSlice::from_rows(rows, len) })
    }

    pub(super) fn static_area(&self) -> Option<PercpuArea> {
        if self.sizes.static_size == 0 || self.static_part == StaticPart::Taken {
            return None;
        }
        // SAFETY: the unit has a first page.
        let row = unsafe { self.rows.row(0) };
        // INVARIANT: units start with the static part, which no chunk hands out.
        Some(PercpuArea { row, chunk: None, offset: 0, in_page: 0, size: self.sizes.static_size as u32 })
    }

    /// Returns where a CPU's unit starts; `None` for a CPU that the machine lacks.
    pub fn unit(&self, cpu: CpuId) -> Option<NonNull<u8>> {
        // SAFETY: the unit has a first page.
        let row = unsafe { self.rows.row(0) };
        // SAFETY: the first chunk is never destroyed.
        unsafe { row.get(cpu) }
    }
}
