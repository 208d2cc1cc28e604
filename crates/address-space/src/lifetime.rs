//! Beginning and end of an address space: areas that exec or the kernel puts there, fork's copy, exit.
//!
//! Linux 6.12: kernel/fork.c (`dup_mmap`), mm/mmap.c (`insert_vm_struct`, `exit_mmap`).

use page_allocator::Hooks;
use platform::Platform;

use units::{VirtAddr, VirtRange, VmFlags};

use crate::backing::{PageAdvice, PageTables, Pager};
use crate::call::Call;
use crate::error::MmError;
use crate::mm::MmWrite;
use crate::unmap::Gathered;
use crate::vma::{AnonVma, Area, Vma};

impl<'k, P: Platform, H: Hooks, B: PageTables + Pager> Call<'_, 'k, P, H, B> {
    /// Enters an area: a stack, the vDSO, what a recording says. It counts as written to, as all that is new does but a stack, which loses that when its permissions
    /// are settled (Linux: `setup_arg_pages`); otherwise it is as `vma` says. Its file has one more user.
    ///
    /// # Errors
    /// [`MmError::NoMemory`] if something is there, or the promise of an area with `ACCOUNT` cannot be made.
    pub fn insert_area(&mut self, vma: &Vma) -> Result<(), MmError> {
        let is_stack = vma.flags.contains(VmFlags::GROWSDOWN);
        let mark = if is_stack { VmFlags::empty() } else { self.backing.soft_dirty() };
        self.insert_as_is(&Vma { flags: vma.flags | mark, ..*vma })
    }

    /// Linux: `insert_vm_struct`.
    fn insert_as_is(&mut self, vma: &Vma) -> Result<(), MmError> {
        if self.mm.find_intersection(vma.range).is_some() {
            return Err(MmError::NoMemory);
        }
        let charged = if vma.flags.contains(VmFlags::ACCOUNT) { vma.nr_pages() } else { 0 };
        self.charge(charged)?;
        self.enter(vma).inspect_err(|_| self.spaces.overcommit.uncharge(charged))?;
        self.open_file(vma);
        self.mm.counters.add(vma.flags, vma.nr_pages());
        if vma.flags.contains(VmFlags::LOCKED) {
            self.mm.counters.locked += vma.nr_pages();
        }
        Ok(())
    }

    /// Copies all areas of `parent` that fork copies into this address space, which has none and was locked nested (Linux: `dup_mmap`).
    ///
    /// # Errors
    /// [`MmError::NoMemory`]; what was copied stays, and [`Call::exit`] takes it out.
    pub fn duplicate_areas(&mut self, parent: &MmWrite<'_, 'k>) -> Result<(), MmError> {
        debug_assert!(self.mm.tree.is_empty(), "fork fills an address space without areas");
        (self.mm.layout, self.mm.program) = (*parent.layout(), *parent.program());
        for entry in parent.tree.iter() {
            // Its pages become shared: no fault may make one its own meanwhile.
            parent.start_write(&entry.value);
            let vma = entry.value.load();
            if vma.flags.contains(VmFlags::DONTCOPY) {
                continue;
            }
            let mut copy = Vma { flags: vma.flags - VmFlags::LOCKED_MASK, uffd: 0, ..vma };
            copy.flags -= VmFlags::UFFD;
            copy.anon = match vma.anon {
                Some(parent) if !vma.flags.contains(VmFlags::WIPEONFORK) => {
                    let id = self.spaces.another_anon_vma().ok_or(MmError::NoMemory)?;
                    Some(AnonVma { id, links: parent.links.saturating_add(1), ..parent })
                }
                _ => None,
            };
            self.insert_as_is(&copy)?;
            if !vma.flags.contains(VmFlags::WIPEONFORK) {
                self.backing.copy(&vma, &copy)?;
            }
        }
        Ok(())
    }

    /// Forgets the pages that this address space alone can see before its process ends by itself: those of private areas, locked ones too. The areas stay
    /// (Linux: `__oom_reap_task_mm`).
    ///
    /// # Errors
    /// None that a range of one area could give.
    pub fn reap(&mut self) -> Result<(), MmError> {
        let mut at = VirtAddr::ZERO;
        while let Some(vma) = self.mm.find(at) {
            if !vma.flags.intersects(VmFlags::SHARED | VmFlags::SPECIAL) {
                self.hold_area(vma.start());
                self.backing.advise(&vma, vma.range, PageAdvice::DontNeed)?;
            }
            at = vma.end();
        }
        Ok(())
    }

    /// Takes out every area (Linux: `exit_mmap`).
    pub fn exit(&mut self) {
        let all = VirtRange::new(VirtAddr::ZERO, VirtAddr::new(u64::MAX));
        let mut around = self.mm.around(all);
        // All of them go, so nothing is behind them.
        around.behind = None;
        let first = around.first.map(|first| Area::at(first.value));
        self.complete_unmap(all, &Gathered { first, ..Gathered::of(around) }, 0);
    }
}
