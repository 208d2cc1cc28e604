//! Types of the pageblocks that no event tells about, fitted to the counts of /proc/pagetypeinfo.
//!
//! pagetypeinfo says how many pageblocks of each type a zone has, and how many free blocks lie on the lists of each type. Pageblocks of
//! kernel types are looked for among those whose frames look like it (slab for reclaimable; other kernel use, page
//! tables and slab for unmovable), taking first those whose free blocks the lists of that type still miss. The rest is movable.

use units::{MigrateType, Order, Pfn, PfnRange};

use super::super::free_map::FreeMap;
use super::super::snapshot::{Snapshot, ZoneSnapshot};
use super::super::{PageKind, PfnKinds};

/// The two kernel types, reclaimable first: its pageblocks are the easier ones to tell, full of slab.
const KERNEL_TYPES: [MigrateType; 2] = [MigrateType::Reclaimable, MigrateType::Unmovable];

/// What the frames of one pageblock are used for.
#[derive(Clone, Copy, Default, Debug)]
struct Contents {
    slab: u32,
    kernel: u32,
    page_table: u32,
    movable: u32,
}

impl Contents {
    /// Returns how much the contents look like those of a pageblock of `migrate_type`; negative if not at all.
    fn likeness(self, migrate_type: MigrateType) -> i64 {
        let (slab, kernel, movable) = (i64::from(self.slab), i64::from(self.kernel), i64::from(self.movable));
        match migrate_type {
            MigrateType::Reclaimable => 2 * slab - kernel - 4 * movable,
            // Nothing but frames of unknown use: as likely a huge block, or many single pages, on a per-CPU list.
            _ if slab == 0 && self.page_table == 0 => i64::from(kernel > movable),
            _ => (2 * kernel + slab - movable).max(2),
        }
    }
}

/// Returns a type for each pageblock below the last zone's end; `known` are those that events tell.
pub(super) fn fit_types(
    snapshot: &Snapshot,
    kinds: &PfnKinds,
    free: &FreeMap,
    known: &[Option<MigrateType>],
) -> Vec<MigrateType> {
    let order = snapshot.pageblock_order;
    let contents = contents(kinds, known.len(), order);
    let mut types = known.to_vec();
    for zone in &snapshot.zones {
        fit_zone(zone, free, &contents, order, &mut types);
    }
    types.into_iter().map(|known| known.unwrap_or(MigrateType::Movable)).collect()
}

fn fit_zone(
    zone: &ZoneSnapshot,
    free: &FreeMap,
    contents: &[Contents],
    order: Order,
    types: &mut [Option<MigrateType>],
) {
    let blocks = pageblocks(zone.span, order, types.len());
    for migrate_type in KERNEL_TYPES {
        let index = migrate_type.index();
        let already = blocks.clone().filter(|block| types.get(*block) == Some(&Some(migrate_type))).count() as u64;
        let mut wanted = zone.pageblocks.get(index).copied().unwrap_or(0).saturating_sub(already);
        let mut lacking = Lacking::new(zone.free_by_type.get(index));
        for block in blocks.clone().filter(|block| types.get(*block) == Some(&Some(migrate_type))) {
            lacking.take_off(&signature(free, block, order), Exactness::AsFarAsPossible);
        }
        let mut candidates: Vec<usize> = blocks.clone().filter(|block| types.get(*block) == Some(&None)).collect();
        candidates.sort_by_key(|block| {
            let likeness = contents.get(*block).map_or(i64::MIN, |contents| contents.likeness(migrate_type));
            // A block of the largest order that changed its type leaves two pageblocks of that type side by side.
            let beside = types.get(*block ^ 1) == Some(&Some(migrate_type));
            (-likeness, !beside, *block)
        });
        for exact in [Pass::WithMissingBlocks, Pass::Full, Pass::Any] {
            candidates.retain(|block| {
                let signature = signature(free, *block, order);
                let likely = contents.get(*block).is_some_and(|contents| contents.likeness(migrate_type) > 0);
                let chosen = wanted > 0
                    && match exact {
                        Pass::WithMissingBlocks => {
                            !signature.is_empty() && lacking.take_off(&signature, Exactness::All)
                        }
                        Pass::Full => likely && signature.is_empty(),
                        Pass::Any => likely,
                    };
                if chosen {
                    wanted -= 1;
                    if let Some(slot) = types.get_mut(*block) {
                        *slot = Some(migrate_type);
                    }
                }
                !chosen
            });
        }
    }
}

