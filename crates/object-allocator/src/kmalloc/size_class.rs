//! Size classes of kmalloc, and kinds of memory that each comes in.
//!
//! Linux 6.12: `kmalloc_index`, `kmalloc_type`, kmalloc_info (include/linux/slab.h, mm/slab_common.c).

use units::Gfp;

/// Number of size classes that arrays have room for: up to two pages of 64 KiB.
pub(crate) const CLASSES: usize = 18;

/// Sizes by class, with Linux's numbering: 96 and 192 lie between powers of two and have the low numbers.
pub(crate) const SIZES: [usize; CLASSES] = [
    0,
    96,
    192,
    8,
    16,
    32,
    64,
    128,
    256,
    512,
    1 << 10,
    2 << 10,
    4 << 10,
    8 << 10,
    16 << 10,
    32 << 10,
    64 << 10,
    128 << 10,
];

/// Largest size that is looked up in `SMALL`.
const SMALL_MAX: usize = 192;

/// Class by `(size - 1) / 8`, for sizes where 96 and 192 cut in.
const SMALL: [u8; SMALL_MAX / 8] = small();

const fn small() -> [u8; SMALL_MAX / 8] {
    let mut table = [0; SMALL_MAX / 8];
    let mut at = 0;
    while at < table.len() {
        let size = (at + 1) * 8;
        table[at] = match size {
            65..=96 => 1,
            129..=192 => 2,
            _ => (usize::BITS - (size - 1).leading_zeros()) as u8,
        };
        at += 1;
    }
    table
}

/// Returns the class of a size from 1 byte to 128 KiB; for others a number that is no class.
#[inline(always)]
pub(crate) const fn class_of(size: usize) -> usize {
    let slot = size.wrapping_sub(1) / 8;
    if slot < SMALL.len() {
        SMALL[slot] as usize
    } else {
        (usize::BITS - size.wrapping_sub(1).leading_zeros()) as usize
    }
}

/// Kinds of memory (Linux: enum kmalloc_cache_type, without those of memory cgroups and of randomisation).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KmallocKind {
    /// Ordinary kernel memory.
    Normal,
    /// What a shrinker can free.
    Reclaim,
    /// Memory of the DMA zone.
    Dma,
}

impl KmallocKind {
    /// Number of kinds.
    pub(crate) const COUNT: usize = 3;
    /// All kinds.
    pub(crate) const ALL: [Self; Self::COUNT] = [Self::Normal, Self::Reclaim, Self::Dma];

    /// Returns the kind that a request with these flags is served from; DMA wins.
    #[inline(always)]
    pub const fn of(gfp: Gfp) -> Self {
        if !gfp.intersects(Gfp::DMA.union(Gfp::RECLAIMABLE)) {
            Self::Normal
        } else if gfp.contains(Gfp::DMA) {
            Self::Dma
        } else {
            Self::Reclaim
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_size_gets_the_smallest_class_that_holds_it() {
        for size in 1..=128 << 10 {
            let class = class_of(size);
            assert!(SIZES[class] >= size, "{size} in {}", SIZES[class]);
            assert!(SIZES.iter().all(|&other| other < size || other >= SIZES[class]), "{size}");
        }
        for size in [0, (128 << 10) + 1, usize::MAX] {
            assert!(class_of(size) >= CLASSES);
        }
    }
}
