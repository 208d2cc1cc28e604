//! Files on small machines: what they do, against a model, and with memory that ends at every point.

mod behaviour;
mod failures;
mod model;

use std::sync::atomic::{AtomicU32, Ordering};

use address_space::{CommitRules, Overcommit, OvercommitMode, Process};
use fixture::{Built, Fixture, Shape, ZoneShape};
use frame_table::HeapMemory;
use mmkit_page_cache::{FileCall, Files};
use object_allocator::ObjectAllocator;
use object_allocator::vmstat::NodeItem;
use page_allocator::{DebugOptions, Geometry, NoPressure, PcpLimits};
use sync::{Cpu, IrqControl};
use units::{CpuId, NodeId, Pfn, PfnRange, ZoneType};

pub(crate) const PAGE: u64 = 4096;

pub(crate) type Objects = Built<ObjectAllocator<HeapMemory>>;
pub(crate) type Call<'a, 'k> = FileCall<'a, 'k, HeapMemory, NoPressure>;

/// Makes an object allocator with `nr_pages` pages.
pub(crate) fn objects(nr_pages: u64) -> (Objects, Cpu) {
    static NEXT: AtomicU32 = AtomicU32::new(60_000);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let span = PfnRange::with_len(Pfn::new(1024), nr_pages);
    let node = NodeId::ZERO;
    let shape = Shape {
        geometry: Geometry::FOUR_KIB,
        zones: [ZoneShape { node, kind: ZoneType::Normal, span }].into(),
        nr_cpus: 1,
        settings: Shape::keeping(PcpLimits { high_min: 64, high_max: 64, batch: 16 }),
    };
    let memory = HeapMemory::new(shape.span().phys(12)).unwrap();
    let fixture = Fixture::new(memory, number, shape, DebugOptions::default());
    // SAFETY: machine numbers are used once, and each test makes one token.
    let cpu = unsafe { Cpu::new(number, CpuId::ZERO, IrqControl::NONE) };
    fixture.start(&cpu);
    let objects = fixture.build(ObjectAllocator::new);
    objects.start(&cpu).unwrap();
    (objects, cpu)
}

/// Returns the pages that are free or hold kernel objects: all but those of files and of the machine's start.
pub(crate) fn free_or_slab(objects: &Objects, cpu: &Cpu) -> u64 {
    let stats = objects.node_stats(NodeId::ZERO);
    objects.pages().check_invariants(cpu).unwrap() + stats.slab_reclaimable() + stats.slab_unreclaimable()
}

pub(crate) fn counter(objects: &Objects, item: NodeItem) -> u64 {
    objects.vmstat().node(NodeId::ZERO, item)
}

/// Runs `test` on a machine of 2048 pages of which `limit` may be promised, and checks that nothing is left of its files.
pub(crate) fn with_files(limit: u64, test: impl FnOnce(&Call<'_, '_>, &Objects)) {
    let (objects, cpu) = objects(2048);
    let mut rules = CommitRules { ratio: 100, ..CommitRules::for_ram(limit) };
    (rules.mode, rules.admin_reserve) = (OvercommitMode::Never, 0);
    let commit = Overcommit::new(rules);
    let files = Files::new(&objects, &cpu).unwrap();
    let before = free_or_slab(&objects, &cpu);
    test(&FileCall { files: &files, cpu: &cpu, commit: &commit, process: &Process::default(), total_vm: 0 }, &objects);
    assert_eq!(free_or_slab(&objects, &cpu), before, "pages are free or slabs' again");
    assert_eq!(commit.committed(), 0);
    for item in [NodeItem::NrFilePages, NodeItem::NrShmem, NodeItem::NrDirty, NodeItem::NrWriteback] {
        assert_eq!(counter(&objects, item), 0, "{}", item.name());
    }
}
