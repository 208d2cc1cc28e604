//! A zone: frames of one kind on one node, with its watermarks, counters and free lists.
//!
//! Locking: `lists` is the zone lock. Counters named `free_*`, `reserved_highatomic` and `non_empty` change only under it, so they
//! need no atomic read-modify-write; anyone reads them without it, as estimates. Watermarks change only in setup and boosting.
//! Linux 6.12: `struct zone`.

use core::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};

use frame_table::{FrameList, FramePlace};
use sync::{SpinLock, rank};
use units::{MigrateType, NodeId, Order, PfnRange, ZoneType};

use crate::gates::Gate;

/// Free blocks of one order and migratetype.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FreeList {
    pub(crate) blocks: FrameList,
    /// Number of blocks (Linux: nr_free, by type).
    pub(crate) nr_free: u32,
}

/// Free lists of a zone by order and migratetype, behind the zone lock.
#[derive(Debug)]
#[repr(align(64))]
pub(crate) struct FreeLists {
    pub(crate) areas: [[FreeList; MigrateType::COUNT]; Order::COUNT],
    /// Pages handed out and taken back without a per-CPU list.
    pub(crate) direct: ZoneEvents,
}

/// Event counts of one zone, kept per CPU and once for the paths without a per-CPU list. Units: pages for the first two.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ZoneEvents {
    /// Pages allocated (Linux: pgalloc_ZONE).
    pub allocated: u64,
    /// Pages freed (Linux: pgfree).
    pub freed: u64,
    /// Allocations that got the zone's node because they wanted it.
    pub numa_hit: u64,
    /// Allocations that got this node but wanted another.
    pub numa_miss: u64,
    /// Allocations that wanted this node but got another.
    pub numa_foreign: u64,
    /// Allocations from a CPU of this node.
    pub numa_local: u64,
    /// Allocations from a CPU of another node.
    pub numa_other: u64,
}

impl ZoneEvents {
    /// Adds the counts of `other`.
    pub const fn add(&mut self, other: &Self) {
        self.allocated += other.allocated;
        self.freed += other.freed;
        self.numa_hit += other.numa_hit;
        self.numa_miss += other.numa_miss;
        self.numa_foreign += other.numa_foreign;
        self.numa_local += other.numa_local;
        self.numa_other += other.numa_other;
    }
}

/// Which watermark an allocation must keep.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum Watermark {
    /// Below this only reserves are left.
    Min = 0,
    /// Below this kswapd starts.
    Low = 1,
    /// At this kswapd stops.
    High = 2,
    /// At this memory tiering promotes.
    Promo = 3,
}

/// Values of the watermarks and the reserve that the zone keeps from allocations that could go higher. Pages.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ZoneSettings {
    /// min, low, high, promo, without boost.
    pub watermarks: [u64; 4],
    /// By highest zone that the allocation accepts (Linux: lowmem_reserve, "protection").
    pub lowmem_reserve: [u64; ZoneType::COUNT],
    /// Fewest and most pages that a CPU's lists may hold, and the pages moved at a time.
    pub pcp: PcpLimits,
}

/// Limits of one zone's per-CPU lists. Pages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PcpLimits {
    /// Low end of the automatic high mark.
    pub high_min: u32,
    /// High end of the automatic high mark.
    pub high_max: u32,
    /// Pages moved between list and zone at a time.
    pub batch: u32,
}

impl PcpLimits {
    /// What Linux's boot page sets have: one page at a time, nothing kept.
    pub const BOOT: Self = Self { high_min: 0, high_max: 0, batch: 1 };
}

impl Default for PcpLimits {
    fn default() -> Self {
        Self::BOOT
    }
}

bitflags::bitflags! {
    /// Hints about a zone, set and cleared without its lock.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub(crate) struct ZoneFlags: u8 {
        /// Free memory fell below the high mark; the free path then shrinks the per-CPU lists (Linux: ZONE_BELOW_HIGH).
        const BELOW_HIGH = 1 << 0;
        /// Reclaim works on the zone (Linux: ZONE_RECLAIM_ACTIVE).
        const RECLAIM_ACTIVE = 1 << 1;
        /// kswapd should be woken for a boosted watermark (Linux: ZONE_BOOSTED_WATERMARK).
        const BOOSTED = 1 << 2;
    }
}

