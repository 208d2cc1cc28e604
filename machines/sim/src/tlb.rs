//! What each CPU remembers of the page tables, and a check that it is still true when it is used.
//!
//! A CPU looks an address up in its own [`CpuTlb`]; if it knows nothing, it walks the real tables in the machine's memory from the
//! deepest table that it remembers, and remembers what it finds. Nothing is forgotten but by a flush or for want of room, which is
//! the least that hardware promises, so a flush that is missing is found by the first use of what it should have removed.
//! Locking: one mutex a CPU, held while it walks, so that a flush comes either before a walk or after what the walk remembered.
//! Linux 6.12: arch/x86/mm/tlb.c; Intel SDM volume 3, section 5.10 (TLBs and paging-structure caches).

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use boot_memory::page_tables::{PageTables, TableMemory, Translation};
use platform::{AnyFormat, Level, Prot, TableFormat};
use units::{CpuId, PhysAddr, VirtAddr, VirtRange};

/// Most leaves, and most tables, that a CPU remembers.
const CAPACITY: usize = 4096;

/// Whose addresses a translation is for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Space {
    /// The kernel's, the same on every CPU.
    Kernel,
    /// Those of one process, by the number of its address space (x86: PCID; arm64: ASID).
    User(u64),
}

/// What is done through a translation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// Reading.
    Read,
    /// Writing.
    Write,
}

/// Why a CPU cannot reach an address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum VirtFault {
    /// Nothing is mapped.
    NotMapped(VirtAddr),
    /// The mapping may only be read.
    ReadOnly(VirtAddr),
    /// The mapping is for the kernel only.
    KernelOnly(VirtAddr),
    /// What is mapped is not memory of the machine.
    NoMemory(PhysAddr),
    /// The machine has no page tables.
    NoTables,
    /// The CPU used what it should have forgotten.
    Stale(Stale),
}

/// A translation or a table that a CPU remembered after the page tables had changed, found when it was used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stale {
    /// The CPU.
    pub cpu: CpuId,
    /// Whose addresses.
    pub space: Space,
    /// The addresses whose flush is missing on that CPU.
    pub range: VirtRange,
    /// `None` for a translation; the level of the table that it went through for a table.
    pub table: Option<Level>,
    /// What the CPU remembers: the memory mapped at the range's start, or the table.
    pub remembered: PhysAddr,
    /// What the page tables say in its place; `None` if they have nothing there.
    pub found: Option<PhysAddr>,
}

impl fmt::Display for Stale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cpu, range, remembered, .. } = self;
        match self.table {
            None => {
                write!(f, "CPU {cpu} used a stale translation of {range:?} to {remembered:#x}; the page tables say ")?
            }
            Some(level) => {
                write!(f, "CPU {cpu} walked {range:?} through a stale {level} table at {remembered:#x}; there is now ")?
            }
        }
        match self.found {
            Some(found) => write!(f, "{found:#x}")?,
            None => f.write_str("nothing")?,
        }
        match self.space {
            Space::Kernel => write!(f, "; missing: flush_kernel_range({range:?})"),
            Space::User(asid) => write!(f, "; missing: a flush of {range:?} in address space {asid}"),
        }
    }
}

impl fmt::Display for VirtFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotMapped(virt) => write!(f, "nothing is mapped at {virt:#x}"),
            Self::ReadOnly(virt) => write!(f, "the mapping at {virt:#x} may only be read"),
            Self::KernelOnly(virt) => write!(f, "the mapping at {virt:#x} is the kernel's"),
            Self::NoMemory(phys) => write!(f, "there is no memory at physical address {phys:#x}"),
            Self::NoTables => f.write_str("the machine has no page tables"),
            Self::Stale(stale) => stale.fmt(f),
        }
    }
}

impl std::error::Error for VirtFault {}

/// Whose address space, level of the entry, first address that it translates.
type Key = (Space, Level, VirtAddr);

/// What one CPU remembers.
#[derive(Debug, Default)]
struct CpuTlb {
    leaves: BTreeMap<Key, Translation>,
    /// Tables by their own level and the first address that they translate.
    tables: BTreeMap<Key, PhysAddr>,
}

fn remember<T>(map: &mut BTreeMap<Key, T>, key: Key, value: T) {
    if map.len() >= CAPACITY {
        map.pop_first();
    }
    map.insert(key, value);
}

