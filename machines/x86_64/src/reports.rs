//! The state of the page allocator in the words of /proc/buddyinfo and /proc/zoneinfo, on the console.

use core::fmt::Write;

use proc_files::buddyinfo::FreeBlocks;
use units::Order;

use crate::console::ConsoleLog;
use crate::cpu_area::this_cpu;
use crate::kernel::BareKernel;

/// Prints the free blocks of every zone by order.
pub(crate) fn print_buddyinfo(kernel: &BareKernel) {
    let pages = kernel.pages();
    let orders = pages.map().geometry.max_order.index() + 1;
    for zone in pages.zones() {
        let mut nr_free = [0; Order::COUNT];
        for (sum, by_type) in nr_free.iter_mut().zip(pages.free_counts(this_cpu(), zone)) {
            *sum = by_type.iter().map(|&count| u64::from(count)).sum();
        }
        let nr_free = nr_free.get(..orders).unwrap_or_default();
        // The console cannot fail.
        let _ = writeln!(ConsoleLog, "{}", FreeBlocks { node: zone.node(), zone: zone.kind(), nr_free });
    }
}