/// Whether requests may take what lies ready without asking further.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ShortWay {
    Open,
    /// Grouping is off, something is to be done with every block, or some requests are to fail.
    Closed,
}

/// A zone.
#[derive(Debug)]
#[repr(align(64))]
pub struct Zone {
    node: NodeId,
    kind: ZoneType,
    span: PfnRange,
    present: u64,
    managed: AtomicU64,
    watermarks: [AtomicU64; 4],
    boost: AtomicU64,
    lowmem_reserve: [AtomicU64; ZoneType::COUNT],
    pub(crate) pcp_limits: [AtomicU32; 3],
    pub(crate) number: usize,
    flags: AtomicU8,
    closed: AtomicBool,
    /// High watermark with boost, plus the largest reserve: above it a request that takes no privilege needs no other check. The largest number while the
    /// zone has `BOOSTED` or its short way is closed.
    plenty: AtomicI64,
    /// Free pages of the types that every request may use.
    free_plain: AtomicI64,
    free_cma: AtomicI64,
    free_highatomic: AtomicI64,
    pub(crate) reserved_highatomic: AtomicU64,
    /// Bit per order with a non-empty list, by migratetype.
    non_empty: [AtomicU16; MigrateType::COUNT],
    /// Those of the types that every request may use, together.
    plain_orders: AtomicU16,
    pub(crate) lists: SpinLock<{ rank::ZONE }, FreeLists>,
}

impl Zone {
    /// Makes an empty zone; `number` is its place in the allocator's table.
    pub fn new(node: NodeId, kind: ZoneType, span: PfnRange, present: u64, number: usize) -> Self {
        Self {
            node,
            kind,
            span,
            present,
            managed: AtomicU64::new(0),
            watermarks: [const { AtomicU64::new(0) }; 4],
            boost: AtomicU64::new(0),
            lowmem_reserve: [const { AtomicU64::new(0) }; ZoneType::COUNT],
            pcp_limits: [AtomicU32::new(0), AtomicU32::new(0), AtomicU32::new(1)],
            number,
            flags: AtomicU8::new(0),
            closed: AtomicBool::new(false),
            plenty: AtomicI64::new(i64::MAX),
            free_plain: AtomicI64::new(0),
            free_cma: AtomicI64::new(0),
            free_highatomic: AtomicI64::new(0),
            reserved_highatomic: AtomicU64::new(0),
            non_empty: [const { AtomicU16::new(0) }; MigrateType::COUNT],
            plain_orders: AtomicU16::new(0),
            lists: SpinLock::new(FreeLists {
                areas: [[FreeList { blocks: FrameList::new(), nr_free: 0 }; MigrateType::COUNT]; Order::COUNT],
                direct: ZoneEvents::default(),
            }),
        }
    }

    /// Returns node and kind as frames carry them.
    #[inline]
    pub const fn place(&self) -> FramePlace {
        FramePlace::new(self.node, self.kind)
    }

    /// Returns the node.
    #[inline]
    pub const fn node(&self) -> NodeId {
        self.node
    }

    /// Returns the kind.
    #[inline]
    pub const fn kind(&self) -> ZoneType {
        self.kind
    }

    /// Returns the frames from the first to the last, holes included (Linux: zone_start_pfn, spanned_pages).
    pub const fn span(&self) -> PfnRange {
        self.span
    }

    /// Returns the pages that exist (Linux: present_pages).
    pub const fn present(&self) -> u64 {
        self.present
    }

    /// Returns the pages that the allocator was given (Linux: managed_pages).
    pub fn managed(&self) -> u64 {
        // Relaxed: a count.
        self.managed.load(Ordering::Relaxed)
    }

    pub(crate) fn add_managed(&self, nr_pages: u64) {
        // Relaxed: a count; several CPUs may grow a zone at once.
        self.managed.fetch_add(nr_pages, Ordering::Relaxed);
    }

