//! A small machine with page tables of any format, and what the tests do to them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};

use fixture::{Built, Fixture, Shape, ZoneShape};
use frame_table::{HeapMemory, PageRef};
use mmkit_page_tables::{Bounds, Tables, WriteTracking, ZapWhat, attributes_of};
use object_allocator::ObjectAllocator;
use object_allocator::mmu::{PageKind, Pte};
use page_allocator::{DebugOptions, Geometry, NoPressure, PcpLimits};
use platform::{Attributes, Level, PageTableFormat, Prot, X86_64};
use sync::{Cpu, IrqControl};
use units::{CpuId, Gfp, NodeId, Order, Pfn, PfnRange, VirtAddr, VirtRange, VmFlags, ZoneType};

pub(crate) type Objects<F = X86_64<4>> = Built<ObjectAllocator<HeapMemory<F>>>;
pub(crate) type View<'a, F = X86_64<4>> = Tables<'a, HeapMemory<F>, NoPressure>;

pub(crate) fn machine(nr_pages: u64) -> (Objects, Cpu) {
    machine_of(nr_pages, X86_64)
}

pub(crate) fn machine_of<F: PageTableFormat>(nr_pages: u64, format: F) -> (Objects<F>, Cpu) {
    static NEXT: AtomicU32 = AtomicU32::new(40_000);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let geometry = [Geometry::FOUR_KIB, Geometry::SIXTEEN_KIB, Geometry::SIXTY_FOUR_KIB]
        .into_iter()
        .find(|geometry| geometry.page_shift == F::PAGE_SHIFT)
        .unwrap();
    let span = PfnRange::with_len(Pfn::new(1 << geometry.max_order.raw()), nr_pages);
    let shape = Shape {
        geometry,
        zones: [ZoneShape { node: NodeId::ZERO, kind: ZoneType::Normal, span }].into(),
        nr_cpus: 1,
        settings: Shape::keeping(PcpLimits { high_min: 64, high_max: 64, batch: 16 }),
    };
    let memory = HeapMemory::with_format(shape.span().phys(F::PAGE_SHIFT), format).unwrap();
    let fixture = Fixture::new(memory, number, shape, DebugOptions::default());
    // SAFETY: machine numbers are used once, and each test makes one token.
    let cpu = unsafe { Cpu::new(number, CpuId::ZERO, IrqControl::NONE) };
    fixture.start(&cpu);
    let objects = fixture.build(ObjectAllocator::new);
    objects.start(&cpu).unwrap();
    objects.start_mmu(&cpu).unwrap();
    (objects, cpu)
}

pub(crate) const WRITE: VmFlags = WATCHED.union(VmFlags::SOFTDIRTY);
/// The same, of an area whose writes somebody watches.
pub(crate) const WATCHED: VmFlags = VmFlags::READ.union(VmFlags::WRITE).union(VmFlags::MAYWRITE);

pub(crate) fn at(page: u64) -> VirtAddr {
    VirtAddr::new(0x7fff_0000_0000 - (5 << 12) + (page << 12))
}

pub(crate) fn range(pages: std::ops::Range<u64>) -> VirtRange {
    VirtRange::new(at(pages.start), at(pages.end))
}

/// Every address of the user's.
pub(crate) fn everything<F: PageTableFormat>() -> VirtRange {
    VirtRange::new(VirtAddr::ZERO, VirtAddr::new(1 << (F::VIRT_BITS - 1)))
}

/// Allocates an anonymous page, if there is memory.
pub(crate) fn anon<F: PageTableFormat>(view: &View<'_, F>, order: Order) -> Option<PageRef> {
    let objects = view.mmu.objects();
    let block = objects.pages().alloc(view.mmu.cpu(), Gfp::HIGHUSER_MOVABLE, order).ok()?;
    Some(block.into_anon(&objects.pages().map().frames, PageKind::ANON_MAPPING, 0))
}

/// Maps an anonymous page of the size that entries of `level` map, as one that was written to; `None` if something is there, or there is no memory.
pub(crate) fn map_at<F: PageTableFormat>(view: &View<'_, F>, virt: VirtAddr, level: Level) -> Option<Pfn> {
    view.mmu.make_tables(view.tables, virt, level, Gfp::KERNEL).ok()?;
    let fresh = anon(view, Order::new_truncate((F::shift(level) - F::PAGE_SHIFT) as u8))?;
    let pfn = fresh.pfn();
    let mut attributes = attributes_of(WRITE, WriteTracking::None);
    attributes.prot |= Prot::WRITE | Prot::WRITTEN;
    let installed = if level == Level::PMD {
        let Ok(table) = view.mmu.alloc_table(Gfp::KERNEL) else {
            view.mmu.put(fresh);
            return None;
        };
        view.mmu.install_large(view.tables, virt, fresh, attributes, table)
    } else {
        let walk = view.mmu.walk(view.tables).unwrap();
        walk.pte(virt).unwrap().install(Pte::NONE, fresh, pfn, attributes)
    };
    let nr_pages = F::leaf_bytes(level) >> F::PAGE_SHIFT;
    match installed {
        Ok(()) => view.tables.add_rss(view.mmu.cpu(), PageKind::Anon, nr_pages.cast_signed()),
        Err(fresh) => {
            view.mmu.put(fresh);
            return None;
        }
    }
    Some(pfn)
}

/// Maps a fresh anonymous page; returns its frame.
pub(crate) fn map(view: &View<'_>, page: u64) -> Pfn {
    map_at(view, at(page), Level::PTE).unwrap()
}

pub(crate) fn mapped(view: &View<'_>) -> BTreeMap<u64, (Pfn, Attributes)> {
    let mut found = BTreeMap::new();
    view.for_each_mapped(everything::<X86_64<4>>(), |page| {
        found.insert(page.range.start.since(at(0)) >> 12, (page.pfn, page.attributes));
    });
    found
}

/// Takes everything away.
pub(crate) fn end<F: PageTableFormat>(view: &View<'_, F>) {
    let mut gather = view.mmu.gather(view.tables);
    view.zap(&mut gather, everything::<F>(), ZapWhat::All);
    view.free_tables(&mut gather, everything::<F>(), Bounds::NONE);
    gather.free_root();
}
