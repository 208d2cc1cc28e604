//! mmkit on the hosted machine: a booted kernel with zone accounting, migratetypes, watermarks and vmstat counters on.

use frame_table::{FrameTable, OwnedBlock};
use page_allocator::{FreeHighRule, Geometry, PageAllocator};
use sim::SimPlatform;
use sync::Cpu;
use units::{CpuId, Gfp, Order};

use super::workloads::{self, Workload};
use super::{FRAMES, FrameAllocator};
use crate::machine;
use crate::two_threads;

/// Memory of the machine: the region that peers get, and room for the tables, which mmkit keeps in the machine itself.
const MEMORY_BYTES: u64 = (FRAMES << 12) + (512 << 20);

struct OnCpu<'a> {
    pages: &'a PageAllocator<SimPlatform>,
    cpu: &'a Cpu,
}

impl FrameAllocator for OnCpu<'_> {
    type Block = OwnedBlock;

    #[inline]
    fn alloc(&mut self, order: u8) -> Option<OwnedBlock> {
        self.pages.alloc(self.cpu, Gfp::HIGHUSER_MOVABLE, Order::new_truncate(order)).ok()
    }

    #[inline]
    fn free(&mut self, block: OwnedBlock, _order: u8) {
        self.pages.free(self.cpu, block);
    }
}

/// Runs a workload on CPU 0 if it mixes orders; in the others no rule empties the CPU's lists.
pub(crate) fn run_mixing(workload: Workload, quick: u64, rule: FreeHighRule) -> Option<f64> {
    if workload.mixes_orders() { run(workload, quick, rule) } else { None }
}

/// Runs a workload on CPU 0.
pub(crate) fn run(workload: Workload, quick: u64, rule: FreeHighRule) -> Option<f64> {
    let kernel = machine::boot(MEMORY_BYTES, 1);
    let cpu = kernel.pages().platform().cpu(CpuId::ZERO)?;
    kernel.pages().set_free_high_rule(&cpu, rule);
    workloads::on(&mut OnCpu { pages: kernel.pages(), cpu: &cpu }, workload, quick)
}

/// Runs hot pairs on two CPUs at once.
pub(crate) fn pair_of_two(order: u8, quick: u64) -> f64 {
    let kernel = machine::boot(MEMORY_BYTES, 2);
    let pairs = 1_000_000 / quick.max(1);
    two_threads::run(pairs, |thread| {
        let cpu = CpuId::try_new(thread as u64).and_then(|id| kernel.pages().platform().cpu(id));
        if let Some(cpu) = cpu {
            workloads::hot_of_order(&mut OnCpu { pages: kernel.pages(), cpu: &cpu }, order, pairs);
        }
    })
}

/// Descriptor, and an entry of four bytes per pageblock.
pub(crate) fn metadata_bytes_per_frame() -> f64 {
    FrameTable::FRAME_BYTES as f64 + 4.0 / Geometry::FOUR_KIB.pageblock_pages() as f64
}
