//! A process's addresses, as a processor in user mode translates them.
//!
//! A CPU remembers the addresses of one process; it forgets them all when it runs another one (a processor without PCID or ASID). A walk marks the entry as used,
//! and the first write through a clean entry marks it as written, by atomic operations on the entry. Until the flush comes, a CPU uses what it remembers although the
//! entry has changed, as hardware does: the kernel of another CPU may be between the two. It is a missing flush once every other CPU that may have been in its kernel
//! then was seen in user mode, or is run by nobody, and the CPU still remembers.
//! Intel SDM volume 3, sections 5.8 (accessed and dirty flags), 5.10.2 (TLBs), 5.10.4.1 (a fault invalidates the page's entry).

use std::sync::atomic::{AtomicU64, Ordering, fence};

use boot_memory::page_tables::Translation;
use platform::{AnyFormat, Attributes, Entry, Level, Prot, TableFormat};
use units::{CpuId, PhysAddr, PhysRange, VirtAddr};

use super::{
    Access, CpuTlb, Key, Remembered, Space, Stale, Suspect, Tlbs, VirtFault, forbidden, leaf_key, remember,
    still_holds, table_key, up,
};
use crate::cpus::Cpus;
use crate::memory::SimMemory;

/// What an entry may not lose without a flush: rights, and the mark that a CPU no longer sets because it remembers it as set.
const KEPT: Prot = Prot::WRITE.union(Prot::EXECUTE).union(Prot::USER).union(Prot::DIRTY);

/// A CPU in user mode that looks an address up.
pub(crate) struct UserLookup<'a> {
    pub(crate) cpu: CpuId,
    /// Root table of the process.
    pub(crate) root: PhysAddr,
    pub(crate) format: AnyFormat,
    pub(crate) memory: &'a SimMemory,
    pub(crate) cpus: &'a Cpus,
}

/// What a walk came through and to.
#[derive(Default)]
struct Path<'a> {
    tables: Vec<(Level, PhysAddr)>,
    leaf: Option<Leaf<'a>>,
    /// A kernel holds the last entry: what that maps is not decided.
    is_held: bool,
}

/// An entry that maps memory, as it was read.
struct Leaf<'a> {
    slot: &'a AtomicU64,
    value: u64,
    /// With the address of the first byte.
    found: Translation,
}

impl Tlbs {
    /// Translates `virt` as the CPU of `lookup` does in user mode, and calls `use_it` with the result before any flush can come.
    ///
    /// # Errors
    /// [`VirtFault`].
    pub(crate) fn as_user<R>(
        &self,
        lookup: &UserLookup<'_>,
        virt: VirtAddr,
        access: Access,
        use_it: impl FnOnce(PhysAddr) -> R,
    ) -> Result<R, VirtFault> {
        let seen = self.in_user_mode.get(lookup.cpu.index()).ok_or(VirtFault::NoTables)?;
        // Release: pairs with the Acquire load in `is_missing`: who sees this sees all that the kernel did on this CPU before.
        seen.fetch_add(1, Ordering::Release);
        let mut tlb = self.of(lookup.cpu).ok_or(VirtFault::NoTables)?;
        tlb.run(lookup.root);
        let leaf = self.find(lookup, &mut tlb, virt, access)?;
        let offset = virt.raw() & (lookup.format.leaf_bytes(leaf.level) - 1);
        Ok(use_it(leaf.phys.saturating_add(offset)))
    }

