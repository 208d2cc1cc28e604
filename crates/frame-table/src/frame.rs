//! The descriptor of one frame: 32 bytes.
//!
//! Zeroed memory is a valid descriptor in no state, so a table may be reserved without being touched.
//! Relaxed throughout: fields are published by the lock under which a block changes hands, or by the release of whoever hands a
//! reference over; the reference count alone orders by itself.

use units::{NodeId, Order, ZoneType};

use crate::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering, spin_loop};
use crate::{PageFlags, PageType};

/// End of a list; no frame has this index.
pub(crate) const NIL: u32 = u32::MAX;

const NODE_SHIFT: u32 = 48;
const INDEX_HIGH_SHIFT: u32 = 32;
const PLACE_MASK: u64 = 0xffff << NODE_SHIFT;

/// Zone and node of a frame, as kept in its flags word. Two frames belong to the same zone if these are equal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(transparent)]
pub struct FramePlace(u16);

impl FramePlace {
    /// Packs a node and a zone.
    #[inline]
    pub const fn new(node: NodeId, zone: ZoneType) -> Self {
        Self((node.raw() as u16) << 3 | zone as u16)
    }

    /// Returns the node.
    #[inline]
    pub fn node(self) -> NodeId {
        NodeId::try_new(u64::from(self.0 >> 3)).unwrap_or_default()
    }

    /// Returns the zone.
    #[inline]
    pub fn zone(self) -> ZoneType {
        ZoneType::from_index(usize::from(self.0 & 7)).unwrap_or(ZoneType::Normal)
    }

    /// Number of slots.
    pub const SLOTS: usize = units::MAX_NODES << 3;

    /// Returns a number below [`FramePlace::SLOTS`] that names the zone among all zones of all nodes.
    #[inline]
    pub const fn slot(self) -> usize {
        self.0 as usize & (Self::SLOTS - 1)
    }
}

/// Descriptor of a frame (Linux: struct page).
#[derive(Debug)]
#[repr(C, align(32))]
pub struct Frame {
    /// PageFlags in bits 0-31, high part of the mapping index in 32-39, zone in 48-50, node in 51-56.
    flags: AtomicU64,
    /// References; 0 for free pages and for blocks that one owner holds exclusively.
    count: AtomicI32,
    /// Map count, or state and order while nobody can map the frame.
    state: AtomicU32,
    next: AtomicU32,
    prev: AtomicU32,
    /// `private`; or mapping number and low part of the index; or in a compound tail the head's number and a mark.
    word: AtomicU64,
}

#[cfg(not(loom))]
const _: () = assert!(core::mem::size_of::<Frame>() == 32);

impl Frame {
    /// Makes the descriptor that zeroed memory is.
    #[cfg(any(test, loom))]
    pub(crate) fn zeroed() -> Self {
        Self {
            flags: AtomicU64::new(0),
            count: AtomicI32::new(0),
            state: AtomicU32::new(0),
            next: AtomicU32::new(0),
            prev: AtomicU32::new(0),
            word: AtomicU64::new(0),
        }
    }

    /// Writes a descriptor as boot leaves it (Linux: __init_single_page).
    pub(crate) fn init(&self, place: FramePlace, page_type: PageType, flags: PageFlags) {
        self.flags.store(u64::from(place.0) << NODE_SHIFT | u64::from(flags.bits()), Ordering::Relaxed);
        self.count.store(0, Ordering::Relaxed);
        self.set_state(page_type, Order::ZERO);
        self.word.store(0, Ordering::Relaxed);
    }

    /// Returns the PG_ flags.
    #[inline]
    pub fn flags(&self) -> PageFlags {
        PageFlags::from_bits_retain(self.flags.load(Ordering::Relaxed) as u32)
    }

    /// Sets flags; atomic against other flag changes.
    pub fn set_flags(&self, flags: PageFlags) {
        self.flags.fetch_or(u64::from(flags.bits()), Ordering::Relaxed);
    }

