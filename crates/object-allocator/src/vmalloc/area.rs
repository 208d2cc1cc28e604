//! One area: its descriptor in the slab, and the handles that own it.
//!
//! Linux 6.12: struct vmap_area, struct vm_struct.

use core::fmt;
use core::ptr::NonNull;

use collections::range_tree::Word;
use units::{PhysAddr, VirtAddr, VirtRange};

/// What an area is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AreaKind {
    /// Pages of its own (Linux: VM_ALLOC).
    Vmalloc,
    /// Pages of someone else (Linux: VM_MAP).
    Vmap,
    /// Registers of a device (Linux: VM_IOREMAP).
    Ioremap,
    /// Short mappings of pages of someone else (Linux: VMAP_RAM).
    MapRam,
}

/// Whether an area's addresses are in use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum AreaState {
    /// Someone owns it.
    Busy,
    /// Nothing is mapped any more, but CPUs may remember what was.
    Lazy,
}

/// Descriptor of an area. It is written only under the lock of the areas.
#[derive(Debug)]
pub(super) struct Area {
    /// Addresses, the guard page included. Never changes.
    pub(super) range: VirtRange,
    pub(super) kind: AreaKind,
    pub(super) state: AreaState,
    /// Who asked for it.
    pub(super) caller: &'static str,
    /// First byte of memory that is mapped as it lies.
    pub(super) phys: Option<PhysAddr>,
    /// Pages of its own; in a block of short mappings those that are no longer mapped, or were left over.
    pub(super) nr_pages: u64,
    /// The next area that waits for a purge.
    pub(super) next: Option<AreaPtr>,
}

/// Where the descriptor of an area is.
///
/// # Invariants
/// Points to a descriptor in the slab, which is freed after the area has left the tree and the list of waiting areas.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct AreaPtr(NonNull<Area>);

// SAFETY: the descriptor is reached through the lock of the areas, or by the only one who knows of it.
unsafe impl Send for AreaPtr {}

// SAFETY: as for `Send`.
unsafe impl Sync for AreaPtr {}

impl AreaPtr {
    /// Writes `area` to an object of the slab.
    ///
    /// # Safety
    /// `object` is an object of the cache of areas that belongs to the caller.
    pub(super) unsafe fn write(object: NonNull<u8>, area: Area) -> Self {
        let pointer = object.cast::<Area>();
        // SAFETY: the cache's objects have the size and alignment of an area, and this one is the caller's.
        unsafe { pointer.write(area) };
        // INVARIANT: just written, into the slab.
        Self(pointer)
    }

    /// Returns the object of the slab.
    pub(super) fn object(self) -> NonNull<u8> {
        self.0.cast()
    }

    /// Returns the address that the descriptor is at.
    pub(super) const fn as_ptr(self) -> *mut Area {
        self.0.as_ptr()
    }
}

impl fmt::Debug for AreaPtr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AreaPtr")
    }
}

/// A value of the tree of areas.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct AreaWord(pub(super) Option<AreaPtr>);

impl Word for AreaWord {
    fn to_word(self) -> *mut () {
        self.0.map_or(core::ptr::null_mut(), |area| area.0.as_ptr().cast())
    }

    unsafe fn from_word(word: *mut ()) -> Self {
        // INVARIANT: the tree hands back what `to_word` returned.
        Self(NonNull::new(word.cast()).map(AreaPtr))
    }
}

/// An area of `vmalloc`: proof that its addresses and the pages behind them are the holder's alone.
#[derive(PartialEq, Eq, Debug)]
#[must_use = "dropping an area leaks its addresses and pages"]
pub struct VmallocArea {
    pub(super) area: AreaPtr,
    pub(super) start: VirtAddr,
    pub(super) bytes: u64,
}

/// An area that shows memory of someone else. Says nothing about who may use the memory.
#[derive(PartialEq, Eq, Debug)]
#[must_use = "dropping an area leaks its addresses"]
pub struct VmapArea {
    pub(super) area: AreaPtr,
    pub(super) start: VirtAddr,
    pub(super) bytes: u64,
}

macro_rules! addresses {
    ($name:ident) => {
        impl $name {
            /// Returns the first address.
            pub const fn start(&self) -> VirtAddr {
                self.start
            }

            /// Returns the addresses that are mapped.
            pub const fn range(&self) -> VirtRange {
                VirtRange::with_len(self.start, self.bytes)
            }
        }
    };
}

addresses!(VmallocArea);
addresses!(VmapArea);
