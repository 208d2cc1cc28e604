//! /proc files of the simulated machine after a replay.

use std::io::{self, Write};

use page_allocator::{Watermark, Zone};
use proc_files::buddyinfo::FreeBlocks;
use proc_files::pagetypeinfo::{BlocksHeading, BlocksRow, FreeCount, FreeRow, Heading};
use proc_files::zoneinfo::{PageSet, PopulatedZone, ZoneInfo, ZonePages};
use proc_files::{Config, Profile, Release};
use recordings::pages::{Snapshot, ZoneSnapshot};
use sim::CpuGuard;
use units::{CpuId, MigrateType};

use super::machine::ReplayAllocator;

/// Files that can be printed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub(super) enum ProcFile {
    /// Free blocks by order.
    Buddyinfo,
    /// Free blocks and pageblocks by migratetype.
    Pagetypeinfo,
    /// Watermarks, sizes, counters and per-CPU page sets of the zones.
    Zoneinfo,
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
pub(super) fn write(
    out: &mut impl Write,
    file: ProcFile,
    allocator: &ReplayAllocator,
    recorded: &Snapshot,
) -> io::Result<()> {
    let Some(cpu) = allocator.platform().cpu(CpuId::ZERO) else { return Ok(()) };
    match file {
        ProcFile::Buddyinfo => allocator.zones().iter().try_for_each(|zone| {
            let nr_free: Vec<u64> = lists(allocator, &cpu, zone, &TYPES);
            writeln!(out, "{}", FreeBlocks { node: zone.node(), zone: zone.kind(), nr_free })
        }),
        ProcFile::Pagetypeinfo => pagetypeinfo(out, allocator, &cpu),
        ProcFile::Zoneinfo => zoneinfo(out, allocator, &cpu, recorded),
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
    write!(out, "{heading}")?;
    for zone in allocator.zones() {
        for migrate_type in TYPES {
            let counts = lists(allocator, cpu, zone, &[migrate_type]);
            let nr_free: Vec<FreeCount> = counts.into_iter().map(FreeCount::capped).collect();
            writeln!(out, "{}", FreeRow { node: zone.node(), zone: zone.kind(), migrate_type, nr_free })?;
        }
    }
    write!(out, "{}", BlocksHeading { types: TYPES })?;
    for zone in allocator.zones() {
        let nr_blocks = pageblocks(allocator, zone);
        writeln!(out, "{}", BlocksRow { node: zone.node(), zone: zone.kind(), nr_blocks })?;
    }
    Ok(())
}

/// Counts the pageblocks of each of [`TYPES`].
fn pageblocks(allocator: &ReplayAllocator, zone: &Zone) -> Vec<u64> {
    let counts = allocator.pageblock_counts(zone);
    TYPES.iter().map(|migrate_type| counts[migrate_type.index()]).collect()
}

/// Writes the populated zones. Sizes are the recorded ones: frames that the trace never frees are not loaded here.
fn zoneinfo(
    out: &mut impl Write,
    allocator: &ReplayAllocator,
    cpu: &CpuGuard<'_>,
    recorded: &Snapshot,
) -> io::Result<()> {
    let profile = Profile::new(Release::V6_18, Config::default());
    for (zone, recorded_zone) in allocator.zones().iter().zip(&recorded.zones) {
        let protection: Vec<u64> = recorded.zone_kinds.iter().map(|kind| zone.lowmem_reserve(*kind)).collect();
        let populated = PopulatedZone {
            stats: &|name| zone_counter(allocator, cpu, zone, name),
            pagesets: &|index| page_set(allocator, cpu, zone, recorded_zone, index),
            node_unreclaimable: 0,
            start_pfn: zone.span().start,
        };
        let info = ZoneInfo {
            profile,
            node: zone.node(),
            zone: zone.kind(),
            node_stats: None,
            pages: ZonePages {
                free: zone.free_pages(),
                boost: zone.boost(),
                min: zone.watermark(Watermark::Min),
                low: zone.watermark(Watermark::Low),
                high: zone.watermark(Watermark::High),
                promo: zone.watermark(Watermark::Promo),
                spanned: recorded_zone.span.nr_pages(),
                present: recorded_zone.present,
                managed: recorded_zone.managed,
                cma: 0,
            },
            protection: &protection,
            populated: Some(populated),
        };
        write!(out, "{info}")?;
    }
    Ok(())
}

/// Returns a counter of a zone; those of parts that a page trace does not reach are 0.
fn zone_counter(allocator: &ReplayAllocator, cpu: &CpuGuard<'_>, zone: &Zone, name: &str) -> u64 {
    match name {
        "nr_free_pages" => zone.free_pages(),
        "nr_free_pages_blocks" => {
            let first = allocator.map().geometry.pageblock_order.index();
            let counts = lists(allocator, cpu, zone, &TYPES);
            (0..).zip(counts).skip(first).map(|(order, count): (u32, u64)| count << order).sum()
        }
        "numa_hit" | "numa_local" => allocator.zone_events(cpu, zone).numa_hit,
        _ => 0,
    }
}

fn page_set(
    allocator: &ReplayAllocator,
    cpu: &CpuGuard<'_>,
    zone: &Zone,
    recorded: &ZoneSnapshot,
    index: usize,
) -> Option<PageSet> {
    let id = CpuId::try_new(index as u64).filter(|id| id.index() < allocator.nr_cpus())?;
    let counters = allocator.pcp_counters(cpu, zone, id)?;
    Some(PageSet {
        cpu: id,
        count: counters.count.into(),
        high: counters.high.into(),
        batch: counters.limits.batch.into(),
        high_min: counters.limits.high_min.into(),
        high_max: counters.limits.high_max.into(),
        stat_threshold: recorded.pageset(id).map_or(0, |set| set.stat_threshold),
    })
}
