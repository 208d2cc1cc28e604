//! A small machine that tells of each flush of a user's addresses before it returns.

use std::cell::RefCell;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

use fixture::{Built, Fixture, Shape, ZoneShape};
use frame_table::{FrameTable, HeapMemory, PageRef};
use mmkit_object_allocator::ObjectAllocator;
use mmkit_object_allocator::mmu::{Mmu, PageKind, Pte, UserTables};
use page_allocator::{DebugOptions, Geometry, NoPressure, PcpLimits};
use platform::{Attributes, CurrentCpu, KernelTables, Level, MemoryType, PhysMemory, Platform, Prot, X86_64};
use sync::{Cpu, IrqControl};
use units::{CpuId, Gfp, NodeId, Order, Pfn, PfnRange, PhysAddr, PhysRange, VirtAddr, VirtRange, ZoneType};

type OnFlush = Box<dyn FnMut(PhysAddr, VirtRange)>;

thread_local! {
    static ON_FLUSH: RefCell<Option<OnFlush>> = const { RefCell::new(None) };
}

/// Calls `told` at each flush of this thread's machine.
pub(crate) fn on_flush(told: impl FnMut(PhysAddr, VirtRange) + 'static) {
    ON_FLUSH.set(Some(Box::new(told)));
}

#[derive(Debug)]
pub(crate) struct Memory(HeapMemory);

// SAFETY: all answers are those of the memory inside.
unsafe impl PhysMemory for Memory {
    fn direct_map(&self, range: PhysRange) -> Option<NonNull<u8>> {
        self.0.direct_map(range)
    }

    fn direct_map_base(&self) -> *mut u8 {
        self.0.direct_map_base()
    }

    fn memmap(&self, start: Pfn, bytes: u64) -> Option<NonNull<u8>> {
        self.0.memmap(start, bytes)
    }

    fn populate_memmap(&self, offset: u64, backing: PhysRange) -> bool {
        self.0.populate_memmap(offset, backing)
    }
}

impl CurrentCpu for Memory {}

impl Platform for Memory {
    type Format = X86_64<4>;

    fn fence_other_cpus(&self) {
        self.0.fence_other_cpus();
    }

    fn kernel_tables(&self) -> Option<KernelTables<X86_64<4>>> {
        self.0.kernel_tables()
    }

    fn flush_kernel_range(&self, _range: VirtRange) {}

    fn flush_user_range(&self, root: PhysAddr, range: VirtRange) {
        ON_FLUSH.with_borrow_mut(|told| told.iter_mut().for_each(|told| told(root, range)));
    }
}

pub(crate) type Objects = Built<ObjectAllocator<Memory>>;
pub(crate) type OnCpu<'a> = Mmu<'a, Memory, NoPressure>;

pub(crate) fn machine(nr_pages: u64) -> (Objects, Cpu) {
    static NEXT: AtomicU32 = AtomicU32::new(50_000);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let span = PfnRange::with_len(Pfn::new(1024), nr_pages);
    let shape = Shape {
        geometry: Geometry::FOUR_KIB,
        zones: [ZoneShape { node: NodeId::ZERO, kind: ZoneType::Normal, span }].into(),
        nr_cpus: 2,
        settings: Shape::keeping(PcpLimits::BOOT),
    };
    let memory = Memory(HeapMemory::with_tables(shape.span().phys(12)).unwrap());
    let fixture = Fixture::new(memory, number, shape, DebugOptions::default());
    // SAFETY: machine numbers are used once, and each test makes one token.
    let cpu = unsafe { Cpu::new(number, CpuId::ZERO, IrqControl::NONE) };
    fixture.start(&cpu);
    let objects = fixture.build(ObjectAllocator::new);
    objects.start(&cpu).unwrap();
    (objects, cpu)
}

/// Runs `test` on an address space with a root, which has no other table and no page left in the end; then nothing may be lost.
pub(crate) fn with_tables(nr_pages: u64, test: impl FnOnce(OnCpu<'_>, &UserTables)) {
    let (objects, cpu) = machine(nr_pages);
    let ready = objects.start_mmu(&cpu).unwrap();
    let before = objects.pages().check_invariants(&cpu).unwrap();
    let tables = UserTables::new();
    let mmu = ready.on(&cpu);
    mmu.make_root(&tables).unwrap();
    test(mmu, &tables);
    assert_eq!(tables.nr_tables(), 0);
    mmu.gather(&tables).free_root();
    assert_eq!(tables.root(), None);
    assert_eq!(objects.pages().check_invariants(&cpu).unwrap(), before, "something is lost");
}

pub(crate) fn frames<'a>(mmu: &OnCpu<'a>) -> &'a FrameTable {
    &mmu.objects().pages().map().frames
}

pub(crate) fn page(index: u64) -> VirtAddr {
    VirtAddr::new(0x4000_0000 + (index << 12))
}

pub(crate) const USED: Attributes = Attributes {
    prot: Prot::USER.union(Prot::WRITE).union(Prot::ACCESSED).union(Prot::DIRTY),
    memory_type: MemoryType::Normal,
};

pub(crate) fn anon(mmu: &OnCpu<'_>, order: u8) -> PageRef {
    let block = mmu.objects().pages().alloc(mmu.cpu(), Gfp::KERNEL, Order::new_truncate(order)).unwrap();
    block.into_anon(frames(mmu), PageKind::ANON_MAPPING, 0)
}

/// Maps frame `at` of `new` at `virt`.
pub(crate) fn map(mmu: &OnCpu<'_>, tables: &UserTables, virt: VirtAddr, new: PageRef, at: Pfn) {
    mmu.make_tables(tables, virt, Level::PTE, Gfp::KERNEL).unwrap();
    let walk = mmu.walk(tables).unwrap();
    walk.pte(virt).unwrap().install(Pte::NONE, new, at, USED).unwrap();
}

/// Frees the three tables above `page(0)`.
pub(crate) fn free_tables(mmu: &OnCpu<'_>, tables: &UserTables) {
    use mmkit_object_allocator::mmu::Found;
    for level in [Level::PMD, Level::PUD, Level::P4D] {
        let mut gather = mmu.gather(tables);
        let walk = mmu.walk(tables).unwrap();
        let Some(Found::Entry(entry)) = walk.find(page(0), level) else { panic!("there are tables") };
        assert!(gather.take_table(&entry));
        drop(walk);
    }
}
