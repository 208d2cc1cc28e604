//! What each CPU remembers of the page tables, and a check that it is still true when it is used.
//!
//! A CPU looks an address up in its own [`CpuTlb`]; if it knows nothing, it walks the real tables in the machine's memory from the
//! deepest table that it remembers, and remembers what it finds. Nothing is forgotten but by a flush or for want of room, which is
//! the least that hardware promises, so a flush that is missing is found by the first use of what it should have removed. Users' addresses
//! are in `user`.
//! Locking: one mutex a CPU, held while it walks, so that a flush comes either before a walk or after what the walk remembered.
//! Linux 6.12: arch/x86/mm/tlb.c; Intel SDM volume 3, section 5.10 (TLBs and paging-structure caches).

mod user;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use boot_memory::page_tables::{PageTables, TableMemory, Translation};
use platform::{AnyFormat, Level, Prot, TableFormat};
use units::{CpuId, PhysAddr, VirtAddr, VirtRange};

pub(crate) use user::UserLookup;

/// Most leaves, and most tables, that a CPU remembers.
const CAPACITY: usize = 4096;

/// Whose addresses a translation is for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Space {
    /// The kernel's, the same on every CPU.
    Kernel,
    /// Those of one process, by its root table (x86: CR3; arm64: TTBR0).
    User(PhysAddr),
}

/// What is done through a translation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// Reading.
    Read,
    /// Writing.
    Write,
    /// Fetching an instruction.
    Fetch,
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
    /// The mapping holds no instructions.
    NoExecute(VirtAddr),
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
            Space::User(root) => write!(f, "; missing: flush_user_range({range:?}) of the tables under {root:#x}"),
        }
    }
}

impl fmt::Display for VirtFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotMapped(virt) => write!(f, "nothing is mapped at {virt:#x}"),
            Self::ReadOnly(virt) => write!(f, "the mapping at {virt:#x} may only be read"),
            Self::KernelOnly(virt) => write!(f, "the mapping at {virt:#x} is the kernel's"),
            Self::NoExecute(virt) => write!(f, "the mapping at {virt:#x} holds no instructions"),
            Self::NoMemory(phys) => write!(f, "there is no memory at physical address {phys:#x}"),
            Self::NoTables => f.write_str("the machine has no page tables"),
            Self::Stale(stale) => stale.fmt(f),
        }
    }
}

impl std::error::Error for VirtFault {}

/// Whose address space, level of the entry, first address that it translates.
type Key = (Space, Level, VirtAddr);

/// A translation or a table that a CPU remembers.
#[derive(Debug)]
struct Remembered<T> {
    value: T,
    /// Set when the tables were first found to say something else, while another CPU may still be about to flush: how often each CPU had been
    /// seen in user mode.
    suspected: Option<Box<[u64]>>,
}

/// What one CPU remembers.
#[derive(Debug, Default)]
struct CpuTlb {
    /// Root of the process that the CPU runs (CR3).
    root: Option<PhysAddr>,
    leaves: BTreeMap<Key, Remembered<Translation>>,
    /// Tables by their own level and the first address that they translate.
    tables: BTreeMap<Key, Remembered<PhysAddr>>,
}

fn remember<T>(map: &mut BTreeMap<Key, Remembered<T>>, key: Key, value: T) {
    if map.len() >= CAPACITY {
        map.pop_first();
    }
    map.insert(key, Remembered { value, suspected: None });
}

/// Returns what an entry of `level` that translates `virt` is remembered by.
fn leaf_key(format: AnyFormat, space: Space, level: Level, virt: VirtAddr) -> Key {
    (space, level, virt.align_down(format.leaf_bytes(level)))
}

/// Returns what a table of `level` that translates `virt` is remembered by.
fn table_key(format: AnyFormat, space: Space, level: Level, virt: VirtAddr) -> Key {
    let shift = format.shift(level) + format.index_bits();
    let start = if shift < u64::BITS { virt.align_down(1 << shift) } else { VirtAddr::ZERO };
    (space, level, start)
}

/// What a CPU remembers, as [`Stale`] tells of it.
struct Suspect {
    cpu: CpuId,
    format: AnyFormat,
    key: Key,
    table: Option<Level>,
}

impl Suspect {
    fn stale(&self, remembered: PhysAddr, found: Option<PhysAddr>) -> Stale {
        let Self { cpu, format, key: (space, level, start), table } = *self;
        let shift = format.shift(level) + if table.is_some() { format.index_bits() } else { 0 };
        let range = VirtRange::with_len(start, 1u64.checked_shl(shift).unwrap_or(u64::MAX));
        Stale { cpu, space, range, table, remembered, found }
    }
}

