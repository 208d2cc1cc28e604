//! /proc files of the simulated machine after a replay.

use std::io::{self, Write};

use page_allocator::Zone;
use proc_files::buddyinfo::FreeBlocks;
use proc_files::pagetypeinfo::{BlocksHeading, BlocksRow, FreeCount, FreeRow, Heading};
use sim::CpuGuard;
use units::{CpuId, MigrateType, Pfn};

use super::machine::ReplayAllocator;

/// Files that can be printed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub(super) enum ProcFile {
    /// Free blocks by order.
    Buddyinfo,
    /// Free blocks and pageblocks by migratetype.
    Pagetypeinfo,
}

/// Types of a kernel without CMA, as the recorded one is.
const TYPES: [MigrateType; 5] = [
    MigrateType::Unmovable,
    MigrateType::Movable,
    MigrateType::Reclaimable,
    MigrateType::HighAtomic,
    MigrateType::Isolate,
];

/// Writes `file` of the machine to `out`.
pub(super) fn write(out: &mut impl Write, file: ProcFile, allocator: &ReplayAllocator) -> io::Result<()> {
    let Some(cpu) = allocator.platform().cpu(CpuId::ZERO) else { return Ok(()) };
    match file {
        ProcFile::Buddyinfo => allocator.zones().iter().try_for_each(|zone| {
            let nr_free: Vec<u64> = lists(allocator, &cpu, zone, &TYPES);
            writeln!(out, "{}", FreeBlocks { node: zone.node(), zone: zone.kind(), nr_free })
        }),
        ProcFile::Pagetypeinfo => pagetypeinfo(out, allocator, &cpu),
    }
}

/// Returns the free blocks of `types` by order.
fn lists(allocator: &ReplayAllocator, cpu: &CpuGuard<'_>, zone: &Zone, types: &[MigrateType]) -> Vec<u64> {
    let orders = allocator.map().geometry.max_order.index() + 1;
    let counts = allocator.free_counts(cpu, zone);
    let sum = |of_order: &[u32; MigrateType::COUNT]| types.iter().map(|kind| u64::from(of_order[kind.index()])).sum();
    counts.iter().take(orders).map(sum).collect()
}

fn pagetypeinfo(out: &mut impl Write, allocator: &ReplayAllocator, cpu: &CpuGuard<'_>) -> io::Result<()> {
    let geometry = allocator.map().geometry;
    let heading = Heading { pageblock_order: geometry.pageblock_order, max_order: geometry.max_order };
    writeln!(out, "{heading}")?;
    for zone in allocator.zones() {
        for migrate_type in TYPES {
            let counts = lists(allocator, cpu, zone, &[migrate_type]);
            let nr_free: Vec<FreeCount> = counts.into_iter().map(FreeCount::capped).collect();
            writeln!(out, "{}", FreeRow { node: zone.node(), zone: zone.kind(), migrate_type, nr_free })?;
        }
    }
    writeln!(out, "{}", BlocksHeading { types: TYPES })?;
    for zone in allocator.zones() {
        let nr_blocks = pageblocks(allocator, zone);
        writeln!(out, "{}", BlocksRow { node: zone.node(), zone: zone.kind(), nr_blocks })?;
    }
    Ok(())
}

/// Counts the pageblocks of each type whose first frame in the zone is memory.
fn pageblocks(allocator: &ReplayAllocator, zone: &Zone) -> Vec<u64> {
    let map = allocator.map();
    let pages = map.geometry.pageblock_pages();
    let span = zone.span();
    let starts = (0..).map(|index| span.start.align_down(pages).add(index * pages)).take_while(|pfn| *pfn < span.end);
    let in_zone = |pfn: &Pfn| allocator.zone_of((*pfn).max(span.start)).is_some_and(|found| found.span() == span);
    let mut counts = vec![0; TYPES.len()];
    for pfn in starts.filter(in_zone) {
        let found = map.pageblocks.get(pfn);
        if let Some(slot) = TYPES.iter().position(|kind| *kind == found).and_then(|at| counts.get_mut(at)) {
            *slot += 1;
        }
    }
    counts
}
