//! What the pages of a range add up to, for smaps.
//!
//! A page counts in full in Rss, and in Pss by its share: its size over the number of entries that map it.
//! Linux 6.12: fs/proc/task_mmu.c (`struct mem_size_stats`, `smaps_account`, `smaps_page_accumulate`).

use frame_table::PageFlags;
use object_allocator::mmu::PageKind;
use page_tables::MappedPage;
use platform::Prot;
use units::Order;

/// Bits behind the point of a share of a page.
const PSS_SHIFT: u32 = 12;

/// Sums in bytes; shares with [`PSS_SHIFT`] bits behind the point.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct PageUsage {
    resident: u64,
    referenced: u64,
    anonymous: u64,
    lazy_free: u64,
    /// In large entries, by kind.
    huge: ByKind,
    shares: ByKind,
    share_dirty: u64,
    share_locked: u64,
    shared_clean: u64,
    shared_dirty: u64,
    private_clean: u64,
    private_dirty: u64,
}

/// A sum for each kind of page.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct ByKind {
    file: u64,
    anon: u64,
    shmem: u64,
}

impl ByKind {
    const fn add(&mut self, kind: PageKind, value: u64) {
        match kind {
            PageKind::File => self.file += value,
            PageKind::Anon => self.anon += value,
            PageKind::Shmem => self.shmem += value,
        }
    }

    const fn sum(&self) -> u64 {
        self.file + self.anon + self.shmem
    }
}

/// Whether the pages of an area are locked in memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Locked {
    /// mlock.
    Yes,
    /// Not.
    No,
}

impl PageUsage {
    /// Counts what an entry maps, of which `size` bytes lie in the area. The page of zeros belongs to nobody.
    pub(super) fn add(&mut self, mapped: &MappedPage, size: u64, locked: Locked) {
        let Some(page) = mapped.page else { return };
        let is_dirty = mapped.attributes.prot.contains(Prot::DIRTY) || page.flags.contains(PageFlags::DIRTY);
        if page.kind == PageKind::Anon {
            self.anonymous += size;
            if !is_dirty && !page.flags.contains(PageFlags::SWAPBACKED) {
                self.lazy_free += size;
            }
        }
        if mapped.order > Order::ZERO {
            self.huge.add(page.kind, size);
        }
        self.resident += size;
        let used = PageFlags::REFERENCED | PageFlags::YOUNG;
        if mapped.attributes.prot.contains(Prot::ACCESSED) || page.flags.intersects(used) {
            self.referenced += size;
        }
        // A single reference is this entry's.
        let sharers = if page.count == 1 { 1 } else { mapped.mapcount().max(1) };
        let share = (size << PSS_SHIFT) / sharers;
        self.shares.add(page.kind, share);
        if locked == Locked::Yes {
            self.share_locked += share;
        }
        if is_dirty {
            self.share_dirty += share;
        }
        *match (sharers > 1, is_dirty) {
            (false, false) => &mut self.private_clean,
            (false, true) => &mut self.private_dirty,
            (true, false) => &mut self.shared_clean,
            (true, true) => &mut self.shared_dirty,
        } += size;
    }

    /// Returns a field in kB by its name in smaps; 0 for what no machine here has: merged pages, pools of huge pages, swap.
    pub(super) fn kb(&self, name: &str) -> u64 {
        let share = |value: u64| value >> PSS_SHIFT;
        let bytes = match name {
            "Rss" => self.resident,
            "Pss" => share(self.shares.sum()),
            "Pss_Dirty" => share(self.share_dirty),
            "Pss_Anon" => share(self.shares.anon),
            "Pss_File" => share(self.shares.file),
            "Pss_Shmem" => share(self.shares.shmem),
            "Shared_Clean" => self.shared_clean,
            "Shared_Dirty" => self.shared_dirty,
            "Private_Clean" => self.private_clean,
            "Private_Dirty" => self.private_dirty,
            "Referenced" => self.referenced,
            "Anonymous" => self.anonymous,
            "LazyFree" => self.lazy_free,
            "AnonHugePages" => self.huge.anon,
            "ShmemPmdMapped" => self.huge.shmem,
            "FilePmdMapped" => self.huge.file,
            "Locked" => share(self.share_locked),
            _ => 0,
        };
        bytes >> 10
    }
}
