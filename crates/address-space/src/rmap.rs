//! The reverse map: which areas may map a page of a file, or an anonymous page of a family of processes.
//!
//! An area with a file is in the tree of its file, one with an anon_vma in that of its family: all areas that got their anon_vma from one ancestor by
//! fork, by split or as neighbours have one root. Trees lie in buckets by the number of file or root, each with a lock. Nodes lie in the areas' objects, so
//! nothing is allocated. An area is in its trees from before its first page to after its last one, so under a bucket's lock its address space and its page
//! tables are there.
//! Locking: `rank::FILE_AREAS`, then `rank::ANON_AREAS`, inside the locks of address spaces and areas. What is moved or split is moved under both.
//! Linux 6.12: mm/rmap.c (`rmap_walk_file`, `rmap_walk_anon`), mm/interval_tree.c, mm/vma.c (`vma_prepare`, `vma_complete`, `unlink_file_vma_batch`).

use core::array;
use core::fmt;
use core::ops::RangeInclusive;

use collections::IntervalTree;
use collections::interval_tree::{IntervalNode, NodeOf};
use page_allocator::Hooks;
use platform::Platform;
use sync::{Cpu, RwReadGuard, RwSpinLock, RwWriteGuard, rank};
use units::VirtRange;

use crate::mm::Mm;
use crate::spaces::AddressSpaces;
use crate::vma::{Area, FileId, PAGE_SHIFT, Slot, Vma};

/// Trees with locks of their own, for files as for families. Linux has one a file and one an anon_vma.
const BUCKETS: usize = 64;

/// Nodes for files.
pub(crate) struct ByFile;

/// Nodes for families.
pub(crate) struct ByFamily;

impl<'k> NodeOf<Slot<'k>> for ByFile {
    fn node<'n>(slot: &'n Slot<'k>) -> &'n IntervalNode<Slot<'k>> {
        &slot.by_file
    }
}

impl<'k> NodeOf<Slot<'k>> for ByFamily {
    fn node<'n>(slot: &'n Slot<'k>) -> &'n IntervalNode<Slot<'k>> {
        &slot.by_family
    }
}

/// Areas by the pages that they map.
struct Index<'k, const RANK: u8, S> {
    buckets: [RwSpinLock<RANK, IntervalTree<Slot<'k>, S>>; BUCKETS],
}

impl<'k, const RANK: u8, S> Index<'k, RANK, S> {
    fn new() -> Self {
        Self { buckets: array::from_fn(|_| RwSpinLock::new(IntervalTree::new())) }
    }

    fn bucket(&self, key: u64) -> &RwSpinLock<RANK, IntervalTree<Slot<'k>, S>> {
        let [first, ..] = &self.buckets;
        self.buckets.get((key % BUCKETS as u64) as usize).unwrap_or(first)
    }
}

type OfFiles<'k> = IntervalTree<Slot<'k>, ByFile>;
type OfFamilies<'k> = IntervalTree<Slot<'k>, ByFamily>;

/// The reverse map of a machine's address spaces.
pub(crate) struct ReverseMap<'k> {
    files: Index<'k, { rank::FILE_AREAS }, ByFile>,
    families: Index<'k, { rank::ANON_AREAS }, ByFamily>,
}

impl fmt::Debug for ReverseMap<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ReverseMap(..)")
    }
}

/// The trees that an area is in, locked for writing: no walk is under way in them.
pub(crate) struct Held<'a, 'k> {
    files: Option<RwWriteGuard<'a, { rank::FILE_AREAS }, OfFiles<'k>>>,
    families: Option<RwWriteGuard<'a, { rank::ANON_AREAS }, OfFamilies<'k>>>,
}

impl<'k> Held<'_, 'k> {
    /// Enters an area, which is in no tree and says what `vma` does.
    fn insert(&mut self, slot: Slot<'k>, vma: &Vma) {
        if let (Some(files), Some(file)) = (&mut self.files, vma.file) {
            files.insert(slot, file.raw(), pages(vma));
        }
        if let (Some(families), Some(anon)) = (&mut self.families, vma.anon) {
            families.insert(slot, anon.root.family().into(), pages(vma));
        }
    }

    /// Takes an area out that says what `vma` does.
    fn remove(&mut self, slot: Slot<'k>, vma: &Vma) {
        if let (Some(files), Some(_)) = (&mut self.files, vma.file) {
            let found = files.remove(slot);
            debug_assert!(found, "an area with a file is in the file's tree");
        }
        if let (Some(families), Some(_)) = (&mut self.families, vma.anon) {
            let found = families.remove(slot);
            debug_assert!(found, "an area with an anon_vma is in its family's tree");
        }
    }
}

/// The pages of a file or family that an area shows.
const fn pages(vma: &Vma) -> RangeInclusive<u64> {
    vma.pgoff..=vma.pgoff.saturating_add(vma.nr_pages().saturating_sub(1))
}

impl<'k> ReverseMap<'k> {
    pub(crate) fn new() -> Self {
        Self { files: Index::new(), families: Index::new() }
    }

