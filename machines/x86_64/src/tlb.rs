//! Flushes of translations: the kernel's on every CPU, an address space's on those that run it.
//!
//! A CPU without a program is on the kernel's tables, and nothing is remembered across a load of CR3, so who does not run an address space has
//! nothing to flush.
//!
//! One flush at a time: its range lies where the NMI handlers of the other CPUs read it. Locking: a lock of `sync`'s highest rank, held
//! until all have answered, which an NMI does also on a CPU that waits for the same lock with interrupts off.
//! Linux 6.12: arch/x86/mm/tlb.c (`flush_tlb_kernel_range`). Intel SDM volume 3, 5.10.4: invlpg also drops what is remembered of
//! the tables above the leaf, for all addresses; the kernel runs without CR4.PGE, so a load of CR3 drops everything.

use core::ptr;
use core::sync::atomic::{AtomicU64, Ordering};

use sync::{SpinLock, rank};
use units::{PhysAddr, VirtAddr, VirtRange};

use crate::cpu_area::{self, CpuArea, this_area, this_cpu};
use crate::fence::ask_other_cpus;
use crate::instructions::{invalidate_page, load_page_table, memory_fence, reload_page_table};
use crate::paging::{self, TABLE_SIZE};

/// Most pages that are flushed one by one (Linux: tlb_single_page_flush_ceiling).
const SINGLE_PAGES: u64 = 33;

static TURN: SpinLock<{ rank::LEAF }, ()> = SpinLock::new(());
/// Range of the flush whose turn it is; written before it is asked for, and not again before all have answered.
static START: AtomicU64 = AtomicU64::new(0);
static END: AtomicU64 = AtomicU64::new(0);

/// Flushes `range` on every CPU that runs.
pub(crate) fn flush_kernel_range(range: VirtRange) {
    flush_here(range);
    flush_others(range, |_| true);
}

/// Flushes `range` on every CPU that runs the address space with this root table.
pub(crate) fn flush_user_range(root: PhysAddr, range: VirtRange) {
    // What was changed in the tables comes before the looks at what CPUs run: see `enter_space`.
    memory_fence();
    let runs = |area: &CpuArea| area.root.load(Ordering::SeqCst) == root.raw();
    let myself = this_area();
    if runs(myself) {
        flush_here(range);
    }
    if cpu_area::online().any(|area| !ptr::eq(area, myself) && runs(area)) {
        flush_others(range, runs);
    }
}

/// Flushes `range` on the other CPUs that are meant.
fn flush_others(range: VirtRange, is_meant: impl Fn(&CpuArea) -> bool) {
    let _turn = TURN.lock(this_cpu());
    // Relaxed: published by the request, which is counted after it.
    START.store(range.start.raw(), Ordering::Relaxed);
    END.store(range.end.raw(), Ordering::Relaxed);
    ask_other_cpus(|area| is_meant(area).then_some(&area.flush));
}

/// Switches this CPU to an address space.
///
/// # Safety
/// `area` is this CPU's. The tables have the kernel's addresses as every root table, and stay until [`leave_space`].
pub(crate) unsafe fn enter_space(area: &CpuArea, root: PhysAddr) {
    // SeqCst: before CR3 is loaded. Who changes the tables and does not see this yet changed them before they are first walked here.
    area.root.store(root.raw(), Ordering::SeqCst);
    // SAFETY: the caller's contract.
    unsafe { load_page_table(root) };
}

/// Switches this CPU, whose area this is, to the kernel's page tables.
pub(crate) fn leave_space(area: &CpuArea) {
    // SAFETY: a CPU that ran a program was started after the kernel's tables were activated.
    unsafe { paging::activate_again() };
    // SeqCst: after the load, which forgot everything.
    area.root.store(0, Ordering::SeqCst);
}

/// Answers what other CPUs asked of this one, in its NMI handler.
pub(crate) fn answer() {
    this_area().flush.answer(|| {
        // Relaxed: see `flush_others`.
        let (start, end) = (START.load(Ordering::Relaxed), END.load(Ordering::Relaxed));
        flush_here(VirtRange::new(VirtAddr::new(start), VirtAddr::new(end)));
    });
}

fn flush_here(range: VirtRange) {
    if range.len() > SINGLE_PAGES * TABLE_SIZE {
        return reload_page_table();
    }
    let mut page = range.start.align_down(TABLE_SIZE);
    while page < range.end {
        invalidate_page(page);
        page = page.saturating_add(TABLE_SIZE);
    }
}
