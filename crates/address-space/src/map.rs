//! mmap: checks in Linux's order, then the area.
//!
//! Linux 6.12: mm/mmap.c (`do_mmap`, `mmap_region`), arch/x86/kernel/sys_x86_64.c (`mmap`).

use collections::range_tree::Around;
use page_allocator::Hooks;
use platform::Platform;
use units::{VirtAddr, VirtRange, VmFlags};

use crate::backing::{FileFacts, FileTraits, PageTables, Pager, Reserve};
use crate::call::Call;
use crate::error::{Absent, MmError};
use crate::flags::{MapFlags, Prot};
use crate::limits::{ProtectionKeys, Release, Rights};
use crate::overcommit::OvercommitMode;
use crate::place::PlaceRequest;
use crate::unmap::Gathered;
use crate::vma::{FileId, PAGE_SHIFT, PAGE_SIZE, Slot, Vma};

/// Arguments of mmap.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MapRequest {
    /// Hint or fixed address.
    pub addr: VirtAddr,
    /// Bytes.
    pub len: u64,
    /// Permissions.
    pub prot: Prot,
    /// Flags.
    pub flags: MapFlags,
    /// The file, unless `flags` has `ANONYMOUS`.
    pub file: Option<FileId>,
    /// Byte offset in the file.
    pub offset: u64,
}

/// A request on its way through the checks.
struct Plan {
    range: VirtRange,
    flags: VmFlags,
    pgoff: u64,
    file: Option<FileId>,
}