    /// Keeps walks out of the trees that an area like `vma` is in.
    pub(crate) fn hold<'a>(&'a self, cpu: &'a Cpu, vma: &Vma) -> Held<'a, 'k> {
        let files = vma.file.map(|file| self.files.bucket(file.raw()).write(cpu));
        let families = vma.anon.map(|anon| self.families.bucket(anon.root.family().into()).write(cpu));
        Held { files, families }
    }

    /// Enters an area that says what `vma` does.
    pub(crate) fn link(&self, cpu: &Cpu, slot: Slot<'k>, vma: &Vma) {
        if !vma.is_untouched() {
            self.hold(cpu, vma).insert(slot, vma);
        }
    }

    /// Takes an area out.
    pub(crate) fn unlink(&self, cpu: &Cpu, Area { slot, vma }: &Area<'k>) {
        if !vma.is_untouched() {
            self.hold(cpu, vma).remove(*slot, vma);
        }
    }

    /// Writes `vma` to an area that is in its trees, and moves it there to where it belongs then.
    pub(crate) fn rewrite(&self, cpu: &Cpu, Area { slot, vma: old }: &Area<'k>, vma: &Vma) {
        if old.is_untouched() && vma.is_untouched() {
            return slot.store(vma);
        }
        let root = |vma: &Vma| vma.anon.map(|anon| anon.root);
        debug_assert!(old.file == vma.file, "an area keeps its file");
        debug_assert!(root(old) == root(vma) || old.anon.is_none() || vma.anon.is_none(), "an area keeps its family");
        if pages(old) == pages(vma) && root(old) == root(vma) {
            return slot.store(vma);
        }
        let mut held = self.hold(cpu, &Vma { anon: old.anon.or(vma.anon), ..*vma });
        held.remove(*slot, old);
        slot.store(vma);
        held.insert(*slot, vma);
    }

    /// Enters `others`, which say what they are, of an area that is split; where it lies it keeps the part `lower`.
    pub(crate) fn split(&self, cpu: &Cpu, Area { slot, vma: old }: &Area<'k>, lower: &Vma, others: &[&Area<'k>]) {
        if old.is_untouched() {
            return slot.store(lower);
        }
        let mut held = self.hold(cpu, old);
        held.remove(*slot, old);
        slot.store(lower);
        held.insert(*slot, lower);
        others.iter().for_each(|other| held.insert(other.slot, &other.vma));
    }

    /// Enters an area into the tree of its family, after it got its first anon_vma.
    pub(crate) fn link_family(&self, cpu: &Cpu, slot: Slot<'k>, vma: &Vma) {
        self.hold(cpu, &Vma { file: None, ..*vma }).insert(slot, &Vma { file: None, ..*vma });
    }
}

/// A part of an area that may map pages that a walk looks for.
#[derive(Clone, Copy, Debug)]
pub struct Mapped<'a, 'k> {
    /// The address space. It is there as long as the walk is; a handle may be taken ([`Mm::grab`]).
    pub mm: &'a Mm<'k>,
    /// The area. Calls may change its flags meanwhile, but not its place.
    pub vma: Vma,
    /// The addresses of the pages.
    pub range: VirtRange,
}

/// Shows each area of `tree` with pages of `numbers`.
fn walk<'k, const RANK: u8, S: NodeOf<Slot<'k>>>(
    tree: &RwReadGuard<'_, RANK, IntervalTree<Slot<'k>, S>>,
    key: u64,
    numbers: RangeInclusive<u64>,
    visit: &mut impl FnMut(Mapped<'_, 'k>),
) {
    tree.for_each(key, numbers.clone(), &mut |slot| {
        let vma = slot.load();
        let own = pages(&vma);
        let (first, last) = (*numbers.start().max(own.start()), *numbers.end().min(own.end()));
        let start = vma.start().saturating_add((first - vma.pgoff) << PAGE_SHIFT);
        let range = VirtRange::with_len(start, (last - first + 1) << PAGE_SHIFT);
        if let Some(mm) = slot.mm.load() {
            visit(Mapped { mm: mm.get(), vma, range });
        }
    });
}

impl<'k, P: Platform, H: Hooks> AddressSpaces<'k, P, H> {
    /// Shows every area that may map the pages `numbers` of a file, an area before its copies of later forks. Areas that are entered meanwhile may
    /// be missed, but not pages: those that move or are split stay away from the walk until it ends (Linux: `rmap_walk_file`,
    /// `unmap_mapping_pages`).
    ///
    /// `visit` runs under `rank::FILE_AREAS`: it may work on page tables, but takes no lock of an address space or area.
    pub fn for_each_file_area(
        &self,
        cpu: &Cpu,
        file: FileId,
        numbers: RangeInclusive<u64>,
        mut visit: impl FnMut(Mapped<'_, 'k>),
    ) {
        walk(&self.rmap.files.bucket(file.raw()).read(cpu), file.raw(), numbers, &mut visit);
    }

    /// As [`for_each_file_area`](Self::for_each_file_area), of the anonymous pages of a family ([`AnonVmaId::family`](crate::AnonVmaId::family) of its root), under `rank::ANON_AREAS`
    /// (Linux: `rmap_walk_anon`).
    pub fn for_each_anon_area(
        &self,
        cpu: &Cpu,
        family: u32,
        numbers: RangeInclusive<u64>,
        mut visit: impl FnMut(Mapped<'_, 'k>),
    ) {
        let family = family.into();
        walk(&self.rmap.families.bucket(family).read(cpu), family, numbers, &mut visit);
    }

    /// Checks the laws of the reverse map's trees; returns how many areas are in those of files and those of families.
    ///
    /// # Errors
    /// The first law that is broken.
    pub fn check_reverse_map(&self, cpu: &Cpu) -> Result<[usize; 2], &'static str> {
        let mut counts = [0; 2];
        for bucket in &self.rmap.files.buckets {
            counts[0] += bucket.read(cpu).check_invariants()?;
        }
        for bucket in &self.rmap.families.buckets {
            counts[1] += bucket.read(cpu).check_invariants()?;
        }
        Ok(counts)
    }
}
