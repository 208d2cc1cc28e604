//! How many pages a per-CPU set takes, gives back and keeps: pure rules over its counters.
//!
//! `high` follows the load between `high_min` and `high_max`: it grows by what is refilled and by bursts of frees, shrinks when
//! memory gets short, and decays by an eighth per vmstat interval. Batches double while only allocations, or only frees, happen.
//! All figures are pages unless said otherwise. Linux 6.12: `nr_pcp_alloc`, `nr_pcp_high`, `nr_pcp_free`, `decay_pcp_high`,
//! `free_unref_page_commit`.

use units::Order;

use crate::zone::PcpLimits;

/// State of a zone that the rules look at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ZonePressure {
    /// Free memory is above the high watermark as far as anyone looked.
    None,
    /// Free memory fell below the high watermark.
    BelowHigh,
    /// Reclaim works on the zone.
    ReclaimActive,
}

/// How many pages must have been freed in a row before frees of high orders empty a set.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum FreeHighRule {
    /// A batch (up to Linux 6.15).
    #[default]
    Batch,
    /// A batch and half of `high_min`: a task that frees a few dozen pages no longer gives the CPU's lists away (since 6.16).
    BatchAndHalfOfHighMin,
    /// They never do, so a CPU whose load mixes orders keeps its blocks up to `high`; not in Linux.
    Never,
}

/// Whether a run of frees of high orders empties the set (Linux: the `free_high` of free_frozen_page_commit).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FreeHigh {
    /// It does not.
    No,
    /// It does.
    Yes,
}

/// Counters of one CPU's set for one zone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PcpCounters {
    /// Pages that may still be put on the lists before their number reaches `high`, where some go back: 0 for the last one below. The number
    /// follows from it, so that a free changes and tests one counter.
    room: i32,
    /// Pages that the lists may hold before some go back.
    high: u32,
    /// Limits of `high`, and the base batch.
    pub limits: PcpLimits,
    /// log2 of how much larger than the batch the next order-0 refill is.
    pub alloc_factor: u32,
    /// Pages freed in a row, until they are the batch scaled up or more; halved by every allocation.
    pub free_count: u32,
    /// The last free was of an order between 1 and the costly order (Linux: PCPF_PREV_FREE_HIGH_ORDER).
    pub prev_free_high_order: bool,
    /// High orders are given back in batches only, since the CPU's cache holds three batches (Linux: PCPF_FREE_HIGH_BATCH).
    pub free_high_batch: bool,
    /// When frees of high orders empty the set.
    free_high_rule: FreeHighRule,
    /// Pages freed in a row from which on they do.
    free_high_run: u32,
    /// log2 of how far a batch may grow (Linux: CONFIG_PCP_BATCH_SCALE_MAX).
    batch_scale_max: u32,
    /// Pages from which on a run of frees is not counted any further: the batch scaled up.
    longest_run: u32,
}

impl PcpCounters {
    /// Returns the counters of an empty set.
    pub const fn new(limits: PcpLimits, batch_scale_max: u32) -> Self {
        Self {
            room: limits.high_min.cast_signed() - 1,
            high: limits.high_min,
            limits,
            alloc_factor: 0,
            free_count: 0,
            prev_free_high_order: false,
            free_high_batch: true,
            free_high_rule: FreeHighRule::Batch,
            free_high_run: limits.batch,
            batch_scale_max,
            longest_run: limits.batch << batch_scale_max,
        }
    }

    /// Sets the limits and how far a batch may grow; `high` starts at the low one, and keeps within them from then on.
    pub fn set_limits(&mut self, limits: PcpLimits, batch_scale_max: u32) {
        if self.limits == PcpLimits::BOOT {
            self.set_high(limits.high_min);
        }
        self.limits = limits;
        self.batch_scale_max = batch_scale_max;
        self.longest_run = limits.batch << batch_scale_max;
        self.set_free_high_rule(self.free_high_rule);
        self.clamp_high();
    }

    /// Chooses when frees of high orders empty the set.
    pub const fn set_free_high_rule(&mut self, rule: FreeHighRule) {
        self.free_high_rule = rule;
        self.free_high_run = match rule {
            FreeHighRule::Batch => self.limits.batch,
            FreeHighRule::BatchAndHalfOfHighMin => self.limits.batch + self.limits.high_min / 2,
            // No run gets that long.
            FreeHighRule::Never => u32::MAX,
        };
    }

    const fn is_auto_tuned(&self) -> bool {
        self.limits.high_min != self.limits.high_max
    }

    /// Returns the pages on the lists.
    #[inline]
    pub const fn count(&self) -> u32 {
        self.high.wrapping_sub_signed(self.room).wrapping_sub(1)
    }

    /// Returns the pages that the lists may hold before some go back.
    #[inline]
    pub const fn high(&self) -> u32 {
        self.high
    }

    pub(crate) const fn set_high(&mut self, high: u32) {
        self.room = self.room.wrapping_add_unsigned(high).wrapping_sub_unsigned(self.high);
        self.high = high;
    }

    fn clamp_high(&mut self) -> u32 {
        self.set_high(self.high.clamp(self.limits.high_min, self.limits.high_max.max(self.limits.high_min)));
        self.high
    }

    /// Notes pages that were put on the lists.
    #[inline(always)]
    pub(crate) const fn note_added(&mut self, nr_pages: u32) {
        self.room = self.room.wrapping_sub_unsigned(nr_pages);
    }

    /// Notes pages that were taken off the lists.
    #[inline(always)]
    pub(crate) const fn note_removed(&mut self, nr_pages: u32) {
        self.room = self.room.wrapping_add_unsigned(nr_pages);
    }

    /// Notes an allocation: a run of frees counts half as long.
    #[inline]
    pub const fn note_alloc(&mut self) {
        self.free_count >>= 1;
    }