    /// Returns the free pages that allocations can get (Linux: NR_FREE_PAGES; isolated pages are not counted).
    #[inline]
    pub fn free_pages(&self) -> u64 {
        // Relaxed: an estimate outside the zone lock.
        self.free_plain.load(Ordering::Relaxed).max(0) as u64 + self.free_cma() + self.free_highatomic()
    }

    /// Returns the free pages in CMA pageblocks (Linux: NR_FREE_CMA_PAGES).
    #[inline]
    pub fn free_cma(&self) -> u64 {
        // Relaxed: an estimate outside the zone lock.
        self.free_cma.load(Ordering::Relaxed).max(0) as u64
    }

    /// Returns the free pages in HighAtomic pageblocks (Linux: nr_free_highatomic).
    #[inline]
    pub fn free_highatomic(&self) -> u64 {
        // Relaxed: an estimate outside the zone lock.
        self.free_highatomic.load(Ordering::Relaxed).max(0) as u64
    }

    /// Returns the pages of pageblocks reserved for atomic allocations (Linux: nr_reserved_highatomic).
    pub fn reserved_highatomic(&self) -> u64 {
        // Relaxed: an estimate outside the zone lock.
        self.reserved_highatomic.load(Ordering::Relaxed)
    }

    /// Counts `delta` free pages of a type. The caller holds the zone lock, which makes load and store one step.
    #[inline]
    pub(crate) fn account_free(&self, migratetype: MigrateType, delta: i64) {
        // In this order: nearly all memory is of the plain types.
        let counter = if migratetype.is_mergeable() {
            &self.free_plain
        } else {
            match migratetype {
                MigrateType::Cma => &self.free_cma,
                MigrateType::HighAtomic => &self.free_highatomic,
                _ => return,
            }
        };
        counter.store(counter.load(Ordering::Relaxed) + delta, Ordering::Relaxed);
    }

    /// Returns the orders that have a free block of this type, as bits.
    #[inline]
    pub(crate) fn orders_with(&self, migratetype: MigrateType) -> u16 {
        // Relaxed: exact under the zone lock, an estimate without it.
        self.non_empty[migratetype.index()].load(Ordering::Relaxed)
    }

    /// Notes whether a list holds blocks. The caller holds the zone lock.
    #[inline]
    pub(crate) fn note_list(&self, order: Order, migratetype: MigrateType, holds_blocks: bool) {
        let bits = &self.non_empty[migratetype.index()];
        let (old, bit) = (bits.load(Ordering::Relaxed), 1 << order.raw());
        let value = if holds_blocks { old | bit } else { old & !bit };
        if value != old {
            bits.store(value, Ordering::Relaxed);
            self.note_plain_orders();
        }
    }

    fn note_plain_orders(&self) {
        let orders = self.non_empty[..MigrateType::PCP_COUNT].iter().map(|bits| bits.load(Ordering::Relaxed));
        self.plain_orders.store(orders.fold(0, |all, bits| all | bits), Ordering::Relaxed);
    }

    /// Returns a watermark, boost included (Linux: wmark_pages).
    #[inline]
    pub fn watermark(&self, mark: Watermark) -> u64 {
        // Relaxed: tuned rarely; an old value is as good as a new one.
        self.watermarks[mark as usize].load(Ordering::Relaxed) + self.boost.load(Ordering::Relaxed)
    }

    /// Returns a watermark without its boost.
    pub fn plain_watermark(&self, mark: Watermark) -> u64 {
        // Relaxed: see `watermark`.
        self.watermarks[mark as usize].load(Ordering::Relaxed)
    }

    /// Returns the boost of the watermarks after fallbacks. Pages.
    pub fn boost(&self) -> u64 {
        // Relaxed: see `watermark`.
        self.boost.load(Ordering::Relaxed)
    }

    /// Sets the boost; reclaim lowers it, a fallback under the zone lock raises it.
    pub(crate) fn set_boost(&self, nr_pages: u64) {
        // Relaxed: see `watermark`.
        self.boost.store(nr_pages, Ordering::Relaxed);
        self.note_plenty();
    }

