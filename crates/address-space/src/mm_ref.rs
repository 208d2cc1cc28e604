//! How long an address space lives: its users, and those who only refer to it.
//!
//! A user ([`MmRef`]: a task, a call on another process) keeps the areas; the last one's end empties it. A reference ([`MmGrab`]: a CPU that still has
//! its page tables loaded, a reverse map's walk) keeps the object and its root table. All users together are one reference.
//! Handles are given back with [`MmRef::put`] and [`AddressSpaces::mmdrop`]; one that is dropped instead keeps its address space forever.
//! Linux 6.12: kernel/fork.c (`mm_alloc`, `mmput`, `__mmdrop`), include/linux/sched/mm.h (`mmget`, `mmget_not_zero`, `mmgrab`).

use core::fmt;
use core::ops::Deref;

use object_allocator::Stable;
use page_allocator::Hooks;
use platform::Platform;
use sync::Cpu;
use units::Gfp;

use crate::error::MmError;
use crate::mm::{Mm, MmState};
use crate::program::{MmapLayout, ProgramRanges};
use crate::spaces::AddressSpaces;

/// A user of an address space.
#[must_use = "a user keeps the address space until `mmput`"]
pub struct MmRef<'k> {
    mm: Stable<'k, Mm<'k>>,
}

/// A reference to an address space, which may have no users any more.
#[must_use = "a reference keeps the object until `mmdrop`"]
pub struct MmGrab<'k> {
    mm: Stable<'k, Mm<'k>>,
}

impl<'k> Deref for MmRef<'k> {
    type Target = Mm<'k>;

    fn deref(&self) -> &Mm<'k> {
        &self.mm
    }
}

impl<'k> Deref for MmGrab<'k> {
    type Target = Mm<'k>;

    fn deref(&self) -> &Mm<'k> {
        &self.mm
    }
}

impl fmt::Debug for MmRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("MmRef").field(&**self).finish()
    }
}

impl fmt::Debug for MmGrab<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("MmGrab").field(&**self).finish()
    }
}

impl<'k> MmRef<'k> {
    /// Counts another user (Linux: `mmget`).
    pub fn get(&self) -> Self {
        self.mm.uses.get();
        Self { mm: self.mm }
    }

    /// Counts another reference (Linux: `mmgrab`).
    pub fn grab(&self) -> MmGrab<'k> {
        MmGrab::another(self.mm)
    }

    /// Gives the user back. The last one's end returns the reference of all users: who gets it takes all areas out ([`Call::exit`](crate::Call::exit)), and gives it
    /// back ([`AddressSpaces::mmdrop`]) (Linux: `mmput`).
    pub fn put(self) -> Option<MmGrab<'k>> {
        self.mm.uses.put().then_some(MmGrab { mm: self.mm })
    }

    /// Returns true if both are the same address space.
    pub fn is(&self, other: &Self) -> bool {
        self.mm == other.mm
    }

    /// Returns the number of users; a hint while others come and go (Linux: `mm_users`).
    pub fn users(&self) -> u64 {
        self.mm.uses.users()
    }
}

impl<'k> MmGrab<'k> {
    /// Makes the first reference to an address space without users.
    pub(crate) fn first(mm: Stable<'k, Mm<'k>>) -> Self {
        mm.uses.begin(0);
        Self { mm }
    }

    /// Counts another reference (Linux: `mmgrab`).
    pub fn grab(&self) -> Self {
        Self::another(self.mm)
    }

    /// Counts a reference to an address space that has another.
    pub(crate) fn another(mm: Stable<'k, Mm<'k>>) -> Self {
        mm.uses.grab();
        Self { mm }
    }

    /// Becomes a user too, unless the last one has gone (Linux: `mmget_not_zero`).
    pub fn get_not_zero(&self) -> Option<MmRef<'k>> {
        self.mm.uses.get_not_zero().then_some(MmRef { mm: self.mm })
    }
}

impl<'k, P: Platform, H: Hooks> AddressSpaces<'k, P, H> {
    /// Makes an address space without areas, with one user (Linux: `mm_alloc`).
    ///
    /// # Errors
    /// [`MmError::NoMemory`].
    pub fn mm_alloc(&self, cpu: &Cpu, layout: MmapLayout, program: ProgramRanges) -> Result<MmRef<'k>, MmError> {
        let mm = self.mms.alloc(cpu, Gfp::KERNEL)?;
        mm.begin(cpu, mm, self.another_mm(), MmState::new(layout, program));
        mm.uses.begin(1);
        Ok(MmRef { mm })
    }

    /// Gives a reference back. With the last one the object goes, after `release` took back what else belongs to it: its root table
    /// (Linux: `mmdrop`).
    pub fn mmdrop(&self, cpu: &Cpu, mm: MmGrab<'k>, release: impl FnOnce(&Mm<'k>)) {
        let MmGrab { mm } = mm;
        if mm.uses.release() {
            release(&mm);
            self.mms.free(cpu, mm);
        }
    }
}