impl CpuTlb {
    fn flush(&mut self, format: AnyFormat, space: Space, range: VirtRange) {
        let keeps = |of: Space, start: VirtAddr, shift: u32| {
            of != space || !VirtRange::with_len(start, 1u64.checked_shl(shift).unwrap_or(u64::MAX)).overlaps(range)
        };
        self.leaves.retain(|&(of, level, start), _| keeps(of, start, format.shift(level)));
        self.tables.retain(|&(of, level, start), _| keeps(of, start, format.shift(level) + format.index_bits()));
    }
}

/// The TLBs of a machine's CPUs.
#[derive(Debug)]
pub(crate) struct Tlbs {
    cpus: Box<[Mutex<CpuTlb>]>,
    flushes: AtomicU64,
}

/// A CPU that looks an address up.
pub(crate) struct Lookup<'a, M: TableMemory> {
    pub(crate) cpu: CpuId,
    pub(crate) space: Space,
    pub(crate) tables: PageTables<AnyFormat>,
    pub(crate) memory: &'a M,
}

impl Tlbs {
    pub(crate) fn new(nr_cpus: usize) -> Self {
        Self { cpus: (0..nr_cpus).map(|_| Mutex::default()).collect(), flushes: AtomicU64::new(0) }
    }

    fn of(&self, cpu: CpuId) -> Option<MutexGuard<'_, CpuTlb>> {
        // A fault that panicked elsewhere left a whole TLB: each change of it is one insertion.
        self.cpus.get(cpu.index()).map(|tlb| tlb.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Makes every CPU forget what it knows of `range`.
    pub(crate) fn flush(&self, format: AnyFormat, space: Space, range: VirtRange) {
        // Relaxed: a statistic.
        self.flushes.fetch_add(1, Ordering::Relaxed);
        for tlb in &self.cpus {
            tlb.lock().unwrap_or_else(PoisonError::into_inner).flush(format, space, range);
        }
    }

    /// Returns how often all CPUs were flushed.
    pub(crate) fn flushes(&self) -> u64 {
        self.flushes.load(Ordering::Relaxed)
    }

    /// Translates `virt` as the CPU of `lookup` does.
    ///
    /// # Errors
    /// [`VirtFault`].
    pub(crate) fn translate<M: TableMemory>(
        &self,
        lookup: &Lookup<'_, M>,
        virt: VirtAddr,
        access: Access,
    ) -> Result<PhysAddr, VirtFault> {
        let mut tlb = self.of(lookup.cpu).ok_or(VirtFault::NoTables)?;
        let leaf = match lookup.remembered(&tlb, virt)? {
            Some(leaf) => leaf,
            None => lookup.walk(&mut tlb, virt)?,
        };
        let prot = leaf.attributes.prot;
        if access == Access::Write && !prot.contains(Prot::WRITE) {
            return Err(VirtFault::ReadOnly(virt));
        }
        if lookup.space != Space::Kernel && !prot.contains(Prot::USER) {
            return Err(VirtFault::KernelOnly(virt));
        }
        let offset = virt.raw() & (lookup.tables.format().leaf_bytes(leaf.level) - 1);
        Ok(leaf.phys.saturating_add(offset))
    }
}

impl<M: TableMemory> Lookup<'_, M> {
    /// Returns what an entry of `level` that translates `virt` is remembered by.
    fn leaf_key(&self, level: Level, virt: VirtAddr) -> Key {
        (self.space, level, virt.align_down(self.tables.format().leaf_bytes(level)))
    }

    /// Returns what a table of `level` that translates `virt` is remembered by.
    fn table_key(&self, level: Level, virt: VirtAddr) -> Key {
        let shift = self.tables.format().shift(level) + self.tables.format().index_bits();
        let start = if shift < u64::BITS { virt.align_down(1 << shift) } else { VirtAddr::ZERO };
        (self.space, level, start)
    }

    fn stale(
        &self,
        (space, level, start): Key,
        table: Option<Level>,
        remembered: PhysAddr,
        found: Option<PhysAddr>,
    ) -> VirtFault {
        let format = self.tables.format();
        let shift = format.shift(level) + if table.is_some() { format.index_bits() } else { 0 };
        let range = VirtRange::with_len(start, 1u64.checked_shl(shift).unwrap_or(u64::MAX));
        VirtFault::Stale(Stale { cpu: self.cpu, space, range, table, remembered, found })
    }

