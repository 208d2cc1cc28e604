//! Which CPUs walk page tables at the moment.
//!
//! One cell a CPU, each in cache lines of its own. Linux 6.12: mm/mmu_gather.c (`tlb_remove_table_sync_one`).

use core::ptr::NonNull;
use core::slice;
use core::sync::atomic::Ordering;

use page_allocator::Hooks;
use platform::Platform;
use sync::{Cpu, ReadSection, ReaderCell};
use units::{Gfp, Order};

use crate::ObjectAllocator;
use crate::atomic::AtomicPtr;
use crate::error::ObjectError;

/// Bytes between two cells, so that no line is shared.
#[derive(Debug)]
#[repr(align(128))]
struct Padded(ReaderCell);

/// The cells of all CPUs.
///
/// # Invariants
/// `cells` is null, or points to an initialised cell for each CPU of the machine, which stay as long as the machine.
#[derive(Debug)]
pub(crate) struct Readers {
    cells: AtomicPtr<Padded>,
}

impl Readers {
    pub(crate) fn new() -> Self {
        Self { cells: AtomicPtr::new(core::ptr::null_mut()) }
    }

    /// Takes memory for the cells, once.
    pub(crate) fn start<P: Platform, H: Hooks>(
        &self,
        objects: &ObjectAllocator<P, H>,
        cpu: &Cpu,
    ) -> Result<(), ObjectError> {
        // Relaxed: read by the only CPU that starts.
        if !self.cells.load(Ordering::Relaxed).is_null() {
            return Ok(());
        }
        let bytes = objects.nr_cpus().saturating_mul(size_of::<Padded>()).max(1);
        let pages = bytes.div_ceil(objects.map().page_size()).next_power_of_two();
        let order = Order::try_new(u64::from(pages.trailing_zeros())).map_err(|_| ObjectError::Impossible)?;
        let block = objects.pages().alloc(cpu, Gfp::KERNEL, order)?;
        let Some(memory) = objects.pages().address(&block) else {
            objects.pages().free(cpu, block);
            return Err(ObjectError::Impossible);
        };
        let cells: NonNull<Padded> = memory.cast();
        for (number, id) in (0..objects.nr_cpus() as u64).filter_map(units::CpuId::try_new).enumerate() {
            let cell = Padded(ReaderCell::new(Cpu::tag_of(cpu.machine(), id)));
            // SAFETY: the block holds a cell for each CPU, and is aligned to its size.
            let place = unsafe { cells.add(number) };
            // SAFETY: as above; nobody else has the block.
            unsafe { place.write(cell) };
        }
        block.into_raw(objects.frames());
        // Release: pairs with the Acquire load in `cells`.
        self.cells.store(cells.as_ptr(), Ordering::Release);
        Ok(())
    }

    fn cells(&self, nr_cpus: usize) -> &[Padded] {
        // Acquire: pairs with the Release store in `start`.
        let Some(cells) = NonNull::new(self.cells.load(Ordering::Acquire)) else { return &[] };
        // SAFETY: by the type invariant there is a cell for each CPU, and they stay.
        unsafe { slice::from_raw_parts(cells.as_ptr(), nr_cpus) }
    }
}

impl<P: Platform, H: Hooks> ObjectAllocator<P, H> {
    /// Begins a section on `cpu`: what it finds in page tables is not freed before it ends. `None` before the start, and for a foreign CPU.
    #[inline]
    pub(super) fn begin_walk<'a>(&'a self, cpu: &'a Cpu) -> Option<ReadSection<'a>> {
        self.mmu.readers.cells(self.nr_cpus()).get(cpu.id().index())?.0.enter(cpu)
    }

    /// Waits until every section that other CPUs are in has ended. Returns false, without waiting, if this CPU is in one itself.
    pub(super) fn wait_for_walks(&self, cpu: &Cpu) -> bool {
        let cells = self.mmu.readers.cells(self.nr_cpus());
        if cells.iter().any(|cell| cell.0.is_inside(cpu)) {
            return false;
        }
        if cells.len() > 1 {
            self.pages().platform().fence_other_cpus();
            let others = cells.iter().enumerate().filter(|(number, _)| *number != cpu.id().index());
            others.for_each(|(_, cell)| cell.0.wait());
        }
        true
    }
}
