//! An area of an address space: addresses with one purpose.
//!
//! [`Vma`] is a copy of all that is known of an area, taken and put back under the lock of its address space. [`VmaSlot`] is where it lies: an
//! object of a slab cache whose fields are atomics, so that a lookup without the lock may read it, and then has to make sure that it is still
//! the area that it looked for. Each slot has the lock of its area.
//! Linux 6.12: include/linux/mm_types.h (`struct vm_area_struct`), mm/vma.c (`vm_area_alloc`, `vm_area_dup`).

use core::num::NonZeroU64;

use collections::WordCell;
use collections::interval_tree::IntervalNode;
use collections::range_tree::{Around, Entry};
use object_allocator::{Stable, TypeStable};
use sync::{PartLock, rank};
use units::{VirtAddr, VirtRange, VmFlags};

use crate::atomic::AtomicU64;
use crate::atomic::Ordering::{Acquire, Relaxed, Release};
use crate::mm::Mm;
use crate::name::AreaName;

/// Bytes of a page: the call surface is that of x86-64.
pub const PAGE_SHIFT: u32 = 12;
/// Bytes of a page.
pub const PAGE_SIZE: u64 = 1 << PAGE_SHIFT;

/// Number of a file, given by the [`Pager`](crate::Pager).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct FileId(NonZeroU64);

impl FileId {
    /// Makes the number; `None` of 0.
    pub const fn new(number: u64) -> Option<Self> {
        match NonZeroU64::new(number) {
            Some(number) => Some(Self(number)),
            None => None,
        }
    }

    /// Returns the number.
    pub const fn raw(self) -> u64 {
        self.0.get()
    }
}

/// Identity of the root of the reverse map of anonymous pages (Linux: `struct anon_vma`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct AnonVmaId(NonZeroU64);

impl AnonVmaId {
    /// Makes the number; `None` of 0.
    pub const fn new(number: u64) -> Option<Self> {
        match NonZeroU64::new(number) {
            Some(number) => Some(Self(number)),
            None => None,
        }
    }

    /// Returns the number.
    pub const fn raw(self) -> u64 {
        self.0.get()
    }

    /// Returns what page descriptors keep of it: the lower 31 bits. Families whose numbers are alike there are told apart by what their areas map.
    pub const fn family(self) -> u32 {
        (self.raw() & 0x7fff_ffff) as u32
    }
}

/// The anonymous pages of an area: its anon_vma and how many it is linked to.
///
/// An area that was not inherited by fork is linked to one, its own; a child's to its own and to those of all its ancestors.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct AnonVma {
    /// Where new pages go.
    pub id: AnonVmaId,
    /// The family: the anon_vma that the first ancestor got. Pages are found by it.
    pub root: AnonVmaId,
    /// Length of Linux's anon_vma_chain, at least 1.
    pub links: u32,
}

/// What is known of an area.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Vma {
    /// Its addresses, whole pages.
    pub range: VirtRange,
    /// Its properties.
    pub flags: VmFlags,
    /// Page of the file where it begins; of anonymous areas the page number that it was first mapped at.
    pub pgoff: u64,
    /// The file behind it.
    pub file: Option<FileId>,
    /// Its anonymous pages, once there was one.
    pub anon: Option<AnonVma>,
    /// The userfaultfd that watches it; 0 for none.
    pub uffd: u64,
    /// Its name, for anonymous areas.
    pub name: Option<AreaName>,
}

impl Vma {
    /// Returns the first address.
    pub const fn start(&self) -> VirtAddr {
        self.range.start
    }

    /// Returns the address behind the last.
    pub const fn end(&self) -> VirtAddr {
        self.range.end
    }

    /// Returns the number of pages.
    pub const fn nr_pages(&self) -> u64 {
        self.range.len() >> PAGE_SHIFT
    }

    /// Returns the page offset of an address of the area.
    pub const fn pgoff_at(&self, addr: VirtAddr) -> u64 {
        self.pgoff.wrapping_add(addr.since(self.range.start) >> PAGE_SHIFT)
    }

    /// Returns true if the area has no file (Linux: `vma_is_anonymous`).
    pub const fn is_anonymous(&self) -> bool {
        self.file.is_none()
    }

    /// Returns true if its pages may be locked (Linux: `vma_supports_mlock`).
    pub(crate) const fn supports_mlock(&self) -> bool {
        !self.flags.intersects(VmFlags::SPECIAL.union(VmFlags::HUGETLB).union(VmFlags::DROPPABLE))
    }

    /// Returns true if any access is permitted (Linux: `vma_is_accessible`).
    pub const fn is_accessible(&self) -> bool {
        self.flags.intersects(VmFlags::ACCESS)
    }

    /// Returns true if calls may change the area (Linux: `can_modify_vma`).
    pub const fn can_modify(&self) -> bool {
        !self.flags.contains(VmFlags::SEALED)
    }

    /// Returns the first address that nothing else may be mapped at below the area: a stack keeps a distance (Linux: `vm_start_gap`).
    pub fn start_with_gap(&self, guard_gap: u64) -> VirtAddr {
        let gap = if self.flags.contains(VmFlags::GROWSDOWN) { guard_gap } else { 0 };
        VirtAddr::new(self.range.start.raw().saturating_sub(gap))
    }