    /// Returns the leaf that the CPU remembers, with the address of its first byte, if it is what the tables say.
    fn remembered(&self, tlb: &CpuTlb, virt: VirtAddr) -> Result<Option<Translation>, VirtFault> {
        let mut level = Some(self.tables.format().largest_leaf());
        while let Some(at) = level {
            let key = self.leaf_key(at, virt);
            if let Some(&leaf) = tlb.leaves.get(&key) {
                let found = self.tables.walk(self.memory, key.2);
                let holds = found.is_some_and(|found| {
                    // An entry that allows more than the CPU remembers is found out by a fault; one that allows less has to be flushed.
                    let lost = leaf.attributes.prot - found.attributes.prot;
                    found.phys == leaf.phys && !lost.intersects(Prot::WRITE | Prot::EXECUTE | Prot::USER)
                });
                let found = found.map(|found| found.phys);
                return if holds { Ok(Some(leaf)) } else { Err(self.stale(key, None, leaf.phys, found)) };
            }
            level = at.down();
        }
        Ok(None)
    }

    /// Walks the tables from the deepest one that the CPU remembers, and remembers what it finds.
    fn walk(&self, tlb: &mut CpuTlb, virt: VirtAddr) -> Result<Translation, VirtFault> {
        let mut path: Vec<(Level, PhysAddr)> = Vec::new();
        let found = self.tables.walk_through(self.memory, virt, |level, table| path.push((level, table)));
        let mut level = Some(Level::PTE);
        while let Some(at) = level.filter(|&at| at < self.tables.format().root_level()) {
            let key = self.table_key(at, virt);
            if let Some(&table) = tlb.tables.get(&key) {
                let real = path.iter().find(|(level, _)| *level == at).map(|&(_, table)| table);
                if real != Some(table) {
                    return Err(self.stale(key, Some(at), table, real));
                }
                break;
            }
            level = up(at);
        }
        for (level, table) in path {
            remember(&mut tlb.tables, self.table_key(level, virt), table);
        }
        let mut leaf = found.ok_or(VirtFault::NotMapped(virt))?;
        leaf.phys = leaf.phys.align_down(self.tables.format().leaf_bytes(leaf.level));
        remember(&mut tlb.leaves, self.leaf_key(leaf.level, virt), leaf);
        Ok(leaf)
    }
}