    /// Clears flags; atomic against other flag changes.
    pub fn clear_flags(&self, flags: PageFlags) {
        self.flags.fetch_and(!u64::from(flags.bits()), Ordering::Relaxed);
    }

    /// Clears all flags but HWPOISON and `keep`, and the high part of the index, without an atomic operation; for frames that nobody
    /// else can reach.
    #[inline]
    pub(crate) fn reset_flags(&self, keep: PageFlags) {
        let word = self.flags.load(Ordering::Relaxed);
        let keep = PLACE_MASK | u64::from(PageFlags::HWPOISON.union(keep).bits());
        if word & !keep != 0 {
            self.flags.store(word & keep, Ordering::Relaxed);
        }
    }

    /// Returns true if there is no flag but HWPOISON.
    #[inline]
    pub(crate) fn has_clean_flags(&self) -> bool {
        (self.flags() - PageFlags::HWPOISON).is_empty()
    }

    /// Returns zone and node.
    #[inline]
    pub fn place(&self) -> FramePlace {
        FramePlace((self.flags.load(Ordering::Relaxed) >> NODE_SHIFT) as u16)
    }

    /// Returns state and order; `None` while the frame is counted, or if it was never initialised.
    #[inline]
    pub fn page_type(&self) -> Option<(PageType, Order)> {
        PageType::decode(self.state.load(Ordering::Relaxed))
    }

    /// Returns true if the frame heads a block in exactly this state.
    #[inline]
    pub fn is(&self, page_type: PageType, order: Order) -> bool {
        self.state.load(Ordering::Relaxed) == page_type.word(order)
    }

    /// Returns the cache's number and the slab's order if the frame is part of a slab.
    #[inline]
    pub fn slab(&self) -> Option<(u16, Order)> {
        PageType::decode_slab(self.state.load(Ordering::Relaxed))
    }

    /// Makes the frame part of a slab.
    pub(crate) fn set_slab(&self, cache: u16, order: Order) {
        self.state.store(PageType::slab_word(cache, order), Ordering::Relaxed);
    }

    /// Enters a state without checking the one before; for code that stands for the frame.
    #[inline]
    pub(crate) fn set_state(&self, page_type: PageType, order: Order) {
        self.state.store(page_type.word(order), Ordering::Relaxed);
    }

