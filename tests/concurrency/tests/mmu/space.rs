//! An address space on the smallest machine, and two CPUs that work on it.

use frame_table::{PageFlags, PageRef};
use loom::thread;
use object_allocator::mmu::{Mmu, MmuReady, PageKind, Pte, UserTables};
use page_allocator::NoPressure;
use page_tables::{Bounds, Tables, ZapWhat};
use platform::{Attributes, Level, MemoryType, Prot};
use sync::Cpu;
use units::{Gfp, Order, Pfn, VirtAddr, VirtRange, VmFlags};

use crate::machine::{Machine, Memory, on_machine};

/// Most preemptions of one run.
const PREEMPTIONS: usize = 2;

pub(crate) type View<'a> = Tables<'a, Memory, NoPressure>;

pub(crate) const EVERYTHING: VirtRange = VirtRange::new(VirtAddr::ZERO, VirtAddr::new(8 << 12));
pub(crate) const USED: Attributes =
    Attributes { prot: Prot::USER.union(Prot::WRITE).union(Prot::ACCESSED), memory_type: MemoryType::Normal };

/// An address space on a machine.
struct Space {
    machine: &'static Machine,
    ready: MmuReady<'static, Memory, NoPressure>,
    tables: UserTables,
}

impl Space {
    fn on<'a>(&'static self, cpu: &'a Cpu) -> View<'a> {
        View { mmu: self.ready.on(cpu), tables: &self.tables }
    }
}

pub(crate) fn page(index: u64) -> VirtAddr {
    VirtAddr::new(index << 12)
}

/// Makes an anonymous page.
pub(crate) fn anon(mmu: &Mmu<'_, Memory, NoPressure>, order: Order) -> PageRef {
    let pages = mmu.objects().pages();
    let block = pages.alloc(mmu.cpu(), Gfp::KERNEL, order).unwrap();
    block.into_anon(&pages.map().frames, PageKind::ANON_MAPPING, 0)
}

/// Maps `new` at `virt`, from its frame `part` on, if nothing is there; or gives it back. Returns whether it was mapped.
pub(crate) fn install(view: &View<'_>, virt: VirtAddr, new: PageRef, part: u64) -> bool {
    let walk = view.mmu.walk(view.tables).unwrap();
    let at = new.pfn().add(part);
    let installed = match walk.pte(virt) {
        Some(entry) => entry.install(Pte::NONE, new, at, USED),
        None => Err(new),
    };
    drop(walk);
    installed.map_err(|new| view.mmu.put(new)).is_ok()
}

/// Empties the entry at `virt`, and frees what it held. Returns whether it held a page.
pub(crate) fn take(view: &View<'_>, virt: VirtAddr) -> bool {
    let mut gather = view.mmu.gather(view.tables);
    let walk = view.mmu.walk(view.tables).unwrap();
    walk.pte(virt).is_some_and(|entry| gather.take(&entry).is_some())
}

/// Returns how often the page at `virt` is held and mapped.
pub(crate) fn sharers(view: &View<'_>, virt: VirtAddr) -> Option<(i32, u32)> {
    let walk = view.mmu.walk(view.tables).unwrap();
    let entry = walk.pte(virt)?;
    entry.sharers(entry.load())
}

/// Returns the frame that the entry at `virt` shows.
pub(crate) fn frame(view: &View<'_>, virt: VirtAddr) -> Option<Pfn> {
    let walk = view.mmu.walk(view.tables).unwrap();
    let entry = walk.pte(virt)?;
    Some(entry.leaf(entry.load())?.0)
}

/// Maps one page at pages 0 and 1, as two address spaces do after a fork: read-only, and nobody's alone.
pub(crate) fn map_shared(view: &View<'_>) {
    make_tables(view);
    let frames = &view.mmu.objects().pages().map().frames;
    let new = anon(&view.mmu, Order::ZERO);
    frames.at(new.pfn()).clear_flags(PageFlags::ANON_EXCLUSIVE);
    let walk = view.mmu.walk(view.tables).unwrap();
    for index in 0..2 {
        let attributes = Attributes { prot: USED.prot - Prot::WRITE, ..USED };
        walk.pte(page(index)).unwrap().install(Pte::NONE, new.get(frames), new.pfn(), attributes).unwrap();
    }
    drop(walk);
    view.mmu.put(new);
}

