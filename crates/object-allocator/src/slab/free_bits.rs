//! Which objects of a slab are free: one bit each, in the head frame's descriptor or in an object of its own.
//!
//! Free objects carry no link, so neither allocation nor free touches an object's memory, a write after free cannot corrupt the allocator, and
//! a double free shows as a bit that is set already. Up to 64 objects fit the head's `private` word; slabs of smaller objects keep
//! an [`OutsideBits`] in the machine's cache of bitmaps, and its address there.
//! Locking: the lock of the slab's node in its cache, or being the only one who knows the slab.
//! Linux 6.12: the freelist of struct slab (which is threaded through the objects).

use core::ptr::NonNull;

use frame_table::Frame;

use super::layout::{INLINE_OBJECTS, WORD};
use crate::direct_map::DirectMap;
use units::PhysAddr;

/// Bits of a slab with more than [`INLINE_OBJECTS`] objects: a count, then `page_size / 64` bytes of bits.
#[repr(C)]
pub(crate) struct OutsideBits {
    free: u64,
    words: [u64; 0],
}

impl OutsideBits {
    /// Returns the size of the objects that hold bits: enough for as many objects as a page has words.
    pub(crate) const fn bytes(page_size: usize) -> usize {
        size_of::<Self>() + page_size / WORD / 8
    }
}

/// The free bits of one slab.
///
/// # Invariants
/// For `Outside`, the pointer is to the slab's own `OutsideBits` with a word for every 64 of `objects`, and the lock of the module's header is held.
pub(crate) enum FreeBits<'a> {
    Inline { head: &'a Frame, objects: u32 },
    Outside { bits: NonNull<OutsideBits>, objects: u32 },
}

/// How a slab changed when an object came back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Put {
    /// It had free objects before and has used ones still.
    Partial,
    /// It had no free object before.
    First,
    /// All of its objects are free, and it had free ones before.
    Empty,
    /// Its only object is free.
    Only,
    /// The object was free already; nothing changed.
    DoubleFree,
}

impl Put {
    const fn of(free_before: u32, objects: u32) -> Self {
        if free_before + 1 == objects {
            Self::Empty
        } else if free_before == 0 {
            Self::First
        } else {
            Self::Partial
        }
    }
}

const fn mask(objects: u32) -> u64 {
    if objects >= INLINE_OBJECTS { u64::MAX } else { (1 << objects) - 1 }
}

/// Removes the `count` highest bits of `word` as they are after turning it left by `rotation`, handing out their numbers plus `base`;
/// returns the bits that are left.
#[inline(always)]
fn take_highest(word: u64, count: u32, rotation: u32, base: u32, take: &mut impl FnMut(u32)) -> u64 {
    let mut turned = word.rotate_left(rotation);
    for _ in 0..count.min(word.count_ones()) {
        let bit = 63 - turned.leading_zeros();
        turned &= !(1 << bit);
        take(base + (bit.wrapping_sub(rotation) & 63));
    }
    turned.rotate_right(rotation)
}

impl<'a> FreeBits<'a> {
    /// Finds the bits of a slab with `objects` objects.
    ///
    /// # Safety
    /// `head` heads a slab whose bits were set up by [`FreeBits::set_up`] with the same `objects`, and the caller holds the lock.
    #[inline]
    pub(crate) unsafe fn of(head: &'a Frame, objects: u32, is_outside: bool, map: &DirectMap) -> Self {
        if !is_outside {
            return Self::Inline { head, objects };
        }
        let address = map.at(PhysAddr::new(head.private())).cast::<OutsideBits>();
        // SAFETY: `set_up` stored the address of an object, which is not null.
        let bits = unsafe { NonNull::new_unchecked(address) };
        // INVARIANT: the caller's contract.
        Self::Outside { bits, objects }
    }

    /// Sets a slab up with all of `objects` free.
    ///
    /// # Safety
    /// `outside`, if given, is an object of [`OutsideBits::bytes`] that belongs to this slab from here on.
    pub(crate) unsafe fn set_up(head: &'a Frame, objects: u32, outside: Option<NonNull<u8>>, map: &DirectMap) -> Self {
        let Some(object) = outside else {
            head.set_private(mask(objects));
            return Self::Inline { head, objects };
        };
        head.set_private(map.phys(object.as_ptr()).raw());
        let bits = object.cast::<OutsideBits>();
        // SAFETY: the caller gave the object, which is large enough and aligned to words.
        unsafe { bits.write(OutsideBits { free: u64::from(objects), words: [] }) };
        let slab = Self::Outside { bits, objects };
        for word in 0..slab.nr_words() {
            // INVARIANT: a word for every 64 objects is initialised here.
            slab.set_word(word, mask(objects - word * INLINE_OBJECTS));
        }
        slab
    }