/// Returns true if what the tables say covers what a CPU remembers: the same memory, and no right less.
///
/// An entry that allows more than the CPU remembers is found out by a fault; one that allows less has to be flushed.
fn still_holds(remembered: &Translation, found: Option<&Translation>, rights: Prot) -> bool {
    found.is_some_and(|found| {
        let lost = remembered.attributes.prot - found.attributes.prot;
        found.phys == remembered.phys && !lost.intersects(rights)
    })
}

/// Returns why a mapping does not allow an access.
fn forbidden(prot: Prot, space: Space, virt: VirtAddr, access: Access) -> Option<VirtFault> {
    if access == Access::Write && !prot.contains(Prot::WRITE) {
        return Some(VirtFault::ReadOnly(virt));
    }
    if space != Space::Kernel && !prot.contains(Prot::USER) {
        return Some(VirtFault::KernelOnly(virt));
    }
    (access == Access::Fetch && !prot.contains(Prot::EXECUTE)).then_some(VirtFault::NoExecute(virt))
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
    /// How often each CPU was seen in user mode.
    in_user_mode: Box<[AtomicU64]>,
    flushes: AtomicU64,
}

/// A CPU that looks an address of the kernel up.
pub(crate) struct Lookup<'a, M: TableMemory> {
    pub(crate) cpu: CpuId,
    pub(crate) tables: PageTables<AnyFormat>,
    pub(crate) memory: &'a M,
}

impl Tlbs {
    pub(crate) fn new(nr_cpus: usize) -> Self {
        Self {
            cpus: (0..nr_cpus).map(|_| Mutex::default()).collect(),
            in_user_mode: (0..nr_cpus).map(|_| AtomicU64::new(0)).collect(),
            flushes: AtomicU64::new(0),
        }
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

    /// Translates `virt`, an address of the kernel, as the CPU of `lookup` does.
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
        if let Some(fault) = forbidden(leaf.attributes.prot, Space::Kernel, virt, access) {
            return Err(fault);
        }
        let offset = virt.raw() & (lookup.tables.format().leaf_bytes(leaf.level) - 1);
        Ok(leaf.phys.saturating_add(offset))
    }
}

impl<M: TableMemory> Lookup<'_, M> {
    fn suspect(&self, key: Key, table: Option<Level>) -> Suspect {
        Suspect { cpu: self.cpu, format: self.tables.format(), key, table }
    }

    /// Returns the leaf that the CPU remembers, with the address of its first byte, if it is what the tables say.
    fn remembered(&self, tlb: &CpuTlb, virt: VirtAddr) -> Result<Option<Translation>, VirtFault> {
        let mut level = Some(self.tables.format().largest_leaf());
        while let Some(at) = level {
            let key = leaf_key(self.tables.format(), Space::Kernel, at, virt);
            if let Some(leaf) = tlb.leaves.get(&key).map(|leaf| leaf.value) {
                let found = self.tables.walk(self.memory, key.2);
                if still_holds(&leaf, found.as_ref(), Prot::WRITE | Prot::EXECUTE | Prot::USER) {
                    return Ok(Some(leaf));
                }
                let stale = self.suspect(key, None).stale(leaf.phys, found.map(|found| found.phys));
                return Err(VirtFault::Stale(stale));
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
            let key = table_key(self.tables.format(), Space::Kernel, at, virt);
            if let Some(table) = tlb.tables.get(&key).map(|table| table.value) {
                let real = path.iter().find(|(level, _)| *level == at).map(|&(_, table)| table);
                if real != Some(table) {
                    return Err(VirtFault::Stale(self.suspect(key, Some(at)).stale(table, real)));
                }
                break;
            }
            level = up(at);
        }
        for (level, table) in path {
            remember(&mut tlb.tables, table_key(self.tables.format(), Space::Kernel, level, virt), table);
        }
        let mut leaf = found.ok_or(VirtFault::NotMapped(virt))?;
        leaf.phys = leaf.phys.align_down(self.tables.format().leaf_bytes(leaf.level));
        remember(&mut tlb.leaves, leaf_key(self.tables.format(), Space::Kernel, leaf.level, virt), leaf);
        Ok(leaf)
    }
}

fn up(level: Level) -> Option<Level> {
    [Level::PMD, Level::PUD, Level::P4D, Level::PGD].into_iter().find(|above| above.down() == Some(level))
}

#[cfg(test)]
mod tests;