/// Prepares an address space with `setup` as CPU 0, runs `main` as CPU 0 and `other` as CPU 1 at once, then `check` with their results as CPU 0. In the end
/// all pages have to be free.
pub(crate) fn two_cpus<A, B: Send + 'static>(
    setup: impl Fn(&View<'_>) + Sync + Send + 'static,
    main: impl Fn(&View<'_>) -> A + Sync + Send + 'static,
    other: impl Fn(&View<'_>) -> B + Sync + Send + Copy + 'static,
    check: impl Fn(&View<'_>, A, B) + Sync + Send + 'static,
) {
    on_machine(PREEMPTIONS, move |machine| {
        let cpu = machine.cpu(0);
        let ready = machine.start_mmu(&cpu).unwrap();
        let free_pages = machine.pages().check_invariants(&cpu);
        let space = Box::into_raw(Box::new(Space { machine, ready, tables: UserTables::new() }));
        // SAFETY: just allocated, and freed below when nothing refers to it any more.
        let shared: &'static Space = unsafe { &*space };
        let view = shared.on(&cpu);
        view.mmu.make_root(view.tables).unwrap();
        setup(&view);
        let thread = thread::spawn(move || {
            let cpu = shared.machine.cpu(1);
            other(&shared.on(&cpu))
        });
        let first = main(&view);
        check(&view, first, thread.join().unwrap());
        end(&view);
        assert_eq!(machine.pages().check_invariants(&cpu), free_pages, "a page is lost");
        // SAFETY: the other thread has ended, and the address space has no tables any more.
        drop(unsafe { Box::from_raw(space) });
    });
}

/// Makes the tables of a child, which shares all pages.
pub(crate) fn fork(view: &View<'_>) -> Box<UserTables> {
    let tables = Box::new(UserTables::new());
    let child = View { mmu: view.mmu, tables: &tables };
    child.mmu.make_root(child.tables).unwrap();
    let flags = VmFlags::READ | VmFlags::WRITE | VmFlags::MAYWRITE;
    view.copy_to(&child, &mut view.gather(), EVERYTHING, flags).unwrap();
    tables
}

pub(crate) fn end(view: &View<'_>) {
    let mut gather = view.mmu.gather(view.tables);
    view.zap(&mut gather, EVERYTHING, ZapWhat::All);
    view.free_tables(&mut gather, EVERYTHING, Bounds::NONE);
    gather.free_root();
    drop(gather);
    assert_eq!(view.tables.nr_tables(), 0);
}

pub(crate) fn make_tables(view: &View<'_>) {
    view.mmu.make_tables(view.tables, page(0), Level::PTE, Gfp::KERNEL).unwrap();
}

pub(crate) fn map_one(view: &View<'_>) {
    make_tables(view);
    assert!(install(view, page(0), anon(&view.mmu, Order::ZERO), 0));
}

/// Maps a page of two by an entry of the middle level.
pub(crate) fn map_large(view: &View<'_>) {
    map_large_at(view, page(0));
}

pub(crate) fn map_large_at(view: &View<'_>, virt: VirtAddr) {
    view.mmu.make_tables(view.tables, virt, Level::PMD, Gfp::KERNEL).unwrap();
    let new = anon(&view.mmu, Order::new_truncate(1));
    let table = view.mmu.alloc_table(Gfp::KERNEL).unwrap();
    view.mmu.install_large(view.tables, virt, new, USED, table).unwrap();
}

pub(crate) fn split(view: &View<'_>) {
    split_at(view, page(0));
}

pub(crate) fn split_at(view: &View<'_>, virt: VirtAddr) {
    view.split_large(&mut view.mmu.gather(view.tables), virt);
}
