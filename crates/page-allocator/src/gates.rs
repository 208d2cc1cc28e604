//! Which zones are open to the short paths: what these would ask of a zone, answered beforehand.
//!
//! A byte a zone, side by side in the allocator and written only when an answer changes, so that every CPU has them in its cache. The
//! counters that the answers follow from lie in the zone, and change with each batch that moves.

use core::sync::atomic::{AtomicU8, Ordering};

use frame_table::FramePlace;
use units::Order;

use crate::zone::Zone;

/// What the short paths may do with a zone: a byte.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Gate(u8);

impl Gate {
    const ORDERS: u8 = 0x1f;
    const FREE: u8 = 1 << 7;

    pub(crate) const SHUT: Self = Self(0);

    /// Lets blocks be put on a CPU's list without asking further.
    pub(crate) const fn with_free(self) -> Self {
        Self(self.0 | Self::FREE)
    }

    /// Lets blocks of the lowest `orders` orders be taken without asking further.
    pub(crate) const fn with_orders(self, orders: u32) -> Self {
        Self(self.0 | (orders as u8 & Self::ORDERS))
    }

    /// Returns true if a block of `order` may be taken without asking further; a page whatever the request's flags, larger ones by requests
    /// without any privilege.
    #[inline(always)]
    pub(crate) const fn lets_take(self, order: Order) -> bool {
        self.0 & Self::ORDERS > order.raw()
    }

    /// Returns true if blocks may be put on a CPU's list without asking further.
    #[inline(always)]
    pub(crate) const fn lets_free(self) -> bool {
        self.0 & Self::FREE != 0
    }
}

/// The gates of all zones, by number.
#[derive(Debug)]
pub(crate) struct Gates {
    open: [AtomicU8; FramePlace::SLOTS],
    /// Pages of the largest block.
    largest: u64,
}

/// No zone's number, with a gate that is always shut. Zones are fewer than kinds times nodes.
pub(crate) const NO_ZONE: u16 = FramePlace::SLOTS as u16 - 1;

impl Gates {
    /// Makes the gates of zones whose largest blocks have `max_order`, all shut.
    pub(crate) const fn new(max_order: Order) -> Self {
        Self { open: [const { AtomicU8::new(Gate::SHUT.0) }; FramePlace::SLOTS], largest: max_order.nr_pages() }
    }

    /// Returns the gate of the zone of a number.
    #[inline(always)]
    pub(crate) fn of(&self, zone: u16) -> Gate {
        // Relaxed: an estimate, as what it follows from.
        Gate(self.open[usize::from(zone) % FramePlace::SLOTS].load(Ordering::Relaxed))
    }

    /// Returns true if the zone's gate is what follows from its state, which holds while nothing is under way.
    pub(crate) fn is_noted(&self, zone: &Zone) -> bool {
        self.of(zone.number as u16) == zone.gate(self.largest)
    }

    /// Notes what follows from the zone's state. Due when the zone lock is given up, and after changes without it; if both happen at once, an
    /// old answer may stand until the lock is given up again, that is for a batch.
    #[inline]
    pub(crate) fn note(&self, zone: &Zone) {
        let gate = zone.gate(self.largest);
        if self.of(zone.number as u16) != gate {
            // Relaxed: see `of`.
            self.open[zone.number % FramePlace::SLOTS].store(gate.0, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use units::{NodeId, Pfn, PfnRange, ZoneType};

    use super::*;
    use crate::zone::{ZoneFlags, ZoneSettings};

    const LARGEST: Order = Order::new_truncate(10);

    /// A zone of number 0 with `free` pages in blocks of order 3, and a high mark of 1,000.
    fn zone(free: i64) -> Zone {
        let zone = Zone::new(NodeId::ZERO, ZoneType::Normal, PfnRange::with_len(Pfn::ZERO, 1 << 20), 1 << 20, 0);
        zone.set_limits(&ZoneSettings { watermarks: [500, 700, 1000, 1200], ..ZoneSettings::default() });
        zone.account_free(units::MigrateType::Movable, free);
        zone.note_list(Order::new_truncate(3), units::MigrateType::Movable, true);
        zone
    }

    fn noted(zone: &Zone) -> Gate {
        let gates = Gates::new(LARGEST);
        gates.note(zone);
        assert!(gates.is_noted(zone));
        gates.of(0)
    }

    #[test]
    fn a_gate_opens_a_largest_block_above_the_high_mark() {
        assert!(!noted(&zone(1000 + 1024)).lets_take(Order::ZERO));
        assert!(noted(&zone(1000 + 1025)).lets_take(Order::ZERO));
    }

    #[test]
    fn a_gate_is_open_to_orders_that_have_a_block() {
        let gate = noted(&zone(5000));
        assert_eq!([0, 3, 4].map(|order| gate.lets_take(Order::new_truncate(order))), [true, true, false]);
    }

    #[test]
    fn flags_shut_the_gate_to_frees_and_a_boost_to_kswapd_to_allocations_too() {
        let zone = zone(5000);
        assert!(noted(&zone).lets_free());
        zone.set_flags(ZoneFlags::BELOW_HIGH);
        assert!(!noted(&zone).lets_free() && noted(&zone).lets_take(Order::ZERO));
        zone.set_flags(ZoneFlags::BOOSTED);
        assert_eq!(noted(&zone), Gate::SHUT);
    }

    #[test]
    fn no_zones_gate_is_shut() {
        let gates = Gates::new(LARGEST);
        gates.note(&zone(5000));
        assert_eq!(gates.of(NO_ZONE), Gate::SHUT);
    }
}
