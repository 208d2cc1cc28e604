//! PG_ flags of a frame.
//!
//! Linux 6.12: include/linux/page-flags.h. Flags that later kernels dropped keep their names and are marked (h).

bitflags::bitflags! {
    /// State bits of a frame or folio; the low half of the flags word.
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
    pub struct PageFlags: u32 {
        /// Locked: do not touch.
        const LOCKED = 1 << 0;
        /// Under writeback.
        const WRITEBACK = 1 << 1;
        /// Accessed since last looked at.
        const REFERENCED = 1 << 2;
        /// Contents are valid.
        const UPTODATE = 1 << 3;
        /// Contents differ from the backing store.
        const DIRTY = 1 << 4;
        /// On an LRU list.
        const LRU = 1 << 5;
        /// Head of a compound page.
        const HEAD = 1 << 6;
        /// Someone waits for a bit of this page.
        const WAITERS = 1 << 7;
        /// On the active list.
        const ACTIVE = 1 << 8;
        /// Part of the working set when last evicted.
        const WORKINGSET = 1 << 9;
        /// For the owner (file system: checked; anonymous memory: swap cache).
        const OWNER_PRIV_1 = 1 << 10;
        /// For the owner.
        const OWNER_2 = 1 << 11;
        /// For the architecture.
        const ARCH_1 = 1 << 12;
        /// Not for the page allocator: firmware, kernel image, boot memory, holes.
        const RESERVED = 1 << 13;
        /// `private` holds file-system data.
        const PRIVATE = 1 << 14;
        /// `private` holds more data of the owner.
        const PRIVATE_2 = 1 << 15;
        /// To be reclaimed as soon as it is written.
        const RECLAIM = 1 << 16;
        /// Backed by swap.
        const SWAPBACKED = 1 << 17;
        /// Must stay in memory.
        const UNEVICTABLE = 1 << 18;
        /// Locked by mlock.
        const MLOCKED = 1 << 19;
        /// Broken hardware.
        const HWPOISON = 1 << 20;
        /// Young, for idle tracking.
        const YOUNG = 1 << 21;
        /// Idle, for idle tracking.
        const IDLE = 1 << 22;
        /// Tail of a compound page (h: a bit of its own before compound_head).
        const TAIL = 1 << 23;
        /// An I/O error happened (h).
        const ERROR = 1 << 24;
        /// Owned by a slab (h: a page type since 6.10).
        const SLAB = 1 << 25;
        /// Blocks allocated on disk (h: an alias of OWNER_2 since 6.11).
        const MAPPED_TO_DISK = 1 << 26;
        /// Mapped uncached (h).
        const UNCACHED = 1 << 27;

        /// In the swap cache, for anonymous memory.
        const SWAPCACHE = Self::OWNER_PRIV_1.bits();
        /// Belongs to one address space alone, for anonymous memory: who writes need not copy it.
        const ANON_EXCLUSIVE = Self::OWNER_2.bits();
        /// Readahead marker; shares a bit with RECLAIM.
        const READAHEAD = Self::RECLAIM.bits();
        /// What a page takes along to another frame (Linux: folio_migrate_flags).
        const MIGRATED = Self::REFERENCED.bits() | Self::UPTODATE.bits() | Self::DIRTY.bits() | Self::WORKINGSET.bits()
            | Self::SWAPBACKED.bits() | Self::YOUNG.bits() | Self::IDLE.bits();
        /// Flags that must be clear when a page is freed.
        const CHECK_AT_FREE = Self::LRU.bits() | Self::LOCKED.bits() | Self::PRIVATE.bits() | Self::PRIVATE_2.bits()
            | Self::WRITEBACK.bits() | Self::RESERVED.bits() | Self::SLAB.bits() | Self::ACTIVE.bits()
            | Self::UNEVICTABLE.bits() | Self::MLOCKED.bits();
        /// Flags that must be clear when a page is handed out; freeing clears the others.
        const CHECK_AT_PREP = !Self::HWPOISON.bits();
    }
}
