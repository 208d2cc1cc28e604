//! Which zones are open to the short paths: what these would ask of a zone, answered beforehand.
//!
//! A byte a zone, side by side in the allocator and written only when an answer changes, so that every CPU has them in its cache. The
//! counters that the answers follow from lie in the zone, and change with each batch that moves.

use core::sync::atomic::{AtomicU8, Ordering};

use frame_table::FramePlace;

use crate::zone::Zone;

bitflags::bitflags! {
    /// What the short paths may do with a zone.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub(crate) struct Gate: u8 {
        /// Single pages may be taken without asking further, whatever the request's flags.
        const ALLOC = 1 << 0;
        /// Blocks may be put on a CPU's list without asking further.
        const FREE = 1 << 1;
    }
}

/// The gates of all zones, by number.
#[derive(Debug)]
pub(crate) struct Gates([AtomicU8; FramePlace::SLOTS]);

/// No zone's number, with a gate that is always shut. Zones are fewer than kinds times nodes.
pub(crate) const NO_ZONE: u16 = FramePlace::SLOTS as u16 - 1;

impl Gates {
    pub(crate) const fn shut() -> Self {
        Self([const { AtomicU8::new(0) }; FramePlace::SLOTS])
    }

    /// Returns true if the zone of this number is open for `gate`.
    #[inline(always)]
    pub(crate) fn is_open(&self, zone: u16, gate: Gate) -> bool {
        // Relaxed: an estimate, as what it follows from.
        let open = self.0[usize::from(zone) % FramePlace::SLOTS].load(Ordering::Relaxed);
        open & gate.bits() != 0
    }

    /// Returns true if the zone's gate is what follows from its state, which holds while nothing is under way.
    pub(crate) fn is_noted(&self, zone: &Zone) -> bool {
        // Relaxed: see `is_open`.
        self.0[zone.number % FramePlace::SLOTS].load(Ordering::Relaxed) == zone.gate().bits()
    }

    /// Notes what follows from the zone's state. Due when the zone lock is given up, and after changes without it; if both happen at once, an
    /// old answer may stand until the lock is given up again, that is for a batch.
    #[inline]
    pub(crate) fn note(&self, zone: &Zone) {
        let (entry, open) = (&self.0[zone.number % FramePlace::SLOTS], zone.gate().bits());
        // Relaxed: see `is_open`.
        if entry.load(Ordering::Relaxed) != open {
            entry.store(open, Ordering::Relaxed);
        }
    }
}