    /// Recomputes what follows from watermark, boost, reserves and flags.
    fn note_plenty(&self) {
        let high = self.watermark(Watermark::High);
        // Relaxed: see `set_short_way`.
        let closed = self.flags().contains(ZoneFlags::BOOSTED) || self.closed.load(Ordering::Relaxed);
        // Relaxed: see `watermark`. A zone that a request prefers has no zone above it that the request may use, so what it keeps from the
        // request is nothing; the largest reserve makes that no condition.
        let reserve = self.lowmem_reserve.iter().map(|reserve| reserve.load(Ordering::Relaxed)).max().unwrap_or(0);
        let mark = i64::try_from(high.saturating_add(reserve)).unwrap_or(i64::MAX);
        self.plenty.store(if closed { i64::MAX } else { mark }, Ordering::Relaxed);
    }

    /// Returns what the short paths may do here, where the largest block has `largest` pages. What is taken is far from every limit of the
    /// zone, there is a block for it on the zone's lists, and nothing is to be done for the zone on the way.
    #[inline]
    pub(crate) fn gate(&self, largest: u64) -> Gate {
        // Relaxed: estimates, as where they are read one by one; see `set_short_way`.
        let has_plenty = self.free_plain.load(Ordering::Relaxed) - largest as i64 > self.plenty.load(Ordering::Relaxed);
        let orders = if has_plenty { u16::BITS - self.plain_orders.load(Ordering::Relaxed).leading_zeros() } else { 0 };
        let gate = Gate::SHUT.with_orders(orders);
        if self.has_flags() || self.closed.load(Ordering::Relaxed) { gate } else { gate.with_free() }
    }

    /// Opens or closes the short way to the zone's memory.
    pub(crate) fn set_short_way(&self, short_way: ShortWay) {
        // Relaxed: set at boot.
        self.closed.store(short_way == ShortWay::Closed, Ordering::Relaxed);
        self.note_plenty();
    }

    /// Returns the hints.
    #[inline]
    pub(crate) fn flags(&self) -> ZoneFlags {
        // Relaxed: hints; acting on an old one costs a batch more or less.
        ZoneFlags::from_bits_retain(self.flags.load(Ordering::Relaxed))
    }

    /// Returns true if there is any hint.
    #[inline(always)]
    pub(crate) fn has_flags(&self) -> bool {
        // Relaxed: see `flags`.
        self.flags.load(Ordering::Relaxed) != 0
    }

    /// Sets hints.
    pub(crate) fn set_flags(&self, flags: ZoneFlags) {
        // Relaxed: see `flags`.
        self.flags.fetch_or(flags.bits(), Ordering::Relaxed);
        self.note_plenty();
    }

    /// Clears hints.
    pub(crate) fn clear_flags(&self, flags: ZoneFlags) {
        // Relaxed: see `flags`.
        self.flags.fetch_and(!flags.bits(), Ordering::Relaxed);
        self.note_plenty();
    }

    /// Returns the pages kept from allocations that accept zones up to `highest`.
    #[inline]
    pub fn lowmem_reserve(&self, highest: ZoneType) -> u64 {
        // Relaxed: see `watermark`.
        self.lowmem_reserve[highest.index()].load(Ordering::Relaxed)
    }

    /// Returns the limits of the zone's per-CPU lists.
    pub fn pcp_limits(&self) -> PcpLimits {
        // Relaxed: see `watermark`.
        let [high_min, high_max, batch] = [0, 1, 2].map(|index: usize| self.pcp_limits[index].load(Ordering::Relaxed));
        PcpLimits { high_min, high_max, batch }
    }

    pub(crate) fn set_limits(&self, limits: &ZoneSettings) {
        // Relaxed: see `watermark`.
        for (mark, value) in self.watermarks.iter().zip(limits.watermarks) {
            mark.store(value, Ordering::Relaxed);
        }
        for (reserve, value) in self.lowmem_reserve.iter().zip(limits.lowmem_reserve) {
            reserve.store(value, Ordering::Relaxed);
        }
        let pcp = [limits.pcp.high_min, limits.pcp.high_max, limits.pcp.batch];
        for (limit, value) in self.pcp_limits.iter().zip(pcp) {
            limit.store(value, Ordering::Relaxed);
        }
        self.note_plenty();
    }
}
