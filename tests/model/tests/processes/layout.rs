//! Where the areas of the stress lie, and what both CPUs know of each.

use std::sync::atomic::{AtomicU64, Ordering};

use units::{VirtAddr, VirtRange};

pub(crate) const PAGE: u64 = 4096;
/// Areas of each CPU.
pub(crate) const AREAS: usize = 6;
/// Pages of an area that are written.
pub(crate) const SAMPLES: usize = 8;
const FIRST: u64 = 0x10_0000_0000;
const SLOT: u64 = 32 << 20;

/// What lies behind an area.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// Small, private.
    Private,
    /// Room for large pages, private.
    Large,
    /// Shared with children.
    Shared,
}

pub(crate) fn kind(area: usize) -> Kind {
    match area % AREAS {
        0 => Kind::Large,
        1 => Kind::Shared,
        _ => Kind::Private,
    }
}

/// Pages from one sample to the next.
pub(crate) fn stride(area: usize) -> u64 {
    if kind(area) == Kind::Large { 128 } else { 2 }
}

pub(crate) fn len(area: usize) -> u64 {
    stride(area) * SAMPLES as u64 * PAGE
}

/// Returns where an area lies when it is in `slot`, one of two.
pub(crate) fn place(area: usize, slot: u64) -> VirtRange {
    VirtRange::with_len(VirtAddr::new(FIRST + (2 * area as u64 + slot) * SLOT), len(area))
}

/// Returns the pages from sample `first` to the one before `behind`.
pub(crate) fn part(area: usize, slot: u64, first: usize, behind: usize) -> VirtRange {
    let start = place(area, slot).start.saturating_add(first as u64 * stride(area) * PAGE);
    VirtRange::with_len(start, (behind - first) as u64 * stride(area) * PAGE)
}

/// What is known of an area to everybody.
#[derive(Debug, Default)]
pub(crate) struct Area {
    /// The slot that it is in.
    slot: AtomicU64,
    /// How often contents were discarded; odd while they are.
    discards: AtomicU64,
    /// The number that its CPU wrote last to each sample since the last discard, once it is written.
    written: [AtomicU64; SAMPLES],
}

impl Area {
    pub(crate) fn slot(&self) -> u64 {
        self.slot.load(Ordering::SeqCst)
    }

    pub(crate) fn move_to(&self, slot: u64) {
        self.slot.store(slot, Ordering::SeqCst);
    }

    pub(crate) fn discards(&self) -> u64 {
        self.discards.load(Ordering::SeqCst)
    }

    pub(crate) fn written(&self, sample: usize) -> u64 {
        self.written[sample].load(Ordering::SeqCst)
    }

    pub(crate) fn publish(&self, sample: usize, number: u64) {
        self.written[sample].store(number, Ordering::SeqCst);
    }

    /// Runs `discard`, which may lose contents.
    pub(crate) fn discarding<R>(&self, discard: impl FnOnce() -> R) -> R {
        self.discards.fetch_add(1, Ordering::SeqCst);
        self.written.iter().for_each(|number| number.store(0, Ordering::SeqCst));
        let result = discard();
        self.discards.fetch_add(1, Ordering::SeqCst);
        result
    }
}

/// All areas: those of CPU 0, then those of CPU 1.
#[derive(Debug)]
pub(crate) struct Areas(pub(crate) [Area; 2 * AREAS]);

impl Default for Areas {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Area::default()))
    }
}

/// A word as it is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Stamp {
    pub(crate) is_child: bool,
    pub(crate) area: usize,
    pub(crate) sample: usize,
    pub(crate) lane: usize,
    pub(crate) number: u64,
}

const MARK: u64 = 0x5a;

impl Stamp {
    pub(crate) fn word(self) -> u64 {
        MARK << 56
            | u64::from(self.is_child) << 55
            | (self.area as u64) << 48
            | (self.sample as u64) << 44
            | (self.lane as u64) << 40
            | self.number
    }

    /// Returns the number if `word` is a stamp for the same place as this one; `None` for a page that was never written.
    ///
    /// # Panics
    /// If it is anything else: somebody else's page.
    #[track_caller]
    pub(crate) fn number_in(self, word: u64) -> Option<u64> {
        let number = word & ((1 << 40) - 1);
        let same = Self { number, ..self }.word() == word;
        assert!(word == 0 || same, "{word:#018x} lies where {self:?} is expected");
        (word != 0).then_some(number)
    }
}
