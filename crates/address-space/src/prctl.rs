//! prctl on an address space: names of anonymous areas, and where a program lies.
//!
//! Linux 6.12: kernel/sys.c (`prctl_set_vma`, `validate_prctl_map_addr`), mm/madvise.c (`madvise_set_anon_name`).

use page_allocator::Hooks;
use platform::Platform;
use units::VirtAddr;

use crate::advise::advised_range;
use crate::backing::{FileTraits, PageTables, Pager};
use crate::call::Call;
use crate::error::MmError;
use crate::name::AreaName;
use crate::program::ProgramRanges;
use crate::vma::Vma;

impl<P: Platform, H: Hooks, B: PageTables + Pager> Call<'_, '_, P, H, B> {
    /// Names the anonymous areas in the pages of `len` bytes from `start`, or takes their names (PR_SET_VMA_ANON_NAME). Whoever gives names numbers
    /// has checked the bytes with [`AreaName::check`].
    ///
    /// # Errors
    /// [`MmError::Invalid`] for a bad range, [`MmError::BadFile`] at an area of a file, [`MmError::TryAgain`] without memory; areas before it are
    /// named then. [`MmError::NoMemory`] at the end if part of the range is not mapped.
    pub fn set_anon_name(&mut self, start: VirtAddr, len: u64, name: Option<AreaName>) -> Result<(), MmError> {
        let Some(range) = advised_range(start, len)? else { return Ok(()) };
        self.walk_areas(range, |call, vma, part| {
            if !call.can_be_named(vma)? {
                return Err(MmError::BadFile);
            }
            if vma.name == name {
                return Ok(());
            }
            // Out of memory is worth another try here (EAGAIN).
            call.modify(vma, part, &Vma { name, ..*vma }).map(drop).map_err(|_| MmError::TryAgain)
        })
    }

    /// Returns true of areas without a file, or with one that an anonymous mapping made.
    fn can_be_named(&self, vma: &Vma) -> Result<bool, MmError> {
        match vma.file {
            Some(file) => Ok(self.backing.facts(file)?.traits.contains(FileTraits::ANONYMOUS)),
            None => Ok(true),
        }
    }

    /// Says where the program lies (PR_SET_MM_MAP).
    ///
    /// # Errors
    /// [`MmError::Invalid`] if an address is outside those of processes, a range ends before it begins, or the heap exceeds RLIMIT_DATA.
    pub fn set_program(&mut self, program: &ProgramRanges) -> Result<(), MmError> {
        let ProgramRanges { code, data, start_stack, start_brk, brk, args, env } = *program;
        let settings = &self.spaces.settings;
        let ends = [code, data, args, env].map(|range| [range.start, range.end]);
        let mut all = ends.as_flattened().iter().chain([&start_brk, &brk, &start_stack]);
        let is_outside = |&addr: &VirtAddr| addr >= settings.task_size || addr < self.spaces.privileged_below();
        let is_ordered = code.start < code.end
            && data.start <= data.end
            && start_brk <= brk
            && args.start <= args.end
            && env.start <= env.end;
        if all.any(is_outside) || !is_ordered || !self.data_limit_admits(program, brk) {
            return Err(MmError::Invalid);
        }
        self.mm.program = *program;
        Ok(())
    }
}
