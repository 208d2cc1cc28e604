//! The smallest machine that has everything: one zone of eight frames, blocks of up to four, two CPUs.
//!
//! Every run of a model makes one, so it is built of few atomics and gives its memory back when dropped.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

use fixture::{Fixture, Shape, ZoneShape};
use page_allocator::{DebugOptions, Geometry, PcpLimits};
use platform::{CurrentCpu, KernelTables, PhysMemory, Platform, X86_64};
use sync::{Cpu, IrqControl};
use units::{CpuId, NodeId, Order, Pfn, PfnRange, PhysRange, VirtRange, ZoneType};

pub(crate) const SPAN: PfnRange = PfnRange::new(Pfn::new(8), Pfn::new(16));
const GEOMETRY: Geometry =
    Geometry { page_shift: 12, max_order: Order::new_truncate(2), pageblock_order: Order::new_truncate(1) };

/// Room for the descriptors, and nothing else: the models never look into a page.
#[derive(Debug)]
pub(crate) struct Room {
    start: NonNull<u8>,
    layout: Layout,
}

// SAFETY: the pointer names an allocation that only the descriptors use.
unsafe impl Send for Room {}

// SAFETY: as for `Send`; the value itself never changes.
unsafe impl Sync for Room {}

impl Room {
    fn new() -> Self {
        let layout = Layout::from_size_align(1 << 13, 64).unwrap();
        // SAFETY: the layout is not empty.
        Self { start: NonNull::new(unsafe { alloc_zeroed(layout) }).unwrap(), layout }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        // SAFETY: allocated by `new` with this layout; the allocator that used the room is dropped with it.
        unsafe { dealloc(self.start.as_ptr(), self.layout) };
    }
}

// SAFETY: the room lives as long as the value; `memmap` is called once, by the fixture.
unsafe impl PhysMemory for Room {
    fn direct_map(&self, _range: PhysRange) -> Option<NonNull<u8>> {
        None
    }

    fn direct_map_base(&self) -> *mut u8 {
        std::ptr::null_mut()
    }

    fn memmap(&self, _start: Pfn, bytes: u64) -> Option<NonNull<u8>> {
        (bytes <= self.layout.size() as u64).then_some(self.start)
    }

    fn populate_memmap(&self, _offset: u64, _backing: PhysRange) -> bool {
        true
    }
}

impl CurrentCpu for Room {}

impl Platform for Room {
    type Format = X86_64<4>;

    fn fence_other_cpus(&self) {
        // `OwnerCell` pays for its fences itself when loom models it.
    }

    fn kernel_tables(&self) -> Option<KernelTables<X86_64<4>>> {
        None
    }

    fn flush_kernel_range(&self, _range: VirtRange) {}
}

/// An allocator with all frames free, and the number of its machine.
pub(crate) struct Machine {
    fixture: Fixture<Room>,
    number: u32,
}

impl std::ops::Deref for Machine {
    type Target = Fixture<Room>;

    fn deref(&self) -> &Fixture<Room> {
        &self.fixture
    }
}

impl Machine {
    /// Makes a machine whose CPUs keep up to `pcp.high_max` pages and move `pcp.batch` at a time.
    pub(crate) fn new(pcp: PcpLimits) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let shape = Shape {
            geometry: GEOMETRY,
            zones: vec![ZoneShape { node: NodeId::ZERO, kind: ZoneType::Normal, span: SPAN }],
            nr_cpus: 2,
            settings: Shape::keeping(pcp),
        };
        let machine = Self { fixture: Fixture::new(Room::new(), number, shape, DebugOptions::default()), number };
        machine.start(&machine.cpu(0));
        machine
    }

    /// Makes the token of a CPU.
    pub(crate) fn cpu(&self, id: u64) -> Cpu {
        // SAFETY: the machine's number is its own, and each thread of a model makes the token of another CPU; the main thread
        // makes its own again only after the one of the set-up was dropped.
        unsafe { Cpu::new(self.number, CpuId::try_new(id).unwrap(), IrqControl::NONE) }
    }
}
