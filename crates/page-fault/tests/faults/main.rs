//! Faults on a small machine: one or more address spaces, areas made by hand, files of a few pages.

mod cached;
mod cases;
mod failures;
mod huge;
mod model;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};

use address_space::{
    Access, AnonVma, AnonVmaId, FileFacts, FileId, HugePolicy, HugeRules, HugeZeros, MmError, Pager, Reserve, Vma,
};
use fixture::{Built, Fixture, Shape, ZoneShape};
use frame_table::{HeapMemory, PageBytes, PageFlags, PageRef};
use mmkit_page_fault::{AccessKind, FaultAction, FaultContext, FaultError, FilePages};
use object_allocator::ObjectAllocator;
use object_allocator::mmu::{Found, Rss, UserTables};
use page_allocator::{DebugOptions, Geometry, NoPressure, PcpLimits};
use page_tables::{Bounds, Tables, WriteTracking, ZapWhat};
use platform::{Level, Prot};
use sync::{Cpu, IrqControl};
use units::{CpuId, Gfp, NodeId, Order, Pfn, PfnRange, VirtAddr, VirtRange, VmFlags, ZoneType};

pub(crate) type Objects = Built<ObjectAllocator<HeapMemory>>;
pub(crate) type View<'a> = Tables<'a, HeapMemory, NoPressure>;

pub(crate) const WRITE: VmFlags =
    VmFlags::READ.union(VmFlags::WRITE).union(VmFlags::MAYWRITE).union(VmFlags::SOFTDIRTY);
pub(crate) const SHARED: VmFlags = WRITE.union(VmFlags::SHARED).union(VmFlags::MAYSHARE);
pub(crate) const EVERYTHING: VirtRange = VirtRange::new(VirtAddr::ZERO, VirtAddr::new(1 << 47));

pub(crate) fn machine(nr_pages: u64) -> (Objects, Cpu) {
    static NEXT: AtomicU32 = AtomicU32::new(50_000);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let span = PfnRange::with_len(Pfn::new(1024), nr_pages);
    let shape = Shape {
        geometry: Geometry::FOUR_KIB,
        zones: [ZoneShape { node: NodeId::ZERO, kind: ZoneType::Normal, span }].into(),
        nr_cpus: 1,
        settings: Shape::keeping(PcpLimits { high_min: 64, high_max: 64, batch: 16 }),
    };
    let memory = HeapMemory::with_tables(shape.span().phys(12)).unwrap();
    let fixture = Fixture::new(memory, number, shape, DebugOptions::default());
    // SAFETY: machine numbers are used once, and each test makes one token.
    let cpu = unsafe { Cpu::new(number, CpuId::ZERO, IrqControl::NONE) };
    fixture.start(&cpu);
    let objects = fixture.build(ObjectAllocator::new);
    objects.start(&cpu).unwrap();
    objects.start_mmu(&cpu).unwrap();
    (objects, cpu)
}

/// Files of `size` pages each, whose page `n` begins with byte `n + 1`.
pub(crate) struct Files<'a> {
    pub(crate) objects: &'a Objects,
    pub(crate) cpu: &'a Cpu,
    pub(crate) size: u64,
    pub(crate) tracking: WriteTracking,
    pub(crate) pages: RefCell<BTreeMap<(u64, u64), PageRef>>,
    pub(crate) written: RefCell<Vec<u64>>,
}

impl<'a> Files<'a> {
    pub(crate) fn new(objects: &'a Objects, cpu: &'a Cpu, size: u64) -> Self {
        let (pages, written) = (RefCell::default(), RefCell::default());
        Self { objects, cpu, size, tracking: WriteTracking::FirstWrite, pages, written }
    }

    /// Brings a page into memory.
    pub(crate) fn load(&self, index: u64) -> Result<(), MmError> {
        let page = FilePages::page(self, file(), index, Access::Read)?;
        self.objects.pages().put(self.cpu, page);
        Ok(())
    }

    pub(crate) fn end(self) {
        for page in self.pages.into_inner().into_values() {
            self.objects.pages().put(self.cpu, page);
        }
    }
}

impl FilePages for Files<'_> {
    fn page(&self, file: FileId, index: u64, access: Access) -> Result<PageRef, MmError> {
        if index >= self.size {
            return Err(MmError::BadAddress);
        }
        if access == Access::Write {
            self.written.borrow_mut().push(index);
        }
        let frames = &self.objects.pages().map().frames;
        let mut pages = self.pages.borrow_mut();
        if let Some(page) = pages.get(&(file.raw(), index)) {
            return Ok(page.get(frames));
        }
        let block = self.objects.pages().alloc(self.cpu, Gfp::HIGHUSER_MOVABLE | Gfp::ZERO, Order::ZERO);
        let page = block.map_err(|_| MmError::NoMemory)?.into_ref(frames);
        frames.at(page.pfn()).set_mapping(1, index);
        if self.tracking == WriteTracking::None {
            frames.at(page.pfn()).set_flags(PageFlags::SWAPBACKED);
        }
        PageBytes::new(self.objects.pages().platform(), &page, 12).unwrap().write(0, &[index as u8 + 1]);
        let reference = page.get(frames);
        pages.insert((file.raw(), index), page);
        Ok(reference)
    }

    fn resident_pages(&self, file: FileId, first: u64, found: &mut [Option<PageRef>]) {
        let frames = &self.objects.pages().map().frames;
        for (slot, index) in found.iter_mut().zip(first..) {
            *slot = self.pages.borrow().get(&(file.raw(), index)).map(|page| page.get(frames));
        }
    }

    fn residency(&self, file: FileId, first: u64, resident: &mut [u8]) {
        for (byte, index) in resident.iter_mut().zip(first..) {
            *byte = u8::from(self.pages.borrow().contains_key(&(file.raw(), index)));
        }
    }
}

