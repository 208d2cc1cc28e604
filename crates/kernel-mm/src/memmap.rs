//! Memory behind the frame descriptors, taken from the node that they describe.
//!
//! Linux 6.12: `sparse_init`, `memmap_alloc`, `__populate_section_memmap`.

use boot_memory::memblock::AllocRequest;
use frame_table::{BootArena, FrameTable, MemoryModel};
use page_allocator::layout::MemoryRanges;
use platform::PhysMemory;
use units::{NodeId, PfnRange};

use crate::config::Deferral;
use crate::error::BootError;

/// Frames that the table covers: all memory, widened to whole sections.
pub(crate) fn table_span(memory: impl MemoryRanges, model: MemoryModel) -> PfnRange {
    let described = memory.map(|range| model.described(range.frames));
    described
        .reduce(|span, range| PfnRange::new(span.start.min(range.start), span.end.max(range.end)))
        .unwrap_or_default()
}

/// What to put memory behind, and how.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memmap {
    /// Layout of the descriptors.
    pub(crate) model: MemoryModel,
    /// Frames that the table covers.
    pub(crate) span: PfnRange,
    /// When descriptors are initialised. If not all are at boot, those of the descriptors' own memory never are: that memory is
    /// 1/128 of a machine, and nobody asks about it.
    pub(crate) deferral: Deferral,
}

/// Puts memory of each node behind the descriptors of its sections.
pub(crate) fn populate(
    arena: &mut BootArena<'_>,
    machine: &impl PhysMemory,
    memory: impl MemoryRanges,
    memmap: Memmap,
) -> Result<(), BootError> {
    let Memmap { model, span, .. } = memmap;
    let mut done = span.start;
    if model == MemoryModel::Flat {
        return populate_range(arena, machine, span, memmap, NodeId::ZERO);
    }
    for range in memory {
        let described = model.described(range.frames);
        // Two ranges may share a section: the first one brings its descriptors.
        let part = PfnRange::new(described.start.max(done), described.end);
        if !part.is_empty() {
            populate_range(arena, machine, part, memmap, range.node)?;
            done = part.end;
        }
    }
    Ok(())
}

fn populate_range(
    arena: &mut BootArena<'_>,
    machine: &impl PhysMemory,
    part: PfnRange,
    memmap: Memmap,
    node: NodeId,
) -> Result<(), BootError> {
    const HUGE_PAGE: u64 = 2 << 20;
    let bytes = part.nr_pages() * FrameTable::FRAME_BYTES;
    let align = if bytes >= HUGE_PAGE { HUGE_PAGE } else { 1 << 12 };
    let backing = arena.reserve("sparse_init_nid", AllocRequest::new(bytes, align).on_node(node))?;
    if memmap.deferral == Deferral::UntilNeeded {
        arena.leave_uninitialised("sparse_init_nid", backing)?;
    }
    if machine.populate_memmap(part.start.since(memmap.span.start) * FrameTable::FRAME_BYTES, backing) {
        Ok(())
    } else {
        Err(BootError::Memmap(backing))
    }
}