    /// Returns the part of the area in `range`, which overlaps it.
    pub(crate) fn part(&self, range: VirtRange) -> Self {
        let range = self.range.intersection(range);
        Self { range, pgoff: self.pgoff_at(range.start), ..*self }
    }

    /// Returns true if nothing of a file is mapped, and no anonymous page yet. The reverse map does not know such an area.
    pub(crate) const fn is_untouched(&self) -> bool {
        self.file.is_none() && self.anon.is_none()
    }

    /// Returns whether the area has exactly one anon_vma (Linux: `list_is_singular(&vma->anon_vma_chain)`).
    pub(crate) fn has_one_anon_vma(&self) -> bool {
        self.anon.is_some_and(|anon| anon.links == 1)
    }
}

/// Where an area lies.
pub(crate) type Slot<'k> = Stable<'k, VmaSlot<'k>>;

/// An area that was found: where it lies, and what it was.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Area<'k> {
    pub(crate) slot: Slot<'k>,
    pub(crate) vma: Vma,
}

impl<'k> Area<'k> {
    pub(crate) fn at(slot: Slot<'k>) -> Self {
        Self { slot, vma: slot.load() }
    }

    /// Returns how the tree of areas knows it.
    pub(crate) const fn entry(&self) -> Entry<Slot<'k>> {
        Entry { range: self.vma.range, value: self.slot }
    }
}

/// The first area of a lookup, and what is beside it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Among<'a, 'k> {
    pub(crate) area: Area<'k>,
    pub(crate) around: Around<'a, Slot<'k>>,
}

/// Memory of an area. Opaque outside this crate.
///
/// What every fault and call looks at lies in the first line, what they copy in the first two.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub struct VmaSlot<'k> {
    pub(crate) lock: PartLock<{ rank::VMA_LOCK }>,
    /// The address space that the area is in. Stays when the area goes; only who knows that the area is there may follow it.
    pub(crate) mm: WordCell<Stable<'k, Mm<'k>>>,
    start: AtomicU64,
    end: AtomicU64,
    flags: AtomicU64,
    pgoff: AtomicU64,
    file: AtomicU64,
    anon: AtomicU64,
    root: AtomicU64,
    links: AtomicU64,
    uffd: AtomicU64,
    name: AtomicU64,
    /// Node of the tree of the file's areas.
    pub(crate) by_file: IntervalNode<Slot<'k>>,
    /// Node of the tree of the family's areas.
    pub(crate) by_family: IntervalNode<Slot<'k>>,
}

impl TypeStable for VmaSlot<'_> {
    fn fresh() -> Self {
        Self::default()
    }
}

impl VmaSlot<'_> {
    // Relaxed, but for `anon`: fields are written under the write lock of the area, and read under a lock of the area or the address space.

    /// Returns what lies here.
    pub(crate) fn load(&self) -> Vma {
        let addr = |from: &AtomicU64| VirtAddr::new(from.load(Relaxed));
        // Acquire: pairs with `publish_anon`, which a fault may be at; links that belong to the identity are seen.
        let anon = AnonVmaId::new(self.anon.load(Acquire));
        let root = AnonVmaId::new(self.root.load(Relaxed));
        let links = u32::try_from(self.links.load(Relaxed)).unwrap_or(u32::MAX);
        Vma {
            range: VirtRange::new(addr(&self.start), addr(&self.end)),
            flags: VmFlags::from_bits_retain(self.flags.load(Relaxed)),
            pgoff: self.pgoff.load(Relaxed),
            file: FileId::new(self.file.load(Relaxed)),
            anon: anon.map(|id| AnonVma { id, root: root.unwrap_or(id), links }),
            uffd: self.uffd.load(Relaxed),
            name: AreaName::from_raw(self.name.load(Relaxed)),
        }
    }

    /// Writes everything.
    pub(crate) fn store(&self, vma: &Vma) {
        self.start.store(vma.start().raw(), Relaxed);
        self.end.store(vma.end().raw(), Relaxed);
        self.flags.store(vma.flags.bits(), Relaxed);
        self.pgoff.store(vma.pgoff, Relaxed);
        self.file.store(vma.file.map_or(0, FileId::raw), Relaxed);
        self.anon.store(vma.anon.map_or(0, |anon| anon.id.0.get()), Relaxed);
        self.root.store(vma.anon.map_or(0, |anon| anon.root.raw()), Relaxed);
        self.links.store(vma.anon.map_or(0, |anon| u64::from(anon.links)), Relaxed);
        self.uffd.store(vma.uffd, Relaxed);
        self.name.store(vma.name.map_or(0, AreaName::raw), Relaxed);
    }

    /// Gives the area, which has none, an anon_vma, while others may read the area.
    pub(crate) fn publish_anon(&self, anon: AnonVma) {
        self.root.store(anon.root.raw(), Relaxed);
        self.links.store(u64::from(anon.links), Relaxed);
        // Release: pairs with the load in `load`.
        self.anon.store(anon.id.0.get(), Release);
    }
}
