//! Work that Linux's kernel threads and work queues do now and then; here the machine calls it when it sees fit.
//!
//! Linux 6.12: mm/vmstat.c (`vmstat_update`).

use page_allocator::Hooks;
use platform::Platform;
use sync::Cpu;

use crate::kernel::Kernel;

impl<P: Platform, H: Hooks> Kernel<P, H> {
    /// Folds what this CPU counted into the machine's counters, and shrinks its page lists by what it did not need. Once a second on
    /// each CPU (Linux: vmstat_update, sysctl vm.stat_interval).
    ///
    /// Returns how much there was and is to do: counters that changed, and page lists that gave pages back or may have to. A CPU
    /// without any may be left alone until it allocates again.
    pub fn vmstat_update(&self, cpu: &Cpu) -> u64 {
        self.objects().vmstat().refresh_cpu(cpu) + self.pages().decay_pcp_high(cpu)
    }
}