    /// Returns how many blocks of `order` to take from the zone when a list is empty.
    pub fn refill_blocks(&mut self, order: Order, pressure: ZonePressure) -> u32 {
        let base = self.limits.batch;
        let mut high = self.clamp_high();
        // A boot set, or per-CPU lists switched off: keep nothing.
        if high < base {
            return 1;
        }
        let mut batch = if order == Order::ZERO { base << self.alloc_factor } else { base };
        if self.is_auto_tuned() && pressure != ZonePressure::BelowHigh {
            high = high.saturating_add(batch).min(self.limits.high_max);
            self.set_high(high);
        }
        if order == Order::ZERO {
            let room = high.saturating_sub(self.count()).saturating_sub(base).max(base);
            if batch <= room && self.alloc_factor < self.batch_scale_max {
                self.alloc_factor += 1;
            }
            batch = batch.min(room);
        }
        if batch > 1 { (batch >> order.raw()).max(2) } else { batch }
    }

    /// Notes that a block of `order` was put on a list; returns whether the frees of high orders now empty the set.
    #[inline(always)]
    pub fn note_free(&mut self, order: Order) -> FreeHigh {
        if order > Order::ZERO {
            return self.note_high_order_free(order);
        }
        self.note_page_free();
        FreeHigh::No
    }

    /// Notes that a single page was put on a list; returns whether there may be a surplus, as [`PcpCounters::is_over`] does.
    #[inline(always)]
    pub fn note_page_free(&mut self) -> bool {
        self.alloc_factor >>= 1;
        self.prev_free_high_order = false;
        self.free_count += u32::from(self.free_count < self.longest_run);
        self.note_added(1);
        self.room < 0
    }

    /// As [`PcpCounters::note_free`], for a block of several pages.
    #[inline(always)]
    pub(crate) fn note_high_order_free(&mut self, order: Order) -> FreeHigh {
        self.alloc_factor >>= 1;
        let nr_pages = order.nr_pages() as u32;
        self.note_added(nr_pages);
        let free_high = if order <= Order::COSTLY { self.after_high_order() } else { FreeHigh::No };
        self.prev_free_high_order = order <= Order::COSTLY;
        // The block that reaches the longest run counts whole.
        if self.free_count < self.longest_run {
            self.free_count += nr_pages;
        }
        free_high
    }

    /// High orders kept by a CPU that only frees would fragment memory for the others.
    #[inline]
    fn after_high_order(&self) -> FreeHigh {
        let empties = self.free_count >= self.free_high_run
            && self.prev_free_high_order
            && (!self.free_high_batch || self.count() >= self.limits.batch);
        if empties { FreeHigh::Yes } else { FreeHigh::No }
    }

    /// Returns true if there may be a surplus in a zone without pressure. `high` keeps within its limits while they stay, so below it
    /// nothing changes and nothing goes.
    #[inline(always)]
    pub fn is_over(&self, free_high: FreeHigh) -> bool {
        self.room < 0 || free_high == FreeHigh::Yes
    }

    /// Returns how many pages to give back to the zone after a free, adjusting `high`.
    pub fn surplus(&mut self, free_high: FreeHigh, pressure: ZonePressure) -> u32 {
        let high = self.high_for_free(free_high, pressure);
        if self.count() >= high { self.drain_pages(high, free_high) } else { 0 }
    }

    /// Returns the mark at which pages go back, adjusting `high` (Linux: nr_pcp_high).
    fn high_for_free(&mut self, free_high: FreeHigh, pressure: ZonePressure) -> u32 {
        let high = self.clamp_high();
        if high == 0 {
            return 0;
        }
        let PcpLimits { high_min, high_max, batch } = self.limits;
        if matches!(free_high, FreeHigh::Yes) {
            self.set_high(high.saturating_sub(self.longest_run).max(high_min));
            return 0;
        }
        let freed = self.free_count.max(batch);
        match pressure {
            ZonePressure::ReclaimActive => {
                self.set_high(high.saturating_sub(freed).max(high_min));
                (batch << 2).min(self.high)
            }
            _ if !self.is_auto_tuned() => high,
            ZonePressure::BelowHigh => {
                self.set_high(high.saturating_sub(freed).max(high_min));
                self.count().max(high_min)
            }
            ZonePressure::None => {
                if self.count() >= high {
                    let needed = self.free_count + batch;
                    if self.high < needed {
                        self.set_high(needed.clamp(high_min, high_max));
                    }
                }
                high
            }
        }
    }

    /// Returns how many pages go back at once: as many as were freed in a row, leaving a batch (Linux: nr_pcp_free).
    const fn drain_pages(&self, high: u32, free_high: FreeHigh) -> u32 {
        let batch = self.limits.batch;
        if matches!(free_high, FreeHigh::Yes) {
            let scaled = self.longest_run;
            return if self.count() < scaled { self.count() } else { scaled };
        }
        if high < batch {
            return 1;
        }
        // In this order: where `most` is less than a batch, it is what counts.
        let most = high - batch;
        if self.free_count >= most {
            most
        } else if self.free_count > batch {
            self.free_count
        } else {
            batch
        }
    }

    /// Lowers `high` at a vmstat interval; returns the pages above it, which go back (Linux: decay_pcp_high).
    pub fn decay(&mut self) -> u32 {
        if self.high > self.limits.high_min {
            let by_count = self.count().saturating_sub(self.longest_run);
            let by_time = self.high - (self.high >> 3);
            self.set_high(by_count.max(by_time).max(self.limits.high_min));
        }
        self.count().saturating_sub(self.high)
    }
}

#[cfg(test)]
#[path = "pcp_rules_tests.rs"]
mod tests;