impl<'k, P: Platform, H: Hooks, B: PageTables + Pager> Call<'_, 'k, P, H, B> {
    /// Maps (Linux: `ksys_mmap_pgoff`). Returns where.
    ///
    /// # Errors
    /// What mmap(2) says. Nothing is mapped then; what was mapped there before is still mapped, though areas may be split at the ends.
    pub fn mmap(&mut self, request: &MapRequest) -> Result<VirtAddr, MmError> {
        self.mmap_opened(request, FileTraits::all())
    }

    /// Maps a file through a descriptor that allows `opened` of what the file does: what may not be written shared now may not be later.
    ///
    /// # Errors
    /// As [`Call::mmap`], and [`MmError::AccessDenied`].
    pub fn mmap_opened(&mut self, request: &MapRequest, opened: FileTraits) -> Result<VirtAddr, MmError> {
        if !request.offset.is_multiple_of(PAGE_SIZE) {
            return Err(MmError::Invalid);
        }
        let file = if request.flags.contains(MapFlags::ANONYMOUS) {
            None
        } else {
            let file = request.file.ok_or(MmError::BadFile)?;
            self.backing.facts(file)?;
            if request.flags.contains(MapFlags::HUGETLB) {
                return Err(MmError::Invalid);
            }
            Some(file)
        };
        if request.flags.contains(MapFlags::HUGETLB) {
            return Err(MmError::Absent(Absent::HugeTlb));
        }
        self.map_pages(request, (file, opened), request.offset >> PAGE_SHIFT)
    }

    /// Maps from page `pgoff` of the file on, and populates if asked to (Linux: `do_mmap`, `mm_populate`).
    pub(crate) fn map_pages(
        &mut self,
        request: &MapRequest,
        file: (Option<FileId>, FileTraits),
        pgoff: u64,
    ) -> Result<VirtAddr, MmError> {
        let plan = self.plan_map(request, file, pgoff)?;
        let addr = self.map_region(&plan)?;
        let populate = request.flags & (MapFlags::POPULATE | MapFlags::NONBLOCK) == MapFlags::POPULATE;
        if populate || plan.flags.contains(VmFlags::LOCKED) {
            // What cannot be populated is faulted in, or not, when it is used.
            let _ = self.populate(plan.range);
        }
        Ok(addr)
    }

    /// Linux: `do_mmap` up to the region.
    fn plan_map(
        &mut self,
        request: &MapRequest,
        (file, opened): (Option<FileId>, FileTraits),
        pgoff: u64,
    ) -> Result<Plan, MmError> {
        if request.len == 0 {
            return Err(MmError::Invalid);
        }
        let mut prot = request.prot;
        if prot.contains(Prot::READ) && self.process.rights.contains(Rights::READ_IMPLIES_EXEC) {
            prot |= Prot::EXEC;
        }
        let mut flags = request.flags;
        if flags.contains(MapFlags::FIXED_NOREPLACE) {
            flags |= MapFlags::FIXED;
        }
        let addr = if flags.contains(MapFlags::FIXED) { request.addr } else { self.round_hint(request.addr) };
        let len = request.len.checked_next_multiple_of(PAGE_SIZE).ok_or(MmError::NoMemory)?;
        pgoff.checked_add(len >> PAGE_SHIFT).ok_or(MmError::Overflow)?;
        if self.mm.nr_areas() > self.spaces.max_map_count() {
            return Err(MmError::NoMemory);
        }
        let mut vm_flags = self.vm_flags(prot) | of_map_flags(flags) | self.mm.def_flags | VmFlags::MAYACCESS;
        let addr = self.unmapped_area(&PlaceRequest { file, addr, len, pgoff, flags })?;
        let range = VirtRange::with_len(addr, len);
        if flags.contains(MapFlags::FIXED_NOREPLACE) && self.mm.find_intersection(range).is_some() {
            return Err(MmError::Exists);
        }
        if flags.contains(MapFlags::LOCKED) && !self.may_lock_at_all() {
            return Err(MmError::NotPermitted);
        }
        if !self.may_lock(vm_flags, len) {
            return Err(MmError::TryAgain);
        }
        let pgoff = match file {
            Some(file) => {
                let facts = self.backing.facts(file)?;
                let facts = FileFacts { traits: facts.traits.opened_for(opened), ..facts };
                check_file(&facts, flags, prot, &mut vm_flags, (pgoff, len))?;
                pgoff
            }
            None => check_anonymous(flags, &mut vm_flags, addr)?,
        };
        let never = self.spaces.overcommit.mode() == OvercommitMode::Never;
        if flags.contains(MapFlags::NORESERVE) && !never {
            vm_flags |= VmFlags::NORESERVE;
        }
        Ok(Plan { range, flags: vm_flags, pgoff, file })
    }

    /// Returns the flags of an area that permissions set: what may be executed only gets a protection key where there are any (Linux:
    /// `calc_vm_prot_bits`, `execute_only_pkey`).
    pub(crate) fn vm_flags(&self, prot: Prot) -> VmFlags {
        let mut flags = prot.vm_flags();
        flags.set(VmFlags::PKEY_BIT0, prot == Prot::EXEC && self.spaces.settings.keys == ProtectionKeys::Present);
        flags
    }

    /// Lifts a hint above vm.mmap_min_addr (Linux: `round_hint_to_min`).
    fn round_hint(&self, hint: VirtAddr) -> VirtAddr {
        let (hint, min) = (hint.align_down(PAGE_SIZE), self.spaces.min_addr());
        if hint != VirtAddr::ZERO && hint < min { min.align_up(PAGE_SIZE) } else { hint }
    }

    /// Makes the area in place of what is there (Linux: `__mmap_region`).
    fn map_region(&mut self, plan: &Plan) -> Result<VirtAddr, MmError> {
        if self.mm.mm().flags().denies(plan.flags, plan.flags) {
            return Err(MmError::AccessDenied);
        }
        if let Some(file) = plan.file
            && plan.flags.is_shared_maywrite()
            && self.backing.facts(file)?.traits.contains(FileTraits::SEALED_WRITE)
        {
            return Err(MmError::NotPermitted);
        }
        let nr_pages = plan.range.len() >> PAGE_SHIFT;
        let mut replaced = Gathered::of(self.mm.around(plan.range));
        self.gather_into(&mut replaced, plan.range)?;
        if !self.may_expand(plan.flags, nr_pages - replaced.nr_pages) {
            return Err(MmError::NoMemory);
        }
        let mut vma = Vma {
            range: plan.range,
            flags: plan.flags | self.backing.soft_dirty(),
            pgoff: plan.pgoff,
            file: plan.file,
            anon: None,
            uffd: 0,
            name: None,
        };
        let mut charged = 0;
        if plan.flags.is_accountable() {
            // What is replaced gives its promise to what comes.
            charged = nr_pages.saturating_sub(replaced.accounted);
            if charged > 0 {
                self.charge(charged)?;
            }
            vma.flags |= VmFlags::ACCOUNT;
        }
        let made = self.prepare_file(&mut vma);
        if let Err(error) = made {
            self.spaces.overcommit.uncharge(charged);
            return Err(error);
        }
        let kept = if vma.flags.contains(VmFlags::ACCOUNT) { nr_pages - charged } else { 0 };
        self.complete_unmap(plan.range, &replaced, kept);
        self.place_area(vma, &replaced.around)?;
        Ok(plan.range.start)
    }

    /// Takes a reference to the file, or makes that of a shared anonymous mapping.
    fn prepare_file(&mut self, vma: &mut Vma) -> Result<(), MmError> {
        match vma.file {
            Some(file) => {
                if vma.flags.is_shared_maywrite() {
                    self.backing.map_writable(file)?;
                }
                self.backing.open(file);
            }
            None if vma.flags.contains(VmFlags::SHARED) => {
                let reserve = if vma.flags.contains(VmFlags::NORESERVE) { Reserve::OnUse } else { Reserve::Whole };
                let file = self.backing.shared_anonymous(vma.range.len(), reserve)?;
                if vma.flags.is_shared_maywrite() {
                    self.backing.copy_writable(file);
                }
                vma.file = Some(file);
            }
            None => {}
        }
        Ok(())
    }

    /// Joins the prepared area with a neighbour, which are those of `around`, or enters it, and counts it.
    fn place_area(&mut self, vma: Vma, around: &Around<'_, Slot<'k>>) -> Result<(), MmError> {
        let nr_pages = vma.nr_pages();
        if self.merge_new(&vma, around).is_some() {
            self.close_file(&vma);
        } else if let Err(error) = self.enter(&vma) {
            // What was mapped there is gone, as in Linux.
            if vma.flags.contains(VmFlags::ACCOUNT) {
                self.spaces.overcommit.uncharge(nr_pages);
            }
            self.close_file(&vma);
            return Err(error);
        }
        self.mm.counters.add(vma.flags, nr_pages);
        if !vma.flags.contains(VmFlags::LOCKED) {
            return Ok(());
        }
        if !vma.supports_mlock() {
            if let Some(placed) = self.mm.lookup(vma.start()) {
                self.store(&Vma { flags: placed.flags - VmFlags::LOCKED_MASK, ..placed });
            }
            return Ok(());
        }
        self.mm.counters.locked += nr_pages;
        Ok(())
    }

    /// Returns the release whose rules apply.
    pub(crate) const fn release(&self) -> Release {
        self.spaces.settings.release
    }
}