fn up(level: Level) -> Option<Level> {
    [Level::PMD, Level::PUD, Level::P4D, Level::PGD].into_iter().find(|above| above.down() == Some(level))
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::HashMap;

    use platform::Attributes;
    use units::{Pfn, PhysRange};

    use super::*;

    /// Tables that can be changed while a lookup borrows them.
    #[derive(Default)]
    struct Tables {
        entries: RefCell<HashMap<(u64, usize), u64>>,
        taken: u64,
    }

    impl TableMemory for Tables {
        fn alloc_table(&mut self) -> Option<PhysAddr> {
            self.taken += 1;
            Some(PhysAddr::new(self.taken << 12))
        }

        fn read_entry(&self, table: PhysAddr, index: usize) -> u64 {
            self.entries.borrow().get(&(table.raw(), index)).copied().unwrap_or(0)
        }

        fn write_entry(&mut self, table: PhysAddr, index: usize, entry: u64) {
            self.entries.borrow_mut().insert((table.raw(), index), entry);
        }
    }

    const FORMAT: AnyFormat = AnyFormat::X86_64;

    struct Machine {
        memory: Tables,
        tables: PageTables<AnyFormat>,
        tlbs: Tlbs,
    }

    fn machine() -> Machine {
        let mut memory = Tables::default();
        let root = memory.alloc_table().unwrap();
        let tables = PageTables::of(platform::KernelTables { root, format: FORMAT });
        Machine { memory, tables, tlbs: Tlbs::new(2) }
    }

    impl Machine {
        fn base() -> VirtAddr {
            FORMAT.vmalloc_range().start
        }

        fn map(&mut self, page: u64, pfn: u64, attributes: Attributes) {
            let virt = Self::base().saturating_add(page << 12);
            let range = PhysRange::with_len(Pfn::new(pfn).phys(12), 4096);
            self.tables.map(&mut self.memory, virt, range, attributes, Level::PTE).unwrap();
        }

        fn unmap(&mut self, page: u64) {
            let range = VirtRange::with_len(Self::base().saturating_add(page << 12), 4096);
            self.tables.unmap(&mut self.memory, range, |_, _| std::ops::ControlFlow::Continue(()));
        }

        fn touch(&self, cpu: u64, page: u64, access: Access) -> Result<u64, VirtFault> {
            let cpu = CpuId::try_new(cpu).unwrap();
            let lookup = Lookup { cpu, space: Space::Kernel, tables: self.tables, memory: &self.memory };
            let virt = Self::base().saturating_add((page << 12) + 8);
            self.tlbs.translate(&lookup, virt, access).map(PhysAddr::raw)
        }

        fn flush(&self, page: u64) {
            let range = VirtRange::with_len(Self::base().saturating_add(page << 12), 4096);
            self.tlbs.flush(FORMAT, Space::Kernel, range);
        }
    }

    #[test]
    fn a_translation_that_was_not_flushed_is_reported_with_its_range_and_cpu() {
        let mut machine = machine();
        machine.map(3, 0x77, Attributes::KERNEL_DATA);
        assert_eq!(machine.touch(1, 3, Access::Read), Ok(0x77008));
        machine.unmap(3);
        let Err(VirtFault::Stale(stale)) = machine.touch(1, 3, Access::Read) else { panic!("not reported") };
        assert_eq!((stale.cpu.raw(), stale.remembered.raw(), stale.found), (1, 0x77000, None));
        assert_eq!(
            stale.to_string(),
            "CPU 1 used a stale translation of [0xffffc90000003000, 0xffffc90000004000) to 0x77000; the page tables say nothing; \
             missing: flush_kernel_range([0xffffc90000003000, 0xffffc90000004000))"
        );
        // CPU 0 never used it, so it has nothing to forget.
        assert_eq!(machine.touch(0, 3, Access::Read), Err(VirtFault::NotMapped(VirtAddr::new(0xffff_c900_0000_3008))));
    }

    #[test]
    fn a_flush_of_another_page_does_not_help() {
        let mut machine = machine();
        machine.map(3, 0x77, Attributes::KERNEL_DATA);
        machine.touch(0, 3, Access::Read).unwrap();
        machine.unmap(3);
        machine.map(3, 0x88, Attributes::KERNEL_DATA);
        machine.flush(4);
        assert!(matches!(machine.touch(0, 3, Access::Read), Err(VirtFault::Stale(Stale { found: Some(_), .. }))));
        machine.flush(3);
        assert_eq!(machine.touch(0, 3, Access::Read), Ok(0x88008));
    }

    #[test]
    fn a_mapping_that_may_no_longer_be_written_has_to_be_flushed() {
        let mut machine = machine();
        machine.map(0, 0x77, Attributes::KERNEL_DATA);
        machine.touch(0, 0, Access::Write).unwrap();
        machine.unmap(0);
        machine.map(0, 0x77, Attributes::KERNEL_READ_ONLY);
        assert!(matches!(machine.touch(0, 0, Access::Read), Err(VirtFault::Stale(_))));
        machine.flush(0);
        assert!(matches!(machine.touch(0, 0, Access::Write), Err(VirtFault::ReadOnly(_))));
    }

    #[test]
    fn a_walk_through_a_table_that_was_taken_away_is_reported() {
        let mut machine = machine();
        machine.map(0, 0x77, Attributes::KERNEL_DATA);
        machine.touch(0, 0, Access::Read).unwrap();
        machine.unmap(0);
        let range = VirtRange::with_len(Machine::base(), 4096);
        machine.tables.detach_empty(&mut machine.memory, range, &mut |_| ());
        machine.map(1, 0x88, Attributes::KERNEL_DATA);
        let fault = machine.touch(0, 1, Access::Read);
        let Err(VirtFault::Stale(stale)) = fault else { panic!("{fault:?}") };
        assert_eq!(stale.table, Some(Level::PTE));
        machine.flush(0);
        assert_eq!(machine.touch(0, 1, Access::Read), Ok(0x88008));
    }

    #[test]
    fn a_user_translation_is_its_address_spaces_own() {
        let mut machine = machine();
        let user = Attributes { prot: Attributes::KERNEL_DATA.prot | Prot::USER, ..Attributes::KERNEL_DATA };
        machine.map(0, 0x77, user);
        machine.map(1, 0x78, Attributes::KERNEL_DATA);
        let lookup = |asid| Lookup {
            cpu: CpuId::ZERO,
            space: Space::User(asid),
            tables: machine.tables,
            memory: &machine.memory,
        };
        let base = Machine::base();
        assert!(machine.tlbs.translate(&lookup(1), base, Access::Read).is_ok());
        let kernel_page = base.saturating_add(4096);
        let refused = machine.tlbs.translate(&lookup(1), kernel_page, Access::Read);
        assert_eq!(refused, Err(VirtFault::KernelOnly(kernel_page)));
        machine.tlbs.translate(&lookup(2), base, Access::Read).unwrap();
        let tlb = |space| machine.tlbs.of(CpuId::ZERO).unwrap().leaves.keys().filter(|key| key.0 == space).count();
        machine.tlbs.flush(FORMAT, Space::User(1), VirtRange::with_len(base, 8192));
        assert_eq!((tlb(Space::User(1)), tlb(Space::User(2))), (0, 1));
    }
}
