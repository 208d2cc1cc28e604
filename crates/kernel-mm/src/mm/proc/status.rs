//! The memory lines of status, and statm.
//!
//! Linux 6.12: fs/proc/task_mmu.c (`task_mem`, `task_statm`).

use core::fmt::{self, Write};

use address_space::{MmFlags, PAGE_SHIFT, PAGE_SIZE, ProgramRanges, VmCounters};
use page_allocator::Hooks;
use platform::Platform;
use proc_files::statm::Statm;
use proc_files::status::{Status, Task};

use super::ProcMm;

impl<P: Platform, H: Hooks + Sync> ProcMm<'_, '_, P, H> {
    /// Writes /proc/PID/status of a task.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write_status(&self, out: &mut dyn Write, task: &Task<'_>) -> fmt::Result {
        let (counters, program) = self.figures();
        let tables = self.mm.tables();
        let (rss, peak_rss, nr_tables) = (tables.rss(), tables.peak_rss(), tables.nr_tables());
        let code = code_pages(&program).min(counters.exec);
        let may_have_huge = !self.mm.flags().contains(MmFlags::DISABLE_THP);
        let has_huge_pages = may_have_huge && self.manager.spaces().settings().huge_page != 0;
        let values = |name: &str| {
            let pages = match name {
                "VmPeak" => counters.peak(),
                "VmSize" => counters.total,
                "VmLck" => counters.locked,
                "VmPin" => counters.pinned,
                "VmHWM" => peak_rss,
                "VmRSS" => rss.resident(),
                "RssAnon" => rss.anon,
                "RssFile" => rss.file,
                "RssShmem" => rss.shmem,
                "VmData" => counters.data,
                "VmStk" => counters.stack,
                "VmExe" => code,
                "VmLib" => counters.exec - code,
                "VmPTE" => nr_tables,
                "VmSwap" => rss.swap,
                "THP_enabled" => return u64::from(has_huge_pages),
                // There is no pool of huge pages.
                _ => 0,
            };
            pages << (PAGE_SHIFT - 10)
        };
        write!(out, "{}", Status { profile: self.profile, task, memory: Some(&values) })
    }

    /// Returns /proc/PID/statm.
    pub fn statm(&self) -> Statm {
        let (counters, program) = self.figures();
        let rss = self.mm.tables().rss();
        Statm {
            size: counters.total,
            resident: rss.resident(),
            shared: rss.file + rss.shmem,
            text: code_pages(&program),
            data: counters.data + counters.stack,
        }
    }

    fn figures(&self) -> (VmCounters, ProgramRanges) {
        let locked = self.mm.read(self.cpu);
        (*locked.counters(), *locked.program())
    }
}

/// Returns the pages that the program's code touches.
fn code_pages(program: &ProgramRanges) -> u64 {
    let (start, end) = (program.code.start.align_down(PAGE_SIZE), program.code.end.align_up(PAGE_SIZE));
    end.since(start) >> PAGE_SHIFT
}