/// Which candidates a pass over them takes.
#[derive(Clone, Copy)]
enum Pass {
    /// Pageblocks whose free blocks are all missing from the type's lists.
    WithMissingBlocks,
    /// Pageblocks without free blocks that look like the type.
    Full,
    /// Pageblocks that look like the type.
    Any,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Exactness {
    All,
    AsFarAsPossible,
}

/// Free blocks of each order that the lists of a type have and its pageblocks so far do not.
struct Lacking(Vec<u64>);

impl Lacking {
    fn new(counts: Option<&Vec<u64>>) -> Self {
        Self(counts.cloned().unwrap_or_default())
    }

    /// Takes the blocks off; with `Exactness::All` only if every one of them is lacking. Returns whether it did.
    fn take_off(&mut self, orders: &[Order], exactness: Exactness) -> bool {
        let mut rest = self.0.clone();
        for order in orders {
            match rest.get_mut(order.index()) {
                Some(count) if *count > 0 => *count -= 1,
                _ if exactness == Exactness::All => return false,
                _ => {}
            }
        }
        self.0 = rest;
        true
    }
}

/// Orders of the free blocks that start in a pageblock.
fn signature(free: &FreeMap, block: usize, pageblock_order: Order) -> Vec<Order> {
    let start = Pfn::new((block as u64) << pageblock_order.raw());
    let range = PfnRange::with_len(start, pageblock_order.nr_pages());
    let blocks = free.blocks(range, pageblock_order);
    let whole = blocks.first().is_some_and(|block| block.order == pageblock_order);
    let beside = PfnRange::with_len(start.buddy(pageblock_order), pageblock_order.nr_pages());
    if whole && free.count(beside) == pageblock_order.nr_pages() {
        // Part of a larger block, which is free as a whole and so of one type.
        return pageblock_order.up().into_iter().collect();
    }
    blocks.into_iter().map(|block| block.order).collect()
}

fn pageblocks(span: PfnRange, order: Order, end: usize) -> std::ops::Range<usize> {
    let index = |pfn: Pfn| usize::try_from(pfn.raw() >> order.raw()).unwrap_or(usize::MAX).min(end);
    index(span.start)..index(span.end.align_up(order.nr_pages()))
}

fn contents(kinds: &PfnKinds, nr_blocks: usize, order: Order) -> Vec<Contents> {
    let mut contents = vec![Contents::default(); nr_blocks];
    for run in &kinds.runs {
        let mut start = run.range.start;
        while start < run.range.end {
            let end = start.add(1).align_up(order.nr_pages()).min(run.range.end);
            let frames = u32::try_from(end.since(start)).unwrap_or(u32::MAX);
            let block = usize::try_from(start.raw() >> order.raw()).unwrap_or(usize::MAX);
            let Some(contents) = contents.get_mut(block) else { break };
            match run.kind {
                PageKind::Slab => contents.slab += frames,
                PageKind::Kernel => contents.kernel += frames,
                PageKind::PageTable => {
                    contents.kernel += frames;
                    contents.page_table += frames;
                }
                PageKind::Anon | PageKind::File | PageKind::Mapped => contents.movable += frames,
                PageKind::Free | PageKind::Reserved | PageKind::Offline | PageKind::Hole => {}
            }
            start = end;
        }
    }
    contents
}