    const fn nr_words(&self) -> u32 {
        match self {
            Self::Inline { .. } => 1,
            Self::Outside { objects, .. } => objects.div_ceil(INLINE_OBJECTS),
        }
    }

    fn word_at(bits: NonNull<OutsideBits>, word: u32) -> *mut u64 {
        bits.as_ptr().cast::<u64>().wrapping_add(1 + word as usize)
    }

    #[inline]
    fn word(&self, word: u32) -> u64 {
        match self {
            Self::Inline { head, .. } => head.private(),
            // SAFETY: by the type invariant the slab has this word and nobody else touches it.
            Self::Outside { bits, .. } => unsafe { Self::word_at(*bits, word).read() },
        }
    }

    #[inline]
    fn set_word(&self, word: u32, value: u64) {
        match self {
            Self::Inline { head, .. } => head.set_private(value),
            // SAFETY: by the type invariant the slab has this word and nobody else touches it.
            Self::Outside { bits, .. } => unsafe { Self::word_at(*bits, word).write(value) },
        }
    }

    fn outside_free(bits: NonNull<OutsideBits>) -> u32 {
        // SAFETY: by the type invariant the bits are initialised and nobody else touches them.
        unsafe { (*bits.as_ptr()).free as u32 }
    }

    fn set_outside_free(bits: NonNull<OutsideBits>, free: u32) {
        // SAFETY: by the type invariant the bits are initialised and nobody else touches them.
        unsafe { (*bits.as_ptr()).free = u64::from(free) };
    }

    /// Returns the number of free objects.
    #[inline]
    pub(crate) fn count(&self) -> u32 {
        match self {
            Self::Inline { head, .. } => head.private().count_ones(),
            Self::Outside { bits, .. } => Self::outside_free(*bits),
        }
    }

    /// Returns the number of objects.
    pub(crate) const fn objects(&self) -> u32 {
        match self {
            Self::Inline { objects, .. } | Self::Outside { objects, .. } => *objects,
        }
    }

    /// Returns true if object `index` is free.
    pub(crate) fn is_free(&self, index: u32) -> bool {
        self.word(index / INLINE_OBJECTS) >> (index % INLINE_OBJECTS) & 1 == 1
    }

    /// Takes up to `count` free objects, highest first from a place that `rotation` moves, and hands their numbers to `take`; returns how
    /// many are left.
    #[inline]
    pub(crate) fn take(&self, count: u32, rotation: u32, take: &mut impl FnMut(u32)) -> u32 {
        match self {
            Self::Inline { head, .. } => {
                let left = take_highest(head.private(), count, rotation, 0, take);
                head.set_private(left);
                left.count_ones()
            }
            Self::Outside { bits, .. } => {
                let left = Self::outside_free(*bits);
                let taken = self.take_from_words(count, rotation, take);
                Self::set_outside_free(*bits, left - taken);
                left - taken
            }
        }
    }

    fn take_from_words(&self, count: u32, rotation: u32, take: &mut impl FnMut(u32)) -> u32 {
        let mut taken = 0;
        for number in (0..self.nr_words()).rev() {
            let before = self.word(number);
            if taken < count && before != 0 {
                let left = take_highest(before, count - taken, rotation, number * INLINE_OBJECTS, take);
                self.set_word(number, left);
                taken += before.count_ones() - left.count_ones();
            }
        }
        taken
    }

    /// Notes that object `index` is free.
    #[inline]
    pub(crate) fn put(&self, index: u32) -> Put {
        let (number, bit) = (index / INLINE_OBJECTS, 1 << (index % INLINE_OBJECTS));
        match self {
            Self::Inline { head, objects } => {
                let word = head.private();
                head.set_private(word | bit);
                if word & bit != 0 {
                    Put::DoubleFree
                } else if word == 0 {
                    if *objects == 1 { Put::Only } else { Put::First }
                } else if word | bit == mask(*objects) {
                    Put::Empty
                } else {
                    Put::Partial
                }
            }
            Self::Outside { bits, objects } => {
                let word = self.word(number);
                if word & bit != 0 {
                    return Put::DoubleFree;
                }
                self.set_word(number, word | bit);
                let free = Self::outside_free(*bits);
                Self::set_outside_free(*bits, free + 1);
                Put::of(free, *objects)
            }
        }
    }
}