impl Pager for Files<'_> {
    fn facts(&self, _: FileId) -> Result<FileFacts, MmError> {
        Err(MmError::BadFile)
    }
    fn shared_anonymous(&mut self, _: u64, _: Reserve) -> Result<FileId, MmError> {
        Err(MmError::NoMemory)
    }
    fn open(&mut self, _: FileId) {}
    fn close(&mut self, _: FileId) {}
    fn sync(&mut self, _: FileId, _: u64, _: u64) -> Result<(), MmError> {
        Ok(())
    }
    fn punch_hole(&mut self, _: FileId, _: u64, _: u64) -> Result<(), MmError> {
        Ok(())
    }
}

pub(crate) fn file() -> FileId {
    FileId::new(1).unwrap()
}

pub(crate) fn at(page: u64) -> VirtAddr {
    VirtAddr::new(0x5555_0000_0000 + (page << 12))
}

/// An area of `nr_pages` from page 0 on, with an anon_vma.
pub(crate) fn area(flags: VmFlags, nr_pages: u64, file: Option<FileId>) -> Vma {
    let anon = AnonVmaId::new(7).map(|id| AnonVma { id, root: id, links: 1 });
    Vma { range: VirtRange::new(at(0), at(nr_pages)), flags, pgoff: 0, file, anon, uffd: 0, name: None }
}

/// The rules of later releases for areas that `policy` is for.
pub(crate) const fn huge(policy: HugePolicy) -> HugeRules {
    HugeRules { policy, zeros: HugeZeros::Replaced }
}

/// An address space as a process uses it.
pub(crate) struct Space<'a> {
    pub(crate) view: View<'a>,
    pub(crate) files: &'a Files<'a>,
    pub(crate) huge: HugeRules,
}

impl<'a> Space<'a> {
    pub(crate) fn new(objects: &'a Objects, cpu: &'a Cpu, tables: &'a UserTables, files: &'a Files<'a>) -> Self {
        let view = View { mmu: objects.start_mmu(cpu).unwrap().on(cpu), tables };
        view.mmu.make_root(tables).unwrap();
        Self { view, files, huge: huge(HugePolicy::Never) }
    }

    pub(crate) fn faults(&self) -> FaultContext<'a, 'a, HeapMemory, NoPressure, Files<'a>> {
        FaultContext { pages: self.view, files: self.files, huge: self.huge }
    }

    pub(crate) fn fault(&self, vma: &Vma, page: u64, access: AccessKind) -> Result<FaultAction, FaultError> {
        self.faults().make_possible(vma, at(page), access)
    }

    /// Touches a byte as a processor does: through the entry if it allows it, else after a fault. Returns what the faults did.
    pub(crate) fn access(&self, vma: &Vma, page: u64, write: Option<u8>) -> Result<(u8, Vec<FaultAction>), FaultError> {
        let mut actions = Vec::new();
        loop {
            if let Some(byte) = self.try_access(page, write) {
                return Ok((byte, actions));
            }
            assert!(actions.len() < 3, "an access goes on after a fault: {actions:?}");
            let kind = if write.is_some() { AccessKind::Write } else { AccessKind::Read };
            actions.push(self.fault(vma, page, kind)?);
        }
    }

    fn try_access(&self, page: u64, write: Option<u8>) -> Option<u8> {
        let walk = self.view.mmu.walk(self.view.tables)?;
        let (Found::Entry(entry) | Found::Above(entry, _)) = walk.find(at(page), Level::PTE)?;
        let (_, attributes) = entry.leaf(entry.load())?;
        let needed = if write.is_some() { Prot::USER | Prot::WRITE } else { Prot::USER };
        if !attributes.prot.contains(needed) {
            return None;
        }
        let Some((held, _)) = self.view.mmu.page(&entry) else { return Some(0) };
        let pages = self.view.mmu.objects().pages();
        let mut byte = [0];
        let bytes = PageBytes::new(pages.platform(), &held, 12).unwrap();
        let first = entry.leaf(entry.load())?.0.since(held.pfn()) << 12;
        let offset = (first + at(page).since(entry.virt())) as usize;
        match write {
            Some(value) => bytes.write(offset, &[value]),
            None => bytes.read(offset, &mut byte),
        };
        self.view.mmu.put(held);
        Some(write.unwrap_or(byte[0]))
    }

    pub(crate) fn rss(&self) -> Rss {
        self.view.tables.rss()
    }

    pub(crate) fn end(&self) {
        let mut gather = self.view.mmu.gather(self.view.tables);
        self.view.zap(&mut gather, EVERYTHING, ZapWhat::All);
        self.view.free_tables(&mut gather, EVERYTHING, Bounds::NONE);
        gather.free_root();
    }
}
