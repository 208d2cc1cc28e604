//! Flushes of the kernel's translations on every CPU.
//!
//! One flush at a time: its range lies where the NMI handlers of the other CPUs read it. Locking: a lock of `sync`'s highest rank, held
//! until all have answered, which an NMI does also on a CPU that waits for the same lock with interrupts off.
//! Linux 6.12: arch/x86/mm/tlb.c (`flush_tlb_kernel_range`). Intel SDM volume 3, 5.10.4: invlpg also drops what is remembered of
//! the tables above the leaf, for all addresses; the kernel runs without CR4.PGE, so a load of CR3 drops everything.

use core::sync::atomic::{AtomicU64, Ordering};

use sync::{SpinLock, rank};
use units::{VirtAddr, VirtRange};

use crate::cpu_area::{this_area, this_cpu};
use crate::fence::ask_other_cpus;
use crate::instructions::{invalidate_page, reload_page_table};
use crate::paging::TABLE_SIZE;

/// Most pages that are flushed one by one (Linux: tlb_single_page_flush_ceiling).
const SINGLE_PAGES: u64 = 33;

static TURN: SpinLock<{ rank::LEAF }, ()> = SpinLock::new(());
/// Range of the flush whose turn it is; written before it is asked for, and not again before all have answered.
static START: AtomicU64 = AtomicU64::new(0);
static END: AtomicU64 = AtomicU64::new(0);

/// Flushes `range` on every CPU that runs.
pub(crate) fn flush_kernel_range(range: VirtRange) {
    let _turn = TURN.lock(this_cpu());
    // Relaxed: published by the request, which is counted after it.
    START.store(range.start.raw(), Ordering::Relaxed);
    END.store(range.end.raw(), Ordering::Relaxed);
    flush_here(range);
    ask_other_cpus(|area| &area.flush);
}

/// Answers what other CPUs asked of this one, in its NMI handler.
pub(crate) fn answer() {
    this_area().flush.answer(|| {
        // Relaxed: see `flush_kernel_range`.
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