/// Linux: `calc_vm_flag_bits`.
fn of_map_flags(flags: MapFlags) -> VmFlags {
    let mut vm_flags = VmFlags::empty();
    vm_flags.set(VmFlags::GROWSDOWN, flags.contains(MapFlags::GROWSDOWN));
    vm_flags.set(VmFlags::LOCKED, flags.contains(MapFlags::LOCKED));
    vm_flags.set(VmFlags::SYNC, flags.contains(MapFlags::SYNC));
    vm_flags.set(VmFlags::NOHUGEPAGE, flags.contains(MapFlags::STACK));
    vm_flags
}

/// What do_mmap asks of a file's mapping; completes the flags. `place` is the page of the file and the bytes.
fn check_file(
    facts: &FileFacts,
    flags: MapFlags,
    prot: Prot,
    vm_flags: &mut VmFlags,
    place: (u64, u64),
) -> Result<(), MmError> {
    let (pgoff, len) = place;
    let max = facts.max_bytes.checked_sub(len).ok_or(MmError::Overflow)?;
    if pgoff > max >> PAGE_SHIFT {
        return Err(MmError::Overflow);
    }
    let is_validating = flags.kind() == MapFlags::SHARED_VALIDATE;
    if is_validating || flags.kind() == MapFlags::SHARED {
        let mut known = MapFlags::LEGACY;
        known.set(MapFlags::SYNC, facts.traits.contains(FileTraits::MMAP_SYNC));
        if is_validating && !known.contains(flags) {
            return Err(MmError::NotSupported);
        }
        let writable = facts.traits.contains(FileTraits::WRITE);
        if prot.contains(Prot::WRITE) && !writable || facts.traits.contains(FileTraits::APPEND) && writable {
            return Err(MmError::AccessDenied);
        }
        *vm_flags |= VmFlags::SHARED | VmFlags::MAYSHARE;
        if !writable {
            *vm_flags -= VmFlags::MAYWRITE | VmFlags::SHARED;
        }
    } else if flags.kind() != MapFlags::PRIVATE {
        return Err(MmError::Invalid);
    }
    if !facts.traits.contains(FileTraits::READ) {
        return Err(MmError::AccessDenied);
    }
    if facts.traits.contains(FileTraits::NOEXEC) {
        if vm_flags.contains(VmFlags::EXEC) {
            return Err(MmError::NotPermitted);
        }
        *vm_flags -= VmFlags::MAYEXEC;
    }
    if !facts.traits.contains(FileTraits::MMAP) {
        return Err(MmError::NoDevice);
    }
    if vm_flags.contains(VmFlags::GROWSDOWN) { Err(MmError::Invalid) } else { Ok(()) }
}

/// What do_mmap asks of a mapping without a file; completes the flags and returns the page offset.
fn check_anonymous(flags: MapFlags, vm_flags: &mut VmFlags, addr: VirtAddr) -> Result<u64, MmError> {
    let grows = vm_flags.contains(VmFlags::GROWSDOWN);
    match flags.kind() {
        MapFlags::SHARED if grows => Err(MmError::Invalid),
        MapFlags::SHARED => {
            *vm_flags |= VmFlags::SHARED | VmFlags::MAYSHARE;
            Ok(0)
        }
        MapFlags::DROPPABLE if grows || flags.contains(MapFlags::LOCKED) => Err(MmError::Invalid),
        MapFlags::DROPPABLE => {
            *vm_flags |= VmFlags::DROPPABLE | VmFlags::NORESERVE | VmFlags::WIPEONFORK | VmFlags::DONTDUMP;
            Ok(addr.raw() >> PAGE_SHIFT)
        }
        MapFlags::PRIVATE => Ok(addr.raw() >> PAGE_SHIFT),
        _ => Err(MmError::Invalid),
    }
}
