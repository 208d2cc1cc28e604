//! Many single pages by one call, from this CPU's list and to it.
//!
//! A watermark is checked once for all of them, and a run of frees does not get shorter by what is taken here.
//! Locking: a part of the pages at a time is taken inside the CPU's set; the caller's closure runs outside of it. What is freed goes there in one
//! section as long as it is pages of one zone; the caller's iterator runs inside.
//! Linux 6.12: `alloc_pages_bulk_noprof`, `free_unref_folios`.

use frame_table::{FreeBlock, OwnedBlock};
use platform::Platform;
use sync::Cpu;
use units::{Gfp, Order};

use crate::alloc_context::{AllocContext, AllocRequest};
use crate::alloc_flags::AllocFlags;
use crate::allocator::{PageAllocator, PcpSet};
use crate::pressure::Hooks;
use crate::zone::Zone;

/// Pages taken inside one section of the set.
const PART: usize = 16;

impl<P: Platform, H: Hooks> PageAllocator<P, H> {
    /// Allocates up to `nr_pages` single pages from this CPU's list and gives each to `take`; returns how many there were.
    ///
    /// The pages come from the first zone whose low watermark holds with all of them gone. Where that does not work out (no such zone
    /// on the preferred node, the list cannot be used or gives nothing), one page is allocated as [`PageAllocator::alloc`] does,
    /// with its slow path: a caller that needs all of them asks again.
    pub fn alloc_bulk(&self, cpu: &Cpu, gfp: Gfp, nr_pages: u64, mut take: impl FnMut(OwnedBlock)) -> u64 {
        let request = AllocRequest::new(gfp, Order::ZERO);
        let taken = if nr_pages > 1 { self.take_bulk(cpu, &request, nr_pages, &mut take) } else { 0 };
        if taken > 0 || nr_pages == 0 {
            return taken;
        }
        self.alloc_request(cpu, &request).map_or(0, |page| {
            take(page);
            1
        })
    }

    fn take_bulk(&self, cpu: &Cpu, request: &AllocRequest, nr_pages: u64, take: &mut impl FnMut(OwnedBlock)) -> u64 {
        let Ok(context) = self.prepare(cpu, request) else { return 0 };
        let flags = AllocFlags::FAST.with_cma_for(request.gfp);
        let Some(zone) = self.zone_for_bulk(&context, flags, nr_pages) else { return 0 };
        let mut taken = 0;
        while taken < nr_pages {
            let mut part = [const { None }; PART];
            let room = usize::try_from(nr_pages - taken).unwrap_or(PART).min(PART);
            let found = self.take_part(cpu, &context, zone, flags, &mut part[..room]);
            for block in part.into_iter().flatten() {
                if let Ok(page) = self.prepare_block(cpu, request, block) {
                    take(page);
                    taken += 1;
                }
            }
            if found < room {
                break;
            }
        }
        taken
    }

    /// Finds the first zone that keeps its low watermark without `nr_pages`; none of another node than the preferred zone's.
    fn zone_for_bulk(&self, context: &AllocContext<'_>, flags: AllocFlags, nr_pages: u64) -> Option<&Zone> {
        let preferred = self.zone_number(context.preferred)?;
        let zones = context.list.walk(context.highest, context.nodes);
        zones.map_while(|entry| self.zone_number(entry.zone).filter(|zone| zone.node() == preferred.node())).find(
            |zone| {
                let mark = zone.watermark(flags.watermark()).saturating_add(nr_pages);
                zone.watermark_fast(Order::ZERO, mark, context.highest, flags)
            },
        )
    }

    /// Fills `part` from the CPU's list, which is refilled as it runs out; returns the number of pages.
    fn take_part(
        &self,
        cpu: &Cpu,
        context: &AllocContext<'_>,
        zone: &Zone,
        flags: AllocFlags,
        part: &mut [Option<FreeBlock>],
    ) -> usize {
        let Some(index) = self.pcp_index.get(Order::ZERO, context.migratetype) else { return 0 };
        let Some(preferred) = self.zone_number(context.preferred) else { return 0 };
        let events = self.events_of(cpu, zone, preferred, Order::ZERO);
        let found = self.pcp(zone, cpu.id()).and_then(|cell| {
            cell.try_with(cpu, |PcpSet(pcp)| {
                let mut found = 0;
                for slot in part {
                    *slot = self.pop_or_refill(cpu, pcp, context, zone, index, flags);
                    if slot.is_none() {
                        break;
                    }
                    pcp.events.add(&events);
                    found += 1;
                }
                found
            })
        });
        found.unwrap_or(0)
    }

    /// Frees many blocks, the first one first (Linux: free_unref_folios, release_pages).
    ///
    /// `blocks` must not use the allocator: this CPU's set is open while it runs.
    pub fn free_bulk(&self, cpu: &Cpu, blocks: impl IntoIterator<Item = OwnedBlock>) {
        let mut blocks = blocks.into_iter();
        let mut next = blocks.next();
        while let Some(block) = next {
            next = self.free_run(cpu, block, &mut blocks);
        }
    }

    /// Frees `page` and those of `blocks` that go the same way; returns the first one that does not, if there is another.
    #[inline]
    fn free_run(
        &self,
        cpu: &Cpu,
        mut page: OwnedBlock,
        blocks: &mut impl Iterator<Item = OwnedBlock>,
    ) -> Option<OwnedBlock> {
        let way = self.open_set(cpu, &page).and_then(|(hint, cell)| Some((hint, cell.enter(cpu)?)));
        let Some((mut hint, mut set)) = way.filter(|_| page.is_plain_page()) else {
            self.free(cpu, page);
            return blocks.next();
        };
        let zone = hint.zone();
        loop {
            let PcpSet(pcp) = &mut *set;
            if let Some(refused) = pcp.link_page(&self.map.frames, hint.list_of_pages(), page) {
                drop(set);
                self.free(cpu, refused);
                return blocks.next();
            }
            if pcp.counters.note_page_free() {
                self.give_pages_back(set, hint);
                return blocks.next();
            }
            page = blocks.next()?;
            match self.map.pageblocks.hint(page.pfn()).filter(|hint| hint.zone() == zone && page.is_plain_page()) {
                Some(of_page) => hint = of_page,
                None => return Some(page),
            }
        }
    }
}