    /// Enters a state if the frame is in another; false if it is not.
    pub(crate) fn change_state(&self, from: PageType, to: PageType, order: Order) -> bool {
        self.state.compare_exchange(from.word(order), to.word(order), Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// Leaves the states for a count of references, nobody mapping the frame.
    pub(crate) fn start_counting(&self, references: i32) {
        self.state.store(PageType::UNMAPPED, Ordering::Relaxed);
        // Release: pairs with the Acquire of `try_get`, so whoever gets a reference sees the frame initialised.
        self.count.store(references, Ordering::Release);
    }

    /// Becomes an anonymous page with one reference that nothing maps; for frames that nobody else can reach.
    #[inline]
    pub(crate) fn start_anon(&self, flags: PageFlags, mapping: u32, index: u64) {
        let keep = self.flags.load(Ordering::Relaxed) & (PLACE_MASK | u64::from(PageFlags::HWPOISON.bits()));
        let high = (index >> 32 & 0xff) << INDEX_HIGH_SHIFT;
        self.flags.store(keep | high | u64::from(flags.bits()), Ordering::Relaxed);
        self.word.store(u64::from(mapping) << 32 | index & 0xffff_ffff, Ordering::Relaxed);
        self.start_counting(1);
    }

    /// Takes a reference; the caller holds one (Linux: get_page).
    #[inline]
    pub(crate) fn get(&self) {
        // Relaxed: whoever holds a reference sees the frame initialised already.
        let before = self.count.fetch_add(1, Ordering::Relaxed);
        debug_assert!(before > 0, "a reference is taken by somebody who holds one");
    }

    /// Returns the number of references (Linux: page_count).
    #[inline]
    pub fn count(&self) -> i32 {
        self.count.load(Ordering::Relaxed)
    }

    /// Returns the number of references as it is now, not as it may have been: of who asks, and somebody who takes a reference by [`Frame::try_get`] and then looks at
    /// what the caller changed before, one sees the other.
    #[inline]
    pub fn latest_count(&self) -> i32 {
        // A change, so that it has its place among those of `try_get`. Release: pairs with the Acquire there. Acquire: pairs with the Release of `put`.
        self.count.fetch_add(0, Ordering::AcqRel)
    }

    /// Returns true if there is one reference: whatever was done through others is over, and seen by who asks.
    #[inline]
    pub fn is_only_reference(&self) -> bool {
        // Acquire: pairs with the Release of `put` and `put_many`.
        self.count.load(Ordering::Acquire) == 1
    }

    /// Takes a reference if there is one already (Linux: get_page_unless_zero).
    #[inline]
    pub fn try_get(&self) -> bool {
        // Acquire: pairs with the Release in `start_counting`.
        self.count.fetch_update(Ordering::Acquire, Ordering::Relaxed, |count| (count > 0).then(|| count + 1)).is_ok()
    }

    /// Gives a reference back; true if it was the last one (Linux: put_page_testzero).
    pub(crate) fn put(&self) -> bool {
        // AcqRel: the last holder must see what all others did before they let go.
        self.count.fetch_sub(1, Ordering::AcqRel) == 1
    }

    /// Returns how many page tables map the frame; 0 while it is in a state (Linux: page_mapcount).
    pub fn mapcount(&self) -> u32 {
        let word = self.state.load(Ordering::Relaxed);
        if word & 0xf000_0000 == 0xf000_0000 { 0 } else { word.wrapping_add(1) }
    }

    /// Adds a mapping of a counted frame.
    pub fn add_mapping(&self) {
        debug_assert!(self.page_type().is_none(), "only a counted frame can be mapped");
        self.state.fetch_add(1, Ordering::Relaxed);
    }

    /// Takes references and adds as many mappings; the caller holds a reference.
    pub(crate) fn get_mapped(&self, nr: u32) {
        self.get_many(nr);
        self.state.fetch_add(nr, Ordering::Relaxed);
    }

    /// Takes references; the caller holds one.
    pub(crate) fn get_many(&self, nr: u32) {
        // Relaxed: as in `get`.
        let before = self.count.fetch_add(nr.cast_signed(), Ordering::Relaxed);
        debug_assert!(before > 0, "references are taken by somebody who holds one");
    }

    /// Undoes [`Frame::get_many`], by a caller who still holds a reference.
    pub(crate) fn put_many(&self, nr: u32) {
        // Release: the last holder sees what was done with the page through these. Not the last reference.
        let before = self.count.fetch_sub(nr.cast_signed(), Ordering::Release);
        debug_assert!(before > nr.cast_signed(), "more references are given back than there are");
    }

    /// Begins to count the pins of the compound page whose first tail this is.
    pub(crate) fn start_pins(&self) {
        self.next.store(0, Ordering::Relaxed);
    }

    /// Returns the pins that were counted here.
    pub(crate) fn pins(&self) -> u32 {
        self.next.load(Ordering::Relaxed)
    }

    /// Counts pins, of somebody who holds a reference to the page.
    pub(crate) fn add_pins(&self, nr: u32) {
        // Relaxed: who asks excludes those who pin by a lock.
        self.next.fetch_add(nr, Ordering::Relaxed);
    }

    /// Counts pins no longer.
    pub(crate) fn remove_pins(&self, nr: u32) {
        let before = self.next.fetch_sub(nr, Ordering::Relaxed);
        debug_assert!(before >= nr, "more pins end than there are");
    }

    /// Removes a mapping; true if it was the last one.
    pub fn remove_mapping(&self) -> bool {
        debug_assert!(self.mapcount() > 0, "a mapping is removed that was never added");
        self.state.fetch_sub(1, Ordering::Relaxed) == 0
    }

    /// Returns the owner's word (Linux: page->private).
    pub fn private(&self) -> u64 {
        self.word.load(Ordering::Relaxed)
    }

    /// Sets the owner's word.
    pub fn set_private(&self, value: u64) {
        self.word.store(value, Ordering::Relaxed);
    }

    /// Sets `lock`, a bit of the owner's word, once nobody else has it set. Returns the word without it.
    pub(crate) fn lock_private(&self, lock: u64) -> u64 {
        loop {
            let word = self.word.load(Ordering::Relaxed) & !lock;
            // Acquire: pairs with the Release of `unlock_private`, so that what the word leads to is seen.
            if self.word.compare_exchange(word, word | lock, Ordering::Acquire, Ordering::Relaxed).is_ok() {
                return word;
            }
            spin_loop();
        }
    }

    /// Sets the owner's word, which the caller locked, to a value without the lock's bit.
    pub(crate) fn unlock_private(&self, value: u64) {
        // Release: pairs with the Acquire of `lock_private`.
        self.word.store(value, Ordering::Release);
    }

    /// Returns the number of the mapping and the page's index in it, 40 bits (Linux: page->mapping, page->index).
    pub fn mapping(&self) -> (u32, u64) {
        let word = self.word.load(Ordering::Relaxed);
        let high = self.flags.load(Ordering::Relaxed) >> INDEX_HIGH_SHIFT & 0xff;
        ((word >> 32) as u32, high << 32 | word & 0xffff_ffff)
    }

    /// Sets mapping number and index; false, with nothing changed, if the index does not fit 40 bits.
    pub fn set_mapping(&self, mapping: u32, index: u64) -> bool {
        if index >> 40 != 0 {
            return false;
        }
        let high_mask = 0xff << INDEX_HIGH_SHIFT;
        let _ = self.flags.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |word| {
            Some(word & !high_mask | index >> 32 << INDEX_HIGH_SHIFT)
        });
        self.word.store(u64::from(mapping) << 32 | index & 0xffff_ffff, Ordering::Relaxed);
        true
    }

    #[inline]
    pub(crate) fn next(&self) -> u32 {
        self.next.load(Ordering::Relaxed)
    }

    #[inline]
    pub(crate) fn prev(&self) -> u32 {
        self.prev.load(Ordering::Relaxed)
    }

    #[inline]
    pub(crate) fn set_next(&self, index: u32) {
        self.next.store(index, Ordering::Relaxed);
    }

    #[inline]
    pub(crate) fn set_prev(&self, index: u32) {
        self.prev.store(index, Ordering::Relaxed);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_reference_can_be_taken_only_while_one_exists() {
        let frame = Frame::zeroed();
        assert!(!frame.try_get());
        frame.start_counting(1);
        assert!(frame.try_get());
        assert!(!frame.put());
        assert!(frame.put());
        assert!(!frame.try_get());
    }

    #[test]
    fn mappings_are_counted_and_the_last_one_is_told() {
        let frame = Frame::zeroed();
        frame.start_counting(1);
        frame.add_mapping();
        frame.add_mapping();
        assert_eq!(frame.mapcount(), 2);
        assert!(!frame.remove_mapping());
        assert!(frame.remove_mapping());
        assert_eq!(frame.mapcount(), 0);
    }

    #[test]
    fn flags_do_not_disturb_place_or_index() {
        let frame = Frame::zeroed();
        let place = FramePlace::new(NodeId::try_new(63).unwrap(), ZoneType::Movable);
        frame.init(place, PageType::Boot, PageFlags::RESERVED);
        assert!(frame.set_mapping(7, 0xab_1234_5678));
        frame.set_flags(PageFlags::DIRTY);
        frame.clear_flags(PageFlags::RESERVED);
        assert_eq!(frame.place(), place);
        assert_eq!(frame.mapping(), (7, 0xab_1234_5678));
        assert_eq!(frame.flags(), PageFlags::DIRTY);
        assert!(!frame.set_mapping(7, 1 << 40));
    }
}
