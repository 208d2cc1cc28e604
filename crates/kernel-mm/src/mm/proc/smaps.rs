//! smaps and smaps_rollup.
//!
//! Linux 6.12: fs/proc/task_mmu.c (`show_smap`, `show_smaps_rollup`), mm/huge_memory.c (`thp_vma_allowable_orders`).

use core::fmt::{self, Write};

use address_space::{HugePolicy, PAGE_SIZE, ProtectionKeys, Vma};
use page_allocator::Hooks;
use platform::Platform;
use proc_files::smaps::{SmapsArea, SmapsRollup};
use units::{VirtAddr, VirtRange, VmFlags};

use super::ProcMm;
use super::usage::{Locked, PageUsage};

impl<P: Platform, H: Hooks + Sync> ProcMm<'_, '_, P, H> {
    /// Writes /proc/PID/smaps.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write_smaps(&self, out: &mut dyn Write) -> fmt::Result {
        let settings = self.manager.spaces().settings();
        let policy = self.manager.spaces().huge_rules(self.mm).policy;
        let locked = self.mm.read(self.cpu);
        for vma in locked.areas() {
            let mut usage = PageUsage::default();
            self.add_usage(&mut usage, &vma);
            let values = |name: &str| match name {
                "Size" => vma.range.len() >> 10,
                "KernelPageSize" | "MMUPageSize" => PAGE_SIZE >> 10,
                "THPeligible" => u64::from(may_get_huge_pages(policy, settings.huge_page, &vma)),
                _ => usage.kb(name),
            };
            let (profile, flags) = (self.profile, vma.flags);
            let protection_key =
                (settings.keys == ProtectionKeys::Present).then(|| u8::from(vma.flags.contains(VmFlags::PKEY_BIT0)));
            self.with_line(locked.program(), &vma, &mut |area| {
                write!(out, "{}", SmapsArea { profile, area, values: &values, protection_key, flags })
            })?;
        }
        Ok(())
    }

    /// Writes /proc/PID/smaps_rollup.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write_smaps_rollup(&self, out: &mut dyn Write) -> fmt::Result {
        let locked = self.mm.read(self.cpu);
        let mut usage = PageUsage::default();
        let mut range = VirtRange::default();
        for vma in locked.areas() {
            range = range.joined(vma.range);
            self.add_usage(&mut usage, &vma);
        }
        let values = |name: &str| usage.kb(name);
        write!(out, "{}", SmapsRollup { profile: self.profile, range, values: &values })
    }

    fn add_usage(&self, usage: &mut PageUsage, vma: &Vma) {
        let locked = if vma.flags.contains(VmFlags::LOCKED) { Locked::Yes } else { Locked::No };
        self.manager.tables(self.cpu, self.mm).for_each_mapped(vma.range, |mapped| {
            usage.add(&mapped, mapped.range.intersection(vma.range).len(), locked);
        });
    }
}

/// Returns true if the area may get transparent huge pages. Files do not: no file system here makes large pages.
fn may_get_huge_pages(policy: HugePolicy, bytes: u64, vma: &Vma) -> bool {
    bytes != 0 && policy.admits(vma) && holds_aligned(vma.range, bytes)
}

/// Returns true if an aligned block of `bytes` fits at the end of `range`, which is where Linux looks. Where less than a block lies below the end, its
/// subtraction wraps and it says yes.
fn holds_aligned(range: VirtRange, bytes: u64) -> bool {
    match range.end.raw().checked_sub(bytes) {
        Some(last) => VirtAddr::new(last).align_down(bytes) >= range.start,
        None => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn area(start: u64, end: u64, flags: VmFlags) -> Vma {
        let range = VirtRange::new(VirtAddr::new(start), VirtAddr::new(end));
        Vma { range, flags, pgoff: 0, file: None, anon: None, uffd: 0, name: None }
    }

    #[test]
    fn huge_pages_need_an_aligned_block_and_permission() {
        let (may, large) = (may_get_huge_pages, 2 << 20);
        let (madvise, always) = (HugePolicy::Madvise, HugePolicy::Always);
        let huge = VmFlags::HUGEPAGE;
        assert!(may(madvise, large, &area(2 << 20, 4 << 20, huge)));
        assert!(may(madvise, large, &area(1 << 20, (4 << 20) + 4096, huge)));
        assert!(!may(madvise, large, &area(3 << 20, 5 << 20, huge)));
        assert!(!may(madvise, large, &area(2 << 20, 4 << 20, VmFlags::READ)));
        assert!(!may(madvise, large, &area(2 << 20, 4 << 20, huge | VmFlags::IO)));
        assert!(!may(madvise, 0, &area(2 << 20, 4 << 20, huge)));
        assert!(may(always, large, &area(0, 2 << 20, VmFlags::READ)));
        assert!(!may(always, large, &area(0, 2 << 20, VmFlags::NOHUGEPAGE)));
        assert!(!may(always, large, &area(2 << 20, 3 << 20, VmFlags::READ)));
        assert!(may(always, large, &area(1 << 16, 1 << 17, VmFlags::READ)), "the host's kernel says so too");
    }
}