    fn find(
        &self,
        lookup: &UserLookup<'_>,
        tlb: &mut CpuTlb,
        virt: VirtAddr,
        access: Access,
    ) -> Result<Translation, VirtFault> {
        loop {
            if let Some(leaf) = self.remembered(lookup, tlb, virt, access)? {
                return Ok(leaf);
            }
            let path = lookup.walk(virt);
            if !self.tables_hold(lookup, tlb, virt, &path)? {
                return Err(VirtFault::NotMapped(virt));
            }
            let leaf = path.leaf.ok_or(VirtFault::NotMapped(virt))?;
            if let Some(fault) = forbidden(leaf.found.attributes.prot, lookup.space(), virt, access) {
                return Err(fault);
            }
            let Some(marked) = leaf.mark(lookup.format, access) else { continue };
            for (level, table) in path.tables {
                remember(&mut tlb.tables, table_key(lookup.format, lookup.space(), level, virt), table);
            }
            remember(&mut tlb.leaves, leaf_key(lookup.format, lookup.space(), marked.level, virt), marked);
            return Ok(marked);
        }
    }

    /// Returns the leaf that the CPU remembers, if it allows the access without another look at the entry.
    fn remembered(
        &self,
        lookup: &UserLookup<'_>,
        tlb: &mut CpuTlb,
        virt: VirtAddr,
        access: Access,
    ) -> Result<Option<Translation>, VirtFault> {
        let mut level = Some(lookup.format.largest_leaf());
        while let Some(at) = level {
            level = at.down();
            let key = leaf_key(lookup.format, lookup.space(), at, virt);
            let Some(leaf) = tlb.leaves.get_mut(&key) else { continue };
            let value = leaf.value;
            let is_clean = access == Access::Write && !value.attributes.prot.contains(Prot::DIRTY);
            if is_clean || forbidden(value.attributes.prot, lookup.space(), virt, access).is_some() {
                tlb.leaves.remove(&key);
                continue;
            }
            let path = lookup.walk(key.2);
            let real = path.leaf.map(|leaf| leaf.found);
            if still_holds(&value, real.as_ref(), KEPT) {
                leaf.suspected = None;
            } else if !path.is_held && self.is_missing(lookup, leaf) {
                let found = real.map(|real| real.phys);
                return Err(VirtFault::Stale(lookup.suspect(key, None).stale(value.phys, found)));
            }
            return Ok(Some(value));
        }
        Ok(None)
    }

    /// Returns true if the deepest table that the CPU remembers is the one that is there; false while its flush may be on the way: what such a table holds is nothing.
    fn tables_hold(
        &self,
        lookup: &UserLookup<'_>,
        tlb: &mut CpuTlb,
        virt: VirtAddr,
        path: &Path<'_>,
    ) -> Result<bool, VirtFault> {
        let mut level = Some(Level::PTE);
        while let Some(at) = level.filter(|&at| at < lookup.format.root_level()) {
            level = up(at);
            let key = table_key(lookup.format, lookup.space(), at, virt);
            let Some(table) = tlb.tables.get_mut(&key) else { continue };
            let real = path.tables.iter().find(|(level, _)| *level == at).map(|&(_, table)| table);
            if real == Some(table.value) {
                table.suspected = None;
                return Ok(true);
            }
            if self.is_missing(lookup, table) {
                return Err(VirtFault::Stale(lookup.suspect(key, Some(at)).stale(table.value, real)));
            }
            return Ok(false);
        }
        Ok(true)
    }

    /// Returns true if no kernel is left that may be about to flush what is stale.
    fn is_missing<T>(&self, lookup: &UserLookup<'_>, remembered: &mut Remembered<T>) -> bool {
        // Pairs with the Release of the change that made it stale: the CPU of that kernel counts as not seen since, until it leaves its kernel.
        fence(Ordering::Acquire);
        // Acquire: pairs with the Release in `as_user`.
        let seen = |cpu: &AtomicU64| cpu.load(Ordering::Acquire);
        let first = remembered.suspected.get_or_insert_with(|| self.in_user_mode.iter().map(seen).collect());
        let mut others = self.in_user_mode.iter().zip(first.iter()).enumerate();
        others.all(|(index, (now, &first))| {
            index == lookup.cpu.index() || !lookup.cpus.is_taken(index) || seen(now) > first
        })
    }

