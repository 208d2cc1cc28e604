//! pagemap and numa_maps: where pages are.
//!
//! Linux 6.12: fs/proc/task_mmu.c (`pagemap_read`, `pagemap_pmd_range`, `show_numa_map`, `gather_stats`).

use core::fmt::{self, Write};

use address_space::{PAGE_SHIFT, PAGE_SIZE, ProgramRanges, Vma};
use frame_table::PageFlags;
use object_allocator::mmu::PageKind;
use page_allocator::Hooks;
use page_tables::MappedPage;
use platform::{Platform, Prot};
use proc_files::numa_maps::{Backing, NumaMapsLine, NumaPages};
use proc_files::pagemap::{PageBits, PageLocation, PagemapEntry};
use units::{MAX_NODES, NodeId, Order, Pfn, VirtAddr, VirtRange, VmFlags};

use super::ProcMm;
use super::names::{is_heap, is_stack};

/// Whether the reader of pagemap may know where in memory pages are (CAP_SYS_ADMIN).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FrameNumbers {
    /// It may.
    Shown,
    /// Frame 0 stands for every page.
    Hidden,
}

/// Pages of one area.
struct NodePages {
    all: NumaPages,
    nodes: [(NodeId, u64); MAX_NODES],
}

impl<P: Platform, H: Hooks + Sync> ProcMm<'_, '_, P, H> {
    /// Fills `entries` with /proc/PID/pagemap from the page of `first` on.
    pub fn pagemap(&self, first: VirtAddr, entries: &mut [u64], frames: FrameNumbers) {
        entries.fill(0);
        let first = first.align_down(PAGE_SIZE);
        let wanted = VirtRange::with_len(first, (entries.len() as u64) << PAGE_SHIFT);
        let locked = self.mm.read(self.cpu);
        let mut at = first;
        while let Some(vma) = locked.find(at)
            && vma.start() < wanted.end
        {
            let range = vma.range.intersection(wanted);
            let index = (range.start.since(first) >> PAGE_SHIFT) as usize;
            let pages = (range.len() >> PAGE_SHIFT) as usize;
            let Some(part) = entries.get_mut(index..index + pages) else { return };
            self.fill_pagemap(&vma, range, part, frames);
            at = vma.end();
        }
    }

    fn fill_pagemap(&self, vma: &Vma, range: VirtRange, entries: &mut [u64], frames: FrameNumbers) {
        let mut marks = PageBits::empty();
        marks.set(PageBits::SOFT_DIRTY, vma.flags.contains(VmFlags::SOFTDIRTY));
        entries.fill(PagemapEntry { location: PageLocation::None, bits: marks }.to_bits());
        self.manager.tables(self.cpu, self.mm).for_each_mapped(range, |mapped| {
            let mut bits = marks;
            // Linux takes the large page of zeros for a file's, and the small one for none.
            let is_file = mapped.page.map_or(mapped.order > Order::ZERO, |page| page.kind != PageKind::Anon);
            bits.set(PageBits::FILE, is_file);
            if mapped.attributes.prot.contains(Prot::SOFT_DIRTY) {
                bits |= PageBits::SOFT_DIRTY;
            }
            bits.set(PageBits::EXCLUSIVE, mapped.mapcount() == 1);
            let part = mapped.range.intersection(range);
            let index = (part.start.since(range.start) >> PAGE_SHIFT) as usize;
            let count = (part.len() >> PAGE_SHIFT) as usize;
            let skipped = part.start.since(mapped.range.start) >> PAGE_SHIFT;
            for (entry, number) in entries.iter_mut().skip(index).take(count).zip(skipped..) {
                let pfn = if frames == FrameNumbers::Shown { mapped.pfn.add(number) } else { Pfn::new(0) };
                *entry = PagemapEntry { location: PageLocation::Present(pfn), bits }.to_bits();
            }
        });
    }

    /// Writes /proc/PID/numa_maps. Every area has the default policy: there are no calls that set another.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write_numa_maps(&self, out: &mut dyn Write) -> fmt::Result {
        let locked = self.mm.read(self.cpu);
        locked.areas().try_for_each(|vma| self.write_numa_area(out, locked.program(), &vma))
    }

    fn write_numa_area(&self, out: &mut dyn Write, program: &ProgramRanges, vma: &Vma) -> fmt::Result {
        let found = self.count_nodes(vma.range);
        self.with_label(program, vma, &mut |label| {
            let backing = match vma.file {
                Some(_) => Backing::File(label.name),
                None if is_heap(program, vma) => Backing::Heap,
                None if is_stack(program, vma) => Backing::Stack,
                None => Backing::Anonymous,
            };
            let line = NumaMapsLine {
                start: vma.start(),
                policy: &"default",
                backing,
                page_kb: PAGE_SIZE >> 10,
                is_hugetlb: false,
                pages: found.all,
                nodes: &found.nodes,
            };
            writeln!(out, "{line}")
        })
    }

    fn count_nodes(&self, range: VirtRange) -> NodePages {
        let mut found = NodePages { all: NumaPages::default(), nodes: [(NodeId::ZERO, 0); MAX_NODES] };
        for (slot, number) in found.nodes.iter_mut().zip(0..) {
            slot.0 = NodeId::try_new(number).unwrap_or(NodeId::ZERO);
        }
        let frames = &self.manager.objects().pages().map().frames;
        self.manager.tables(self.cpu, self.mm).for_each_mapped(range, |mapped| {
            let Some(frame) = frames.get(mapped.pfn) else { return };
            found.add(&mapped, mapped.range.intersection(range).len() >> PAGE_SHIFT, frame.place().node());
        });
        found
    }
}

impl NodePages {
    fn add(&mut self, mapped: &MappedPage, nr_pages: u64, node: NodeId) {
        let Some(page) = mapped.page else { return };
        let count = |is_so: bool| if is_so { nr_pages } else { 0 };
        let is_dirty = mapped.attributes.prot.contains(Prot::DIRTY) || page.flags.contains(PageFlags::DIRTY);
        let all = &mut self.all;
        all.pages += nr_pages;
        all.anon += count(page.kind == PageKind::Anon);
        all.dirty += count(is_dirty);
        all.active += count(page.flags.intersects(PageFlags::ACTIVE | PageFlags::UNEVICTABLE));
        all.writeback += count(page.flags.contains(PageFlags::WRITEBACK));
        all.mapcount_max = all.mapcount_max.max(mapped.mapcount());
        if let Some((_, pages)) = self.nodes.iter_mut().find(|(slot, _)| *slot == node) {
            *pages += nr_pages;
        }
    }
}
