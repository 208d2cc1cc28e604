//! What khugepaged does to an address space when its turn comes: looks for small pages that may become large ones.
//!
//! Who embeds this decides when: Linux gives each address space with huge pages a turn of 4,096 pages (8 blocks) and sleeps ten seconds between turns.
//! Linux 6.12: mm/khugepaged.c (`khugepaged_scan_mm_slot`).

use address_space::{Mm, Process};
use page_allocator::Hooks;
use page_fault::KhugepagedLimits;
use platform::Platform;
use sync::Cpu;
use units::{VirtAddr, VirtRange};

use super::MemoryManager;

/// What a turn came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KhugepagedScan {
    /// Where the next turn goes on; `None` at the end of the address space.
    pub next: Option<VirtAddr>,
    /// Places that were looked at.
    pub blocks: u64,
    /// Large pages that were made.
    pub gathered: u64,
}

impl<'k, P: Platform, H: Hooks + Sync> MemoryManager<'k, P, H> {
    /// Looks at up to `blocks` places for large pages from `from` on, and puts small pages into large ones where `limits` permit it. The address space is locked for
    /// writing.
    pub fn khugepaged_scan(
        &self,
        cpu: &Cpu,
        mm: &Mm<'k>,
        from: VirtAddr,
        blocks: u64,
        limits: KhugepagedLimits,
    ) -> KhugepagedScan {
        let (process, settings) = (Process::default(), self.spaces.settings());
        let (bytes, release) = (settings.huge_page, settings.release);
        let call = self.call(cpu, mm, &process);
        let faults = call.backing.faults();
        let (mut at, mut left, mut gathered) = (from, blocks, 0);
        while left > 0 {
            let Some(vma) = call.mm.find(at) else {
                return KhugepagedScan { next: None, blocks: blocks - left, gathered };
            };
            let block = VirtRange::with_len(at.max(vma.start()).align_up(bytes), bytes);
            if block.end > vma.end() || !faults.may_gather(&vma) {
                at = vma.end();
                continue;
            }
            // Faults would write to pages that are being copied.
            call.hold_area(vma.start());
            gathered += u64::from(faults.khugepaged(&vma, block, limits, release));
            at = block.end;
            left -= 1;
        }
        KhugepagedScan { next: Some(at), blocks, gathered }
    }
}