    /// Returns what a CPU remembers of processes' addresses although the tables say something else. No kernel may be about to flush.
    pub(crate) fn find_stale(&self, memory: &SimMemory, format: AnyFormat, cpus: &Cpus) -> Option<Stale> {
        let ids = (0..self.cpus.len() as u64).filter_map(CpuId::try_new);
        ids.filter_map(|cpu| {
            let tlb = self.of(cpu)?;
            let root = tlb.root?;
            let lookup = UserLookup { cpu, root, format, memory, cpus };
            tlb.leaves
                .iter()
                .filter(|(key, _)| key.0 == lookup.space())
                .find_map(|(key, leaf)| lookup.check(*key, leaf))
        })
        .next()
    }
}

impl CpuTlb {
    /// Switches to the process whose tables are under `root`.
    fn run(&mut self, root: PhysAddr) {
        if self.root.replace(root) != Some(root) {
            self.leaves.retain(|key, _| key.0 == Space::Kernel);
            self.tables.retain(|key, _| key.0 == Space::Kernel);
        }
    }
}

impl<'a> UserLookup<'a> {
    const fn space(&self) -> Space {
        Space::User(self.root)
    }

    const fn suspect(&self, key: Key, table: Option<Level>) -> Suspect {
        Suspect { cpu: self.cpu, format: self.format, key, table }
    }

    fn check(&self, key: Key, leaf: &Remembered<Translation>) -> Option<Stale> {
        let real = self.walk(key.2).leaf.map(|leaf| leaf.found);
        let holds = still_holds(&leaf.value, real.as_ref(), KEPT);
        (!holds).then(|| self.suspect(key, None).stale(leaf.value.phys, real.map(|real| real.phys)))
    }

    fn walk(&self, virt: VirtAddr) -> Path<'a> {
        let format = self.format;
        let mut path = Path::default();
        let kernel = format.kernel_root_entries();
        if virt.raw() >> format.virt_bits() != 0 || kernel.contains(&format.index(format.root_level(), virt)) {
            return path;
        }
        let mut next = Some((format.root_level(), self.root));
        while let Some((level, table)) = next.take() {
            path.tables.push((level, table));
            let Some(slot) = self.slot(table, format.index(level, virt)) else { break };
            // Relaxed: as a processor's page walk is ordered with nothing.
            let value = slot.load(Ordering::Relaxed);
            match format.decode(level, value) {
                Entry::Empty => path.is_held = value == Entry::HELD,
                Entry::Table(below) => next = level.down().map(|down| (down, below)),
                Entry::Leaf(phys, attributes) => {
                    path.leaf = Some(Leaf { slot, value, found: Translation { phys, level, attributes } });
                }
            }
        }
        path
    }

    fn slot(&self, table: PhysAddr, index: usize) -> Option<&'a AtomicU64> {
        let at = PhysRange::with_len(table.saturating_add(index as u64 * 8), 8);
        let entry = self.memory.host(at).filter(|_| at.start.raw().is_multiple_of(8))?;
        // SAFETY: mapped as long as the memory is borrowed, aligned, and reached as an atomic of this size by everybody while it is an entry of a table.
        Some(unsafe { AtomicU64::from_ptr(entry.cast().as_ptr()) })
    }
}

impl Leaf<'_> {
    /// Sets the marks of an access. Returns the leaf as it is then; `None` if the entry has changed.
    fn mark(&self, format: AnyFormat, access: Access) -> Option<Translation> {
        let written = if access == Access::Write { Prot::DIRTY } else { Prot::empty() };
        let before = self.found.attributes;
        let attributes = Attributes { prot: before.prot | Prot::ACCESSED | written, ..before };
        let encode = |attributes| format.encode_leaf(self.found.level, self.found.phys, attributes);
        // Only the bits of the marks: the others are the kernel's, whatever they mean.
        let marked = self.value ^ encode(before) ^ encode(attributes);
        if marked != self.value {
            // Relaxed: as in `walk`.
            self.slot.compare_exchange(self.value, marked, Ordering::Relaxed, Ordering::Relaxed).ok()?;
        }
        Some(Translation { attributes, ..self.found })
    }
}
