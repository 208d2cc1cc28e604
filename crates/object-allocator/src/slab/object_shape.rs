//! What lies around an object that is checked: red zones, poison and the records of who used it.
//!
//! In a stride, in this order: left red zone, object, right red zone, two tracks, padding. Without checks a stride is the object alone.
//! Locking: the caller owns the object, or holds the lock of its slab. Linux 6.12: mm/slub.c (`init_object`, `check_object`,
//! `check_bytes_and_report`), include/linux/poison.h.

use core::panic::Location;
use core::ptr::NonNull;

use units::{CpuId, VirtAddr};

use super::layout::WORD;
use super::params::CacheFlags;
use crate::report::{BadByte, SlabFault, Track};

const RED_INACTIVE: u8 = 0xbb;
const RED_ACTIVE: u8 = 0xcc;
const POISON_FREE: u8 = 0x6b;
const POISON_END: u8 = 0xa5;

/// Who allocated or freed an object, as kept behind it.
#[derive(Clone, Copy)]
#[repr(C)]
struct TrackRecord {
    caller: Option<&'static Location<'static>>,
    cpu: u64,
}

/// Whether an object is handed out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Use {
    Free,
    Allocated,
}

/// Which of the two tracks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Event {
    Alloc = 0,
    Free = 1,
}

/// Where things are in a stride.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct ObjectShape {
    /// Bytes before the object.
    pub(crate) left: usize,
    /// Bytes of the object.
    size: usize,
    /// End of the right red zone, from the start of the object.
    red_end: usize,
    /// Bytes from the start of the stride to the end of the tracks.
    pub(crate) total: usize,
    flags: CacheFlags,
}

impl ObjectShape {
    /// Lays out what `flags` ask for around an object of `size` bytes; `None` if that is more than an address holds.
    pub(crate) fn new(size: usize, align: usize, flags: CacheFlags) -> Option<Self> {
        if !flags.intersects(CacheFlags::DEBUG) {
            return Some(Self { left: 0, size, red_end: size, total: size, flags });
        }
        let (left, mut red_end) = (align.max(WORD), size.checked_next_multiple_of(WORD)?);
        let left = if flags.contains(CacheFlags::RED_ZONE) { left } else { 0 };
        if flags.contains(CacheFlags::RED_ZONE) && red_end == size {
            red_end = red_end.checked_add(WORD)?;
        }
        let tracks = if flags.contains(CacheFlags::STORE_USER) { 2 * size_of::<TrackRecord>() } else { 0 };
        let total = red_end.checked_add(left + tracks)?;
        Some(Self { left, size, red_end, total, flags })
    }

    /// Sets everything up for an object that nobody has used.
    ///
    /// # Safety
    /// `object` is an object of this shape that the caller owns; so for all functions here.
    pub(crate) unsafe fn init(&self, object: NonNull<u8>) {
        // SAFETY: the caller's contract.
        unsafe { self.mark(object, Use::Free) };
        if self.flags.contains(CacheFlags::STORE_USER) {
            for event in [Event::Alloc, Event::Free] {
                // SAFETY: the tracks are part of the stride.
                unsafe { self.track_at(object, event).write(TrackRecord { caller: None, cpu: 0 }) };
            }
        }
    }

    /// Marks the red zones for `to`, and poisons a free object.
    ///
    /// # Safety
    /// As [`ObjectShape::init`].
    pub(crate) unsafe fn mark(&self, object: NonNull<u8>, to: Use) {
        let start = object.as_ptr();
        if self.flags.contains(CacheFlags::RED_ZONE) {
            let red = if to == Use::Free { RED_INACTIVE } else { RED_ACTIVE };
            // SAFETY: the left red zone is part of the stride.
            unsafe { start.wrapping_sub(self.left).write_bytes(red, self.left) };
            // SAFETY: the right red zone is part of the stride.
            unsafe { start.wrapping_add(self.size).write_bytes(red, self.red_end - self.size) };
        }
        if self.flags.contains(CacheFlags::POISON) && to == Use::Free {
            // SAFETY: the object's bytes.
            unsafe { start.write_bytes(POISON_FREE, self.size - 1) };
            // SAFETY: the object's last byte.
            unsafe { start.wrapping_add(self.size - 1).write(POISON_END) };
        }
    }

    /// Finds the first byte around the object, and in a free one, that is not as [`ObjectShape::mark`] left it.
    ///
    /// # Safety
    /// As [`ObjectShape::init`].
    pub(crate) unsafe fn check(&self, object: NonNull<u8>, state: Use) -> Result<(), SlabFault> {
        let start = object.as_ptr();
        if self.flags.contains(CacheFlags::RED_ZONE) {
            let red = if state == Use::Free { RED_INACTIVE } else { RED_ACTIVE };
            // SAFETY: the left red zone is part of the stride.
            unsafe { expect(start.wrapping_sub(self.left), self.left, red) }.map_err(SlabFault::LeftRedZone)?;
            let right = start.wrapping_add(self.size);
            // SAFETY: the right red zone is part of the stride.
            unsafe { expect(right, self.red_end - self.size, red) }.map_err(SlabFault::RightRedZone)?;
        }
        if self.flags.contains(CacheFlags::POISON) && state == Use::Free {
            // SAFETY: the object's bytes.
            unsafe { expect(start, self.size - 1, POISON_FREE) }.map_err(SlabFault::Poison)?;
            // SAFETY: the object's last byte.
            unsafe { expect(start.wrapping_add(self.size - 1), 1, POISON_END) }.map_err(SlabFault::Poison)?;
        }
        Ok(())
    }

    /// Notes who does `event`, if the cache keeps that.
    ///
    /// # Safety
    /// As [`ObjectShape::init`].
    pub(crate) unsafe fn note(&self, object: NonNull<u8>, event: Event, track: Track) {
        if self.flags.contains(CacheFlags::STORE_USER) {
            let record = TrackRecord { caller: Some(track.caller), cpu: u64::from(track.cpu.raw()) };
            // SAFETY: the tracks are part of the stride.
            unsafe { self.track_at(object, event).write(record) };
        }
    }

    /// Returns who did `event` last.
    ///
    /// # Safety
    /// As [`ObjectShape::init`].
    pub(crate) unsafe fn track(&self, object: NonNull<u8>, event: Event) -> Option<Track> {
        if !self.flags.contains(CacheFlags::STORE_USER) {
            return None;
        }
        // SAFETY: the tracks are part of the stride and were initialised with the slab.
        let record = unsafe { self.track_at(object, event).read() };
        Some(Track { caller: record.caller?, cpu: CpuId::try_new(record.cpu)? })
    }

    fn track_at(&self, object: NonNull<u8>, event: Event) -> *mut TrackRecord {
        object.as_ptr().wrapping_add(self.red_end).cast::<TrackRecord>().wrapping_add(event as usize)
    }
}

/// Compares `len` bytes with a value.
///
/// # Safety
/// The bytes may be read.
unsafe fn expect(start: *const u8, len: usize, expected: u8) -> Result<(), BadByte> {
    // SAFETY: the caller's contract.
    let bytes = unsafe { core::slice::from_raw_parts(start, len) };
    match bytes.iter().enumerate().find(|&(_, &byte)| byte != expected) {
        None => Ok(()),
        Some((at, &found)) => Err(BadByte { at: VirtAddr::new(start.addr() as u64 + at as u64), found, expected }),
    }
}
